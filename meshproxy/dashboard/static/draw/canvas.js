/** Canvases that are as sharp as the screen, and follow the size of their frame and the theme. */

import { h } from "./elements.js";

const WATCHED = new Set();

/** A canvas that fills its frame; `paint(context, width, height)` is called in CSS pixels, once per frame at most. */
export class Canvas {
  constructor(attributes, paint) {
    this.element = h("canvas", attributes);
    this.paint = paint;
    this.waiting = false;
    this.sizes = new ResizeObserver(() => this.dirty());
    this.sizes.observe(this.element);
    WATCHED.add(this);
  }

  /** Paint it again before the next frame is shown. */
  dirty() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const { clientWidth: width, clientHeight: height } = this.element;
      if (width === 0 || height === 0) return;
      const ratio = window.devicePixelRatio || 1;
      const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (this.element.width !== wide) this.element.width = wide;
      if (this.element.height !== high) this.element.height = high;
      const context = this.element.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      this.paint(context, width, height);
    });
  }

  /** Paint it no more. */
  close() {
    this.sizes.disconnect();
    WATCHED.delete(this);
  }
}

/** The theme has changed: paint all anew. */
export function repaintAll() {
  for (const canvas of WATCHED) canvas.dirty();
}
