/** The stretches of time that can be looked at, and the histories that are kept for them. */

import { History } from "../measure/history.js";

const MINUTE = 60;
const HOUR = 3600;

/** What a history is asked for: its tier of `/series`, its columns, and how often the newest ones are asked again. */
export const HISTORIES = {
  seconds: { tier: "1s", step: 1, keep: 600, every: 0 },
  tens: { tier: "10s", step: 10, keep: 90, every: 4 },
  minutes: { tier: "1m", step: MINUTE, keep: 60, every: 10 },
  past: { tier: "1m", step: 300, keep: 72, every: 60 },
  long: { tier: "1m", step: 1800, keep: 96, every: 60 },
};

/** What the person may choose, each with the history that shows it. */
export const SPANS = [
  { id: "1m", label: "1 min", words: "the last minute", seconds: MINUTE, history: "tens" },
  { id: "10m", label: "10 min", words: "the last 10 minutes", seconds: 10 * MINUTE, history: "tens" },
  { id: "1h", label: "1 h", words: "the last hour", seconds: HOUR, history: "minutes" },
  { id: "6h", label: "6 h", words: "the last 6 hours", seconds: 6 * HOUR, history: "past" },
  { id: "48h", label: "48 h", words: "the last 48 hours", seconds: 48 * HOUR, history: "long" },
];

export const DEFAULT_SPAN = "10m";

/** Points that one answer may bring: beyond it less of the past is asked for in a large mesh. */
const MOST_POINTS = 120_000;
const LEAST_COLUMNS = 60;

/** A history for each name. */
export function histories() {
  return Object.fromEntries(Object.entries(HISTORIES).map(([name, { step, keep }]) => [name, new History(step, keep)]));
}

/** Since when to ask for all of a history at the time `now`, with so many edges known. */
export function sinceAll({ step, keep }, now, edges) {
  const affordable = Math.max(Math.floor(MOST_POINTS / Math.max(edges, 1)), LEAST_COLUMNS);
  return now - Math.min(keep, affordable) * step;
}

/** Since when to ask for what may have changed: the column that was filling when we last asked, and one before it. */
export function sinceNew({ step, keep }, history, now) {
  return Math.max(history.timeOf(history.last - 1), now - keep * step);
}
