/** What is around every page: the name of the mesh, the ways to the pages, how long a time is shown, the theme, trouble. */

import { repaintAll } from "./draw/canvas.js";
import { choice, copyable, h, put, replace, say } from "./draw/elements.js";
import { SPANS } from "./live/spans.js";
import { count, serviceName } from "./measure/words.js";

const MOST_BROKEN = 6;

/** Fills the elements of index.html. */
export class Frame {
  constructor(store, pages) {
    this.store = store;
    this.pages = pages;
    this.main = document.getElementById("main");
    this.trouble = document.getElementById("trouble");
    this.mesh = document.getElementById("mesh");
    this.link = document.getElementById("link");
    this.links = Object.entries(pages).map(([name, { title }]) => h("a", { href: `#/${name}`, dataset: { name } }, title));
    replace(document.getElementById("pages"), this.links);
    const spans = SPANS.map(({ id, label, words }) => ({ id, label, title: words }));
    this.span = choice("How far back", spans, () => store.span.id, (id) => store.choose(id));
    document.getElementById("span").append(this.span.element);
    document.getElementById("theme").addEventListener("click", () => this.#turn());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#themed());
    this.onTheme = () => {};
    this.told = "";
  }

  /** Put a page into the frame. */
  show(name, element) {
    for (const link of this.links) {
      if (link.dataset.name === name) {
        link.setAttribute("aria-current", "page");
        link.scrollIntoView({ block: "nearest", inline: "center" }); // on a telephone they do not all fit
      } else link.removeAttribute("aria-current");
    }
    document.title = `${this.pages[name].title} \u00b7 meshproxy`;
    replace(this.main, element);
  }

  /** Something has changed. */
  update(what) {
    if (what === "span") this.span.refresh();
    if (what === "denials") this.#badge();
    if (what !== "mesh") return;
    const { mesh, link, trouble } = this.store;
    const state = mesh === null ? (trouble ? "broken" : "connecting") : trouble ? "broken" : link;
    put(this.link, "data-state", state);
    say(this.link, { live: "live", connecting: "connecting", broken: "not live" }[state]);
    this.#name();
    this.#trouble();
  }

  #name() {
    const { mesh } = this.store;
    if (!mesh) return;
    const lone = mesh.kind === "sidecar";
    const name = lone ? `sidecar of ${serviceName(mesh.sidecars[0]?.name ?? "?")}` : `${count(mesh.sidecars.length)} sidecars`;
    replace(this.mesh, h("b", {}, mesh.trust_domain || "no trust domain yet"), ` ${name}`);
    put(this.mesh, "title", `meshproxy ${mesh.version}`);
  }

  #badge() {
    const since = this.store.now - 600;
    const fresh = (this.store.denials ?? []).filter(({ last }) => last > since).length;
    const link = this.links.find(({ dataset }) => dataset.name === "denials");
    replace(link, "Denials", fresh > 0 ? h("span", { class: "badge", "aria-label": `${fresh} kinds in the last ten minutes` }, String(fresh)) : null);
  }

  /** The band below the head: what cannot be seen, and what to do. */
  #trouble() {
    const { mesh, trouble } = this.store;
    const broken = (mesh?.sidecars ?? []).filter(({ state }) => state !== "serving");
    const key = JSON.stringify([trouble, mesh === null, broken, mesh?.sidecars.length === 0]);
    if (key === this.told) return;
    this.told = key;
    this.trouble.hidden = !trouble && broken.length === 0 && mesh?.sidecars.length !== 0;
    if (this.trouble.hidden) return;
    if (trouble) replace(this.trouble, h("b", {}, mesh ? "What you see is old: " : "No news of the mesh: "), `${trouble}. This page goes on asking.`);
    else if (broken.length === 0) replace(this.trouble, h("b", {}, "No sidecar is known. "), "Say where they are:", copyable("meshproxy dashboard --sidecars DIRECTORY"));
    else replace(this.trouble, brokenOnes(broken, mesh.sidecars.length));
  }

  #turn() {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    const chosen = dark ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem("meshproxy-theme", chosen);
    } catch {
      // then it is for this visit only
    }
    this.#themed();
  }

  #themed() {
    repaintAll();
    this.onTheme();
  }
}

function brokenOnes(broken, all) {
  const some = broken.slice(0, MOST_BROKEN);
  return [
    h("b", {}, broken.length === 1 ? "One sidecar does not serve" : `${broken.length} of ${all} sidecars do not serve`),
    h(
      "ul",
      {},
      some.map(({ name, address, state, reason }) =>
        h("li", {}, h("b", {}, serviceName(name || address)), " ", h("span", { class: "quiet" }, [name ? address : "", state.replace("_", " "), reason].filter(Boolean).join(" \u00b7 "))),
      ),
      broken.length > some.length ? h("li", { class: "quiet" }, `and ${broken.length - some.length} more`) : null,
    ),
    h("span", { class: "quiet" }, "What it says of itself, on its machine: ", h("code", {}, `meshproxy status ${some.find(({ file }) => file)?.file ?? "FILE.toml"}`)),
  ];
}
