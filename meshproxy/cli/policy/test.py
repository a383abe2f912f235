"""`meshproxy policy test`: whether allow-lists say what somebody has written down that they should."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshproxy.cli.policy.lists import AllowList, load_or_fail, read_or_fail
from meshproxy.cli.terminal import Tone, example, paint, print_json, printable
from meshproxy.policy.cases import Case, Outcome, decide_case, read_cases
from meshproxy.settings.files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(
    short_help="Try expectations that are written down.",
    epilog=example("meshproxy policy test cases.toml", "meshproxy policy test policies/*.cases.toml --json"),
)
@click.argument("files", nargs=-1, required=True, metavar="CASES.toml...", type=click.Path(path_type=Path))
@click.option("--verbose", "-v", is_flag=True, help="Show what is as expected, too.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def test(*, files: tuple[Path, ...], verbose: bool, as_json: bool) -> None:
    """Ask allow-lists what CASES.toml says, and compare: who, for what, allowed or denied, by which rule.

    \b
    policy = "api.allow.toml"        # relative to CASES.toml
    [[case]]
    from = "/web"
    method = "GET"                   # both left out: a connection
    path = "/orders/7"
    expect = "allow"                 # or "deny"
    rule = "web-reads"               # optional: which one must decide

    Exits 0 when all is as expected, 1 when not, 2 when something cannot be read.
    """  # noqa: D301 - click's own mark for "do not wrap" is a real backspace
    outcomes = list(outcomes_of(files, now=datetime.now(UTC)))
    failed = [each for each in outcomes if each.fault]
    if as_json:
        print_json({"passed": len(outcomes) - len(failed), "failed": len(failed), "cases": list(map(_row, outcomes))})
    else:
        for each in outcomes:
            if each.fault or verbose:
                _show(each)
        tone = Tone.BAD if failed else Tone.GOOD
        click.echo(paint(f"{len(outcomes) - len(failed)} as expected, {len(failed)} not", tone), err=True)
    raise SystemExit(1 if failed else 0)


def outcomes_of(files: tuple[Path, ...], *, now: datetime) -> Iterator[Outcome]:
    """Ask what each file says, in order; each allow-list is read once. Ends the command when one cannot be read."""
    lists: dict[tuple[Path, bool], AllowList] = {}
    for file in files:
        for case in _cases(file):
            tcp = case.request is None
            key = (file.parent / case.policy, tcp)
            if key not in lists:
                lists[key] = load_or_fail(key[0], tcp=tcp)
            yield decide_case(case, lists[key].policy, now=now)


def _cases(file: Path) -> tuple[Case, ...]:
    with read_or_fail(file):
        return read_cases(read_file(file)[0], file=str(file))


def _show(outcome: Outcome) -> None:
    mark = paint("FAILED", Tone.BAD) if outcome.fault else paint("as expected", Tone.GOOD)
    case = outcome.case
    click.echo(f"{paint(f'{case.file}:{case.line}', Tone.STRONG)}: {mark} {printable(str(case))}")
    if outcome.fault:
        click.echo(f"    {outcome.fault}")


def _row(outcome: Outcome) -> dict[str, object]:
    case, decision = outcome.case, outcome.decision
    return {
        "file": case.file,
        "line": case.line,
        "case": str(case),
        "passed": not outcome.fault,
        "fault": outcome.fault or None,
        "rule": decision.rule.name if decision and decision.rule else None,
        "reason": decision.reason if decision else None,
    }
