/** The graph of who calls whom. It is laid out again only when services or calls come or go; else numbers change in place. */

import { layered, stretched } from "../measure/layout.js";
import { duration, percent, rate, serviceName } from "../measure/words.js";
import { put, s, say } from "./elements.js";
import { RADIUS, routes } from "./routes.js";
import { Viewport } from "./viewport.js";

const RING = 100; // the length of a ring, as its strokes are counted
const MOST_LABELS = 48; // beyond so many calls, numbers are shown only for what is looked at
const HEAVY = 250; // calls; beyond so many they are not drawn anew for each movement
const AT_ONCE = 200; // calls whose numbers are changed in one go; the others have their turn after whoever moves the map
const FAR = 0.42; // below this scale names could not be read
const LONGEST_NAME = { wide: 17, narrow: 9 }; // letters
const MOST_STRETCH = 1.5;
const MANY = 40; // services, which may be stretched as far as it takes
const LOCK = "M-2.4 -1v-1.6a2.4 2.4 0 0 1 4.8 0v1.6M-3.4 -1h6.8v5h-6.8z";
const LETTER = 5.7; // width of one in a label, about

/** Draws into `frame`; `onChoose({ service } | { pair })` is called when something is clicked or Enter is pressed. */
export class Graph {
  constructor(frame, onChoose) {
    this.onChoose = onChoose;
    this.world = s("g", {});
    this.svg = s(
      "svg",
      { class: "graph", role: "group", "aria-label": "Services and who calls whom; arrow keys move, Enter opens details" },
      s("defs", {}, ["flow", "bad", "faint", "chosen"].map(arrow)),
      this.world,
    );
    frame.append(this.svg);
    this.view = new Viewport(this.svg, this.world, (scale) => this.svg.classList.toggle("far", scale < FAR));
    this.svg.addEventListener("click", (event) => this.#click(event));
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.key = "";
    this.nodes = new Map();
    this.calls = new Map();
  }

  /** Show a picture of `covered` seconds, with `chosen` ({ service } or { pair }, or null) brought out. */
  show(picture, covered, chosen) {
    const vertical = this.svg.clientWidth < 560;
    const key = [vertical, ...picture.services.keys(), "", ...picture.calls.map(({ pair }) => pair)].join("\n");
    if (key !== this.key) this.#build(picture, vertical);
    this.key = key;
    for (const service of picture.services.values()) this.#service(service, covered);
    this.#calls(picture.calls, covered);
    this.#choose(picture, chosen);
  }

  #calls(calls, covered, from = 0) {
    clearTimeout(this.next);
    for (const call of calls.slice(from, from + AT_ONCE)) this.#call(call, covered);
    const rest = from + AT_ONCE;
    if (rest < calls.length) this.next = setTimeout(() => this.#calls(calls, covered, rest), 0);
  }

  #build(picture, vertical) {
    const names = [...picture.services.keys()];
    const size = vertical ? { across: 112, along: 84 } : { across: 232, along: 82 };
    const frame = { width: this.svg.clientWidth || 1, height: this.svg.clientHeight || 1 };
    const layout = stretched(layered(names, picture.calls, { vertical, ...size }), frame, names.length > MANY ? MOST_STRETCH * 6 : MOST_STRETCH);
    const ways = routes(picture.calls, layout, vertical);
    this.layout = layout;
    this.calls = new Map(picture.calls.map((call) => [call.pair, callElement(call, ways.get(call.pair), picture.calls.length <= HEAVY)]));
    this.nodes = new Map(names.map((name) => [name, serviceElement(name, layout.nodes.get(name), vertical ? LONGEST_NAME.narrow : LONGEST_NAME.wide)]));
    const lines = s("g", {}, [...this.calls.values()].map(({ group }) => group));
    const labels = s("g", { class: "labels", "aria-hidden": "true" }, [...this.calls.values()].map(({ label }) => label));
    this.world.replaceChildren(lines, labels, s("g", {}, [...this.nodes.values()].map(({ group }) => group)));
    this.svg.classList.toggle("narrow", vertical);
    this.svg.classList.toggle("many", picture.calls.length > MOST_LABELS);
    this.view.heavy = picture.calls.length > HEAVY;
    this.svg.classList.toggle("heavy", this.view.heavy);
    const first = [...this.nodes.values()][0];
    if (first) first.group.setAttribute("tabindex", "0");
    this.view.show(layout.width, layout.height + 16);
  }

  #service({ name, sum, health, incoming, outgoing, sidecars }, covered) {
    const { group, ok, bad, figure } = this.nodes.get(name);
    put(group, "class", `node ${health}`);
    const failed = sum.errorShare ?? 0;
    // Even one failure in a thousand is a stroke that can be seen.
    const stroke = failed > 0 ? Math.max(failed, 0.015) : 0;
    put(bad, "visibility", failed > 0 ? "visible" : "hidden");
    put(bad, "stroke-dasharray", `${(stroke * RING).toFixed(1)} ${RING.toFixed(1)}`);
    put(ok, "stroke-dasharray", `${((1 - stroke) * RING).toFixed(1)} ${RING.toFixed(1)}`);
    put(ok, "stroke-dashoffset", (-stroke * RING).toFixed(1));
    const calledAtAll = incoming.some((call) => !call.idle);
    const outbound = outgoing.reduce((all, call) => all + call.sum.requests, 0);
    say(figure, health === "broken" ? "!" : calledAtAll ? rate(sum.requests / covered) : outbound > 0 ? "caller" : "\u2013");
    put(figure, "class", calledAtAll || health === "broken" ? "figure" : "figure word");
    const state = sidecars.find((each) => each.state !== "serving");
    put(
      group,
      "aria-label",
      [
        `${serviceName(name)}: ${rate(sum.requests / covered)}`,
        sum.errorShare === null ? "" : `${percent(sum.errorShare)} failed`,
        sum.denied > 0 ? `${sum.denied} denied` : "",
        state ? `its sidecar is ${state.state}` : "",
        `called by ${incoming.length}, calls ${outgoing.length}`,
      ]
        .filter(Boolean)
        .join(", "),
    );
  }

  #call({ pair, sum, idle, denied, health, mtls }, covered) {
    const { group, line, text, failed, lock, plate } = this.calls.get(pair);
    const kind = idle ? "idle" : denied ? "denied" : health;
    put(group, "class", `call ${kind}`);
    const perSecond = sum.requests / covered;
    put(line, "stroke-width", idle || denied ? 1.3 : (1.3 + Math.min(Math.log10(1 + perSecond) * 1.1, 4)).toFixed(2));
    put(line, "marker-end", `url(#arrow-${denied || health === "bad" ? "bad" : idle ? "faint" : "flow"})`);
    const p95 = sum.quantile(0.95) ?? sum.mean;
    say(text, idle ? "idle" : denied ? "" : `${rate(perSecond)}${p95 === null ? "" : ` \u00b7 ${duration(p95)}`}`);
    const refused = sum.denied > 0 ? `${sum.denied} denied` : "";
    say(failed, [sum.errorShare > 0 ? percent(sum.errorShare) : "", refused].filter(Boolean).join(" \u00b7 "));
    put(lock, "class", idle || denied ? "lock none" : mtls ? "lock" : "lock open");
    const wide = Math.max(text.textContent.length, failed.textContent.length) * LETTER + (text.textContent ? 20 : 8);
    const lines = (text.textContent ? 1 : 0) + (failed.textContent ? 1 : 0);
    put(plate, "x", -wide / 2);
    put(plate, "width", wide);
    put(plate, "height", lines * 13 + 2);
    put(lock, "transform", `translate(${(-text.textContent.length * LETTER) / 2 - 3} 0)`);
    put(failed, "y", text.textContent ? 17 : 4);
  }

  #choose(picture, chosen) {
    const near = new Set();
    for (const call of picture.calls) {
      const isNear = chosen && (chosen.pair === call.pair || chosen.service === call.source || chosen.service === call.target);
      const { group, label } = this.calls.get(call.pair);
      group.classList.toggle("near", Boolean(isNear));
      label.classList.toggle("near", Boolean(isNear));
      if (isNear) near.add(call.source).add(call.target);
    }
    if (chosen?.service) near.add(chosen.service);
    for (const [name, { group }] of this.nodes) {
      group.classList.toggle("near", near.has(name));
      put(group, "aria-pressed", chosen?.service === name);
    }
    this.svg.classList.toggle("choosing", near.size > 0);
  }

  #click(event) {
    const node = event.target.closest(".node");
    const call = event.target.closest(".call");
    if (node) this.onChoose({ service: node.dataset.name });
    else if (call) this.onChoose({ pair: call.dataset.pair });
    else this.onChoose(null);
  }

  #key(event) {
    const { name } = event.target.dataset ?? {};
    if (event.key === "+" || event.key === "=") this.view.zoom(1.25);
    else if (event.key === "-") this.view.zoom(0.8);
    else if (event.key === "0") this.view.fit();
    else if (event.key === "Escape") this.onChoose(null);
    else if (name && (event.key === "Enter" || event.key === " ")) this.onChoose({ service: name });
    else if (name && event.key.startsWith("Arrow")) this.#step(name, event.key);
    else return;
    event.preventDefault();
  }

  /** Move to the nearest service in that direction; sideways counts double. */
  #step(name, key) {
    const from = this.layout.nodes.get(name);
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    let best = null;
    for (const [other, at] of this.layout.nodes) {
      const ahead = (at.x - from.x) * dx + (at.y - from.y) * dy;
      const aside = Math.abs((at.x - from.x) * dy) + Math.abs((at.y - from.y) * dx);
      const distance = ahead + 2 * aside;
      if (ahead > 1 && (!best || distance < best.distance)) best = { other, distance, at };
    }
    if (!best) return;
    for (const [other, { group }] of this.nodes) group.setAttribute("tabindex", other === best.other ? "0" : "-1");
    this.nodes.get(best.other).group.focus({ preventScroll: true });
    this.view.reveal(best.at.x, best.at.y);
  }
}

function arrow(kind) {
  const size = { markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", viewBox: "0 0 7 7", refX: 1, refY: 3.5 };
  return s("marker", { id: `arrow-${kind}`, orient: "auto", ...size }, s("path", { class: kind, d: "M0 0.5L7 3.5L0 6.5z" }));
}

function serviceElement(name, { x, y }, longest) {
  const shown = serviceName(name);
  const short = shown.length > longest ? `\u2026${ending(shown, longest - 1)}` : shown;
  const ok = s("circle", { class: "ring ok", r: RADIUS, pathLength: RING, transform: "rotate(-90)" });
  const bad = s("circle", { class: "ring bad", r: RADIUS, pathLength: RING, transform: "rotate(-90)" });
  const figure = s("text", { class: "figure", y: 4 });
  const group = s(
    "g",
    { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, tabindex: "-1", role: "button", dataset: { name } },
    s("title", {}, name),
    s("circle", { class: "halo", r: RADIUS + 7 }),
    s("circle", { class: "disc", r: RADIUS }),
    ok,
    bad,
    figure,
    s("text", { class: "name", y: RADIUS + 17 }, short),
  );
  return { group, ok, bad, figure };
}

/** The end of a long name: its last segments that fit, else its last letters. */
function ending(name, longest) {
  const at = name.indexOf("/", name.length - longest);
  return at >= 0 && at < name.length - 3 ? name.slice(at) : name.slice(-longest);
}

function callElement({ pair }, { path, label: { x, y } }, wide) {
  const line = s("path", { class: "line", d: path });
  const text = s("text", { class: "text", x: 5, y: 4 });
  const failed = s("text", { class: "text failed" });
  const plate = s("rect", { class: "plate", y: -8, rx: 3 });
  const lock = s("path", { class: "lock", d: LOCK });
  const group = s("g", { dataset: { pair } }, s("title", {}, pair), wide ? s("path", { class: "touch", d: path }) : null, line);
  const label = s("g", { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, class: "label" }, plate, lock, text, failed);
  return { group, line, label, text, failed, lock, plate };
}
