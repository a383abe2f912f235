"""`meshproxy policy report`: which rules were used, how often and when last, and which never."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshproxy.cli.policy.learn import is_of
from meshproxy.cli.policy.lists import document_or_fail, say
from meshproxy.cli.policy.logs import log_option, records_of
from meshproxy.cli.terminal import Tone, example, fail, print_json, printable

if TYPE_CHECKING:
    from meshproxy.policy.document import Rule


_MARGIN: Final = 14


@dataclass(slots=True)
class _Use:
    """How often a rule has decided, and when last."""

    rule: Rule
    count: int = 0
    last: str = ""


@click.command(
    short_help="Which rules are used, and which never.",
    epilog=example("meshproxy policy report api.allow.toml --log sidecar.log"),
)
@click.argument("file", type=click.Path(path_type=Path))
@log_option
@click.option("--service", metavar="S", help="Only decisions of this listener, or by this service's list (/team/api).")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def report(*, file: Path, logs: tuple[str, ...], service: str | None, as_json: bool) -> None:
    """Tell which rules of FILE have granted something in the logs, and which have not: those may be removed.

    Rules are known by their names; one whose default name has moved on with its place in the file is another. Exits 0
    when every rule was used, 1 when some were not, 2 when the logs hold no decision.
    """
    uses = {rule.name: _Use(rule) for rule in document_or_fail(file).rules}
    decided, gone = 0, dict[str, int]()
    for record in records_of(logs):
        if not record.is_decision or (service is not None and not is_of(record, service)):
            continue
        decided += 1
        if use := uses.get(record.rule):
            use.count += 1
            use.last = max(use.last, record.ts)
        elif record.rule and len(gone) < len(uses) + 1_000:
            gone[record.rule] = gone.get(record.rule, 0) + 1
    if not decided:
        fail("the logs hold no decision: expected access lines of a sidecar, as JSON")
    if as_json:
        print_json({"decided": decided, "rules": list(map(_row, uses.values())), "no_longer_there": gone})
    else:
        _show(uses, gone)
        unused = sum(not use.count for use in uses.values())
        click.echo(f"{decided:,} decisions; {unused} of {len(uses)} rules were not used", err=True)
    raise SystemExit(0 if all(use.count for use in uses.values()) else 1)


def _show(uses: dict[str, _Use], gone: dict[str, int]) -> None:
    now = datetime.now(UTC)
    for use in uses.values():
        last = f", last {printable(use.last[:19])}" if use.last else ""
        expired = ", expired" if use.rule.expired(now) else ""
        count = f"{use.count:,} x" if use.count else "never used"
        tone = Tone.GOOD if use.count else Tone.WARNING
        say(f"{count:>12}", f"{use.rule.name} (line {use.rule.line}){last}{expired}", tone=tone, margin=_MARGIN)
    for name, number in gone.items():
        say(f"{number:>10,} x", f"{printable(name)}, and no longer there", tone=Tone.FAINT, margin=_MARGIN)


def _row(use: _Use) -> dict[str, object]:
    return {"rule": use.rule.name, "line": use.rule.line, "count": use.count, "last": use.last or None}
