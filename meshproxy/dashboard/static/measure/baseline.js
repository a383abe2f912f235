/** What is usual for something, and since when it is not: medians over its own past; pure. */

/** The median of the numbers in `values`, nulls left out; null of none. */
export function median(values) {
  return percentile(values, 0.5);
}

/** The value below which the share `q` of `values` lies, nulls left out; null of none. */
export function percentile(values, q) {
  const sorted = values.filter((value) => value !== null && Number.isFinite(value)).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const place = (sorted.length - 1) * q;
  const low = Math.floor(place);
  const high = Math.ceil(place);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

/** The fewest columns with traffic from which one may say what is usual. */
export const LEAST_PAST = 3;

/**
 * Since when the newest of `values` (oldest first, null where nothing happened) are far from what they were before.
 *
 * `isFar(value, usual)` says what far is. Returns the index where that began, and what was usual until then (the
 * median), or null when the newest are as usual or there is too little past. The earliest beginning is found after
 * which every value was far; it is searched for only when the last value differs from the lower quarter of all, which
 * a change that has not lasted for three quarters of the time does.
 */
export function departure(values, isFar) {
  const known = values.map((value, index) => ({ value, index })).filter(({ value }) => value !== null);
  if (known.length <= LEAST_PAST) return null;
  const newest = known[known.length - 1];
  if (![0.25, 0.75].some((q) => isFar(newest.value, percentile(known.map(({ value }) => value), q)))) return null;
  for (let start = LEAST_PAST; start < known.length; start += 1) {
    const usual = median(known.slice(0, start).map(({ value }) => value));
    if (known.slice(start).every(({ value }) => isFar(value, usual))) return { index: known[start].index, usual };
  }
  return null;
}
