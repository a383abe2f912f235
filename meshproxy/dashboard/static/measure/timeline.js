/** The long past in coarse columns and the recent in fine ones, as one line of time; pure. */

import { ERRORS, REQUESTS, SECONDS } from "./history.js";

/** What a sentence needs to know of a slot. */
export class Count {
  constructor() {
    this.requests = 0;
    this.errors = 0;
    this.seconds = 0;
  }

  /** The share that failed; null where nothing was asked. */
  get errorShare() {
    return this.requests > 0 ? Math.min(this.errors / this.requests, 1) : null;
  }

  /** The mean duration in seconds. */
  get mean() {
    return this.requests > 0 ? this.seconds / this.requests : null;
  }
}

/** Columns of `past` that ended before `recent` begins, then those of `recent`: [{ history, column, at, seconds }]. */
export function timeline(past, recent, seconds) {
  const fine = recent.columns(seconds).map((column) => slot(recent, column));
  const begins = fine.length > 0 ? fine[0].at : Infinity;
  const coarse = past
    .columns(past.keep * past.step)
    .map((column) => slot(past, column))
    .filter(({ at, seconds: length }) => at + length <= begins);
  return [...coarse, ...fine];
}

/** What happened at the edges of these pairs, in each slot. */
export function sumsAlong(slots, pairs) {
  return slots.map(({ history, column }) => {
    const count = new Count();
    for (const pair of pairs) {
      const point = history.edges.get(pair)?.points.get(column);
      if (!point) continue;
      count.requests += point[REQUESTS];
      count.errors += point[ERRORS];
      count.seconds += point[SECONDS];
    }
    return count;
  });
}

function slot(history, column) {
  return { history, column, at: history.timeOf(column), seconds: history.step };
}
