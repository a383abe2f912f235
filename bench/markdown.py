"""The report as Markdown, for the README: who stands beside the product in one table, its other forms in a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.compare import judge, paired, spread
from bench.floor import NAME as FLOOR
from bench.product import NAME
from bench.table import about, number, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.results import Block, Report


def render_markdown(report: Report) -> str:
    """Return the whole report."""
    beside_others = [block for block in report.blocks if block.subject == NAME]
    by_itself = [block for block in report.blocks if block.subject != NAME]
    names = list(dict.fromkeys(name for block in beside_others for name in block.samples))
    lines = []
    if beside_others:
        lines += _table(
            ("work", "per", *names, FLOOR, "bound"), (_beside_others(block, names) for block in beside_others)
        )
    if by_itself:
        lines += _table(("work", "per", "figures", "bound"), (_by_itself(block) for block in by_itself))
    lines += [f"- {row}: not measured, {why}" for row, why in report.failures.items()]
    lines += [f"- {name} was missing: {install}" for name, install in report.missing.items()]
    lines += [f"- {title}: {text}" for title, text in about(report).items()]
    return "\n".join(lines)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _beside_others(block: Block, names: Sequence[str]) -> list[str]:
    return [block.title, block.unit, *(_cell(block, name) for name in names), _cell(block, FLOOR), _bounds(block)]


def _by_itself(block: Block) -> list[str]:
    figures = ", ".join(f"{name}: {_cell(block, name)}" for name in block.samples)
    return [block.title, block.unit, figures, _bounds(block)]


def _cell(block: Block, name: str) -> str:
    values = block.floor if name == FLOOR else block.samples.get(name, [])
    if not values:
        return ""
    figure = number(spread(values).median)
    ratio = None if name == block.subject else paired(block.samples[block.subject], values)
    return figure if ratio is None else f"{figure} ({ratio.median:.2f} x)"


def _bounds(block: Block) -> str:
    return "<br>".join(sentence(judge(block, must)) for must in block.musts)
