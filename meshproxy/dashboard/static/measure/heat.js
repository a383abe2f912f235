/** The heat map as numbers: a row for each service or call, a value for each column; pure. */

import { median } from "./baseline.js";
import { services, sumsByColumn } from "./sums.js";

/** What a cell may tell. */
export const MODES = ["latency", "errors", "rate"];

const LEAST_REQUESTS = 3; // for a latency to be told
const NOISE = 1.25; // times the usual: less is how things always go up and down

/**
 * Return rows [{ key, name, pair, usual, cells: [{ at, sum, value, heat }] }], the hottest first.
 *
 * `by` is "service" or "call"; `value` is what the mode tells (seconds, share, requests per second; null: nothing) and
 * `heat` how hot that is, from 0 to 1. A latency is compared with the row's own median, over `past` (a history of the
 * longer past) and the columns shown.
 */
export function heatRows(history, columns, { mode, by, past }) {
  const groups = by === "service" ? incomingByService(history) : [...history.edges.values()].map((edge) => [edge.pair, [edge]]);
  const rows = groups.map(([name, edges]) => row(name, edges, { history, columns, mode, past }));
  const busiest = Math.max(1e-9, ...rows.map(({ most }) => most));
  for (const each of rows) {
    for (const cell of each.cells) cell.heat = cell.value === null ? null : heatOf(mode, cell.value, { busiest, ...each });
    each.hottest = each.cells.reduce((most, { heat }) => Math.max(most, heat ?? 0), 0);
  }
  return rows
    .filter(({ cells }) => cells.some(({ sum }) => sum.any))
    .sort((a, b) => b.hottest - a.hottest || (a.name < b.name ? -1 : 1));
}

function row(name, edges, { history, columns, mode, past }) {
  const sums = sumsByColumn(edges, columns);
  const cells = sums.map((sum, index) => ({
    at: history.timeOf(columns[index]),
    sum,
    value: valueOf(mode, sum, history.step),
  }));
  const older = mode === "latency" && past ? pastLatencies(past, edges, cells[0]?.at ?? 0) : [];
  const usual = mode === "latency" ? median([...older, ...cells.map(({ value }) => value)]) : null;
  const most = cells.reduce((found, { value }) => Math.max(found, value ?? 0), 0);
  return { key: name, name, edges, usual, most, cells };
}

function pastLatencies(past, edges, until) {
  const same = edges.map(({ pair }) => past.edges.get(pair)).filter(Boolean);
  const columns = past.columns(past.keep * past.step).filter((column) => past.timeOf(column) + past.step <= until);
  return sumsByColumn(same, columns).map((sum) => valueOf("latency", sum, past.step));
}

function valueOf(mode, sum, step) {
  if (mode === "rate") return sum.any ? sum.requests / step : null;
  if (mode === "errors") return sum.errorShare;
  if (sum.requests < LEAST_REQUESTS) return null;
  return sum.hasBuckets ? sum.quantile(0.95) : sum.mean;
}

/** How hot: four times the usual latency, every tenth request failing, or the busiest cell of all is as hot as it gets. */
export function heatOf(mode, value, { usual, busiest }) {
  if (mode === "errors") return Math.min(Math.sqrt(value / 0.1), 1);
  if (mode === "rate") return Math.sqrt(value / busiest);
  if (!usual) return 0;
  return Math.min(Math.max(Math.log2(value / usual / NOISE) / Math.log2(4 / NOISE), 0), 1);
}

function incomingByService(history) {
  return [...services(history.edges.values()).values()]
    .filter(({ incoming }) => incoming.length > 0)
    .map(({ name, incoming }) => [name, incoming]);
}
