/**
 * Where the services of a graph stand: layers along the calls, few crossings, the same picture for the same mesh; pure.
 *
 * The way of Sugiyama, Tagawa and Toda (1981): break the circles, put every service behind all who call it, order each
 * layer by the neighbours of its members, then straighten. Ties fall by name and by a seed, never by chance.
 */

const SWEEPS = 12;
const STRAIGHTENINGS = 8;
const BEND = "\n"; // begins the name of a bend; no name of a service has one
const BEND_ROOM = 0.42; // of what a service needs
const MOST_BENDS = 400; // beyond so many, long edges get no places of their own between the layers

/**
 * Return the places of `names` with the calls `edges` ({ source, target }): { nodes: Map name -> { x, y, layer },
 * bends: Map "source\ntarget" -> [{ x, y }] (where a long edge passes layers), width, height }.
 *
 * `across` is the distance between layers, `along` that between neighbours in one; layers follow each other to the
 * right, or downwards with `vertical`. Who neither calls nor is called stands apart, in rows behind all others.
 */
export function layered(names, edges, { seed = 1, across = 200, along = 80, vertical = false } = {}) {
  const known = new Set(names);
  const calls = unique(edges).filter(({ source, target }) => known.has(source) && known.has(target));
  const joined = new Set(calls.flatMap(({ source, target }) => [source, target]));
  const all = [...known].sort((a, b) => hash(a, seed) - hash(b, seed) || (a < b ? -1 : 1));
  const nodes = all.filter((name) => joined.has(name));
  const forward = withoutCircles(nodes, calls);
  const layerOf = layering(nodes, forward);
  const graph = withBends(nodes, forward, layerOf);
  const layers = ordered(graph);
  const place = straightened(layers, graph, along);
  const picture = placed(layers, place, { across, along, vertical });
  const alone = all.filter((name) => !joined.has(name)).sort();
  return alone.length > 0 ? withLoners(picture, alone, along) : picture;
}

/** The picture with more services in rows below it. */
function withLoners({ nodes, bends, width, height }, alone, gap) {
  const most = Math.ceil(Math.sqrt(alone.length * 2));
  const perRow = Math.max(Math.floor(width / gap), Math.min(alone.length, most), 1);
  const wide = Math.max(width, perRow * gap);
  alone.forEach((name, index) => {
    const inRow = Math.min(perRow, alone.length - Math.floor(index / perRow) * perRow);
    const x = wide / 2 + ((index % perRow) - (inRow - 1) / 2) * gap;
    nodes.set(name, { x, y: height + (Math.floor(index / perRow) + 0.5) * gap, layer: -1 });
  });
  for (const point of [...[...nodes.values()].filter(({ layer }) => layer >= 0), ...[...bends.values()].flat()]) {
    point.x += (wide - width) / 2;
  }
  return { nodes, bends, width: wide, height: height + Math.ceil(alone.length / perRow) * gap };
}

/** The layout stretched, by `most` at most, towards the shape of a frame. */
export function stretched({ nodes, bends, width, height }, frame, most) {
  const shape = frame.width / frame.height / (width / height);
  const x = Math.min(Math.max(shape, 1), most);
  const y = Math.min(Math.max(1 / shape, 1), most);
  for (const point of [...nodes.values(), ...[...bends.values()].flat()]) {
    point.x *= x;
    point.y *= y;
  }
  return { nodes, bends, width: width * x, height: height * y };
}

/** A number for a text, the same everywhere: FNV-1a. */
export function hash(text, seed = 1) {
  let value = 0x811c9dc5 ^ seed;
  for (let index = 0; index < text.length; index += 1) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  }
  return value >>> 0;
}

/** How many pairs of edges between neighbouring layers cross: what ordering is to make small. */
export function crossings(layers, edges) {
  const at = new Map();
  layers.forEach((layer, number) => layer.forEach((name, index) => at.set(name, { number, index })));
  const between = edges
    .map(({ source, target }) => [at.get(source), at.get(target)])
    .filter(([from, to]) => from && to && Math.abs(from.number - to.number) === 1)
    .map(([from, to]) => (from.number < to.number ? [from, to] : [to, from]));
  let found = 0;
  for (let one = 0; one < between.length; one += 1) {
    for (let other = one + 1; other < between.length; other += 1) {
      const [a, b] = between[one];
      const [c, d] = between[other];
      if (a.number === c.number && (a.index - c.index) * (b.index - d.index) < 0) found += 1;
    }
  }
  return found;
}

function unique(edges) {
  const seen = new Map();
  for (const { source, target } of edges) {
    if (source !== target) seen.set(`${source}\n${target}`, { source, target });
  }
  return [...seen.keys()].sort().map((key) => seen.get(key));
}

function neighbours(nodes, edges, from, to) {
  const found = new Map(nodes.map((name) => [name, []]));
  for (const edge of edges) found.get(edge[from]).push(edge[to]);
  return found;
}

/** The calls with those turned round that close a circle, found depth first from whoever is called least. */
function withoutCircles(nodes, calls) {
  const callees = neighbours(nodes, calls, "source", "target");
  const callers = neighbours(nodes, calls, "target", "source");
  const weight = (name) => callers.get(name).length - callees.get(name).length;
  const state = new Map();
  const back = new Set();
  const visit = (root) => {
    const path = [{ name: root, next: 0 }];
    state.set(root, "open");
    while (path.length > 0) {
      const here = path[path.length - 1];
      const callee = callees.get(here.name)[here.next];
      here.next += 1;
      if (callee === undefined) {
        state.set(here.name, "done");
        path.pop();
      } else if (state.get(callee) === "open") back.add(`${here.name}\n${callee}`);
      else if (!state.has(callee)) {
        state.set(callee, "open");
        path.push({ name: callee, next: 0 });
      }
    }
  };
  for (const name of [...nodes].sort((a, b) => weight(a) - weight(b))) if (!state.has(name)) visit(name);
  return unique(
    calls.map(({ source, target }) =>
      back.has(`${source}\n${target}`) ? { source: target, target: source } : { source, target },
    ),
  );
}

/** The layer of each: one behind the last of its callers. Who calls but is not called moves up to whom it calls. */
function layering(nodes, edges) {
  const callers = neighbours(nodes, edges, "target", "source");
  const callees = neighbours(nodes, edges, "source", "target");
  const layer = new Map();
  const waiting = new Map(nodes.map((name) => [name, callers.get(name).length]));
  let free = nodes.filter((name) => waiting.get(name) === 0);
  for (const name of free) layer.set(name, 0);
  while (free.length > 0) {
    const next = [];
    for (const name of free) {
      for (const callee of callees.get(name)) {
        layer.set(callee, Math.max(layer.get(callee) ?? 0, layer.get(name) + 1));
        waiting.set(callee, waiting.get(callee) - 1);
        if (waiting.get(callee) === 0) next.push(callee);
      }
    }
    free = next;
  }
  for (const name of nodes) {
    const called = callees.get(name);
    if (callers.get(name).length === 0 && called.length > 0) {
      layer.set(name, Math.min(...called.map((callee) => layer.get(callee))) - 1);
    }
  }
  return layer;
}

/** The graph with a bend in every layer that an edge passes, so that each edge leads from one layer to the next. */
function withBends(nodes, edges, layerOf) {
  const count = Math.max(0, ...layerOf.values()) + 1;
  const layers = Array.from({ length: count }, () => []);
  for (const name of nodes) layers[layerOf.get(name)].push(name);
  const passed = edges.reduce((sum, edge) => sum + layerOf.get(edge.target) - layerOf.get(edge.source) - 1, 0);
  if (passed > MOST_BENDS) return { layers, edges };
  const short = [];
  for (const { source, target } of edges) {
    let from = source;
    for (let layer = layerOf.get(source) + 1; layer < layerOf.get(target); layer += 1) {
      const bend = ["", source, target, layer].join(BEND);
      layers[layer].push(bend);
      short.push({ source: from, target: bend });
      from = bend;
    }
    short.push({ source: from, target });
  }
  return { layers, edges: short };
}

/** The layers, each ordered by where the neighbours of its members stand, there and back until it gets no better. */
function ordered({ layers, edges }) {
  const names = layers.flat();
  const before = neighbours(names, edges, "target", "source");
  const after = neighbours(names, edges, "source", "target");
  const few = edges.length <= MOST_BENDS;
  let current = layers.map((layer) => [...layer]);
  let best = current;
  let fewest = few ? crossings(current, edges) : Infinity;
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep += 1) {
    const down = sweep % 2 === 0;
    current = current.map((layer) => [...layer]);
    const order = down ? current.keys() : [...current.keys()].reverse();
    const index = new Map();
    current.forEach((layer) => layer.forEach((name, at) => index.set(name, at)));
    for (const number of order) {
      const towards = down ? before : after;
      const middle = new Map(
        current[number].map((name, at) => {
          const others = towards.get(name);
          const sum = others.reduce((total, other) => total + index.get(other), 0);
          return [name, others.length > 0 ? sum / others.length : at];
        }),
      );
      current[number].sort((a, b) => middle.get(a) - middle.get(b) || index.get(a) - index.get(b));
      current[number].forEach((name, at) => index.set(name, at));
    }
    const crossed = few ? crossings(current, edges) : fewest;
    if (!few || crossed < fewest) {
      best = current;
      fewest = crossed;
    }
  }
  return best;
}

/** How far down each stands: pulled towards its neighbours, each with the room it needs. */
function straightened(layers, { edges }, along) {
  const room = (name) => (name.startsWith(BEND) ? along * BEND_ROOM : along);
  const place = new Map();
  for (const layer of layers) {
    let at = -layer.reduce((sum, name) => sum + room(name), 0) / 2;
    for (const name of layer) {
      place.set(name, at + room(name) / 2);
      at += room(name);
    }
  }
  const beside = new Map(layers.flat().map((name) => [name, []]));
  for (const { source, target } of edges) {
    beside.get(source).push(target);
    beside.get(target).push(source);
  }
  for (let round = 0; round < STRAIGHTENINGS; round += 1) {
    for (const layer of round % 2 === 0 ? layers : [...layers].reverse()) {
      const wished = layer.map((name) => {
        const others = beside.get(name);
        return others.length > 0 ? others.reduce((sum, other) => sum + place.get(other), 0) / others.length : place.get(name);
      });
      spread(wished, layer.map(room)).forEach((at, index) => place.set(layer[index], at));
    }
  }
  return place;
}

/** Places in order, each with its room, as near as can be to the wishes: groups that collide move as one. */
function spread(wished, rooms) {
  const groups = [];
  wished.forEach((wish, index) => {
    groups.push({ from: index, count: 1, middle: wish, length: rooms[index] });
    while (groups.length > 1) {
      const last = groups[groups.length - 1];
      const other = groups[groups.length - 2];
      if (other.middle + (other.length + last.length) / 2 <= last.middle) break;
      groups.pop();
      other.middle = (other.middle * other.count + last.middle * last.count) / (other.count + last.count);
      other.count += last.count;
      other.length += last.length;
    }
  });
  const places = new Array(wished.length);
  for (const { from, count, middle, length } of groups) {
    let at = middle - length / 2;
    for (let index = from; index < from + count; index += 1) {
      places[index] = at + rooms[index] / 2;
      at += rooms[index];
    }
  }
  return places;
}

function placed(layers, place, { across, along, vertical }) {
  const all = layers.flat().map((name) => place.get(name));
  const least = Math.min(0, ...all);
  const most = Math.max(0, ...all);
  const nodes = new Map();
  const bends = new Map();
  layers.forEach((names, layer) => {
    const depth = layer * across + across / 2;
    for (const name of names) {
      const side = place.get(name) - least + along / 2;
      const point = vertical ? { x: side, y: depth } : { x: depth, y: side };
      if (!name.startsWith(BEND)) {
        nodes.set(name, { ...point, layer });
        continue;
      }
      const [, source, target] = name.split(BEND);
      const edge = `${source}\n${target}`;
      bends.set(edge, [...(bends.get(edge) ?? []), point]);
    }
  });
  const depth = layers.length * across;
  const side = all.length > 0 ? most - least + along : 0;
  const sorted = new Map([...nodes].sort(([one], [other]) => (one < other ? -1 : 1)));
  return { nodes: sorted, bends, width: vertical ? side : depth, height: vertical ? depth : side };
}
