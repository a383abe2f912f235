"""The screen of `top`: a picture and a size made into lines; pure.

Every line is at most as wide as the terminal, and every text of a sidecar printable ASCII by then, so a length is a
width. What does not fit is left out from the bottom, and said so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from meshproxy.cli.terminal import Tone, printable
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshproxy.cli.sight import Denial, Expiry, Row, Sidecar, Sight

NARROWEST: Final = 40
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS: Final = " .:-=+*#%"
_BAD_SHARE: Final = 0.05  # of errors
_SOON: Final = 7 * 86_400.0  # seconds to an end that is worth a colour; a leaf of a day has its own measure
_SOON_FOR_A_LEAF: Final = 3_600.0
_PLACE: Final = re.compile(r" \([^()]*:\d+\)")  # of a rule; whoever wants to edit it asks /denials
_DENIALS_SHOWN: Final = 6
_EXPIRIES_SHOWN: Final = 4
_WIDE: Final = 100  # columns from which on there is room for a longer curve

ORDERS: Final[dict[str, tuple[str, Callable[[Row], tuple[float, ...]]]]] = {
    "r": ("rate", lambda row: (row.rate, row.denied)),
    "e": ("errors", lambda row: (row.errors or 0.0, row.rate)),
    "l": ("latency", lambda row: (row.p99 or 0.0, row.rate)),
    "d": ("denied", lambda row: (row.denied, row.rate)),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal is like. `height` 0: as high as it takes."""

    width: int = 80
    height: int = 0
    colour: bool = False
    unicode: bool = True
    order: str = "r"
    is_live: bool = False  # somebody watches, and may press keys


class _Line:
    """A line in the making, which knows how wide it is."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._left = look.width
        self._parts: list[str] = []

    def add(self, text: str, tone: Tone | None = None) -> _Line:
        """Add a text, as much of it as there is room for."""
        text = text[: self._left]
        self._left -= len(text)
        self._parts.append(f"\x1b[{tone.value}m{text}\x1b[0m" if tone and self._look.colour and text.strip() else text)
        return self

    def right(self, text: str, tone: Tone | None = None) -> _Line:
        """Add a text at the right end, if there is room for it."""
        if len(text) < self._left:
            self.add(" " * (self._left - len(text))).add(text, tone)
        return self

    def __str__(self) -> str:
        return "".join(self._parts).rstrip()


def lines_of(sight: Sight, look: Look) -> list[str]:
    """Return the screen, at most `look.height` lines (0: all)."""
    head = [*_title(sight, look), ""]
    tail = [*_denials(sight, look), *_expiries(sight, look)]
    keys = ["", _keys(look)] if look.is_live else []
    rows = sorted(sight.rows, key=lambda row: (*(-each for each in ORDERS[look.order][1](row)), row.source, row.target))
    table = _table(rows, look, some_answer=sight.unreachable < len(sight.sidecars))
    if not look.height:
        return [*head, *table, *tail]
    room = max(look.height - len(head) - len(keys), 0)
    # Edges are what one looks for: they have at least half of the screen, and the rest gives way first.
    tail = tail[: max(room - min(len(table), max(room // 2, 3)), 0)]
    table = _cut(table, room - len(tail), look)
    filler = [""] * (room - len(tail) - len(table))
    shown = [*head, *table, *tail, *filler][: max(look.height - len(keys), 0)]
    return [*shown, *keys][: look.height]


def _title(sight: Sight, look: Look) -> list[str]:
    clock = datetime.fromtimestamp(sight.now, UTC).strftime("%H:%M:%S UTC")
    count = len(sight.sidecars)
    first = _Line(look).add("meshproxy", Tone.STRONG)
    if sight.trust_domain:
        first.add(f"  {printable(sight.trust_domain)}")
    first.add(f"  {count} sidecar{'' if count == 1 else 's'}", Tone.FAINT)
    lines = [first.right(clock, Tone.FAINT), *_sidecars(sight.sidecars, look), _Line(look), _totals(sight, look)]
    curve = [sum(values) for values in zip(*(row.curve for row in sight.rows if row.curve), strict=False)]
    if any(curve):
        width = min(look.width - 14, len(curve))
        lines.append(_Line(look).add(_spark(curve[-width:], look), Tone.GOOD).add(f"  last {width} s", Tone.FAINT))
    return list(map(str, lines))


def _sidecars(sidecars: Sequence[Sidecar], look: Look) -> list[_Line]:
    """Name those that serve in one line, and each of the others with why in one of its own."""
    lines = []
    well = [printable(each.name) for each in sidecars if each.state == "serving"]
    if well:
        line = _Line(look).add("serving      ", Tone.GOOD)
        names, shown = "", 0
        for name in well:
            if len(names) + len(name) > look.width - 26 and shown:
                break
            names, shown = f"{names}  {name}" if names else name, shown + 1
        lines.append(line.add(names).add(f"  and {len(well) - shown} more" if shown < len(well) else ""))
    for each in sidecars:
        if each.state != "serving":
            tone = Tone.WARNING if each.state in {"draining", "starting"} else Tone.BAD
            line = _Line(look).add(f"{printable(each.state):<12} ", tone).add(printable(each.name))
            lines.append(line.add(f"  {printable(each.reason)}" if each.reason else "", Tone.FAINT))
    return lines


def _totals(sight: Sight, look: Look) -> _Line:
    rate, denied = sum(row.rate for row in sight.rows), sum(row.denied for row in sight.rows)
    errors = sum((row.errors or 0.0) * row.rate for row in sight.rows)
    share = errors / rate if rate else None
    line = _Line(look).add(_rate(rate), Tone.STRONG).add("/s requests   ", Tone.FAINT)
    line.add(_share(share), _tone_of_errors(share) or Tone.STRONG).add(" errors   ", Tone.FAINT)
    line.add(_rate(denied), Tone.WARNING if denied else Tone.STRONG).add("/s denied   ", Tone.FAINT)
    return line.add(str(sight.connections), Tone.STRONG).add(" connections", Tone.FAINT)


def _table(rows: Sequence[Row], look: Look, *, some_answer: bool) -> list[str]:
    """Lay the edges out: five columns of numbers, a curve, and the names in what is left."""
    curve = 24 if look.width >= _WIDE else 10 if look.width >= 76 else 0
    room = max(look.width - 5 * 8 - (curve + 2 if curve else 0) - 2, 16)
    longest = [max([len(name), *map(len, names)]) for name, names in _names(rows)]
    source = min(longest[0], max(room // 2, room - longest[1]))
    target = min(longest[1], room - source)
    head = _Line(look).add(f"{'CALLER':<{source}}  {'SERVICE':<{target}}", Tone.FAINT)
    for name in ("RATE/s", "ERRORS", "p50", "p99", "DENIED"):
        head.add(f"{name:>8}", Tone.FAINT)
    if curve:
        head.add(f"  {f'LAST {curve} s':<{curve}}", Tone.FAINT)
    lines = [str(head)]
    for row in rows:
        line = _Line(look).add(_fit(row.source, source)).add("  ").add(_fit(row.target, target), Tone.STRONG)
        line.add(f"{_rate(row.rate):>8}").add(f"{_share(row.errors):>8}", _tone_of_errors(row.errors))
        line.add(f"{_time(row.p50):>8}").add(f"{_time(row.p99):>8}")
        line.add(f"{_rate(row.denied) if row.denied else '-':>8}", Tone.WARNING if row.denied else Tone.FAINT)
        if curve:
            line.add("  ").add(_spark(row.curve[-curve:], look), Tone.GOOD)
        lines.append(str(line))
    if not rows and some_answer:
        lines.append(str(_Line(look).add("nobody has called anybody in the last minute", Tone.FAINT)))
    return lines


def _names(rows: Sequence[Row]) -> tuple[tuple[str, list[str]], tuple[str, list[str]]]:
    return ("CALLER", [printable(row.source) for row in rows]), ("SERVICE", [printable(row.target) for row in rows])


def _denials(sight: Sight, look: Look) -> list[str]:
    if not sight.denials:
        return []
    lines = ["", str(_Line(look).add("REFUSED", Tone.FAINT))]
    lines += [str(_denial(denial, sight.now, look)) for denial in sight.denials[:_DENIALS_SHOWN]]
    rest = len(sight.denials) - _DENIALS_SHOWN
    if rest > 0:
        lines.append(str(_Line(look).add(f"and {rest} more; see /denials", Tone.FAINT)))
    return lines


def _denial(denial: Denial, now: float, look: Look) -> _Line:
    asked = f"{denial.method} {denial.path}" if denial.method else "a connection"
    ago = _brief(max(now - denial.last, 0.0))
    line = _Line(look).add(f"{ago:>5} ago  ", Tone.FAINT)
    line.add(f"{denial.count:>5}x  ", Tone.WARNING if denial.outcome == "deny" else Tone.FAINT)
    who = denial.principal.removeprefix("spiffe://")
    line.add(printable(who[who.find("/") :])).add("  ").add(printable(asked), Tone.STRONG)
    return line.add(f"  {_reason(denial.explanation)}", Tone.FAINT)


def _reason(explanation: str) -> str:
    """The part of an explanation that the line does not have yet: what came nearest."""
    _, _, nearest = explanation.partition("; ")
    return _PLACE.sub("", printable((nearest or explanation).removeprefix("the nearest: ")))


def _expiries(sight: Sight, look: Look) -> list[str]:
    if not sight.expiries:
        return []
    lines = ["", str(_Line(look).add("CERTIFICATES, THE FIRST TO END", Tone.FAINT))]
    # One line of what is far away is enough: that all is well.
    urgent = sum(_urgency(each) is not None for each in sight.expiries)
    for each in sight.expiries[: max(1, min(urgent, _EXPIRIES_SHOWN))]:
        left = format_duration(each.seconds_left // 60 * 60) if each.seconds_left > 0 else "expired"
        line = _Line(look).add(f"{left:>9}  ", _urgency(each)).add(f"{printable(each.role):<12}  ")
        lines.append(str(line.add(printable(each.subject))))
    return lines


def _urgency(each: Expiry) -> Tone | None:
    if each.seconds_left <= 0:
        return Tone.BAD
    soon = _SOON_FOR_A_LEAF if each.role == "leaf" else _SOON
    return Tone.WARNING if each.seconds_left < soon else None


def _keys(look: Look) -> str:
    line = _Line(look).add("q", Tone.STRONG).add(" quits   sort by ", Tone.FAINT)
    for key, (name, _) in ORDERS.items():
        chosen = key == look.order
        line.add(key, Tone.STRONG).add(f" {name}{'*' if chosen else ''}  ", None if chosen else Tone.FAINT)
    return str(line)


def _cut(table: list[str], room: int, look: Look) -> list[str]:
    if len(table) <= room:
        return table
    left_out = len(table) - max(room - 1, 1)
    return [*table[: max(room - 1, 1)], str(_Line(look).add(f"and {left_out} more edges", Tone.FAINT))]


def _fit(name: str, width: int) -> str:
    """A name in exactly so many columns; of a long one its end, which says more than a trust domain does."""
    text = printable(name)
    return f"{text:<{width}}" if len(text) <= width else f"..{text[-width + 2 :]}"


def _spark(values: Sequence[float], look: Look) -> str:
    blocks, highest = _BLOCKS if look.unicode else _ASCII_BLOCKS, max(values, default=0)
    if not highest:
        return " " * len(values)
    # Whatever is not nothing shows.
    steps = len(blocks) - 1
    return "".join(blocks[max(round(value / highest * steps), 1) if value else 0] for value in values)


def _rate(per_second: float) -> str:
    if per_second >= 99_950:
        return f"{per_second / 1000:.0f}k"
    if not per_second:
        return "0"
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.1f}" if per_second >= 0.05 else "<0.1"


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return "0 %" if not share else "<0.1 %" if share < 0.001 else f"{share * 100:.1f} %"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    milliseconds = seconds * 1000
    if milliseconds >= 1000:
        return f"{seconds:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def _brief(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def _tone_of_errors(share: float | None) -> Tone | None:
    if not share:
        return None
    return Tone.BAD if share >= _BAD_SHARE else Tone.WARNING
