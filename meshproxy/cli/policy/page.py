"""The graph of a mesh as one page of HTML that needs nothing else: a drawing, and all of it in words below.

Too many services to be drawn one by one are drawn by the first segment of their names, teams mostly.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshproxy.cli.policy.drawing import Line, drawing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_NODES: Final = 90  # that a person can tell apart
_MOST_LINES: Final = 400


@dataclass(frozen=True, slots=True)
class Arrow:
    """That callers may call a service; `what` says for what, rule by rule. `anything`: some rule narrows it not."""

    callers: str
    service: str
    what: tuple[str, ...]
    anything: bool = False


def page(arrows: Sequence[Arrow], services: Sequence[str]) -> str:
    """Return the page; `services` are all that have a list, also those that nobody may call."""
    groups = _by_service(arrows)
    unheard = [service for service in sorted(services) if service not in groups]
    callers = {each.callers for each in arrows}
    counts = (_counted(len(services), "service"), _counted(len(callers), "caller"), _counted(len(arrows), "arrow"))
    return _PAGE.format(
        counts=" · ".join(counts),
        drawing=_drawing(arrows, services),
        sections="".join(_section(service, group) for service, group in groups.items()),
        nobody=f"<p>Nobody may call {', '.join(map(_code, unheard))}.</p>" if unheard else "",
    )


def _drawing(arrows: Sequence[Arrow], services: Sequence[str]) -> str:
    lines = [Line(each.callers, each.service, each.what, each.anything) for each in arrows]
    nodes = _nodes(lines, services)
    note = ""
    if not _is_legible(nodes, lines):
        lines, services = _by_team(lines), [*services, *map(_team, services)]
        nodes = _nodes(lines, map(_team, services))
        note = "<p>Drawn by the first segments of the names, for there are many. All of it is below.</p>"
    if not _is_legible(nodes, lines):
        return "<p>These are too many to be drawn. All of it is below; or name a part of the directory.</p>"
    return note + drawing(nodes, lines, services)


def _nodes(lines: Iterable[Line], services: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*services, *(name for each in lines for name in (each.start, each.end))]))


def _is_legible(nodes: Sequence[str], lines: Sequence[Line]) -> bool:
    return len(nodes) <= _MOST_NODES and len(lines) <= _MOST_LINES


def _by_team(lines: Iterable[Line]) -> list[Line]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for each in lines:
        groups.setdefault((_team(each.start), _team(each.end)), []).append(each)
    return [
        Line(*ends, (_counted(len(some), "arrow"),), any(each.anything for each in some))
        for ends, some in sorted(groups.items())
    ]


def _team(name: str) -> str:
    """What a name begins with: its first segment where there are more, or the trust domain of one in full."""
    if not name.startswith("/"):
        return "/".join(name.split("/")[:3])
    first = name.split("/")[1]
    return f"/{first}/…" if name.count("/") > 1 and first != "*" else name


def _by_service(arrows: Iterable[Arrow]) -> dict[str, list[Arrow]]:
    groups: dict[str, list[Arrow]] = {}
    for each in sorted(arrows, key=lambda each: (each.service, each.callers)):
        groups.setdefault(each.service, []).append(each)
    return groups


def _section(service: str, arrows: Iterable[Arrow]) -> str:
    return f"<tbody><tr><th colspan=2>{_code(service)}{''.join(map(_row, arrows))}</tbody>"


def _row(each: Arrow) -> str:
    what = "<br>".join(
        f'<span class="{"any" if each.anything else "some"}">{html.escape(one)}</span>' for one in each.what
    )
    return f"<tr><td>{_code(each.callers)}<td>{what}"


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Who may call whom</title>
<style>
:root {{ color-scheme: light dark; --paper: #fbfbfa; --ink: #1d2430; --faint: #69727f; --line: #e2e4e8;
  --card: #fff; --some: #4a74b4; --any: #c2690b; --edge: #b9c3d2; --pattern: #7a5bb0; --foreign: #2f8577 }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #14171c; --ink: #e4e8ee; --faint: #939dab; --line: #2a3039;
  --card: #1c2129; --some: #7ea6e6; --any: #eba052; --edge: #3b4554; --pattern: #b196e6; --foreign: #5fc2b0 }} }}
* {{ box-sizing: border-box }}
body {{ background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; margin: 0;
  padding: 2.2rem clamp(1rem, 4vw, 3.5rem) 4rem }}
h1 {{ font-size: 1.55rem; font-weight: 650; letter-spacing: -.01em; margin: 0 }}
h1 + p {{ color: var(--faint); margin: .15rem 0 1.4rem }}
code, svg text {{ font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace }}
.drawing {{ background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: auto }}
svg {{ display: block; height: auto; margin: auto; max-width: 100% }}
svg text {{ font-size: 12.3px; fill: var(--ink); text-anchor: middle }}
.n rect {{ fill: var(--card); stroke: var(--ink); stroke-width: 1.3 }}
.n.caller rect {{ stroke: var(--faint); stroke-width: 1 }}
.n.pattern rect {{ stroke: var(--pattern); stroke-dasharray: 5 3 }} .n.pattern text {{ fill: var(--pattern) }}
.n.foreign rect {{ stroke: var(--foreign); stroke-dasharray: 2 3 }} .n.foreign text {{ fill: var(--foreign) }}
.n text.loop {{ font-size: 14px }}
.e path {{ fill: none; stroke: var(--some); stroke-opacity: .62; stroke-width: 1.4 }}
.e.any path {{ stroke: var(--any) }}
.e path.wide {{ stroke-opacity: 0; stroke-width: 11 }}
.e:hover path:not(.wide) {{ stroke-opacity: 1; stroke-width: 2.6 }}
.tip.some {{ fill: var(--some) }} .tip.any {{ fill: var(--any) }}
.e rect {{ fill: var(--card) }} svg .for {{ font-size: 10.5px; fill: var(--faint) }}
.legend {{ color: var(--faint); display: flex; flex-wrap: wrap; font-size: .85rem; gap: .3rem 1.5rem; list-style: none;
  margin: .7rem 0 2.4rem; padding: 0 }}
.legend b {{ border: 1.5px solid var(--ink); border-radius: 4px; display: inline-block; height: .8rem;
  margin-right: .45rem; vertical-align: -1px; width: 1.4rem }}
.legend .caller b {{ border: 1px solid var(--faint) }} .legend .pattern b {{ border: 1.5px dashed var(--pattern) }}
.legend .foreign b {{ border: 1.5px dotted var(--foreign) }}
.legend i {{ border-top: 2px solid var(--some); display: inline-block; margin-right: .45rem; vertical-align: 4px;
  width: 1.5rem }}
.legend .any i {{ border-color: var(--any) }}
table {{ border-collapse: collapse; max-width: 70rem; width: 100% }}
th, td {{ border-top: 1px solid var(--line); padding: .34rem .8rem .34rem 0; text-align: left; vertical-align: top }}
th {{ border-top: 0; font-weight: 650; padding-top: 1.5rem }}
td:first-child {{ padding-left: 1.2rem; width: 22rem }}
td span.any {{ color: var(--any) }}
code {{ font-size: .9em; overflow-wrap: anywhere }}
</style></head><body>
<h1>Who may call whom</h1>
<p>{counts}</p>
{drawing}
<table>{sections}</table>
{nobody}
</body></html>
"""
