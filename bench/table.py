"""The report as people read it: one table for a terminal of 110 columns, or the same in Markdown."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from bench.compare import judge, paired, spread
from bench.floor import NAME as FLOOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.compare import Spread, Verdict
    from bench.results import Block, Report

_WIDTH: Final = 110
_NAME: Final = 18


def render_text(report: Report) -> str:
    """Return the whole report for a terminal."""
    lines = [f"{'':{_NAME}}{'median':>10}  {'(lowest - highest)':<23}{'ratio':>9}  {'(lowest - highest)':<19}", ""]
    for block in report.blocks:
        lines += [*_text_block(block), ""]
    lines += [f"{row}: NOT MEASURED, {why}" for row, why in report.failures.items()]
    lines += [f"{name} was missing: {install}" for name, install in report.missing.items()]
    lines += [""]
    for title, text in about(report).items():
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"{title:<10}", subsequent_indent=" " * 10)
    return "\n".join(line.rstrip() for line in lines)


def _text_block(block: Block) -> Iterator[str]:
    yield f"{block.row}: {block.title} ({block.unit})"
    mine = block.samples[block.subject]
    lowest = {FLOOR: block.floor} if block.floor else {}
    for name, values in {block.subject: mine, **block.samples, **lowest}.items():
        figure = spread(values)
        line = f"  {name:<{_NAME - 2}}{number(figure.median):>10}  {_range(figure):<23}"
        if name != block.subject:
            ratio = paired(mine, values)
            line += f"{'-':>7}" if ratio is None else f"{ratio.median:7.2f} x  {_range(ratio)}"
        yield line
    for must in block.musts:
        yield f"  {sentence(judge(block, must))}"
    yield from (f"  {line}" for line in textwrap.wrap(block.note, _WIDTH - 2))


def sentence(verdict: Verdict) -> str:
    """Say how a bound came out."""
    must, times = verdict.must, " x" if verdict.must.against else ""
    whom = ""
    if must.against:
        whom = f" {must.against[0]}" if len(must.against) == 1 else f" the best of {', '.join(must.against)}"
    goal = "" if must.goal is None else f", goal {number(must.goal)}"
    text = f"must <= {number(must.limit)}{times}{whom}{goal}: "
    if verdict.value is None:
        return f"{text}not measured{_without(verdict)}"
    text += f"{number(verdict.value)}{times}"
    if len(must.against) > 1:
        text += f" {verdict.other}"
    text += ", MET" if verdict.is_met else ", MISSED"
    text += ", goal reached" if verdict.reaches_goal else ""
    return text + _without(verdict)


def _without(verdict: Verdict) -> str:
    return f" (without {' and '.join(verdict.absent)})" if verdict.absent else ""


def _range(figure: Spread) -> str:
    return f"({number(figure.low)} - {number(figure.high)})"


def number(value: float) -> str:
    """Write a figure with about three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def about(report: Report) -> dict[str, str]:
    """Say what the figures were measured on, with what, and how."""
    facts = {"machine": report.machine, "versions": report.versions, "options": report.options}
    return {
        **{title: ", ".join(f"{what} {value}" for what, value in fact.items()) for title, fact in facts.items()},
        "run": f"{report.date}, {report.command}",
    }
