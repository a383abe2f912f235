"""Who may call whom as a drawing, SVG for a page: nodes in layers, arrows from left to right.

No script: what is pointed at is brought out by style sheets alone. Each node has a number, and each thing has the
numbers of the nodes that bring it out as its classes.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from meshproxy.cli.policy.layout import BEND, layered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from meshproxy.cli.policy.layout import Layout

_MOST_LABELS: Final = 14  # arrows that say on the drawing what they are for
_LONGEST_LABEL: Final = 26
_LONGEST_NAME: Final = 34

_CHARACTER: Final = 7.4  # pixels of a character of a name
_SMALL: Final = 6.3  # and of what stands at an arrow
_HEIGHT: Final = 30
_ROW: Final = 46
_MARGIN: Final = 20
_ASIDE: Final = 9
_LEAST_SCALE: Final = 0.7  # below, nobody can read it: then it is moved about in its frame

_LEGEND: Final = {
    "service": "<b></b>has a list here",
    "caller": "<b></b>calls, and has none",
    "pattern": "<b></b>a pattern of callers",
    "foreign": "<b></b>of another trust domain",
    "some": "<i></i>for some things",
    "any": "<i></i>for anything",
}


@dataclass(frozen=True, slots=True)
class Line:
    """An arrow as it is drawn, for one of the graph or for many; `what` says for what."""

    start: str
    end: str
    what: tuple[str, ...]
    anything: bool

    @property
    def kind(self) -> str:
        """The class of its colour."""
        return "any" if self.anything else "some"


def drawing(nodes: Sequence[str], lines: Sequence[Line], services: Collection[str]) -> str:
    """Return the drawing and its legend, as HTML; `services` are the nodes that have a list."""
    laid = layered(nodes, [(each.start, each.end) for each in lines])
    widths = {name: len(_shortened(name, _LONGEST_NAME)) * _CHARACTER + 26 for name in nodes}
    labels = {} if len(lines) > _MOST_LABELS else {each: _label(each.what) for each in lines}
    left = _columns(laid, widths, longest=max(map(len, labels.values()), default=0))
    kinds = {name: _kind(name, services) for name in nodes}
    pairs = frozenset((each.start, each.end) for each in lines)
    sheet = _Sheet(laid, left, widths, {name: at for at, name in enumerate(nodes)}, kinds, pairs)
    width = left[-1] + max((widths[name] for name in nodes if laid.layer[name] == laid.layers - 1), default=0) + _MARGIN
    height = laid.rows * _ROW + 2 * _MARGIN
    said = f"{len(lines)} arrows between {len(nodes)} names; all of it is in words below"
    parts = [sheet.arrow(each) for each in lines]
    parts += [sheet.label(each, text) for each, text in labels.items()]  # over all arrows
    parts += sheet.boxes(lines)
    there = {*kinds.values(), *(each.kind for each in lines)}
    legend = "".join(f'<li class="{kind}">{words}' for kind, words in _LEGEND.items() if kind in there)
    return (
        f'<style>{"".join(map(_bringing_out, sheet.number.values()))}</style><div class="drawing">'
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'style="min-width:{_LEAST_SCALE * width:.0f}px" role="img" aria-label="{said}">{_TIPS}{"".join(parts)}</svg>'
        f'</div><ul class="legend">{legend}</ul>'
    )


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Where everything is: where each layer begins, how wide the nodes are, their numbers and kinds."""

    laid: Layout
    left: Sequence[float]
    widths: Mapping[str, float]
    number: Mapping[str, int]
    kinds: Mapping[str, str]
    pairs: Collection[tuple[str, str]]  # between which there are arrows

    def arrow(self, line: Line) -> str:
        """The arrow, and a wide invisible one that is easily pointed at; nothing for one to itself."""
        if line.start == line.end:
            return ""
        points = self._points(line)
        way = "M{:.0f} {:.0f}".format(*points[0])
        for (x, y), (to_x, to_y) in pairwise(points):
            way += f"C{(x + to_x) / 2:.0f} {y:.0f} {(x + to_x) / 2:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        title = html.escape(f"{line.start} → {line.end}: {'; '.join(line.what)}")
        return (
            f'<g class="{self._classes(line)}"><title>{title}</title><path class="wide" d="{way}"/>'
            f'<path d="{way}" marker-{"start" if self._is_turned(line) else "end"}="url(#{line.kind})"/></g>'
        )

    def label(self, line: Line, text: str) -> str:
        """What an arrow is for, upon it near its head."""
        if line.start == line.end:
            return ""
        points = self._points(line)
        (x, y), (to_x, to_y) = points[:2] if self._is_turned(line) else points[-2:]
        x, y, width = (x + to_x) / 2, (y + to_y) / 2, len(text) * _SMALL + 8
        return (
            f'<g class="{self._classes(line)}"><rect x="{x - width / 2:.0f}" y="{y - 8:.0f}" width="{width:.0f}" '
            f'height="16" rx="4"/><text class="for" x="{x:.0f}" y="{y + 3.5:.1f}">{html.escape(text)}</text></g>'
        )

    def boxes(self, lines: Sequence[Line]) -> Iterator[str]:
        """The nodes; who may call himself has a mark that says for what."""
        near = {name: {at} for name, at in self.number.items()}
        itself: dict[str, str] = {}
        for each in lines:
            near[each.start].add(self.number[each.end])
            near[each.end].add(self.number[each.start])
            if each.start == each.end:
                itself[each.start] = "; ".join(each.what)
        for name, at in self.number.items():
            x, y, width = self.left[self.laid.layer[name]], _y(self.laid.row[name]), self.widths[name]
            classes = " ".join([f"n n{at}", *(f"b{other}" for other in sorted(near[name])), self.kinds[name]])
            title = html.escape(name + (f"\nmay call itself: {itself[name]}" if name in itself else ""))
            loop = f'<text class="loop" x="{x + width - 4:.0f}" y="{y - 17:.0f}">↻</text>' if name in itself else ""
            yield (
                f'<g class="{classes}"><title>{title}</title><rect x="{x:.0f}" y="{y - _HEIGHT / 2:.0f}" '
                f'width="{width:.0f}" height="{_HEIGHT}" rx="7"/><text x="{x + width / 2:.0f}" y="{y + 4.5:.1f}">'
                f"{html.escape(_shortened(name, _LONGEST_NAME))}</text>{loop}</g>"
            )

    def _classes(self, line: Line) -> str:
        return f"e {line.kind} s{self.number[line.start]} t{self.number[line.end]}"

    def _is_turned(self, line: Line) -> bool:
        """Whether it closes a circle: it is drawn from its end to its start."""
        return self.laid.layer[line.start] > self.laid.layer[line.end]

    def _points(self, line: Line) -> list[tuple[float, float]]:
        """Where it passes, from left to right."""
        turned = self._is_turned(line)
        first, last = (line.end, line.start) if turned else (line.start, line.end)
        nudge = 0.0
        if (line.end, line.start) in self.pairs:  # beside the one that leads back
            nudge = _ASIDE if turned else -_ASIDE
        laid, left = self.laid, self.left
        points = [(left[laid.layer[first]] + self.widths[first], _y(laid.row[first]) + nudge)]
        for layer, row in enumerate(laid.bends[first, last], laid.layer[first] + 1):
            y = _MARGIN + (row + BEND / 2) * _ROW + nudge
            points += [(left[layer] - 10, y), (left[layer] + 90, y)]
        return [*points, (left[laid.layer[last]], _y(laid.row[last]) + nudge)]


def _columns(laid: Layout, widths: Mapping[str, float], *, longest: int) -> list[float]:
    """Where each layer begins: behind the widest name of the one before, and room for the arrows between them."""
    between = max(86.0, longest * _SMALL + 34, 3.4 * min(laid.rows, 32))
    left = [float(_MARGIN)]
    for layer in range(laid.layers - 1):
        left.append(left[-1] + between + max(widths[name] for name, at in laid.layer.items() if at == layer))
    return left


def _bringing_out(at: int) -> str:
    """The rules that let all fade but a node that is pointed at, its arrows, and those it is connected to."""
    pointed = f"svg:has(.n{at}:hover)"
    return f"{pointed} .e:not(.s{at},.t{at}){{opacity:.07}}{pointed} .n:not(.b{at}){{opacity:.25}}"


def _kind(name: str, services: Collection[str]) -> str:
    if name in services:
        return "service"
    if not name.startswith("/"):
        return "foreign"
    return "pattern" if "*" in name or name.endswith("…") else "caller"


def _y(row: float) -> float:
    return _MARGIN + (row + 0.5) * _ROW


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def _label(what: Sequence[str]) -> str:
    first = _shortened(what[0], _LONGEST_LABEL)
    return first if len(what) == 1 else f"{first} +{len(what) - 1}"


_TIP: Final = (
    '<marker id="{0}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path class="tip {0}" d="M0 .8 L8 4 L0 7.2 z"/></marker>'
)
_TIPS: Final = f"<defs>{_TIP.format('some')}{_TIP.format('any')}</defs>"
