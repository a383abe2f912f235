/**
 * What happened on each edge, column by column: the page's copy of the sidecars' ring buffers; pure.
 *
 * A column is named by its number since 1970 in steps of this history, so that answers of different times, and of
 * finer tiers, fall into place by themselves.
 */

import { add, empty } from "./histogram.js";

/** Where things stand in a point, as they follow its column in `/series`. */
export const REQUESTS = 0;
export const ERRORS = 1;
export const DENIED = 2;
export const BYTES_IN = 3;
export const BYTES_OUT = 4;
export const SECONDS = 5;
export const OPENED = 6;
const FIELDS = 7;

/** The name of an edge on this page: ids are of one process's life, and a sidecar may be started again. */
export function pairOf(source, target) {
  return `${source} \u2192 ${target}`;
}

/** Edges with their points, at most `keep` columns of `step` seconds. */
export class History {
  constructor(step, keep) {
    this.step = step;
    this.keep = keep;
    this.last = -1; // the newest column heard of, whether or not anything happened in it
    this.known = new Map(); // column -> what `inColumn` has computed of it
    this.edges = new Map(); // pair -> { pair, source, target, protocol, mtls, ids, points, histograms }
  }

  /** The column in which the time `at` (Unix seconds) lies. */
  columnAt(at) {
    return Math.floor(at / this.step + 1e-6);
  }

  /** When a column begins. */
  timeOf(column) {
    return column * this.step;
  }

  /**
   * Take an answer of `/series` in: what it says of a column replaces what was known of it.
   *
   * `own` is the identity that a lone sidecar calls "local". An answer of finer steps is folded into ours.
   */
  take(answer, own = "local") {
    const heard = new Set();
    const firstColumn = this.columnAt(answer.start);
    for (const column of this.known.keys()) if (column >= firstColumn) this.known.delete(column);
    for (const [pair, group] of byPair(answer.edges, own)) {
      const edge = this.#edge(pair, group[0], own);
      heard.add(pair);
      forgetFrom(edge, firstColumn);
      for (const told of group) {
        edge.ids.add(told.edge);
        for (const [column, ...point] of told.points ?? []) {
          addPoint(edge.points, this.columnAt(answer.start + column * answer.step), point);
        }
        for (const [column, counts] of told.histogram ?? []) {
          addCounts(edge.histograms, this.columnAt(answer.start + column * answer.step), counts);
        }
      }
    }
    for (const [pair, edge] of this.edges) if (!heard.has(pair)) forgetFrom(edge, firstColumn);
    this.last = Math.max(this.last, this.columnAt(answer.now));
    this.#trim();
  }

  /** What `compute(column)` makes of a column of all edges, computed once until something is told of that column. */
  inColumn(column, compute) {
    let found = this.known.get(column);
    if (found === undefined) {
      found = compute(column);
      this.known.set(column, found);
    }
    return found;
  }

  /** Time goes on, though nothing may have happened. */
  reach(at) {
    this.last = Math.max(this.last, this.columnAt(at));
  }

  /** Take in a tick: points whose first number is their column. What is told of a column again replaces it. */
  tick(edges, own = "local") {
    for (const [pair, group] of byPair(edges, own)) {
      const edge = this.#edge(pair, group[0], own);
      for (const told of group) {
        edge.points.delete(told.point[0]);
        this.known.delete(told.point[0]);
      }
      for (const told of group) {
        edge.ids.add(told.edge);
        addPoint(edge.points, told.point[0], told.point.slice(1));
        this.last = Math.max(this.last, told.point[0]);
      }
    }
    this.#trim();
  }

  /** The numbers of the columns of the last `seconds`, oldest first; the newest may still be filling. */
  columns(seconds) {
    const count = Math.min(Math.max(Math.round(seconds / this.step), 1), this.keep);
    return Array.from({ length: count }, (_, index) => this.last - count + 1 + index);
  }

  #edge(pair, told, own) {
    const source = told.source === "local" ? own : told.source;
    const known = this.edges.get(pair);
    if (known) {
      known.mtls = told.mtls;
      known.protocol = told.protocol;
      return known;
    }
    const { target, protocol, mtls } = told;
    const edge = { pair, source, target, protocol, mtls, ids: new Set(), points: new Map(), histograms: new Map() };
    this.edges.set(pair, edge);
    return edge;
  }

  #trim() {
    const first = this.last - this.keep + 1;
    for (const [pair, edge] of this.edges) {
      for (const kept of [edge.points, edge.histograms]) {
        for (const column of kept.keys()) {
          if (column >= first) break; // columns come in the order of time
          kept.delete(column);
        }
      }
      if (edge.points.size === 0 && edge.histograms.size === 0) this.edges.delete(pair);
    }
    for (const column of this.known.keys()) if (column < first) this.known.delete(column);
  }
}

/** Edges by their pair. Where both ends tell of one, the destination is believed: it has judged and measured it. */
function byPair(edges, own) {
  const pairs = new Map();
  for (const edge of edges) {
    const pair = pairOf(edge.source === "local" ? own : edge.source, edge.target);
    const group = pairs.get(pair);
    if (group) group.push(edge);
    else pairs.set(pair, [edge]);
  }
  for (const [pair, group] of pairs) {
    const told = group.filter((edge) => edge.reporter === "destination");
    if (told.length > 0 && told.length < group.length) pairs.set(pair, told);
  }
  return pairs;
}

function forgetFrom(edge, column) {
  for (const kept of [edge.points, edge.histograms]) {
    for (const each of kept.keys()) if (each >= column) kept.delete(each);
  }
}

function addPoint(points, column, point) {
  const known = points.get(column);
  if (!known) {
    points.set(column, Float64Array.from({ length: FIELDS }, (_, field) => point[field] ?? 0));
    return;
  }
  for (let field = 0; field < FIELDS; field += 1) known[field] += point[field] ?? 0;
}

function addCounts(histograms, column, counts) {
  const known = histograms.get(column);
  if (known) add(known, counts);
  else histograms.set(column, add(empty(), counts));
}
