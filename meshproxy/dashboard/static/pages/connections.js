/** Who is connected right now. */

import { ask } from "../live/ask.js";
import { count, serviceName, size, span } from "../measure/words.js";
import { emptyState, h, replace, say, table } from "../draw/elements.js";
import { serviceLink } from "./calls.js";

const EVERY = 3000; // milliseconds
const MOST = 500;

/** Inbound: who calls. Outbound: whom we reached. */
function whom(store, { principal, direction }) {
  if (!principal) return direction === "outbound" ? "outbound" : "\u2013";
  const link = serviceLink(store.short(principal));
  return direction === "outbound" ? ["to ", link] : link;
}

/** The page at #/connections. */
export class Connections {
  constructor(store) {
    this.store = store;
    this.filter = h("input", { type: "search", placeholder: "Filter by caller, listener, address", "aria-label": "Filter connections", on: { input: () => this.#draw() } });
    this.note = h("span", { class: "quiet" });
    this.body = h("div", {}, h("p", { class: "quiet" }, "Asking the sidecars \u2026"));
    this.element = h("section", { class: "card page", "aria-labelledby": "connections-title" }, h("header", {}, h("h2", { id: "connections-title" }, "Connections"), this.note, this.filter), this.body);
    this.told = null;
  }

  /** Ask, and go on asking while this page is open. */
  open() {
    clearInterval(this.timer);
    this.timer = setInterval(() => document.hidden || this.#ask(), EVERY);
    this.#ask();
  }

  /** It asks for itself. */
  update() {}

  /** Ask no more. */
  close() {
    clearInterval(this.timer);
  }

  async #ask() {
    try {
      this.told = await ask("/connections");
      this.#draw();
    } catch (error) {
      replace(this.body, emptyState("The connections cannot be asked for", error.message));
    }
  }

  #draw() {
    if (!this.told) return;
    const wanted = this.filter.value.trim().toLowerCase();
    const { now } = this.told;
    const all = this.told.connections.filter((each) => [each.principal, each.listener, each.peer, each.rule, each.sidecar].join(" ").toLowerCase().includes(wanted));
    say(this.note, all.length > 0 ? `${count(all.length)} open${this.told.more ? `, ${count(this.told.more)} more are not shown` : ""}` : "");
    if (all.length === 0) return replace(this.body, emptyState("No open connection", wanted ? "None has all of these letters." : "Callers are shown here from their handshake to their end."));
    return replace(this.body, table("Open connections", [
      { title: "Who", cell: (each) => whom(this.store, each) },
      ...(all.some(({ sidecar }) => sidecar) ? [{ title: "At", cell: ({ sidecar }) => serviceName(sidecar ?? "") }] : []),
      { title: "Listener", cell: ({ listener, protocol }) => `${listener} (${protocol})` },
      { title: "Rule", cell: ({ rule }) => rule || "\u2013" },
      { title: "For", class: "number", cell: ({ since }) => span(now - since) },
      { title: "Requests", class: "number", cell: ({ requests }) => count(requests) },
      { title: "In", class: "number", cell: ({ bytes_in: bytes }) => size(bytes) },
      { title: "Out", class: "number", cell: ({ bytes_out: bytes }) => size(bytes) },
      { title: "From", class: "number", cell: ({ peer }) => peer },
    ], all.slice(0, MOST)));
  }
}
