/** The first page: a few figures, the graph, and beside it what stands out, or what is known of what was chosen. */

import { together, totals } from "../measure/sums.js";
import { count, duration, percent, rate, serviceName, span } from "../measure/words.js";
import { Chart } from "../draw/chart.js";
import { emptyState, h, put, replace, say, toggle } from "../draw/elements.js";
import { Graph } from "../draw/graph.js";
import { callsTable } from "./calls.js";
import { Details } from "./details.js";
import { insightList } from "./insights.js";

const RECENT = 120; // columns of the small curves

/** The page at #/map; `#/map/service/NAME` and `#/map/call/PAIR` have something chosen. */
export class Overview {
  constructor(store, go) {
    this.store = store;
    this.go = go;
    this.idle = false;
    this.asTable = false;
    this.chosen = null;
    this.figures = figures();
    this.frame = h("div", { class: "graph-frame" });
    this.none = h("div", { class: "over" });
    this.list = h("div", { class: "graph-table", hidden: true });
    this.side = h("aside", { class: "card side", "aria-label": "What stands out, and details" });
    this.graph = new Graph(this.frame, (chosen) => go("map", chosen));
    this.frame.append(this.none, this.#buttons());
    this.details = new Details(store, go);
    this.element = h(
      "div",
      { class: "overview" },
      h("section", { class: "figures", "aria-label": "The mesh in figures" }, this.figures.map(({ element }) => element)),
      h(
        "section",
        { class: "card map", "aria-labelledby": "map-title" },
        h(
          "header",
          {},
          h("h2", { id: "map-title" }, "Who calls whom"),
          (this.note = h("span", { class: "quiet" })),
          toggle("Idle calls", () => this.idle, (on) => ((this.idle = on), this.update("numbers"))),
          toggle("As a table", () => this.asTable, (on) => ((this.asTable = on), this.update("numbers"))),
        ),
        this.frame,
        this.list,
        legend(),
      ),
      this.side,
    );
  }

  /** Show what the address names. */
  open([kind, name]) {
    this.chosen = kind === "service" ? { service: name } : kind === "call" ? { pair: name } : null;
    this.update("chosen");
  }

  /** Something has changed. */
  update(what) {
    if (what === "tick") {
      this.#figures();
      this.details.update("tick");
      return;
    }
    if (what === "minutes" && !this.chosen) replace(this.side, insightList(this.store));
    if (!["numbers", "mesh", "span", "chosen", "denials", "certificates", "theme"].includes(what)) return;
    const picture = this.store.picture({ idle: this.idle });
    this.#figures();
    this.#state(picture);
    this.frame.hidden = this.asTable;
    this.list.hidden = !this.asTable;
    if (this.asTable) replace(this.list, callsTable(picture.calls, this.store.covered, this.go));
    else if (this.store.ready) this.graph.show(picture, this.store.covered, this.chosen);
    this.#side(picture, what);
  }

  /** Let go of what would go on by itself. */
  close() {
    this.details.close();
    for (const { chart } of this.figures) chart?.close();
  }

  #buttons() {
    const button = (label, text, act) => h("button", { type: "button", title: label, "aria-label": label, on: { click: act } }, text);
    return h(
      "div",
      { class: "zoom" },
      button("Nearer", "+", () => this.graph.view.zoom(1.3)),
      button("Farther", "\u2212", () => this.graph.view.zoom(0.77)),
      button("Show all", "\u2922", () => this.graph.view.fit()),
    );
  }

  #state({ services, calls }) {
    const used = calls.filter(({ idle }) => !idle);
    say(this.note, calls.length > 0 ? `${count(services.size)} services, ${count(used.length)} calls, ${this.store.span.words}` : "");
    const nothing = this.store.ready && used.length === 0 && !this.idle;
    this.none.hidden = !nothing && this.store.ready;
    if (!this.store.ready) replace(this.none, emptyState("Asking the sidecars \u2026", this.store.trouble));
    this.graph.svg.classList.toggle("bare", nothing);
    if (!nothing) return;
    const words = "The sidecars answer, but nothing has come through them. Where each of their listeners leads:";
    const file = this.store.mesh.sidecars.find((sidecar) => sidecar.file)?.file ?? "FILE.toml";
    const state = emptyState(`No calls in ${this.store.span.words}`, words, `meshproxy status ${file}`);
    const allowed = count(this.store.idle.length);
    if (this.store.idle.length > 0) state.append(h("p", {}, `${allowed} calls are allowed: \u201cIdle calls\u201d shows them.`));
    replace(this.none, state);
  }

  #side(picture, what) {
    if (this.chosen) {
      if (this.side.firstChild !== this.details.element) replace(this.side, this.details.element);
      this.details.show(this.chosen, picture, what);
    } else if (what !== "chosen" || this.side.firstChild === this.details.element || !this.side.firstChild) {
      replace(this.side, insightList(this.store, this.go));
    }
  }

  /** The figures of the chosen stretch, with the last two minutes as small curves. */
  #figures() {
    const { seconds } = this.store.histories;
    const sum = together(totals(this.store.history, this.store.columns));
    const { covered } = this.store;
    const [requests, success, latency, denied, expiry] = this.figures;
    this.#expiry(expiry);
    if (!this.store.ready) {
      for (const figure of [requests, success, latency, denied]) figure.say("\u2026", "asking");
      return;
    }
    requests.say(rate(sum.requests / covered), `${count(sum.requests)} requests`);
    success.say(sum.errorShare === null ? "\u2013" : percent(1 - sum.errorShare), sum.errors > 0 ? `${count(sum.errors)} failed` : "none failed");
    put(success.element, "data-tone", sum.errorShare >= 0.1 ? "bad" : sum.errorShare >= 0.01 ? "warn" : "");
    const [p50, p95] = [sum.quantile(0.5), sum.quantile(0.95)];
    latency.say(duration(p95), p50 === null ? "of all requests" : `half below ${duration(p50)}`);
    denied.say(count(sum.denied), this.#deniedWords());
    put(denied.element, "data-tone", sum.denied > 0 ? "warn" : "");
    const columns = seconds.columns(RECENT).slice(0, -1);
    const each = totals(seconds, columns);
    const show = (index, history, at, values) =>
      this.figures[index].chart.show({ times: at.map((column) => history.timeOf(column)), values: [values], now: this.store.now });
    show(0, seconds, columns, each.map((one) => one.requests));
    show(1, seconds, columns, each.map((one) => (one.errorShare === null ? null : 1 - one.errorShare)));
    show(3, seconds, columns, each.map((one) => one.denied));
    const { tens } = this.store.histories;
    const ten = tens.columns(RECENT * 5).slice(0, -1);
    show(2, tens, ten, totals(tens, ten).map((sum) => sum.quantile(0.95)));
  }

  #deniedWords() {
    if (!this.store.denials) return "";
    const callers = new Set((this.store.denials ?? []).map(({ principal }) => principal));
    return callers.size === 0 ? "nobody" : callers.size === 1 ? "of one caller" : `of ${callers.size} callers`;
  }

  #expiry(figure) {
    const certificates = this.store.certificates ?? [];
    const first = certificates.reduce((least, each) => (!least || each.seconds_left < least.seconds_left ? each : least), null);
    if (!first) figure.say("\u2013", "not known");
    else figure.say(first.seconds_left > 0 ? span(first.seconds_left) : "expired", `${first.role} of ${serviceName(first.owner)}`);
    put(figure.element, "data-tone", first && first.seconds_left <= 0 ? "bad" : "");
  }
}

function figures() {
  const figure = (title, tone, href) => {
    const value = h("strong", { class: "number" });
    const words = h("span", { class: "quiet" });
    const lines = [{ name: "", tone, fill: true }];
    const chart = tone ? new Chart({ title, lines, format: String, small: true, share: title === "Success" }) : null;
    const plot = chart?.canvas.element;
    plot?.setAttribute("aria-hidden", "true");
    const element = h("a", { class: "card figure", href }, h("span", { class: "title" }, title), value, words, plot);
    return { element, chart, say: (text, more) => (say(value, text), say(words, more)) };
  };
  return [
    figure("Requests", "accent", "#/curves"),
    figure("Success", "good", "#/curves"),
    figure("95th percentile", "violet", "#/heat"),
    figure("Denied", "warn", "#/denials"),
    figure("Next expiry", "", "#/certificates"),
  ];
}

function legend() {
  const item = (kind, text) => h("span", {}, h("i", { class: `key ${kind}`, "aria-hidden": "true" }), text);
  return h(
    "footer",
    { class: "legend" },
    item("good", "healthy"),
    item("warn", "1 % fail"),
    item("bad", "10 % fail"),
    item("denied", "only denied"),
    item("idle", "allowed, idle"),
    item("lock", "mutual TLS"),
    h("span", { class: "quiet" }, "a line tells its rate and 95th percentile"),
  );
}
