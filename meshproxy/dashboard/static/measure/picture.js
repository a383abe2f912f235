/** The graph as numbers: services and calls over a stretch of time, idle and denied ones where asked for; pure. */

import { pairOf } from "./history.js";
import { Sum, services, sumOf } from "./sums.js";

/** From these shares of errors on a service or call is ill, or failing. */
export const ILL = 0.01;
export const FAILING = 0.1;

/**
 * Return { services, calls }: `services` maps a name to { name, incoming, outgoing, sidecars, sum, health },
 * `calls` are { pair, source, target, protocol, mtls, sum, idle, denied, health }, in the order of their pairs.
 *
 * `idle` are [source, target] pairs that may call but have not; `sidecars` those of `/mesh`.
 */
export function picture(history, columns, { sidecars = [], idle = [] } = {}) {
  const calls = [];
  for (const edge of history.edges.values()) {
    const sum = sumOf([edge], columns);
    if (sum.any) calls.push({ ...edge, sum, idle: false, denied: sum.requests === 0 && sum.denied > 0, health: healthOf(sum) });
  }
  const seen = new Set(calls.map(({ pair }) => pair));
  for (const [source, target] of idle) {
    const pair = pairOf(source, target);
    if (!seen.has(pair)) calls.push({ pair, source, target, sum: new Sum(), idle: true, denied: false, health: "none" });
    seen.add(pair);
  }
  calls.sort((a, b) => (a.pair < b.pair ? -1 : 1));
  const found = services(calls, sidecars);
  for (const service of found.values()) {
    service.sum = service.incoming.reduce((sum, call) => sum.plus(call.sum), new Sum());
    service.health = service.sidecars.some(({ state }) => state !== "serving") ? "broken" : healthOf(service.sum);
  }
  return { services: found, calls };
}

/** How well it goes, by the share of errors; "none" where nothing was asked. */
export function healthOf(sum) {
  const share = sum.errorShare;
  if (share === null) return "none";
  if (share >= FAILING) return "bad";
  return share >= ILL ? "warn" : "good";
}
