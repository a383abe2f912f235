/**
 * What a person would say who looks at all the numbers: what is not as it usually is, since when, and where; pure.
 *
 * An insight is { severity: "bad" | "warn", kind, service, pair, since, parts }; `parts` are pieces of one sentence, text or
 * { service } to be linked.
 */

import { departure, median } from "./baseline.js";
import { services } from "./sums.js";
import { sumsAlong, timeline } from "./timeline.js";
import { clock, percent, rate, serviceName, span, times } from "./words.js";

const SLOWER = 2; // times the usual mean duration
const LEAST_EXCESS = 0.01; // seconds; less is nobody's trouble, whatever the factor
const LEAST_REQUESTS = 5; // in a column, for its mean to say something
const FAILING = 0.05; // share of errors
const FAILING_MORE = 3; // times the usual share
const LEAST_ERRORS = 5;
const USUAL_TRAFFIC = 0.2; // requests per second whose end is worth a word
const SILENT_COLUMNS = 2;
const EXPLAINED = 0.5; // share of the added time that a callee has to explain
const HOUR = 3600;

/**
 * All insights, the gravest first. `mesh` is { now, recent, past, sidecars, denials, certificates }; `known` are the
 * trends where they have been looked for already: of a thousand calls that takes a while.
 */
export function insights(mesh, known = trends(mesh)) {
  const found = [...broken(mesh), ...expiring(mesh), ...known, ...refused(mesh)];
  const order = { bad: 0, warn: 1 };
  return found.sort((a, b) => order[a.severity] - order[b.severity]);
}

/** Those that follow from what happened in each minute of `recent`, and from the `past` before. */
export function trends(mesh) {
  const slots = timeline(mesh.past, mesh.recent, HOUR);
  const view = { ...mesh, slots, services: services(edgesOf(mesh), []), cache: new Map() };
  return [...failing(view), ...slow(view), ...silent(view)];
}

/** An insight as plain text. */
export function sentence({ parts }) {
  return parts.map((part) => (typeof part === "string" ? part : serviceName(part.service))).join("");
}

function edgesOf({ past, recent }) {
  return new Map([...past.edges, ...recent.edges]).values();
}

function sumsFor(view, key, pairs) {
  if (!view.cache.has(key)) view.cache.set(key, sumsAlong(view.slots, pairs));
  return view.cache.get(key);
}

function incoming(view, name) {
  return sumsFor(view, `in ${name}`, (view.services.get(name)?.incoming ?? []).map((edge) => edge.pair));
}

/** Services that answer much slower than they did, with the callee where the time goes. */
function slow(view) {
  const found = [];
  for (const name of view.services.keys()) {
    const means = incoming(view, name).map((sum) => (sum.requests >= LEAST_REQUESTS ? sum.mean : null));
    const left = departure(means, (mean, usual) => mean >= usual * SLOWER && mean - usual >= LEAST_EXCESS);
    if (!left) continue;
    const path = spentIn(view, name, left.index, new Set([name]));
    found.push({ name, path, since: view.slots[left.index].at, factor: median(means.slice(left.index)) / left.usual });
  }
  const passed = new Set(found.flatMap(({ path }) => path));
  return found
    .filter(({ name }) => !passed.has(name))
    .map(({ name, path, since, factor }) => ({
      severity: factor >= 2 * SLOWER ? "bad" : "warn",
      kind: "slow",
      service: name,
      since,
      parts: [
        { service: name },
        ` has been ${times(factor)} slower than its usual since ${clock(since, view.now)}; the time is spent in `,
        ...(path.length > 0 ? [{ service: path[path.length - 1] }, ...via(path)] : [{ service: name }, " itself"]),
        ".",
      ],
    }));
}

function via(path) {
  return path.length > 1 ? [", which is asked by ", { service: path[path.length - 2] }] : [];
}

/** The services, one behind the other, that explain most of the time by which `name` became slower. */
function spentIn(view, name, start, seen) {
  const own = incoming(view, name);
  const added = meanOf(own, own, start, own.length) - meanOf(own, own, 0, start);
  let most = { added: 0, callee: null };
  for (const edge of view.services.get(name).outgoing) {
    const calls = sumsFor(view, edge.pair, [edge.pair]);
    const more = meanOf(calls, own, start, own.length) - meanOf(calls, own, 0, start);
    if (!seen.has(edge.target) && more > most.added) most = { added: more, callee: edge.target };
  }
  if (most.callee === null || most.added < EXPLAINED * added) return [];
  return [most.callee, ...spentIn(view, most.callee, start, new Set([...seen, most.callee]))];
}

/** The seconds that `sums` took, for each request of `per`. */
function meanOf(sums, per, from, to) {
  let seconds = 0;
  let requests = 0;
  for (let index = from; index < to; index += 1) {
    seconds += sums[index].seconds;
    requests += per[index].requests;
  }
  return requests > 0 ? seconds / requests : 0;
}

/** Services whose answers fail more than they did. */
function failing(view) {
  const found = [];
  for (const name of view.services.keys()) {
    const sums = incoming(view, name);
    const shares = sums.map((sum) => (sum.requests >= LEAST_REQUESTS ? sum.errorShare : null));
    const left = departure(shares, (share, usual) => share >= FAILING && share >= usual * FAILING_MORE);
    if (!left) continue;
    const during = sums.slice(left.index);
    const errors = during.reduce((total, sum) => total + sum.errors, 0);
    const requests = during.reduce((total, sum) => total + sum.requests, 0);
    if (errors < LEAST_ERRORS) continue;
    const since = view.slots[left.index].at;
    const usual = left.usual > 0 ? `its usual is ${percent(left.usual)}` : "before, none did";
    found.push({
      severity: "bad",
      kind: "failing",
      service: name,
      since,
      parts: [
        `${percent(errors / requests)} of the requests to `,
        { service: name },
        ` have failed since ${clock(since, view.now)}; ${usual}.`,
      ],
    });
  }
  return found;
}

/** Calls that have ceased. The newest column is still filling, so it does not count. */
function silent(view) {
  const found = [];
  const complete = view.slots.length - 1;
  if (complete <= SILENT_COLUMNS) return found;
  const newest = view.slots.slice(complete - SILENT_COLUMNS);
  for (const edge of edgesOf(view)) {
    if (sumsAlong(newest, [edge.pair]).some(({ requests }) => requests > 0)) continue;
    const sums = sumsFor(view, edge.pair, [edge.pair]);
    let last = sums.length - 1;
    while (last >= 0 && sums[last].requests === 0) last -= 1;
    if (last < 0 || complete - 1 - last < SILENT_COLUMNS) continue;
    const before = sums.slice(0, last + 1).map((sum, index) => sum.requests / view.slots[index].seconds);
    const usual = median(before.filter((each) => each > 0));
    const steady = before.slice(-SILENT_COLUMNS - 1).every((each) => each > 0) && before.length > SILENT_COLUMNS;
    if (!steady || usual < USUAL_TRAFFIC) continue;
    const since = view.slots[last].at + view.slots[last].seconds;
    found.push({
      severity: "warn",
      kind: "silent",
      service: edge.target,
      pair: edge.pair,
      since,
      parts: [
        { service: edge.source },
        " has not called ",
        { service: edge.target },
        ` since ${clock(since, view.now)}; its usual is ${rate(usual)}.`,
      ],
    });
  }
  return found;
}

/** Who was refused lately, a sentence for each caller and service. */
function refused(view) {
  const groups = new Map();
  for (const denial of view.denials ?? []) {
    if (view.now - denial.last > HOUR / 6) continue;
    const target = denial.target ?? "";
    const key = `${denial.principal}\n${target}`;
    const group = groups.get(key) ?? { principal: denial.principal, target, count: 0, since: denial.at, reasons: new Set() };
    group.count += denial.count;
    group.since = Math.min(group.since, denial.at);
    group.reasons.add(denial.reason);
    groups.set(key, group);
  }
  return [...groups.values()]
    .sort((a, b) => b.count - a.count)
    .map(({ principal, target, count, since, reasons }) => ({
      severity: "warn",
      kind: "denied",
      service: target,
      since,
      parts: [
        ...(target ? [{ service: target }, " has refused "] : ["Refused: "]),
        { service: principal },
        ` ${count === 1 ? "once" : `${count} times`} since ${clock(since, view.now)} (${[...reasons].sort().join(", ")}).`,
      ],
    }));
}

/** Sidecars that do not serve. */
function broken(view) {
  return (view.sidecars ?? [])
    .filter(({ state }) => state !== "serving")
    .map(({ name, address, state, reason, since }) => ({
      severity: state === "starting" || state === "draining" ? "warn" : "bad",
      kind: "broken",
      service: name,
      since,
      parts: [
        ...(name ? ["The sidecar of ", { service: name }] : [`The sidecar at ${address}`]),
        state === "unreachable" ? " does not answer" : ` is ${state.replace("_", " ")}`,
        reason ? `: ${reason}.` : ".",
      ],
    }));
}

const DAY = 86_400;

/** How pressing the end of a certificate is: "good", "warn" when renewal is overdue, "bad" near the end. */
export function urgency({ not_before: from, not_after: until, seconds_left: left }) {
  const life = Math.max(until - from, 1);
  if (left <= Math.min(life / 6, 7 * DAY)) return "bad";
  return left <= Math.min(life / 3, 30 * DAY) ? "warn" : "good";
}

/** Certificates whose renewal is overdue. */
function expiring(view) {
  const shown = new Set();
  return (view.certificates ?? [])
    .map((certificate) => ({ certificate, severity: urgency(certificate) }))
    .filter(({ certificate: { role, serial, owner }, severity }) => {
      const key = role === "leaf" ? `${owner} ${serial}` : serial; // one root is told once
      return severity !== "good" && !shown.has(key) && shown.add(key);
    })
    .map(({ certificate: { role, owner, subject, seconds_left: left, not_after: until }, severity }) => ({
      severity,
      kind: "expiring",
      service: role === "leaf" ? owner : "",
      since: until,
      parts: [
        ...(role === "leaf" ? ["The certificate of ", { service: owner }] : [`The ${role} ${subject}`]),
        left > 0 ? ` ends in ${span(left)} and has not been renewed.` : ` ended ${span(-left)} ago.`,
      ],
    }));
}
