/** What stands out, as a list of sentences. */

import { count } from "../measure/words.js";
import { h } from "../draw/elements.js";
import { serviceLink } from "./calls.js";

const MOST = 12;
const WORDS = { slow: "Slow", failing: "Failing", silent: "Silent", denied: "Denied", broken: "Sidecar", expiring: "Certificate" };
const PAGES = { denied: "#/denials", expiring: "#/certificates", slow: "#/heat", failing: "#/heat" };

/** The list, or the good news that there is nothing on it. */
export function insightList(store) {
  const found = store.insights();
  return h(
    "div",
    { class: "insights" },
    h("header", {}, h("h2", {}, "What stands out")),
    found.length > 0 ? h("ul", {}, found.slice(0, MOST).map(item)) : quiet(store),
    found.length > MOST ? h("p", { class: "quiet" }, `and ${count(found.length - MOST)} more`) : null,
  );
}

function item({ severity, kind, parts }) {
  const sentence = parts.map((part) => (typeof part === "string" ? part : serviceLink(part.service)));
  const page = PAGES[kind];
  const label = page ? h("a", { class: "tag", href: page }, WORDS[kind]) : h("span", { class: "tag" }, WORDS[kind]);
  return h("li", { class: severity }, label, h("p", {}, sentence));
}

function quiet(store) {
  if (!store.ready || !store.knowsThePast) return h("p", { class: "quiet" }, "Asking the sidecars \u2026");
  const { calls } = store.picture();
  return h(
    "div",
    { class: "all-well" },
    h("p", {}, calls.length > 0 ? "All is as usual." : "Nothing to tell yet."),
    h(
      "p",
      { class: "quiet" },
      calls.length > 0
        ? "No service is slower than it was, none fails more, nobody was refused, no certificate is about to end."
        : "Sentences about slow or failing services, denials and certificates will stand here.",
    ),
  );
}
