/** Durations counted in buckets, and what can be read from them; pure. */

/** Upper bounds in seconds, those of OpenTelemetry's http.server.request.duration; one more bucket has no bound. */
export const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
export const BUCKETS = BOUNDS.length + 1;

/** An empty histogram. */
export function empty() {
  return new Float64Array(BUCKETS);
}

/** Add the counts of `more` to those of `into`, and return `into`. */
export function add(into, more) {
  const length = Math.min(BUCKETS, more.length);
  for (let bucket = 0; bucket < length; bucket += 1) into[bucket] += more[bucket];
  return into;
}

/** How many durations are in it. */
export function total(counts) {
  let sum = 0;
  for (const count of counts) sum += count;
  return sum;
}

/**
 * The duration in seconds below which the share `q` (0 to 1) of all lies; null of an empty histogram.
 *
 * Within a bucket they are taken to be spread evenly, as Prometheus' histogram_quantile does, and what lies beyond the
 * last bound is told as that bound: the true value is not known, only that it is no less.
 */
export function quantile(counts, q) {
  const all = total(counts);
  if (all <= 0) return null;
  const rank = q * all;
  let below = 0;
  for (let bucket = 0; bucket < BOUNDS.length; bucket += 1) {
    const here = counts[bucket];
    if (here > 0 && below + here >= rank) {
      const from = bucket === 0 ? 0 : BOUNDS[bucket - 1];
      return from + ((BOUNDS[bucket] - from) * Math.max(rank - below, 0)) / here;
    }
    below += here;
  }
  return BOUNDS[BOUNDS.length - 1];
}
