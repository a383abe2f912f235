/** Certificates, the first to end first. */

import { urgency } from "../measure/insights.js";
import { count, day, clock, serviceName, span } from "../measure/words.js";
import { emptyState, h, replace, say, table } from "../draw/elements.js";

const WORDS = { good: "good", warn: "renewal is overdue", bad: "ends soon" };

/** The page at #/certificates. */
export class Certificates {
  constructor(store) {
    this.store = store;
    this.note = h("span", { class: "quiet" });
    this.body = h("div", {});
    this.element = h("section", { class: "card page", "aria-labelledby": "certificates-title" }, h("header", {}, h("h2", { id: "certificates-title" }, "Certificates"), this.note), this.body);
  }

  /** Nothing in the address matters here. */
  open() {
    this.#draw();
  }

  /** Something has changed. */
  update(what) {
    if (what === "certificates") this.#draw();
  }

  /** Nothing goes on here by itself. */
  close() {}

  #draw() {
    const { certificates, now } = this.store;
    if (!certificates) return replace(this.body, h("p", { class: "quiet" }, "Asking the sidecars \u2026"));
    if (certificates.length === 0) {
      return replace(this.body, emptyState("No certificate", "No sidecar that answers has an identity yet. The first one, from the machine of the CA:", "meshproxy ca issue /web --dir ca --out web-identity"));
    }
    const rows = grouped(certificates);
    say(this.note, `${count(rows.length)}, the first to end first`);
    return replace(this.body, table("Certificates by their end", columns(now), rows));
  }
}

/** The same intermediate or root, shown by many sidecars, is one row. */
function grouped(certificates) {
  const found = new Map();
  for (const each of certificates) {
    const key = `${each.role} ${each.serial} ${each.role === "leaf" ? each.owner : ""}`;
    const known = found.get(key);
    if (known) known.owners.add(each.owner);
    else found.set(key, { ...each, owners: new Set([each.owner]) });
  }
  return [...found.values()].sort((a, b) => a.seconds_left - b.seconds_left);
}

function columns(now) {
  return [
    { title: "Ends in", class: "number", cell: (each) => h("span", { class: urgency(each) === "good" ? null : `state ${urgency(each)}` }, each.seconds_left > 0 ? span(each.seconds_left) : `ended ${span(-each.seconds_left)} ago`) },
    { title: "Life", cell: life },
    { title: "Of", cell: ({ id, subject }) => (id ? h("span", { title: id }, serviceName(id.replace(/^spiffe:\/\/[^/]*/, "") || id)) : subject) },
    { title: "Role", cell: ({ role }) => role },
    { title: "Until", class: "number", cell: ({ not_after: until }) => `${day(until)} ${clock(until, until)}` },
    { title: "Serial", class: "number", cell: ({ serial }) => h("code", { title: serial }, serial.length > 14 ? `${serial.slice(0, 6)}\u2026${serial.slice(-6)}` : serial) },
    { title: "Seen by", cell: ({ owners }) => (owners.size > 3 ? `${owners.size} sidecars` : [...owners].map(serviceName).join(", ")) },
    { title: "Renewal", cell: (each) => renewal(each, now) },
  ];
}

function life(each) {
  const { not_before: from, not_after: until, seconds_left: left } = each;
  const gone = Math.min(Math.max(1 - left / Math.max(until - from, 1), 0), 1);
  const bar = h("i", {});
  bar.style.width = `${(gone * 100).toFixed(0)}%`;
  return h("span", { class: `life ${urgency(each)}`, role: "img", "aria-label": `${Math.round(gone * 100)}% of its life is over` }, bar);
}

function renewal(each, now) {
  const told = each.renewal;
  if (told?.last_error) return h("span", { class: "state bad", title: told.last_error }, `failing: ${told.last_error}`);
  const next = typeof told?.next_renewal === "string" ? Date.parse(told.next_renewal) / 1000 : told?.next_renewal;
  if (next) return `by itself, ${next > now ? `in ${span(next - now)}` : "due"}`;
  return each.role === "leaf" ? WORDS[urgency(each)] : "";
}
