/** Curves over time with one cursor: rate, success, durations, denials; and what was done meanwhile. */

import { services, sumsByColumn, totals } from "../measure/sums.js";
import { clock, count, duration, percent, rate, serviceName } from "../measure/words.js";
import { Chart, Cursor } from "../draw/chart.js";
import { h, replace, say } from "../draw/elements.js";
import { rowName } from "../draw/heatmap.js";

const LIVE = "1m"; // the stretch that is shown second by second
const ALL = "";
const MOST_MARKERS = 30;

/** The page at #/curves; `#/curves/service/NAME` and `#/curves/call/PAIR` show less than all. */
export class Curves {
  constructor(store, go) {
    this.store = store;
    this.scope = ALL;
    const cursor = new Cursor();
    const chart = (title, lines, format, more = {}) => new Chart({ title, lines, format, cursor, ...more });
    this.charts = [
      chart("Requests", [{ name: "", tone: "accent", fill: true }], rate),
      chart("Success", [{ name: "", tone: "good" }], percent, { share: true }),
      chart("Duration", [{ name: "p50", tone: "accent" }, { name: "p95", tone: "violet" }, { name: "p99", tone: "bad" }], duration),
      chart("Denied", [{ name: "", tone: "warn", fill: true }], rate),
    ];
    this.select = h("select", { "aria-label": "Whose curves", on: { change: () => go("curves", chosenFrom(this.select.value)) } });
    this.note = h("span", { class: "quiet" });
    this.done = h("ol", { class: "markers" });
    this.element = h(
      "section",
      { class: "card page curves", "aria-labelledby": "curves-title" },
      h("header", {}, h("h2", { id: "curves-title" }, "Curves"), this.note, this.select),
      h("div", { class: "charts" }, this.charts.map(({ element }) => element)),
      h("h3", {}, "What was done"),
      this.done,
    );
  }

  /** Show what the address names. */
  open([kind, name]) {
    this.scope = kind === "service" || kind === "call" ? `${kind}/${name}` : ALL;
    this.update("numbers");
  }

  /** Something has changed. */
  update(what) {
    if (!["tick", "numbers", "span", "markers", "mesh", "theme"].includes(what)) return;
    if (what === "tick" && this.store.span.id !== LIVE && this.store.span.id !== "10m") return;
    if (what !== "tick") this.#options();
    this.#curves();
    if (what !== "tick") this.#markers();
  }

  /** Paint no more. */
  close() {
    for (const each of this.charts) each.close();
  }

  /** The last ten minutes come from the seconds; durations, of which those have no buckets, and the rare denials from the tens. */
  #curves() {
    const { store } = this;
    const byTheSecond = store.span.seconds <= 600 && store.loaded.has("seconds");
    const history = byTheSecond ? store.histories.seconds : store.history;
    const all = history.columns(store.span.seconds);
    const columns = history.step > 60 ? all : all.slice(0, -1); // the newest is still filling
    const sums = this.#sums(history, columns);
    const times = columns.map((column) => history.timeOf(column));
    const data = { times, step: history.step, now: store.now, markers: store.markers };
    const length = (index) => (byTheSecond ? 1 : Math.min(Math.max(store.now - times[index], 1), history.step));
    const [requests, success, durations, denied] = this.charts;
    requests.show({ ...data, values: [sums.map((sum, index) => sum.requests / length(index))] });
    success.show({ ...data, values: [sums.map((sum) => (sum.errorShare === null ? null : 1 - sum.errorShare))] });
    const wide = byTheSecond ? this.#tens(times) : sums;
    durations.show({ ...data, values: [0.5, 0.95, 0.99].map((q) => wide.map((sum) => sum.quantile(q))) });
    denied.show({ ...data, values: [wide.map((sum, index) => sum.denied / (byTheSecond ? 10 : length(index)))] });
    say(this.note, `${store.span.words}, ${byTheSecond ? "each second (durations and denials: each ten)" : `a point is ${history.step / 60} min`}`);
  }

  /** For each second the sum of the ten seconds it is in. */
  #tens(times) {
    const { tens } = this.store.histories;
    const columns = times.map((time) => tens.columnAt(time));
    const different = [...new Set(columns)];
    const sums = this.#sums(tens, different);
    const known = new Map(different.map((column, index) => [column, sums[index]]));
    return columns.map((column) => known.get(column));
  }

  #sums(history, columns) {
    return this.scope === ALL ? totals(history, columns) : sumsByColumn(this.#edges(history), columns);
  }

  #edges(history) {
    const all = [...history.edges.values()];
    const [kind, ...name] = this.scope.split("/");
    if (kind === "call") return all.filter(({ pair }) => pair === name.join("/"));
    if (kind !== "service") return all;
    const incoming = all.filter(({ target }) => target === name.join("/"));
    return incoming.length > 0 ? incoming : all.filter(({ source }) => source === name.join("/"));
  }

  #options() {
    const edges = [...this.store.history.edges.values()];
    const option = (value, text) => h("option", { value, selected: value === this.scope }, text);
    const found = [...services(edges).keys()].map((name) => option(`service/${name}`, serviceName(name)));
    const calls = edges.map(({ pair }) => pair).sort().map((pair) => option(`call/${pair}`, rowName(pair)));
    const key = [this.scope, ...calls.map(({ value }) => value)].join();
    if (key === this.shown) return;
    this.shown = key;
    replace(this.select, option(ALL, "The whole mesh"), h("optgroup", { label: "Services" }, found), h("optgroup", { label: "Calls" }, calls));
    this.select.value = this.scope;
  }

  #markers() {
    const { now, span, markers } = this.store;
    const shown = markers.filter(({ at }) => at >= now - span.seconds).slice(-MOST_MARKERS).reverse();
    replace(
      this.done,
      shown.length > 0
        ? shown.map(({ at, kind, text, sidecar }) =>
            h("li", {}, h("span", { class: "number" }, clock(at, now, { seconds: true })), h("b", {}, kind.replaceAll("_", " ")), `${sidecar ? `${serviceName(sidecar)}: ` : ""}${text}`),
          )
        : h("li", { class: "quiet" }, `Nothing in ${span.words}: no start, reload, new certificate or deny-list (${count(markers.length)} known before).`),
    );
  }
}

function chosenFrom(value) {
  const [kind, ...name] = value.split("/");
  if (kind === "service") return { service: name.join("/") };
  return kind === "call" ? { pair: name.join("/") } : null;
}
