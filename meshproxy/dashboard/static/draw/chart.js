/** One curve chart: lines over time, markers, and a cursor it shares with others. */

import { stretches, ticks, timeTicks } from "../measure/scales.js";
import { clock } from "../measure/words.js";
import { Canvas } from "./canvas.js";
import { colour, h, say } from "./elements.js";

const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 20;
const FONT = "11px system-ui, sans-serif";

/** The time that several charts point at: an index into their columns, or null. */
export class Cursor {
  constructor() {
    this.index = null;
    this.listeners = new Set();
  }

  /** Point somewhere else. */
  move(index) {
    if (this.index === index) return;
    this.index = index;
    for (const listener of this.listeners) listener();
  }
}

/**
 * `lines` are { name, tone, fill } with `tone` a custom property of the theme; `format` writes a value; a `share` is shown
 * up to 1, from as near below its least value as can be seen. With `small` there are no axes.
 */
export class Chart {
  constructor({ title, lines, format, share = false, cursor = new Cursor(), small = false }) {
    Object.assign(this, { title, lines, format, share, cursor, small });
    this.data = { times: [], values: lines.map(() => []), markers: [], now: 0 };
    this.canvas = new Canvas({ class: "plot", tabindex: small ? null : "0", role: "img" }, (...all) => this.#paint(...all));
    this.readings = lines.map(() => h("b", { class: "number" }));
    this.when = h("span", { class: "when number" });
    this.element = h(
      "figure",
      { class: small ? "chart small" : "chart" },
      h(
        "figcaption",
        {},
        h("span", { class: "title" }, title),
        this.when,
        lines.map(({ name, tone }, index) =>
          h("span", { class: `reading ${tone}` }, h("i", { class: "swatch" }), name ? `${name} ` : "", this.readings[index]),
        ),
      ),
      this.canvas.element,
    );
    this.moved = () => (this.#read(), this.canvas.dirty());
    cursor.listeners.add(this.moved);
    this.canvas.element.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.element.addEventListener("pointerleave", () => cursor.move(null));
    this.canvas.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show these: { times (Unix seconds of the columns), step, values (a list per line), markers, now }. */
  show(data) {
    this.data = data;
    this.#read();
    const latest = this.lines.map(({ name }, index) => `${name} ${this.format(lastOf(data.values[index]))}`).join(", ");
    this.canvas.element.setAttribute("aria-label", `${this.title}: ${latest}. Arrow keys move through time.`);
    this.canvas.dirty();
  }

  /** Listen and paint no more. */
  close() {
    this.cursor.listeners.delete(this.moved);
    this.canvas.close();
  }

  /** Write the values at the cursor, else the newest there are. */
  #read() {
    const { times, values, now } = this.data;
    const at = this.cursor.index;
    const pointed = at !== null && at < times.length;
    say(this.when, pointed ? clock(times[at], now, { seconds: (this.data.step ?? 60) < 60 }) : "");
    values.forEach((line, index) => say(this.readings[index], this.format(pointed ? line[at] : lastOf(line))));
  }

  #point(event) {
    const box = this.canvas.element.getBoundingClientRect();
    const { length } = this.data.times;
    const left = this.small ? 0 : LEFT;
    const share = (event.clientX - box.left - left) / Math.max(box.width - left - (this.small ? 0 : RIGHT), 1);
    this.cursor.move(length > 0 ? Math.min(Math.max(Math.round(share * (length - 1)), 0), length - 1) : null);
  }

  #key(event) {
    const last = this.data.times.length - 1;
    const at = this.cursor.index ?? last;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined) return;
    this.cursor.move(to === null ? null : Math.min(Math.max(to, 0), last));
    event.preventDefault();
  }

  #paint(context, width, height) {
    const { times, values, markers = [] } = this.data;
    const area = this.small
      ? { left: 1, right: width - 1, top: 3, bottom: height - 2 }
      : { left: LEFT, right: width - RIGHT, top: TOP, bottom: height - BOTTOM };
    const highest = Math.max(1e-9, ...values.flat().filter((value) => value !== null));
    const scale = this.share ? shareScale(values.flat()) : ticks(highest);
    const [low, top] = [scale[0], scale[scale.length - 1]];
    const x = (index) => area.left + (index / Math.max(times.length - 1, 1)) * (area.right - area.left);
    const y = (value) => area.bottom - ((Math.max(value, low) - low) / (top - low)) * (area.bottom - area.top);
    if (!this.small) this.#axes(context, area, scale, y);
    if (times.length > 1) this.#marks(context, area, markers, times);
    this.lines.forEach((line, index) => paintLine(context, line, values[index], { x, y, area }));
    const at = this.cursor.index;
    if (at !== null && at < times.length) this.#cursor(context, area, x(at), values.map((line) => line[at]), y);
  }

  #axes(context, area, scale, y) {
    context.font = FONT;
    context.lineWidth = 1;
    context.strokeStyle = colour("grid");
    context.fillStyle = colour("faint");
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const value of scale) {
      const at = Math.round(y(value)) + 0.5;
      line(context, area.left, at, area.right, at);
      context.fillText(this.format(value), area.left - 8, at);
    }
    const { times, now } = this.data;
    if (times.length < 2) return;
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    const [from, to] = [times[0], times[times.length - 1]];
    const offset = new Date(now * 1000).getTimezoneOffset() * 60;
    for (const at of timeTicks(from, to, Math.max((area.right - area.left) / 90, 2), offset)) {
      const place = area.left + ((at - from) / (to - from)) * (area.right - area.left);
      context.fillText(clock(at, now), Math.min(Math.max(place, area.left + 14), area.right - 14), area.bottom + 15);
    }
  }

  /** What was done, as lines through time. */
  #marks(context, area, markers, times) {
    const [from, to] = [times[0], times[times.length - 1]];
    context.save();
    context.setLineDash([2, 3]);
    for (const { at, kind } of markers) {
      if (at < from || at > to) continue;
      const x = Math.round(area.left + ((at - from) / (to - from)) * (area.right - area.left)) + 0.5;
      context.strokeStyle = colour(kind === "failed" ? "bad" : "accent");
      line(context, x, area.top - 4, x, area.bottom);
      context.fillStyle = context.strokeStyle;
      context.beginPath();
      context.arc(x, area.top - 4, 2.5, 0, 7);
      context.fill();
    }
    context.restore();
  }

  #cursor(context, area, x, values, y) {
    context.strokeStyle = colour("muted");
    context.lineWidth = 1;
    line(context, Math.round(x) + 0.5, area.top, Math.round(x) + 0.5, area.bottom);
    values.forEach((value, index) => {
      if (value === null) return;
      context.fillStyle = colour(this.lines[index].tone);
      context.beginPath();
      context.arc(x, y(value), 3, 0, 7);
      context.fill();
    });
  }
}

function shareScale(values) {
  const least = Math.min(1, ...values.filter((value) => value !== null));
  const low = [0.99, 0.95, 0.9, 0.75, 0.5].find((each) => each <= least) ?? 0;
  return [low, (low + 1) / 2, 1];
}

function lastOf(values) {
  for (let index = values.length - 1; index >= 0; index -= 1) if (values[index] !== null) return values[index];
  return null;
}

function line(context, fromX, fromY, toX, toY) {
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}

function paintLine(context, { tone, fill = false }, values, { x, y, area }) {
  const ink = colour(tone);
  for (const stretch of stretches(values)) {
    const path = new Path2D();
    stretch.forEach(([index, value], order) => (order === 0 ? path.moveTo(x(index), y(value)) : path.lineTo(x(index), y(value))));
    if (fill) {
      const under = new Path2D(path);
      under.lineTo(x(stretch[stretch.length - 1][0]), area.bottom);
      under.lineTo(x(stretch[0][0]), area.bottom);
      context.globalAlpha = 0.13;
      context.fillStyle = ink;
      context.fill(under);
      context.globalAlpha = 1;
    }
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.strokeStyle = ink;
    if (stretch.length > 1) context.stroke(path);
    else {
      context.fillStyle = ink; // a single point would be no line
      context.fillRect(x(stretch[0][0]) - 1.5, y(stretch[0][1]) - 1.5, 3, 3);
    }
  }
}
