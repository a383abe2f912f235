/** What is known of one service or one call: figures, curves, neighbours, rules, certificates. */

import { ask } from "../live/ask.js";
import { rulesFor } from "../measure/matching.js";
import { sumOf, sumsByColumn } from "../measure/sums.js";
import { clock, count, duration, percent, rate, serviceName, size, span } from "../measure/words.js";
import { Chart, Cursor } from "../draw/chart.js";
import { h, replace, say } from "../draw/elements.js";
import { callLink, serviceLink, stateOf } from "./calls.js";

const LINES = [{ name: "mean", tone: "accent" }, { name: "p95", tone: "violet" }];

/** The panel beside the graph. */
export class Details {
  constructor(store, go) {
    this.store = store;
    this.chosen = null;
    this.policy = null; // what /policy says, asked once for each thing chosen
    const cursor = new Cursor();
    this.charts = {
      rate: new Chart({ title: "Requests", lines: [{ name: "", tone: "accent", fill: true }], format: rate, cursor }),
      latency: new Chart({ title: "Duration", lines: LINES, format: duration, cursor }),
    };
    this.title = h("h2", { tabindex: "-1" });
    this.kind = h("span", { class: "quiet" });
    this.facts = h("dl", { class: "facts" });
    this.rest = h("div", {});
    this.element = h(
      "div",
      { class: "details" },
      h(
        "header",
        {},
        this.title,
        h("button", { type: "button", class: "close", "aria-label": "Close details", on: { click: () => go("map", null) } }, "\u00d7"),
      ),
      this.kind,
      this.facts,
      this.charts.rate.element,
      this.charts.latency.element,
      this.rest,
    );
  }

  /** Show what was chosen, from the present picture. */
  show(chosen, picture, what) {
    const same = this.chosen?.service === chosen.service && this.chosen?.pair === chosen.pair;
    this.chosen = chosen;
    if (!same || what === "chosen") this.#rules();
    if (chosen.service !== undefined) this.#service(picture.services.get(chosen.service), chosen.service);
    else this.#call(picture.calls.find(({ pair }) => pair === chosen.pair), chosen.pair);
    if (!same && document.activeElement?.closest(".graph")) this.title.focus();
  }

  /** The second has passed: the curves move on. */
  update() {
    if (this.chosen && this.element.isConnected) this.#curves();
  }

  /** Paint no more. */
  close() {
    for (const chart of Object.values(this.charts)) chart.close();
  }

  #edges(history) {
    const { service, pair } = this.chosen;
    if (pair !== undefined) return [history.edges.get(pair)].filter(Boolean);
    const all = [...history.edges.values()];
    const incoming = all.filter(({ target }) => target === service);
    return incoming.length > 0 ? incoming : all.filter(({ source }) => source === service);
  }

  #curves() {
    const { history, columns, now } = this.store;
    const shown = history.step > 60 ? columns : columns.slice(0, -1); // the newest is still filling
    const sums = sumsByColumn(this.#edges(history), shown);
    const times = shown.map((column) => history.timeOf(column));
    const data = { times, step: history.step, now, markers: this.store.markers };
    const length = (index) => Math.min(Math.max(now - times[index], 1), history.step);
    this.charts.rate.show({ ...data, values: [sums.map((sum, index) => sum.requests / length(index))] });
    this.charts.latency.show({ ...data, values: [sums.map((sum) => sum.mean), sums.map((sum) => sum.quantile(0.95))] });
  }

  #facts(sum, more) {
    const { covered } = this.store;
    const quantiles = [0.5, 0.95, 0.99].map((q) => duration(sum.quantile(q))).join(" / ");
    const facts = [
      ["Rate", rate(sum.requests / covered), `${count(sum.requests)} in ${this.store.span.words}`],
      ["p50 / p95 / p99", quantiles, sum.mean === null ? "" : `mean ${duration(sum.mean)}`],
      ["Failed", percent(sum.errorShare), sum.errors > 0 ? count(sum.errors) : ""],
      ["Denied", count(sum.denied), ""],
      ["Bytes in / out", `${size(sum.bytesIn)} / ${size(sum.bytesOut)}`, ""],
      ...more,
    ];
    replace(
      this.facts,
      facts.map(([name, value, note]) =>
        h("div", {}, h("dt", {}, name), h("dd", { class: "number" }, value, note ? h("small", {}, ` ${note}`) : null)),
      ),
    );
  }

  #service(service, name) {
    say(this.title, serviceName(name));
    this.title.title = name;
    const incoming = service?.incoming ?? [];
    const outgoing = service?.outgoing ?? [];
    const sidecars = service?.sidecars ?? [];
    say(this.kind, sidecars.length > 0 ? `service with ${sidecars.length === 1 ? "one sidecar" : `${sidecars.length} sidecars`}` : "service whose sidecar is not asked");
    const sum = incoming.length > 0 ? service.sum : sumOf(this.#edges(this.store.history), this.store.columns);
    this.#facts(sum, []);
    this.#curves();
    const certificates = (this.store.certificates ?? []).filter(({ owner, role }) => owner === name && role === "leaf");
    replace(
      this.rest,
      section("Sidecars", sidecars.map(sidecarItem)),
      section("Called by", incoming.map((call) => this.#neighbour(call, call.source))),
      section("Calls", outgoing.map((call) => this.#neighbour(call, call.target))),
      section("Certificate", certificates.map(certificateItem)),
      section("Rules of its allow-list", this.#ruleItems(name, null)),
    );
  }

  #call(call, pair) {
    const [source, target] = pair.split(" \u2192 ");
    replace(this.title, serviceLink(source), " \u2192 ", serviceLink(target));
    if (!call) {
      say(this.kind, `no such call in ${this.store.span.words}`);
      replace(this.facts);
      this.#curves();
      replace(this.rest);
      return;
    }
    say(this.kind, call.idle ? "allowed, and not used" : `${call.protocol} over ${call.mtls ? "mutual TLS" : "plain TCP: nobody proves who calls"}`);
    this.#facts(call.sum, []);
    this.#curves();
    const denials = (this.store.denials ?? []).filter((each) => each.principal === source && (each.target ?? target) === target);
    replace(
      this.rest,
      section("Rules that name the caller", this.#ruleItems(target, source)),
      section("Denied", denials.slice(0, 5).map((each) => this.#denial(each))),
    );
  }

  #denial({ last, explanation, count: times }) {
    return [h("a", { href: "#/denials" }, clock(last, this.store.now)), ` ${times === 1 ? "" : `${count(times)} times: `}${explanation}`];
  }

  #neighbour(call, name) {
    const told = call.idle || call.denied ? stateOf(call) : `${rate(call.sum.requests / this.store.covered)}  ${duration(call.sum.quantile(0.95) ?? call.sum.mean)}`;
    return [serviceLink(name), " ", h("span", { class: "number end" }, callLink(call.pair, told || "see"))];
  }

  async #rules() {
    try {
      this.policy = await ask("/policy");
    } catch {
      this.policy = null; // the panel does without
    }
    if (this.chosen && this.element.isConnected) this.store.changed("mesh");
  }

  #ruleItems(service, caller) {
    const listeners = (this.policy?.listeners ?? []).filter((each) => (each.service ?? this.store.own) === service);
    const seen = new Set();
    return listeners.flatMap(({ file, rules = [], mode }) => {
      const found = caller === null ? rules : rulesFor(rules, caller);
      return found
        .filter((rule) => !seen.has(`${file} ${rule.name}`) && seen.add(`${file} ${rule.name}`))
        .map((rule) => [
          h("b", {}, rule.name),
          ` ${[rule.from].flat().map(serviceName).join(", ")} may ${[rule.methods ?? "use any method"].flat().join(", ")}`,
          rule.paths ? ` ${[rule.paths].flat().join(", ")}` : "",
          h("small", {}, ` ${[rule.reason, rule.line ? `${file}:${rule.line}` : file, mode === "audit" ? "only audited" : ""].filter(Boolean).join(" \u00b7 ")}`),
        ]);
    });
  }
}

function section(title, items) {
  if (items.length === 0) return null;
  return h("section", {}, h("h3", {}, title), h("ul", { class: "plain" }, items.map((item) => h("li", {}, item))));
}

function sidecarItem({ address, state, reason }) {
  return [h("code", {}, address), " ", h("span", { class: `state ${state}` }, state.replace("_", " ")), reason ? h("small", {}, ` ${reason}`) : null];
}

function certificateItem({ serial, seconds_left: left }) {
  return [left > 0 ? `ends in ${span(left)}` : `ended ${span(-left)} ago`, h("small", {}, ` serial ${serial}`)];
}
