/** Moving about in a picture that is larger than its frame: wheel, drag, two fingers, keys, and a button that fits all. */

const CLOSEST = 1.6;
const FARTHEST = 0.08;
const PADDING = 18;
const SETTLED = 300; // milliseconds without a movement, after which a picture that was only moved is drawn anew,
const SHARE = 4; // or so many times what drawing took last: a slow machine must not draw instead of moving
const MOVED = 4; // pixels from which on a press is a drag and no click

/** Moves the group `world` of an SVG element; `onZoom(scale)` is told of each change of scale. */
export class Viewport {
  constructor(svg, world, onZoom) {
    this.svg = svg;
    this.world = world;
    this.onZoom = onZoom;
    this.size = { width: 1, height: 1 };
    this.place = { x: 0, y: 0, scale: 1 };
    this.fitted = true; // nobody has moved it since it was fitted, so it may follow the frame
    this.fingers = new Map();
    this.cost = 0; // milliseconds that drawing took last
    this.heavy = false; // so many lines that drawing them takes longer than a frame
    this.drawn = this.place;
    svg.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    svg.addEventListener("pointerdown", (event) => this.#down(event));
    svg.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, (event) => this.#up(event));
    svg.addEventListener("click", (event) => this.dragged && event.stopPropagation(), { capture: true });
    new ResizeObserver(() => this.fitted && this.fit()).observe(svg);
  }

  /** Show all of a picture of this size. */
  show(width, height) {
    this.size = { width, height };
    if (this.fitted) this.fit();
  }

  /** Make all of it visible. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.svg;
    if (width === 0 || height === 0) return;
    const room = Math.min((width - 2 * PADDING) / this.size.width, (height - 2 * PADDING) / this.size.height);
    const scale = Math.min(Math.max(room, FARTHEST), 1.25);
    this.fitted = true;
    this.#put({ scale, x: (width - this.size.width * scale) / 2, y: (height - this.size.height * scale) / 2 });
  }

  /** Come nearer (`factor` above 1) or go away, around a point of the frame, or its middle. */
  zoom(factor, x = this.svg.clientWidth / 2, y = this.svg.clientHeight / 2) {
    const scale = Math.min(Math.max(this.place.scale * factor, FARTHEST), CLOSEST);
    const by = scale / this.place.scale;
    this.fitted = false;
    this.#put({ scale, x: x - (x - this.place.x) * by, y: y - (y - this.place.y) * by });
  }

  /** Move so that a point of the picture is in the frame. */
  reveal(x, y) {
    const { clientWidth: width, clientHeight: height } = this.svg;
    const [left, top] = [x * this.place.scale + this.place.x, y * this.place.scale + this.place.y];
    const into = (at, most) => Math.min(Math.max(at, 60), most - 60) - at;
    const [dx, dy] = [into(left, width), into(top, height)];
    if (dx !== 0 || dy !== 0) this.#put({ ...this.place, x: this.place.x + dx, y: this.place.y + dy });
  }

  #put(place) {
    const zoomed = place.scale !== this.place.scale;
    this.place = place;
    if (this.heavy) this.#slide();
    else this.#draw();
    if (zoomed && !this.heavy) this.onZoom(place.scale);
  }

  #draw() {
    const { x, y, scale } = this.place;
    this.drawn = this.place;
    if (this.heavy) this.#time();
    this.svg.style.transform = "";
    this.world.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${scale.toFixed(4)})`);
  }

  /** Move what was drawn as a picture, which costs next to nothing, and draw when the movement is over. */
  #slide() {
    const by = this.place.scale / this.drawn.scale;
    const [x, y] = [this.place.x - this.drawn.x * by, this.place.y - this.drawn.y * by];
    this.svg.style.transform = `translate(${x.toFixed(2)}px, ${y.toFixed(2)}px) scale(${by.toFixed(4)})`;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      this.#draw();
      this.onZoom(this.place.scale);
    }, Math.max(SETTLED, SHARE * this.cost));
  }

  /** Take the time that drawing takes: until the frame after the next. */
  #time() {
    const begun = performance.now();
    requestAnimationFrame(() => requestAnimationFrame(() => (this.cost = performance.now() - begun)));
  }

  #wheel(event) {
    event.preventDefault();
    const box = this.#frame();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }

  #down(event) {
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.dragged = false;
    this.pressed = { x: event.clientX, y: event.clientY };
  }

  #move(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    if (!this.dragged && Math.hypot(event.clientX - this.pressed.x, event.clientY - this.pressed.y) < MOVED) return;
    if (!this.dragged) this.svg.setPointerCapture(event.pointerId);
    this.dragged = true;
    const apart = this.#apart();
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.fingers.size === 2) this.#pinch(apart);
    else {
      this.fitted = false;
      this.#put({ ...this.place, x: this.place.x + event.clientX - before.x, y: this.place.y + event.clientY - before.y });
    }
  }

  #pinch(before) {
    const [one, other] = [...this.fingers.values()];
    const box = this.#frame();
    this.zoom(this.#apart() / Math.max(before, 1), (one.x + other.x) / 2 - box.left, (one.y + other.y) / 2 - box.top);
  }

  /** Where the frame is: the picture itself may be moved. Not asked in each frame, for it makes the browser lay out. */
  #frame() {
    const now = performance.now();
    if (!this.box || now - this.boxed > 300) this.box = this.svg.parentElement.getBoundingClientRect();
    this.boxed = now;
    return this.box;
  }

  #apart() {
    const [one, other] = [...this.fingers.values()];
    return other ? Math.hypot(one.x - other.x, one.y - other.y) : 0;
  }

  #up(event) {
    this.fingers.delete(event.pointerId);
  }
}
