/** The long past in coarse columns and the recent in fine ones, as one line of time; pure. */

import { Sum } from "./sums.js";

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

/** The sums of the edges of these pairs in each slot. */
export function sumsAlong(slots, pairs) {
  return slots.map(({ history, column }) => {
    const sum = new Sum();
    for (const pair of pairs) {
      const edge = history.edges.get(pair);
      if (edge) sum.column(edge, column);
    }
    return sum;
  });
}

function slot(history, column) {
  return { history, column, at: history.timeOf(column), seconds: history.step };
}
