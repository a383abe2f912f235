/** Who was refused what, why, and the edit that would let them in. */

import { clock, count, serviceName } from "../measure/words.js";
import { copyable, emptyState, h, replace, say } from "../draw/elements.js";
import { serviceLink } from "./calls.js";

/** The page at #/denials. */
export class Denials {
  constructor(store) {
    this.store = store;
    this.filter = h("input", { type: "search", placeholder: "Filter by caller, service, path, reason", "aria-label": "Filter denials", on: { input: () => this.#draw() } });
    this.note = h("span", { class: "quiet" });
    this.list = h("ol", { class: "denials" });
    this.element = h("section", { class: "card page", "aria-labelledby": "denials-title" }, h("header", {}, h("h2", { id: "denials-title" }, "Denials"), this.note, this.filter), this.list);
    this.shown = "";
  }

  /** Nothing in the address matters here. */
  open() {
    this.#draw();
  }

  /** Something has changed. */
  update(what) {
    if (what === "denials" || what === "mesh") this.#draw();
  }

  /** Nothing goes on here by itself. */
  close() {}

  #draw() {
    const { denials, now } = this.store;
    const wanted = this.filter.value.trim().toLowerCase();
    const found = (denials ?? []).filter((each) => [each.principal, each.target, each.listener, each.method, each.path, each.reason].join(" ").toLowerCase().includes(wanted));
    const key = JSON.stringify([wanted, found.map(({ at, last, count: times, principal, path }) => [at, last, times, principal, path])]);
    if (key === this.shown && denials) return;
    this.shown = key;
    const total = found.reduce((sum, each) => sum + each.count, 0);
    say(this.note, denials && found.length > 0 ? `${count(total)} refusals of ${count(found.length)} kinds, the newest first` : "");
    if (!denials) replace(this.list, h("li", { class: "quiet" }, "Asking the sidecars \u2026"));
    else if (found.length > 0) replace(this.list, found.map((each) => item(each, now)));
    else if (wanted) replace(this.list, emptyState("No denial like that", "None that is remembered has all of these letters."));
    else replace(this.list, emptyState("Nobody was refused", "Every caller asked only for what an allow-list grants. To see how a request would be judged:", "meshproxy policy explain FILE.allow.toml --caller /web --method GET --path /orders"));
  }
}

function item({ at, last, count: times, listener, target, principal, method, path, reason, nearest, explanation, edit }, now) {
  const asked = method || path ? h("code", {}, `${method} ${path}`.trim()) : h("span", { class: "quiet" }, "a connection");
  const since = times > 1 ? `${count(times)} times since ${clock(at, now, { seconds: true })}` : "once";
  return h(
    "li",
    {},
    h(
      "div",
      { class: "who" },
      h("time", { class: "number", datetime: new Date(last * 1000).toISOString() }, clock(last, now, { seconds: true })),
      h("span", {}, serviceLink(principal), " \u2192 ", target ? serviceLink(target) : serviceName(listener)),
      asked,
      h("span", { class: "tag warn" }, reason.replaceAll("_", " ")),
      h("span", { class: "quiet number" }, since),
    ),
    h("p", { class: "why" }, explanation),
    nearest && !explanation.includes(nearest.rule) ? h("p", { class: "quiet" }, `Nearest rule: ${nearest.rule} (${nearest.file}:${nearest.line}); it fails by ${[nearest.failed].flat().join(" and ")}.`) : null,
    edit ? h("details", {}, h("summary", {}, "The edit that would grant it"), copyable(edit, "Copy the edit")) : null,
  );
}
