/** What the page knows of the mesh, kept up to date; pages subscribe to it and draw. */

import { insights, trends } from "../measure/insights.js";
import { picture } from "../measure/picture.js";
import { ask } from "./ask.js";
import { Stream } from "./stream.js";
import { DEFAULT_SPAN, HISTORIES, SPANS, histories, sinceAll, sinceNew } from "./spans.js";

const MOST_DENIALS = 500;
const MOST_MARKERS = 500;
const SLOWLY = 60; // seconds between looks at what changes seldom
const OFTEN = 10;
const BEAT = 1000; // milliseconds
// What was computed is computed again after these news: sentences go by minutes, so not each time the map has new numbers.
const OUT_OF_DATE = {
  mesh: /^(picture|insights)/,
  numbers: /^picture/,
  span: /^picture/,
  minutes: /^(insights|trends)/,
  denials: /^insights/,
  certificates: /^insights/,
};

/** Holds everything; `start` begins to ask. Listeners are called with what changed: "tick", "numbers", "mesh", ... */
export class Store {
  constructor() {
    this.mesh = null; // the answer of /mesh
    this.histories = histories();
    this.markers = [];
    this.denials = null;
    this.certificates = null;
    this.idle = []; // [source, target] that may call and have not
    this.gauges = {};
    this.span = SPANS.find(({ id }) => id === DEFAULT_SPAN);
    this.trouble = ""; // why the numbers may be old
    this.link = "connecting"; // connecting | live | broken
    this.skew = 0; // seconds this browser's clock is behind the sidecar's
    this.listeners = new Set();
    this.asked = {}; // when each thing was asked for last
    this.loaded = new Set();
    this.stream = new Stream(this);
    this.memory = new Map(); // what was computed from the present numbers
  }

  /** The time at the sidecar, in Unix seconds. */
  get now() {
    return Date.now() / 1000 + this.skew;
  }

  /** The identity that a lone sidecar calls "local". */
  get own() {
    return this.mesh?.kind === "sidecar" ? (this.mesh.sidecars[0]?.name ?? "local") : "local";
  }

  /** An identity as services are named here: without the own trust domain. */
  short(id) {
    const home = `spiffe://${this.mesh?.trust_domain}/`;
    return id.startsWith(home) ? id.slice(home.length - 1) : id;
  }

  /** Call `listener(what)` after each change; returns what stops that. */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Tell that something changed. */
  changed(what) {
    for (const key of this.memory.keys()) if (OUT_OF_DATE[what]?.test(key)) this.memory.delete(key);
    for (const listener of [...this.listeners]) listener(what);
  }

  /** Ask for everything once, then go on for ever. */
  async start() {
    this.stream.open();
    await this.#beat();
    setInterval(() => this.#beat(), BEAT);
    document.addEventListener("visibilitychange", () => this.#beat());
  }

  /** Look at another stretch of time. */
  async choose(id) {
    this.span = SPANS.find((span) => span.id === id) ?? this.span;
    this.changed("span");
    await this.#history(this.span.history);
  }

  /** The history of the chosen stretch. */
  get history() {
    return this.histories[this.span.history];
  }

  /** Its columns. */
  get columns() {
    return this.history.columns(this.span.seconds);
  }

  /** Over how many seconds its sums go: less than the stretch where no sidecar is that old. */
  get covered() {
    const since = Math.min(...(this.mesh?.sidecars ?? []).map((sidecar) => sidecar.since).filter((at) => at > 0));
    const first = this.history.timeOf(this.columns[0]);
    return Math.max(this.now - Math.max(Number.isFinite(since) ? since : first, first), 1);
  }

  /** Services and calls over the chosen stretch, computed once per change; `idle` adds who may call and has not. */
  picture({ idle = false } = {}) {
    return this.#once(`picture ${idle}`, () =>
      picture(this.history, this.columns, { sidecars: this.mesh?.sidecars ?? [], idle: idle ? this.idle : [] }),
    );
  }

  /** What stands out. */
  insights() {
    return this.#once("insights", () =>
      insights(
        {
          now: this.now,
          sidecars: this.mesh?.sidecars ?? [],
          denials: this.denials ?? [],
          certificates: this.certificates ?? [],
        },
        this.#once("trends", () => trends({ now: this.now, recent: this.histories.minutes, past: this.histories.past })),
      ),
    );
  }

  /** Whether the numbers of the chosen stretch have come. */
  get ready() {
    return this.mesh !== null && this.loaded.has(this.span.history);
  }

  /** Whether it is known what is usual; until then nobody can say what is not. */
  get knowsThePast() {
    return this.loaded.has("minutes") && this.loaded.has("past");
  }

  /** Take in a second's news. */
  tick(told) {
    this.skew = told.now - Date.now() / 1000;
    this.gauges = told.gauges ?? this.gauges;
    this.histories.seconds.reach(told.now);
    this.histories.seconds.tick(told.edges, this.own);
    this.changed("tick");
  }

  /** Take in a marker: something that was done, at a time. */
  mark(marker) {
    const key = ({ at, kind, text, sidecar }) => `${at} ${kind} ${text} ${sidecar ?? ""}`;
    if (this.markers.some((known) => key(known) === key(marker))) return;
    this.markers.push(marker);
    this.markers.sort((a, b) => a.at - b.at);
    this.markers.splice(0, this.markers.length - MOST_MARKERS);
  }

  /** Take in a denial: a new one, or one more of those that are known. */
  deny(told) {
    const denial = this.#denial(told);
    const same = (known) =>
      ["sidecar", "listener", "principal", "method", "path", "reason"].every((field) => known[field] === denial[field]);
    const others = (this.denials ?? []).filter((known) => !same(known));
    this.denials = [denial, ...others].sort((a, b) => b.last - a.last).slice(0, MOST_DENIALS);
    this.changed("denials");
  }

  /** Some seconds were not heard of: ask for them. */
  missed() {
    this.asked.seconds = 0;
    this.loaded.delete("seconds");
  }

  /** Ask again who is there, at once. */
  async look() {
    this.asked.mesh = 0;
    await this.#beat();
  }

  #once(key, compute) {
    if (!this.memory.has(key)) this.memory.set(key, compute());
    return this.memory.get(key);
  }

  #due(what, every) {
    const now = Date.now() / 1000;
    if (document.hidden || now - (this.asked[what] ?? 0) < every) return false;
    this.asked[what] = now;
    return true;
  }

  async #beat() {
    try {
      if (this.#due("mesh", this.mesh === null ? 2 : OFTEN)) await this.#mesh();
      if (this.mesh === null) return;
      const names = new Set([this.span.history, "tens", "seconds", "minutes", "past"]);
      const due = [...names].filter((name) => this.#due(name, HISTORIES[name].every || (this.loaded.has(name) ? Infinity : 5)));
      await Promise.all([
        ...due.map((name) => this.#history(name)),
        this.#due("denials", OFTEN) && this.#denials(),
        this.#due("certificates", SLOWLY) && this.#certificates(),
        this.#due("idle", SLOWLY) && this.#idle(),
      ]);
      this.#trouble("");
    } catch (error) {
      this.#trouble(error.message);
    }
  }

  #trouble(words) {
    if (this.trouble === words) return;
    this.trouble = words;
    this.changed("mesh");
  }

  async #mesh() {
    const mesh = await ask("/mesh");
    this.mesh = mesh;
    this.skew = mesh.now - Date.now() / 1000;
    this.changed("mesh");
  }

  async #history(name) {
    const kept = HISTORIES[name];
    const history = this.histories[name];
    const since = this.loaded.has(name)
      ? sinceNew(kept, history, this.now)
      : sinceAll(kept, this.now, this.histories.tens.edges.size);
    // Who gathers many adds columns up for us; a lone sidecar's few edges we add up ourselves.
    const step = this.mesh.kind === "mesh" ? kept.step : null;
    const answer = await ask("/series", { tier: kept.tier, since: since.toFixed(3), step });
    history.take(answer, this.own);
    for (const marker of answer.markers ?? []) this.mark(marker);
    this.loaded.add(name);
    this.asked[name] = Date.now() / 1000;
    if (name === "minutes" || name === "past") this.changed("minutes");
    if (name === this.span.history) this.changed("numbers");
    else if (name === "seconds") this.changed("tick");
  }

  async #denials() {
    this.denials = (await ask("/denials")).denials.map((told) => this.#denial(told));
    this.changed("denials");
  }

  /** A denial with the caller's name as the graph has it, and with the service that refused. */
  #denial(told) {
    return { ...told, principal: this.short(told.principal), target: told.target || this.own };
  }

  async #certificates() {
    const told = await ask("/certificates");
    const leaf = { id: told.id, renewal: told.renewal }; // as a lone sidecar tells it: beside the rows, about the leaf
    this.certificates = told.certificates.map((each) => ({
      ...(each.role === "leaf" ? { ...leaf, ...each } : each),
      owner: each.owner || this.own,
      not_before: each.not_before ?? told.now ?? 0,
    }));
    this.changed("certificates");
  }

  async #idle() {
    const { elements } = await ask("/topology", { window: 600, idle: 1 });
    this.idle = elements.edges.filter(({ data }) => data.mesh?.idle).map(({ data }) => [data.source, data.target]);
    this.changed("numbers");
  }
}
