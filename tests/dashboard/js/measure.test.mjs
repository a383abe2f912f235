import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const STATIC = process.env.MESHPROXY_STATIC;
const load = (name) => import(`${STATIC}/measure/${name}.js`);
const fixture = (name) => JSON.parse(readFileSync(`${process.env.MESHPROXY_FIXTURES}/${name}.json`, "utf8"));

const { quantile, total, add, empty } = await load("histogram");
const { History, pairOf } = await load("history");
const { Sum, sumOf, services } = await load("sums");
const { median, departure } = await load("baseline");
const { layered, crossings, stretched } = await load("layout");
const { insights, sentence, urgency } = await load("insights");
const { picture, healthOf } = await load("picture");
const { heatRows, heatOf } = await load("heat");
const { ticks, timeTicks, stretches } = await load("scales");
const { speaksOf } = await load("matching");
const words = await load("words");

test("quantiles are those that the sidecar's own code reads from the same histograms", () => {
  for (const { counts, q, expected } of fixture("quantiles")) {
    const found = quantile(counts, q);
    if (expected === null) assert.equal(found, null);
    else assert.ok(Math.abs(found - expected) < 1e-9, `${counts} ${q}: ${found}, not ${expected}`);
  }
});

test("what stands beside an axis is the number of its line but for a few per cent, and no two say the same", () => {
  const factor = { "/s": 1, "/min": 1 / 60, "/h": 1 / 3600 };
  for (const most of [0.004, 0.03, 0.07, 0.1, 0.3, 0.75, 0.9, 2, 7, 9.9, 12, 80, 760, 1800, 7400, 61_000]) {
    const told = ticks(most).map((tick) => [tick, words.rate(tick)]);
    assert.equal(new Set(told.map(([, text]) => text)).size, told.length, JSON.stringify(told));
    for (const [tick, text] of told) {
      const [, number, thousands, unit] = /^([\d.]+)(k?)(\/\w+)$/.exec(text);
      const read = Number(number) * (thousands ? 1000 : 1) * factor[unit];
      assert.ok(Math.abs(read - tick) <= 0.04 * tick, `${text} beside ${tick}`);
    }
  }
});

test("histograms of different columns add up", () => {
  assert.equal(total(add(add(empty(), [1, 2]), [3])), 6);
});

const answer = (edges, more = {}) => ({ now: 1_000_005, step: 1, start: 1_000_000, columns: 6, edges, ...more });
const told = (points, more = {}) => ({ edge: "e1", reporter: "destination", source: "/web", target: "/api", points, ...more });
const PAIR = pairOf("/web", "/api");

test("finer columns fall into coarser ones, and what is told again replaces what was known", () => {
  const history = new History(10, 60);
  history.take(answer([told([[0, 1, 0, 0, 0, 0, 0.5, 0], [4, 2, 1, 0, 0, 0, 0.5, 0]])]));
  assert.deepEqual([...history.edges.get(PAIR).points.get(100_000).slice(0, 3)], [3, 1, 0]);
  history.take(answer([told([[0, 7, 0, 0, 0, 0, 0.5, 0]])]));
  assert.equal(history.edges.get(PAIR).points.get(100_000)[0], 7);
  history.take(answer([]));
  assert.equal(history.edges.has(PAIR), false, "an answer that says nothing of a column empties it");
});

test("the destination is believed where both ends tell of a call", () => {
  const history = new History(1, 600);
  const source = told([[1, 9, 9, 0, 0, 0, 9, 0]], { edge: "e2", reporter: "source" });
  history.take(answer([source, told([[1, 4, 0, 0, 0, 0, 1, 0]])]));
  assert.equal(history.edges.get(PAIR).points.get(1_000_001)[0], 4);
  history.take(answer([source]));
  assert.equal(history.edges.get(PAIR).points.get(1_000_001)[0], 9);
});

test("a tick adds its second, once, and the oldest second is forgotten", () => {
  const history = new History(1, 5);
  const tick = (second, requests) => history.tick([{ ...told([]), point: [second, requests, 0, 0, 0, 0, 0, 0] }]);
  tick(100, 3);
  tick(100, 4);
  assert.equal(history.edges.get(PAIR).points.get(100)[0], 4);
  tick(106, 1);
  assert.deepEqual([...history.edges.get(PAIR).points.keys()], [106]);
  assert.deepEqual(history.columns(3), [104, 105, 106]);
});

test("a lone sidecar's local is its own name", () => {
  const history = new History(1, 60);
  history.take(answer([told([[1, 4, 0, 0, 0, 0, 1, 0]], { source: "local", reporter: "source" })]), "/web");
  assert.deepEqual([...history.edges.keys()], [PAIR]);
});

test("a sum tells nothing of what did not happen", () => {
  const none = new Sum();
  assert.deepEqual([none.any, none.errorShare, none.mean, none.quantile(0.5)], [false, null, null, null]);
});

test("services know who calls them and whom they call", () => {
  const found = services([{ source: "/a", target: "/b" }], [{ name: "/c" }]);
  assert.deepEqual([...found.keys()], ["/a", "/b", "/c"]);
  assert.equal(found.get("/b").incoming[0], found.get("/a").outgoing[0]);
});

test("a median leaves out nulls", () => {
  assert.equal(median([null, 3, 1, null, 2]), 2);
  assert.equal(median([4, 1]), 2.5);
  assert.equal(median([null]), null);
});

const far = (value, usual) => value >= 2 * usual;
for (const [name, values, expected] of [
  ["a level that lasts", [1, 1, 1, 1], null],
  ["too little past", [1, 9, 9], null],
  ["a jump", [1, 1.1, 0.9, 1, 5, 6], { index: 4, usual: 1 }],
  ["one spike that is over", [1, 1, 1, 9, 1], null],
  ["columns without traffic", [1, null, 1, 1, null, 4, 4], { index: 5, usual: 1 }],
  ["nothing at all", [null, null], null],
]) {
  test(`a departure from what is usual: ${name}`, () => assert.deepEqual(departure(values, far), expected));
}

const SHOP = [["/web", "/orders"], ["/orders", "/ledger"], ["/web", "/catalog"], ["/ledger", "/web"], ["/orders", "/catalog"]].map(
  ([source, target]) => ({ source, target }),
);
const NAMES = ["/web", "/orders", "/ledger", "/catalog", "/batch"];

test("a layout is the same for the same mesh, in whatever order it is told", () => {
  const one = layered(NAMES, SHOP);
  const other = layered([...NAMES].reverse(), [...SHOP].reverse());
  assert.deepEqual([...one.nodes], [...other.nodes]);
  assert.deepEqual([one.width, one.height], [other.width, other.height]);
});

test("callers stand before whom they call, but for the one call that closes a circle", () => {
  const { nodes } = layered(NAMES, SHOP);
  const back = SHOP.filter(({ source, target }) => nodes.get(source).layer >= nodes.get(target).layer);
  assert.equal(back.length, 1, JSON.stringify(back));
  const down = layered(NAMES, SHOP, { vertical: true }).nodes;
  assert.ok(down.get("/web").y !== down.get("/orders").y);
});

test("no two services stand on each other, and all are in the picture", () => {
  const { calls } = fixture("large");
  const names = [...new Set(calls.flatMap(({ source, target }) => [source, target]))];
  const { nodes, width, height } = layered(names, calls, { across: 200, along: 80 });
  const places = [...nodes.values()];
  assert.equal(places.length, 100);
  for (const [index, one] of places.entries()) {
    assert.ok(one.x >= 0 && one.x <= width && one.y >= 0 && one.y <= height);
    for (const other of places.slice(index + 1)) {
      assert.ok(Math.abs(one.x - other.x) > 199 || Math.abs(one.y - other.y) > 79.9, JSON.stringify([one, other]));
    }
  }
});

test("who neither calls nor is called stands apart", () => {
  const { nodes, height } = layered(["/a", "/b", "/x", "/y"], [{ source: "/a", target: "/b" }]);
  assert.ok(nodes.get("/x").y > nodes.get("/a").y && nodes.get("/y").y <= height);
  assert.ok(layered(["/x"], []).nodes.get("/x").x > 0);
  assert.equal(layered([], []).nodes.size, 0);
});

test("ordering takes crossings away that need not be", () => {
  const pairs = [["/a", "/z"], ["/b", "/y"], ["/c", "/x"]].map(([source, target]) => ({ source, target }));
  const { nodes } = layered(["/a", "/b", "/c", "/x", "/y", "/z"], pairs);
  const layers = [0, 1].map((layer) =>
    [...nodes].filter(([, place]) => place.layer === layer).sort(([, p], [, q]) => p.y - q.y).map(([name]) => name),
  );
  assert.equal(crossings(layers, pairs), 0);
  assert.equal(crossings([["/a", "/b"], ["/y", "/z"]], [{ source: "/a", target: "/z" }, { source: "/b", target: "/y" }]), 1);
});

test("a layout is stretched towards its frame, within bounds", () => {
  const { width, height } = stretched({ nodes: new Map(), bends: new Map(), width: 100, height: 100 }, { width: 400, height: 100 }, 1.5);
  assert.deepEqual([width, height], [150, 100]);
});

const histories = (story) => {
  const recent = new History(60, 60);
  const past = new History(300, 72);
  recent.take(story.recent);
  past.take(story.past);
  return { now: story.now, recent, past, sidecars: [], denials: [], certificates: [] };
};

test("a slow service is told with the service that its time is spent in", () => {
  const story = fixture("slow");
  const found = insights(histories(story));
  const { clock } = words;
  assert.deepEqual(found.map(sentence), [
    `orders has been ${story.factor}\u00d7 slower than its usual since ${clock(story.since, story.now)}; the time is spent in ledger.`,
  ]);
});

test("all that is as usual is not worth a sentence", () => {
  assert.deepEqual(insights(histories(fixture("usual"))), []);
});

test("what fails, and what has ceased, is told since when", () => {
  const story = fixture("failing");
  const kinds = insights(histories(story)).map((each) => [each.kind, each.service, each.since]);
  assert.deepEqual(kinds, [
    ["failing", "/stock", story.since],
    ["silent", "/catalog", story.since],
  ]);
});

test("sidecars, certificates and denials have their sentences", () => {
  const mesh = {
    ...histories(fixture("usual")),
    sidecars: [{ name: "/web", address: "a:1", state: "unreachable", reason: "nothing listens there", since: 1 }],
    certificates: [{ role: "leaf", owner: "/api", serial: "1", not_before: 0, not_after: 100, seconds_left: 10 }],
  };
  mesh.denials = [{ principal: "/qa", target: "/api", count: 3, at: mesh.now - 60, last: mesh.now - 5, reason: "no_rule" }];
  const told = insights(mesh).map(sentence);
  assert.equal(told[0], "The sidecar of web does not answer: nothing listens there.");
  assert.match(told[1], /^The certificate of api ends in 10.s and has not been renewed\.$/);
  assert.match(told[2], /^api has refused qa 3 times since .* \(no_rule\)\.$/);
});

test("a certificate is pressing by its own life", () => {
  const day = 86_400;
  const left = (life, seconds_left) => urgency({ not_before: 0, not_after: life, seconds_left });
  assert.deepEqual([left(day, day / 2), left(day, day / 4), left(day, day / 7), left(day, -1)], ["good", "warn", "bad", "bad"]);
  assert.deepEqual([left(3650 * day, 400 * day), left(3650 * day, 29 * day), left(3650 * day, 6 * day)], ["good", "warn", "bad"]);
});

test("a picture has the calls of its time, and idle ones beside them", () => {
  const story = fixture("slow");
  const { recent } = histories(story);
  const seen = picture(recent, recent.columns(600), { idle: [["/batch", "/ledger"], ["/web", "/orders"]], sidecars: [{ name: "/ops", state: "serving" }] });
  assert.deepEqual(seen.calls.map(({ pair, idle }) => [pair, idle]), [
    [pairOf("/batch", "/ledger"), true],
    [pairOf("/orders", "/ledger"), false],
    [pairOf("/orders", "/stock"), false],
    [pairOf("/web", "/orders"), false],
  ]);
  assert.equal(seen.services.get("/orders").sum.requests, sumOf([recent.edges.get(pairOf("/web", "/orders"))], recent.columns(600)).requests);
  assert.ok(seen.services.has("/ops"));
});

test("health goes by the share that failed", () => {
  const sum = (requests, errors) => Object.assign(new Sum(), { requests, errors });
  assert.deepEqual([[0, 0], [100, 0], [100, 1], [100, 10]].map(([all, bad]) => healthOf(sum(all, bad))), ["none", "good", "warn", "bad"]);
});

test("a heat map's slow row is hot from when it was slow, and on top", () => {
  const story = fixture("slow");
  const { recent, past } = histories(story);
  const rows = heatRows(recent, recent.columns(3600), { mode: "latency", by: "service", past });
  assert.ok(["/orders", "/ledger"].includes(rows[0].name));
  const orders = rows.find(({ name }) => name === "/orders");
  for (const { at, heat } of orders.cells) {
    if (heat !== null) assert.equal(heat > 0.9, at >= story.since, `${at} ${heat}`);
  }
  assert.equal(heatRows(recent, recent.columns(3600), { mode: "rate", by: "call" }).length, 3);
});

test("heat is none as usual, and full at four times, at a tenth failing, at the busiest", () => {
  assert.deepEqual([1, 1.2, 4, 40].map((value) => heatOf("latency", value, { usual: 1 })), [0, 0, 1, 1]);
  assert.deepEqual([0, 0.1, 1].map((value) => heatOf("errors", value, {})), [0, 1, 1]);
  assert.equal(heatOf("rate", 5, { busiest: 5 }), 1);
  assert.equal(heatOf("latency", 5, { usual: null }), 0);
});

test("axes have round numbers", () => {
  assert.deepEqual(ticks(568), [0, 200, 400, 600]);
  assert.deepEqual(ticks(0), [0, 1]);
  assert.deepEqual(timeTicks(0, 600, 5), [0, 120, 240, 360, 480, 600]);
});

test("lines are broken where nothing is known", () => {
  assert.deepEqual(stretches([1, null, 2, 3]), [[[0, 1]], [[2, 2], [3, 3]]]);
});

test("numbers read as people write them", () => {
  const plain = (text) => text.replaceAll("\u202f", " ");
  assert.deepEqual([0, 999, 1234, 12_345, 3_400_000, null].map(words.count), ["0", "999", "1.2k", "12k", "3.4M", "\u2013"]);
  assert.deepEqual([0, 0.001, 0.05, 0.34, 12.4, 1500].map(words.rate), ["0/s", "3.6/h", "3/min", "0.34/s", "12/s", "1.5k/s"]);
  assert.deepEqual([0.0008, 0.012, 1.24, 240, null].map((each) => plain(words.duration(each))), ["0.8 ms", "12 ms", "1.24 s", "4 min", "\u2013"]);
  assert.deepEqual([0, 0.00001, 0.004, 0.12, 0.99999, 1].map(words.percent), ["0%", "<0.1%", "0.4%", "12%", ">99.9%", "100%"]);
  assert.deepEqual([4, 1.52, 40].map(words.times), ["4\u00d7", "1.5\u00d7", "40\u00d7"]);
  assert.deepEqual([90, 5400, 400_000, 86_400].map((each) => plain(words.span(each))), ["1 min 30 s", "1 h 30 min", "4 days", "1 day"]);
  assert.equal(plain(words.size(1536)), "1.5 KiB");
  assert.deepEqual(["/orders", "spiffe://bank.example/pay", "(other)"].map(words.serviceName), ["orders", "bank.example/pay", "(other)"]);
});

test("rules are found by whom they name, segment by segment", () => {
  assert.deepEqual(["/web", "/w*", "/*", "/**", "/web/**", "/a/*"].map((each) => speaksOf(each, "/web")), [true, false, true, true, true, false]);
});
