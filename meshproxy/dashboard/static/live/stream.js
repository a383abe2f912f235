/**
 * The stream of news: opened again when it ends, with the last number heard (the browser sees to that).
 *
 * Only while somebody can see the page: browsers open six connections to a place, in all tabs together, and a stream
 * keeps one. Seven tabs with streams would be six that take every connection, and one that never loads.
 */

const AGAIN = 5000; // milliseconds
const SILENCE = 10_000; // a tick should come each second

/** Feeds a store with what `/events` tells. */
export class Stream {
  constructor(store) {
    this.store = store;
    this.source = null;
    this.heard = 0;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#rest() : this.#wake()));
    addEventListener("pagehide", () => this.#rest());
    addEventListener("pageshow", () => this.#wake());
  }

  /** Open it, and keep it open while the page can be seen. */
  open() {
    this.opened = true;
    if (document.hidden) return;
    this.source?.close();
    const source = new EventSource("/events");
    this.source = source;
    source.addEventListener("open", () => this.#link("live"));
    source.addEventListener("error", () => this.#failed(source));
    this.#on("tick", (data) => this.store.tick(data));
    this.#on("denial", (data) => this.store.deny(data));
    this.#on("gap", () => this.store.missed());
    this.#on("state", () => this.store.look());
    this.#on("marker", (data) => {
      this.store.mark(data);
      this.store.changed("markers");
    });
    this.heard = Date.now();
    clearInterval(this.watch);
    this.watch = setInterval(() => {
      if (Date.now() - this.heard > SILENCE && !document.hidden) this.#failed(source);
    }, AGAIN);
  }

  #rest() {
    clearInterval(this.watch);
    this.source?.close();
    this.source = null;
  }

  /** What happened meanwhile is asked for. */
  #wake() {
    if (!this.opened || this.source) return;
    this.store.missed();
    this.open();
  }

  #on(event, take) {
    this.source.addEventListener(event, ({ data }) => {
      this.heard = Date.now();
      this.#link("live");
      take(JSON.parse(data));
    });
  }

  /** A browser tries again by itself only after a broken connection, not after a refusal such as 503. */
  #failed(source) {
    if (source !== this.source) return;
    this.#link("broken");
    if (source.readyState === EventSource.CONNECTING) return;
    source.close();
    this.source = null;
    setTimeout(() => this.source ?? this.open(), AGAIN);
  }

  #link(state) {
    if (this.store.link === state) return;
    this.store.link = state;
    this.store.changed("mesh");
  }
}
