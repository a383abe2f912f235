/** The heat map: services or calls by time, in colours and, for reading, in numbers. */

import { heatRows } from "../measure/heat.js";
import { clock, count, duration, percent, rate, times } from "../measure/words.js";
import { choice, emptyState, h, replace, say, table, toggle } from "../draw/elements.js";
import { HeatMap, rowName } from "../draw/heatmap.js";

const MODES = [
  { id: "latency", label: "Latency", title: "The 95th percentile against what is usual for the row" },
  { id: "errors", label: "Errors", title: "The share that failed" },
  { id: "rate", label: "Rate", title: "Requests per second" },
];
const ROWS = [
  { id: "service", label: "Services" },
  { id: "call", label: "Calls" },
];
const SCALES = {
  latency: ["as usual", "2\u00d7", "4\u00d7 its usual, or more"],
  errors: ["none", "2.5%", "10% failed, or more"],
  rate: ["quiet", "", "the busiest"],
};
const MOST_IN_TABLE = 300;

/** The page at #/heat. */
export class Heat {
  constructor(store, go) {
    this.store = store;
    this.mode = "latency";
    this.by = "service";
    this.asTable = false;
    this.map = new HeatMap(
      (row, cell) => this.#tell(row, cell),
      ({ name }) => go("map", this.by === "service" ? { service: name } : { pair: name }),
    );
    this.body = h("div", { class: "heat-body" });
    this.scale = h("div", { class: "scale" });
    this.note = h("span", { class: "quiet" });
    const again = (field) => (value) => ((this[field] = value), this.update("numbers"));
    this.element = h(
      "section",
      { class: "card page", "aria-labelledby": "heat-title" },
      h(
        "header",
        {},
        h("h2", { id: "heat-title" }, "Heat map"),
        this.note,
        choice("What the colour tells", MODES, () => this.mode, again("mode")).element,
        choice("What a row is", ROWS, () => this.by, again("by")).element,
        toggle("As a table", () => this.asTable, again("asTable")),
      ),
      this.body,
      this.scale,
    );
  }

  /** Nothing in the address matters here. */
  open() {
    this.update("numbers");
  }

  /** Something has changed. */
  update(what) {
    if (!["numbers", "minutes", "span", "mesh", "theme"].includes(what)) return;
    const { history, columns, store } = { history: this.store.history, columns: this.store.columns, store: this.store };
    const past = store.span.history === "long" ? null : store.histories.past;
    // Without the past everything would be as usual, whatever it is.
    const ready = store.ready && (this.mode !== "latency" || past === null || store.knowsThePast);
    const rows = ready ? heatRows(history, columns, { mode: this.mode, by: this.by, past }) : [];
    say(this.note, `${store.span.words}, a column is ${history.step < 60 ? `${history.step} s` : `${history.step / 60} min`}`);
    if (rows.length === 0) {
      const nothing = emptyState("Nothing to show", `No request came through in ${store.span.words}.`);
      replace(this.body, ready ? nothing : emptyState("Asking the sidecars \u2026", store.trouble));
    } else if (this.asTable) replace(this.body, this.#table(rows));
    else {
      if (this.body.firstChild !== this.map.element) replace(this.body, this.map.element);
      this.map.show(rows, { mode: this.mode, now: store.now, step: history.step, rowNames: rowName });
    }
    const [cool, middle, hot] = SCALES[this.mode];
    const kind = this.mode === "rate" ? "cool" : "heat";
    replace(this.scale, h("span", {}, cool), h("i", { class: `ramp ${kind}`, "aria-hidden": "true" }), middle ? h("span", {}, middle) : null, h("i", { class: `ramp hot ${kind}`, "aria-hidden": "true" }), h("span", {}, hot));
  }

  /** Paint no more. */
  close() {
    this.map.close();
  }

  #value(value) {
    return { latency: duration, errors: percent, rate }[this.mode](value);
  }

  #tell(row, { at, sum, value }) {
    const { now } = this.store;
    const seconds = this.store.history.step < 60;
    const lines = [`${count(sum.requests)} requests, ${percent(sum.errorShare)} failed`];
    if (this.mode === "latency") lines.unshift(value === null ? "too few to say" : `p95 ${duration(value)}, ${times(value / row.usual)} its usual ${duration(row.usual)}`);
    if (this.mode === "rate") lines.unshift(rate(value));
    if (sum.denied > 0) lines.push(`${count(sum.denied)} denied`);
    return { title: `${rowName(row.name)}, ${clock(at, now, { seconds })}`, lines };
  }

  #table(rows) {
    const { now } = this.store;
    const seconds = this.store.history.step < 60;
    const times = rows[0].cells.map(({ at }) => at);
    return table(`${MODES.find(({ id }) => id === this.mode).title}, by time`, [
      { title: this.by === "service" ? "Service" : "Call", cell: ({ name }) => rowName(name) },
      ...(this.mode === "latency" ? [{ title: "Usual", class: "number", cell: ({ usual }) => duration(usual) }] : []),
      ...times.map((_, index) => times.length - 1 - index).map((index) => ({
        title: clock(times[index], now, { seconds }),
        class: "number",
        cell: ({ cells }) => this.#value(cells[index].value),
      })),
    ], rows.slice(0, MOST_IN_TABLE));
  }
}
