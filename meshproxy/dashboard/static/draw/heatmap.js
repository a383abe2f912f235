/** The heat map on a canvas as large as its window, however many rows there are; names beside, a cursor to read cells. */

import { timeTicks } from "../measure/scales.js";
import { clock, serviceName } from "../measure/words.js";
import { Canvas } from "./canvas.js";
import { colour, h, say } from "./elements.js";

const ROW = 26;
const HEAD = 24;
const STOPS = 5;

/** `tell(row, cell)` puts a cell into words; `onChoose(row)` is called for a row that is clicked or entered. */
export class HeatMap {
  constructor(tell, onChoose) {
    Object.assign(this, { tell, onChoose, rows: [], times: [], at: null });
    this.canvas = new Canvas(
      { class: "heat", tabindex: "0", role: "application", "aria-label": "Heat map; arrow keys move from cell to cell" },
      (...all) => this.#paint(...all),
    );
    this.note = h("div", { class: "note", hidden: true });
    this.spoken = h("div", { class: "unseen", "aria-live": "polite" });
    this.room = h("div", { class: "heat-room" }, this.canvas.element);
    this.scroller = h("div", { class: "heat-scroller" }, this.room);
    this.element = h("div", { class: "heat-frame" }, this.scroller, this.note, this.spoken);
    this.scroller.addEventListener("scroll", () => this.canvas.dirty());
    const plate = this.canvas.element;
    plate.addEventListener("pointermove", (event) => this.#look(this.#cellAt(event), false));
    plate.addEventListener("pointerleave", () => this.#look(null, false));
    plate.addEventListener("click", (event) => {
      const found = this.#cellAt(event);
      if (found) this.onChoose(this.rows[found.row]);
    });
    plate.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show these rows (see measure/heat) in the colours of a mode. */
  show(rows, { mode, now, step, rowNames }) {
    Object.assign(this, { rows, mode, now, step, rowNames });
    this.times = rows[0]?.cells.map(({ at }) => at) ?? [];
    const height = HEAD + rows.length * ROW + 4;
    this.room.style.height = `${height}px`;
    this.canvas.element.style.height = `min(${height}px, 72vh)`;
    this.canvas.dirty();
  }

  /** Paint no more. */
  close() {
    this.canvas.close();
  }

  #names(width) {
    return Math.min(Math.max(width * 0.2, 92), 250);
  }

  #cellAt({ offsetX: x, offsetY: y }) {
    const width = this.canvas.element.clientWidth;
    const names = this.#names(width);
    const row = Math.floor((y - HEAD + this.scroller.scrollTop) / ROW);
    const column = Math.floor(((x - names) / (width - names)) * this.times.length);
    return y > HEAD && this.rows[row] ? { row, column: Math.min(Math.max(column, -1), this.times.length - 1) } : null;
  }

  #key(event) {
    const at = this.at ?? { row: 0, column: this.times.length - 1 };
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (step) {
      const row = Math.min(Math.max(at.row + step[0], 0), this.rows.length - 1);
      const column = Math.min(Math.max(at.column + step[1], 0), this.times.length - 1);
      const top = row * ROW;
      const seen = this.scroller.clientHeight - HEAD - ROW;
      this.scroller.scrollTop = Math.min(Math.max(this.scroller.scrollTop, top - seen), top);
      this.#look({ row, column }, true);
    } else if (event.key === "Enter" && this.at && this.rows[this.at.row]) this.onChoose(this.rows[this.at.row]);
    else if (event.key === "Escape") this.#look(null, false);
    else return;
    event.preventDefault();
  }

  #look(at, aloud) {
    this.at = at;
    const row = at && this.rows[at.row];
    const cell = row && at.column >= 0 ? row.cells[at.column] : null;
    this.note.hidden = !cell;
    if (cell) {
      const { title, lines } = this.tell(row, cell);
      this.note.replaceChildren(h("b", {}, title), ...lines.map((line) => h("div", { class: "number" }, line)));
      const width = this.canvas.element.clientWidth;
      const names = this.#names(width);
      const x = names + ((at.column + 0.5) / this.times.length) * (width - names);
      const y = HEAD + (at.row + 1) * ROW - this.scroller.scrollTop;
      this.note.style.left = `${Math.min(Math.max(x, 100), width - 100)}px`;
      const above = y + this.note.offsetHeight + 8 > this.scroller.clientHeight;
      this.note.style.top = `${above ? Math.max(y - ROW - this.note.offsetHeight - 4, 0) : y + 4}px`;
      if (aloud) say(this.spoken, [title, ...lines].join(", "));
    }
    this.canvas.dirty();
  }

  #paint(context, width, height) {
    const names = this.#names(width);
    const each = (width - names) / Math.max(this.times.length, 1);
    const gap = each > 5 ? 1.5 : each > 3 ? 0.75 : 0;
    const top = this.scroller.scrollTop;
    const first = Math.max(Math.floor(top / ROW), 0);
    const last = Math.min(first + Math.ceil(height / ROW) + 1, this.rows.length);
    const inks = palette(this.mode === "rate" ? "cool" : "heat");
    context.font = "12.5px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let index = first; index < last; index += 1) {
      const { cells, name } = this.rows[index];
      const y = HEAD + index * ROW - top;
      context.fillStyle = colour(this.at?.row === index ? "text" : "muted");
      context.textAlign = "left";
      fitText(context, this.rowNames(name), 0, y + ROW / 2, names - 12);
      cells.forEach(({ heat, sum }, column) => {
        if (heat === null && !sum.any) return;
        context.fillStyle = heat === null ? inks[0] : inks[Math.min(Math.round(heat * (inks.length - 1)), inks.length - 1)];
        context.fillRect(names + column * each, y + 1.5, each - gap, ROW - 3);
      });
    }
    context.clearRect(0, 0, width, HEAD);
    this.#times(context, names, width);
    if (this.at && this.at.column >= 0 && this.rows[this.at.row]) {
      context.strokeStyle = colour("text");
      context.lineWidth = 1.5;
      context.strokeRect(names + this.at.column * each - 0.5, HEAD + this.at.row * ROW - top + 1, each - gap + 1, ROW - 2);
    }
  }

  #times(context, names, width) {
    if (this.times.length < 2) return;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour("faint");
    context.textAlign = "center";
    const from = this.times[0];
    const to = this.times[this.times.length - 1] + this.step;
    const offset = new Date(this.now * 1000).getTimezoneOffset() * 60;
    for (const at of timeTicks(from, to, Math.max((width - names) / 80, 2), offset)) {
      const x = names + ((at - from) / (to - from)) * (width - names);
      context.fillText(clock(at, this.now), Math.min(Math.max(x, names + 16), width - 18), HEAD / 2 - 2);
    }
  }
}

let mixed = { key: "", inks: [] };

/** 33 colours from the coolest to the hottest of the theme. */
export function palette(name) {
  const stops = Array.from({ length: STOPS }, (_, stop) => colour(`${name}-${stop}`));
  const key = stops.join();
  if (mixed.key !== key) {
    const rgb = stops.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    const inks = Array.from({ length: 33 }, (_, index) => {
      const at = (index / 32) * (STOPS - 1);
      const low = Math.min(Math.floor(at), STOPS - 2);
      return `rgb(${rgb[low].map((part, each) => Math.round(part + (rgb[low + 1][each] - part) * (at - low))).join(" ")})`;
    });
    mixed = { key, inks };
  }
  return mixed.inks;
}

function fitText(context, text, x, y, width) {
  let shown = text;
  while (shown.length > 3 && context.measureText(shown).width > width) shown = `${shown.slice(0, shown.endsWith("\u2026") ? -2 : -1)}\u2026`;
  context.fillText(shown, x, y);
}

/** A row's name: both ends of a call, or a service. */
export function rowName(name) {
  return name.split(" \u2192 ").map(serviceName).join(" \u2192 ");
}
