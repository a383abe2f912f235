/** The ways of the lines in the graph: from ring to ring, with room between those that end at the same service; pure. */

export const RADIUS = 25;
const ARROW = 7;
const SHARES = [0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.2, 0.8, 0.14, 0.86]; // of a line, where its label may stand
const MOST_PLACED = 250; // lines; of more, labels are shown one at a time, each in the middle of its own
const LABEL = { wide: 88, high: 25 };
const FAN = 0.85; // radians to either side within which lines leave and arrive

/**
 * Return Map pair -> { path, label: { x, y } } for the calls `edges` ({ pair, source, target }) of a layout. A label stands
 * on its line, nearest to its middle where it covers the least of services and of other labels.
 *
 * Lines leave a service on its far side and arrive on its near side, in the order of where they come from; those that
 * lead back, or stay within a layer, go round.
 */
export function routes(edges, layout, vertical) {
  const turn = vertical ? ({ x, y }) => ({ u: y, v: x }) : ({ x, y }) => ({ u: x, v: y });
  const back = vertical ? (u, v) => ({ x: v, y: u }) : (u, v) => ({ x: u, y: v });
  const at = (name) => turn(layout.nodes.get(name));
  const ahead = edges.filter(({ source, target }) => at(source).u < at(target).u - 1);
  const ports = { out: fan(ahead, "source", "target", at), in: fan(ahead, "target", "source", at) };
  const lines = new Map();
  const taken = [...layout.nodes.values()].map(({ x, y }) => ({ x, y: y + 8, wide: 2 * RADIUS + 12, high: 2 * RADIUS + 26 }));
  for (const { pair, source, target } of edges) {
    const from = at(source);
    const to = at(target);
    const bends = (layout.bends.get(`${source}\n${target}`) ?? []).map(turn);
    const line = from.u < to.u - 1 ? forward(from, to, bends, ports.out.get(pair), ports.in.get(pair)) : around(from, to);
    lines.set(pair, line.map(({ u, v }) => back(u, v)));
  }
  // Short lines first: they have the fewest places to choose from.
  const found = new Map();
  for (const [pair, points] of [...lines].sort(([, one], [, other]) => length(one) - length(other))) {
    const label = lines.size > MOST_PLACED ? placeOn(points, SHARES[0]) : labelled(points, taken);
    found.set(pair, { path: drawn(points), label });
  }
  return found;
}

/** The angle at which each line meets its service. */
function fan(edges, here, there, at) {
  const groups = new Map();
  for (const edge of edges) groups.set(edge[here], [...(groups.get(edge[here]) ?? []), edge]);
  const angles = new Map();
  for (const group of groups.values()) {
    group.sort((a, b) => at(a[there]).v - at(b[there]).v || (a.pair < b.pair ? -1 : 1));
    const spread = Math.min(FAN, 0.3 * (group.length - 1));
    group.forEach(({ pair }, index) => {
      angles.set(pair, group.length > 1 ? spread * ((2 * index) / (group.length - 1) - 1) : 0);
    });
  }
  return angles;
}

/** A curve with a tangent along the layers at each of its points: [start, control, control, point, ...]. */
function forward(from, to, bends, leave, arrive) {
  const start = { u: from.u + RADIUS * Math.cos(leave), v: from.v + RADIUS * Math.sin(leave) };
  const reach = RADIUS + ARROW;
  const end = { u: to.u - reach * Math.cos(arrive), v: to.v + reach * Math.sin(arrive) };
  const stops = [start, ...bends, end];
  const points = [start];
  for (let index = 1; index < stops.length; index += 1) {
    const [one, other] = [stops[index - 1], stops[index]];
    const pull = (other.u - one.u) * 0.45;
    points.push({ u: one.u + pull, v: one.v }, { u: other.u - pull, v: other.v }, other);
  }
  return points;
}

/** A line back, or within a layer: out at the side and round. */
function around(from, to) {
  const reach = RADIUS + ARROW;
  if (Math.abs(from.u - to.u) <= 1) {
    const side = Math.sign(to.v - from.v) || 1;
    const bulge = 46 + Math.abs(to.v - from.v) * 0.12;
    const start = { u: from.u + RADIUS * 0.7, v: from.v + side * RADIUS * 0.7 };
    const end = { u: to.u + reach * 0.7, v: to.v - side * reach * 0.7 };
    return [start, { u: start.u + bulge, v: start.v }, { u: end.u + bulge, v: end.v }, end];
  }
  const low = Math.max(from.v, to.v) + 62;
  const start = { u: from.u - RADIUS * 0.5, v: from.v + RADIUS * 0.87 };
  const end = { u: to.u + reach * 0.5, v: to.v + reach * 0.87 };
  return [start, { u: start.u - 30, v: low + 10 }, { u: end.u + 30, v: low + 10 }, end];
}

/** Where on a line its label stands: near its middle, where least else is; `taken` is told of it. */
function labelled(points, taken) {
  const places = SHARES.map((share) => placeOn(points, share));
  const box = ({ x, y }) => ({ x, y, wide: LABEL.wide, high: LABEL.high });
  let label = places[0];
  let least = Infinity;
  for (const place of places) {
    const covered = taken.reduce((sum, other) => sum + overlap(box(place), other), 0);
    if (covered < least) [label, least] = [place, covered];
    if (covered === 0) break;
  }
  taken.push(box(label));
  return label;
}

/** Where the share `share` of a line ends. */
function placeOn(points, share) {
  const segments = (points.length - 1) / 3;
  const segment = Math.min(Math.floor(share * segments), segments - 1);
  return along(points.slice(segment * 3, segment * 3 + 4), share * segments - segment);
}

/** The area that both have. */
function overlap(one, other) {
  const across = Math.min((one.wide + other.wide) / 2 - Math.abs(one.x - other.x), one.wide, other.wide);
  const along = Math.min((one.high + other.high) / 2 - Math.abs(one.y - other.y), one.high, other.high);
  return Math.max(across, 0) * Math.max(along, 0);
}

/** The point of a cubic curve at the share `t` of its way. */
function along([a, b, c, d], t) {
  const mix = (axis) =>
    (1 - t) ** 3 * a[axis] + 3 * (1 - t) ** 2 * t * b[axis] + 3 * (1 - t) * t ** 2 * c[axis] + t ** 3 * d[axis];
  return { x: mix("x"), y: mix("y") };
}

function length(points) {
  const [from, to] = [points[0], points[points.length - 1]];
  return Math.hypot(to.x - from.x, to.y - from.y);
}

function drawn(points) {
  const text = points.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`);
  let path = `M${text[0]}`;
  for (let index = 1; index < text.length; index += 3) path += `C${text[index]} ${text[index + 1]} ${text[index + 2]}`;
  return path;
}
