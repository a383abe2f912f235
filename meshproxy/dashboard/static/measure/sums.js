/** Sums over edges and columns: of an edge, of a service, of the whole mesh; pure. */

import { add, empty, quantile, total } from "./histogram.js";
import { BYTES_IN, BYTES_OUT, DENIED, ERRORS, OPENED, REQUESTS, SECONDS } from "./history.js";

/** What was counted, with what follows from it; null where nothing happened that it could follow from. */
export class Sum {
  constructor() {
    this.requests = 0;
    this.errors = 0;
    this.denied = 0;
    this.bytesIn = 0;
    this.bytesOut = 0;
    this.seconds = 0;
    this.opened = 0;
    this.counts = empty();
  }

  /** Add a point of a history. */
  point(point) {
    this.requests += point[REQUESTS];
    this.errors += point[ERRORS];
    this.denied += point[DENIED];
    this.bytesIn += point[BYTES_IN];
    this.bytesOut += point[BYTES_OUT];
    this.seconds += point[SECONDS];
    this.opened += point[OPENED];
    return this;
  }

  /** Add one column of an edge. */
  column(edge, column) {
    const point = edge.points.get(column);
    if (point) this.point(point);
    const counts = edge.histograms.get(column);
    if (counts) add(this.counts, counts);
    return this;
  }

  /** Add another sum. */
  plus(other) {
    this.requests += other.requests;
    this.errors += other.errors;
    this.denied += other.denied;
    this.bytesIn += other.bytesIn;
    this.bytesOut += other.bytesOut;
    this.seconds += other.seconds;
    this.opened += other.opened;
    add(this.counts, other.counts);
    return this;
  }

  /** Whether anything happened at all. */
  get any() {
    return this.requests > 0 || this.denied > 0 || this.opened > 0;
  }

  /** The share that failed, of what was answered. */
  get errorShare() {
    return this.requests > 0 ? Math.min(this.errors / this.requests, 1) : null;
  }

  /** The mean duration in seconds. */
  get mean() {
    return this.requests > 0 ? this.seconds / this.requests : null;
  }

  /** The duration below which the share `q` lies; where nothing was counted in buckets, null. */
  quantile(q) {
    return quantile(this.counts, q);
  }

  /** Whether durations were counted in buckets. */
  get hasBuckets() {
    return total(this.counts) > 0;
  }
}

/** The sum of some edges over some columns. */
export function sumOf(edges, columns) {
  const sum = new Sum();
  for (const edge of edges) for (const column of columns) sum.column(edge, column);
  return sum;
}

/** One sum per column, of all edges of a history. */
export function totals(history, columns) {
  return columns.map((column) => history.inColumn(column, (each) => sumOf(history.edges.values(), [each])));
}

/** The sum of sums. */
export function together(sums) {
  return sums.reduce((all, sum) => all.plus(sum), new Sum());
}

/** One sum per column, of some edges together. */
export function sumsByColumn(edges, columns) {
  return columns.map((column) => {
    const sum = new Sum();
    for (const edge of edges) sum.column(edge, column);
    return sum;
  });
}

/**
 * The services of these edges and of `sidecars`, by name: each with the edges that lead to and from it.
 *
 * `edges` is any iterable of things with a source and a target.
 */
export function services(edges, sidecars = []) {
  const found = new Map();
  const service = (name) => {
    if (!found.has(name)) found.set(name, { name, incoming: [], outgoing: [], sidecars: [] });
    return found.get(name);
  };
  for (const sidecar of sidecars) if (sidecar.name) service(sidecar.name).sidecars.push(sidecar);
  for (const edge of edges) {
    service(edge.source).outgoing.push(edge);
    service(edge.target).incoming.push(edge);
  }
  return new Map([...found].sort(([one], [other]) => (one < other ? -1 : 1)));
}
