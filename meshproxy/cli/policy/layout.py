"""Where the nodes of a directed graph go, so that its arrows lead from left to right and seldom cross.

In layers, as Sugiyama, Tagawa and Toda draw hierarchies (IEEE Trans. SMC 11, 1981): circles are broken, each node is
one layer behind the last that leads to it, and within a layer where those are to which it is connected. An arrow over
several layers has a place in each, so that it passes between the nodes and not through them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SWEEPS: Final = 12  # over all layers, forth and back: from then on hardly anything moves
BEND: Final = 0.45  # of a row, for an arrow that passes

Pair = tuple[str, str]
# A node, or the place of an arrow that passes through a layer: the arrow and the layer.
_Place = str | tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are: the layer of a node (from 0), its row (a number from 0 on), and the rows an arrow passes.

    `bends` of an arrow are the rows of the layers between its ends, in the direction in which it is drawn: from the
    left to the right, which for those that close a circle is against the arrow.
    """

    layers: int
    rows: float
    layer: Mapping[str, int]
    row: Mapping[str, float]
    bends: Mapping[Pair, Sequence[float]]


def layered(nodes: Iterable[str], arrows: Iterable[Pair]) -> Layout:
    """Lay a graph out; arrows from a node to itself are passed over. The same graph is always laid out the same."""
    names = sorted(set(nodes))
    pairs = sorted({(start, end) for start, end in arrows if start != end})
    forward = _without_circles(names, pairs)
    layer = _layers(names, forward)
    layers = max(layer.values(), default=0) + 1
    chains = {(start, end): _chain(start, end, layer) for start, end in forward}
    columns = _ordered(names, chains, layer, layers)
    rows = _rows(columns, chains)
    lowest = min(rows.values(), default=0.0)
    rows = {place: row - lowest for place, row in rows.items()}
    return Layout(
        layers,
        max(rows.values(), default=0.0) + 1,
        layer,
        {place: row for place, row in rows.items() if isinstance(place, str)},
        {pair: [rows[place] for place in chain[1:-1]] for pair, chain in chains.items()},
    )


def _without_circles(names: Sequence[str], pairs: Sequence[Pair]) -> list[Pair]:
    """The arrows, those that lead back to where one came from turned around."""
    following: dict[str, list[str]] = {name: [] for name in names}
    entered = set[str]()
    for start, end in pairs:
        following[start].append(end)
        entered.add(end)
    done, on_the_way, turned = set[str](), set[str](), set[Pair]()
    for first in sorted(names, key=lambda name: (name in entered, name)):  # from where nobody leads to
        waiting: list[tuple[str, int]] = [(first, 0)] if first not in done else []
        while waiting:
            name, at = waiting.pop()
            on_the_way.add(name)
            if at == len(following[name]):
                on_the_way.discard(name)
                done.add(name)
                continue
            waiting.append((name, at + 1))
            end = following[name][at]
            if end in on_the_way:
                turned.add((name, end))
            elif end not in done:
                waiting.append((end, 0))
    return sorted({(end, start) if (start, end) in turned else (start, end) for start, end in pairs})


def _layers(names: Sequence[str], forward: Sequence[Pair]) -> dict[str, int]:
    """Each one behind the last that leads to it; and who is led to by nobody right before the first he leads to."""
    before: dict[str, list[str]] = {name: [] for name in names}
    after: dict[str, list[str]] = {name: [] for name in names}
    for start, end in forward:
        before[end].append(start)
        after[start].append(end)
    left = {name: len(before[name]) for name in names}
    layer = dict.fromkeys(names, 0)
    ready = [name for name in names if not left[name]]
    for name in ready:
        for end in after[name]:
            layer[end] = max(layer[end], layer[name] + 1)
            left[end] -= 1
            if not left[end]:
                ready.append(end)
    for name in names:
        if not before[name] and after[name]:
            layer[name] = min(layer[end] for end in after[name]) - 1
    return layer


def _chain(start: str, end: str, layer: Mapping[str, int]) -> list[_Place]:
    return [start, *((start, end, at) for at in range(layer[start] + 1, layer[end])), end]


def _ordered(
    names: Sequence[str], chains: Mapping[Pair, Sequence[_Place]], layer: Mapping[str, int], layers: int
) -> list[list[_Place]]:
    """The places of each layer, from top to bottom."""
    columns: list[list[_Place]] = [[] for _ in range(layers)]
    for name in names:
        columns[layer[name]].append(name)
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    for chain in chains.values():
        for place in chain[1:-1]:
            columns[place[2] if isinstance(place, tuple) else layer[place]].append(place)
        for one, other in pairwise(chain):
            after.setdefault(one, []).append(other)
            before.setdefault(other, []).append(one)
    for sweep in range(_SWEEPS):
        there, order = (before, columns) if sweep % 2 == 0 else (after, columns[::-1])
        for known, column in pairwise(order):
            at = {place: number for number, place in enumerate(known)}
            own = {place: float(number) for number, place in enumerate(column)}
            column.sort(key=lambda place: _mean([at[each] for each in there.get(place, ())], own[place]))
    return columns


def _rows(columns: Sequence[Sequence[_Place]], chains: Mapping[Pair, Sequence[_Place]]) -> dict[_Place, float]:
    """The row of each place: near those it is connected to, in the order of its layer, none upon another."""
    rows: dict[_Place, float] = {}
    for column in columns:
        top = 0.0
        for place in column:
            rows[place] = top
            top += _height(place)
    connected: dict[_Place, list[_Place]] = {}
    for chain in chains.values():
        for one, other in pairwise(chain):
            connected.setdefault(one, []).append(other)
            connected.setdefault(other, []).append(one)
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            wanted = [_mean([rows[each] for each in connected.get(place, ())], rows[place]) for place in column]
            rows.update(zip(column, _apart(wanted, [_height(place) for place in column]), strict=True))
    return rows


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """The rows nearest to those that are wanted, in order, with room for each: neighbours in the way move together."""
    blocks: list[tuple[float, float, int]] = []  # the sum of what its members want its top to be, its height, how many
    for row, height in zip(wanted, heights, strict=True):
        blocks.append((row, height, 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][2] + blocks[-2][1] > blocks[-1][0] / blocks[-1][2]:
            total, tall, count = blocks.pop()
            above, height_above, count_above = blocks.pop()
            blocks.append((above + total - count * height_above, height_above + tall, count_above + count))
    rows: list[float] = []
    for total, _, count in blocks:
        top = total / count
        for height in heights[len(rows) : len(rows) + count]:
            rows.append(top)
            top += height
    return rows


def _height(place: _Place) -> float:
    return 1.0 if isinstance(place, str) else BEND


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
