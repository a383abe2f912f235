/** The dashboard: a store that follows the mesh, a frame around one page at a time. */

import { Frame } from "./frame.js";
import { Store } from "./live/store.js";
import { Audit } from "./pages/audit.js";
import { Certificates } from "./pages/certificates.js";
import { Connections } from "./pages/connections.js";
import { Curves } from "./pages/curves.js";
import { Denials } from "./pages/denials.js";
import { Heat } from "./pages/heat.js";
import { Overview } from "./pages/overview.js";

const PAGES = {
  map: { title: "Map", make: Overview },
  heat: { title: "Heat map", make: Heat },
  curves: { title: "Curves", make: Curves },
  denials: { title: "Denials", make: Denials },
  certificates: { title: "Certificates", make: Certificates },
  connections: { title: "Connections", make: Connections },
  audit: { title: "Audit", make: Audit },
};

const store = new Store();
const frame = new Frame(store, PAGES);
let open = { name: "", page: null };

/** Go to a page, with a service or a call chosen, or nothing. */
function go(name, chosen) {
  const rest = chosen?.service !== undefined ? ["service", chosen.service] : chosen?.pair !== undefined ? ["call", chosen.pair] : [];
  location.hash = ["#", name, ...rest.map(encodeURIComponent)].join("/");
}

/** Show what the address names. */
function follow() {
  const [, asked = "map", ...rest] = location.hash.split("/").map(decoded);
  const name = asked in PAGES ? asked : "map";
  if (open.name !== name) {
    open.page?.close();
    open = { name, page: new PAGES[name].make(store, go) };
    frame.show(name, open.page.element);
  }
  open.page.open(rest);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

// One piece of news for each frame: all that come at once would hold up whoever moves the map.
const waiting = new Set();
store.subscribe((what) => {
  if (waiting.size === 0) requestAnimationFrame(showNext);
  waiting.add(what);
});

function showNext() {
  const [what] = waiting;
  waiting.delete(what);
  if (waiting.size > 0) requestAnimationFrame(showNext);
  frame.update(what);
  open.page?.update(what);
}

addEventListener("hashchange", follow);
frame.onTheme = () => store.changed("theme");
follow();
await store.start();
