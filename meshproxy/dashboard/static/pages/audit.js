/** Searching the audit logs: who was decided about, when, for what. */

import { ask } from "../live/ask.js";
import { count } from "../measure/words.js";
import { copyable, emptyState, h, replace, say, table } from "../draw/elements.js";
import { serviceLink } from "./calls.js";

const LIMIT = 200;
const CONFIGURATION = '[audit]\nfile = "audit.jsonl"\n\n[[inbound]]     # beside its other keys\naudit = "all"\n';

/** The page at #/audit. */
export class Audit {
  constructor(store) {
    this.store = store;
    this.note = h("span", { class: "quiet" });
    this.body = h("div", {});
    const field = (name, label, attributes = {}) => h("label", {}, label, h("input", { name, ...attributes }));
    this.form = h(
      "form",
      { class: "search", on: { submit: (event) => (event.preventDefault(), this.#ask()) } },
      field("caller", "Caller", { placeholder: "/web" }),
      field("path", "Path", { placeholder: "/orders/**" }),
      h("label", {}, "Decision", h("select", { name: "decision" }, h("option", { value: "" }, "any"), ["allow", "deny", "would_deny"].map((word) => h("option", { value: word }, word.replace("_", " "))))),
      field("from", "Since", { type: "datetime-local" }),
      h("button", { type: "submit", class: "primary" }, "Search"),
    );
    this.element = h("section", { class: "card page", "aria-labelledby": "audit-title" }, h("header", {}, h("h2", { id: "audit-title" }, "Audit log"), this.note), this.form, this.body);
  }

  /** Search at once. */
  open() {
    this.#ask();
  }

  /** An audit log is searched when somebody asks. */
  update() {}

  /** Nothing goes on here by itself. */
  close() {}

  async #ask() {
    const wanted = Object.fromEntries(new FormData(this.form));
    if (wanted.from) wanted.from = (new Date(wanted.from).getTime() / 1000).toFixed(0);
    try {
      const { records, more } = await ask("/audit", { ...wanted, limit: LIMIT });
      this.#draw(records, more);
    } catch (error) {
      say(this.note, "");
      if (error.status === 404) replace(this.body, none(error.message));
      else replace(this.body, emptyState("The audit log cannot be searched", error.message));
    }
  }

  #draw(records, more) {
    say(this.note, `${count(records.length)} ${records.length === 1 ? "decision" : "decisions"}${more ? ", the newest; there are more" : ""}`);
    if (records.length === 0) return replace(this.body, emptyState("No such decision", "Nothing that is recorded fits. A caller and a path may have * for a segment and ** at the end."));
    return replace(this.body, table("Decisions", [
      { title: "When", class: "number", cell: ({ ts }) => String(ts).replace("T", " ").replace(/\.\d+/, "") },
      { title: "Decision", cell: ({ decision }) => h("span", { class: `state ${decision === "allow" ? "good" : "bad"}` }, decision.replace("_", " ")) },
      { title: "Caller", cell: ({ caller }) => serviceLink(caller) },
      { title: "Listener", cell: ({ listener }) => listener },
      { title: "Asked for", cell: ({ method, path }) => (method ? h("code", {}, `${method} ${path}`) : "a connection") },
      { title: "Rule or reason", cell: ({ rule, reason }) => rule || String(reason).replaceAll("_", " ") },
      { title: "Request", class: "number", cell: ({ request_id: id, id: connection }) => h("code", {}, (id || connection || "").slice(0, 12)) },
    ], records));
  }
}

function none(words) {
  return h("div", { class: "empty" }, h("h2", {}, "No audit log"), h("p", {}, words), h("p", { class: "quiet" }, "A sidecar keeps one when its settings say where, and for which listeners:"), copyable(CONFIGURATION));
}
