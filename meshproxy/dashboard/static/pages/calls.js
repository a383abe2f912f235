/** Calls as a table: what the graph shows, for reading. */

import { duration, percent, rate, serviceName, size } from "../measure/words.js";
import { h, table } from "../draw/elements.js";

/** A link that brings a service out on the map. */
export function serviceLink(name) {
  return h("a", { href: `#/map/service/${encodeURIComponent(name)}`, title: name }, serviceName(name));
}

/** A link to one call. */
export function callLink(pair, text) {
  return h("a", { href: `#/map/call/${encodeURIComponent(pair)}` }, text);
}

/** How a call stands, in a word that does without colour. */
export function stateOf({ idle, denied, sum }) {
  if (idle) return "idle";
  if (denied) return "denied";
  return sum.denied > 0 ? `${sum.denied} denied` : "";
}

/** The calls, the busiest first. */
export function callsTable(calls, covered) {
  const rows = [...calls].sort((a, b) => b.sum.requests - a.sum.requests || (a.pair < b.pair ? -1 : 1));
  return table("Calls between services", [
    { title: "From", cell: ({ source }) => serviceLink(source) },
    { title: "To", cell: ({ target }) => serviceLink(target) },
    { title: "Rate", class: "number", cell: ({ pair, sum }) => callLink(pair, rate(sum.requests / covered)) },
    { title: "p50", class: "number", cell: ({ sum }) => duration(sum.quantile(0.5)) },
    { title: "p95", class: "number", cell: ({ sum }) => duration(sum.quantile(0.95) ?? sum.mean) },
    { title: "Failed", class: "number", cell: ({ sum }) => percent(sum.errorShare) },
    { title: "Bytes", class: "number", cell: ({ sum }) => size(sum.bytesIn + sum.bytesOut) },
    { title: "Protected by", cell: ({ mtls, idle }) => (idle ? "" : mtls ? "mutual TLS" : "nothing") },
    { title: "", cell: stateOf },
  ], rows);
}
