"""`meshproxy policy graph`: who may call whom, drawn from the allow-lists of a whole mesh."""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshproxy.cli.policy.who_can import read_estate
from meshproxy.cli.terminal import example, fail, os_error_words
from meshproxy.policy.estate import accesses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meshproxy.policy.document import Document

_ROW: Final = 30  # pixels from one name to the next
_WIDTH: Final = 960
_MARGIN: Final = 24


@dataclass(frozen=True, slots=True)
class Edge:
    """That callers may call a service; `what` says for what, rule by rule."""

    callers: str
    service: str
    what: tuple[str, ...]


@click.command(
    short_help="Draw who may call whom.",
    epilog=example(
        "meshproxy policy graph policies/ --format mermaid >> README.md",
        "meshproxy policy graph policies/ --format dot | dot -Tsvg > mesh.svg",
        "meshproxy policy graph policies/ --format html --out mesh.html",
    ),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "dot", "html"]), default="mermaid", show_default=True, help="How."
)
@click.option("--out", type=click.Path(path_type=Path), help="Into a file, not to stdout.")
def graph(*, directory: Path, form: str, out: Path | None) -> None:
    """Draw who may call whom: an arrow from callers to each service that grants them something, with for what."""
    text = _FORMS[form](edges(read_estate(directory)))
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{out} was not written: {os_error_words(error)}", exit_code=1)


def edges(services: Mapping[str, Document]) -> list[Edge]:
    """The arrows, in order of service and caller; a service that nobody may call has none."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in accesses(services, now=datetime.now(UTC)):
        found.setdefault((each.service, each.callers.text), []).append(each.what)
    return [Edge(callers, service, tuple(dict.fromkeys(what))) for (service, callers), what in sorted(found.items())]


def _mermaid(arrows: Sequence[Edge]) -> str:
    """As a Mermaid flowchart; its text knows entities by number only."""
    names = _names(arrows)
    lines = ["flowchart LR", *(f'  {name}["{_entities(text)}"]' for text, name in names.items())]
    lines += [
        f'  {names[each.callers]} -->|"{_entities("; ".join(each.what))}"| {names[each.service]}' for each in arrows
    ]
    return "".join(f"{line}\n" for line in lines)


def _entities(text: str) -> str:
    return "".join(char if char.isalnum() or char in " /.,:-_" else f"#{ord(char)};" for char in text)


def _dot(arrows: Sequence[Edge]) -> str:
    """In the DOT language of Graphviz."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["digraph mesh {", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [
        f"  {quoted(each.callers)} -> {quoted(each.service)} [label={quoted('; '.join(each.what))}];" for each in arrows
    ]
    return "".join(f"{line}\n" for line in (*lines, "}"))


def _names(arrows: Sequence[Edge]) -> dict[str, str]:
    texts = dict.fromkeys(text for each in arrows for text in (each.callers, each.service))
    return {text: f"n{number}" for number, text in enumerate(texts)}


def _html(arrows: Sequence[Edge]) -> str:
    """One page that needs nothing else: callers on the left, services on the right, and the same as a table."""
    callers = sorted({each.callers for each in arrows})
    services = sorted({each.service for each in arrows})
    height = _MARGIN * 2 + _ROW * max(len(callers), len(services), 1)
    left = {text: _MARGIN + _ROW * place + _ROW // 2 for place, text in enumerate(callers)}
    right = {text: _MARGIN + _ROW * place + _ROW // 2 for place, text in enumerate(services)}
    parts = [_curve(each, left[each.callers], right[each.service]) for each in arrows]
    parts += [_label(text, 300, y, "end") for text, y in left.items()]
    parts += [_label(text, _WIDTH - 300, y, "start") for text, y in right.items()]
    rows = "".join(map(_row, arrows))
    return _PAGE.format(width=_WIDTH, height=height, drawing="\n".join(parts), rows=rows, count=len(arrows))


def _row(edge: Edge) -> str:
    what = "<br>".join(map(html.escape, edge.what))
    return f"<tr><td>{html.escape(edge.callers)}<td>{html.escape(edge.service)}<td>{what}"


def _curve(edge: Edge, start: int, end: int) -> str:
    """An arrow that says for what when it is pointed at."""
    title = html.escape(f"{edge.callers} -> {edge.service}: {'; '.join(edge.what)}")
    middle = _WIDTH // 2
    return (
        f'<path d="M310 {start} C{middle} {start} {middle} {end} {_WIDTH - 310} {end}" marker-end="url(#tip)">'
        f"<title>{title}</title></path>"
    )


def _label(text: str, x: int, y: int, anchor: str) -> str:
    return f'<text x="{x}" y="{y + 5}" text-anchor="{anchor}">{html.escape(text)}</text>'


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Who may call whom</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }}
svg {{ width: 100%; height: auto }}
path {{ fill: none; stroke: #3a7bd5; stroke-opacity: .55; stroke-width: 1.5 }}
path:hover {{ stroke-opacity: 1; stroke-width: 3 }}
marker path {{ fill: #3a7bd5; stroke: none }}
text {{ fill: currentColor }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top }}
</style>
<h1>Who may call whom</h1>
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{count} grants, listed in the table below">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 L8 4 L0 8 z"/></marker></defs>
{drawing}
</svg>
<table><thead><tr><th>callers<th>service<th>for what</thead><tbody>{rows}</tbody></table>
</html>
"""
_FORMS: Final[Mapping[str, Callable[[Sequence[Edge]], str]]] = {"mermaid": _mermaid, "dot": _dot, "html": _html}
