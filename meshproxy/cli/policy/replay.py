"""`meshproxy policy replay`: what a candidate would have decided."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.cli.policy.lists import load_or_fail, own_domain, say, trust_domain_option
from meshproxy.cli.policy.logs import log_option, records_of
from meshproxy.cli.terminal import Tone, example, fail, print_json, printable
from meshproxy.policy.cases import NOBODYS
from meshproxy.policy.replaying import Group, Replay

_SHOWN: Final = 50


@click.command(
    short_help="Decide recorded calls again by a candidate.",
    epilog=example(
        "meshproxy policy replay api.allow.toml --log sidecar.log",
        "journalctl -u api -o cat | meshproxy policy replay api.allow.toml --log -",
    ),
)
@click.argument("candidate", metavar="CANDIDATE", type=click.Path(path_type=Path))
@log_option
@click.option("--listener", metavar="NAME", help="Only decisions of this listener.  [default: all]")
@trust_domain_option
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def replay(
    *,
    candidate: Path,
    logs: tuple[str, ...],
    listener: str | None,
    trust_domain: str | None,
    as_json: bool,
) -> None:
    """Decide recorded requests and connections again by CANDIDATE, and tell which would fall differently.

    Memory stays flat, however long the logs are. Exits 0 when nothing would change, 1 when something would, 2 when
    there is nothing to decide.
    """
    home = own_domain(trust_domain)
    replayed: Replay | None = None
    policy = load_or_fail(candidate).policy
    for record in records_of(logs):
        if listener is not None and record.listener != listener:
            continue
        if replayed is None:
            if not record.is_decision:
                continue
            # Who does not say what the own trust domain is means that of whoever calls.
            replayed = Replay(policy, home or _domain_of(record.caller), datetime.now(UTC))
        replayed.take(record)
    if replayed is None or not replayed.decided:
        fail("the logs hold no decision: expected access lines of a sidecar, as JSON")
    groups = sorted(replayed.groups.items(), key=lambda item: -item[1])
    if as_json:
        print_json(
            {
                "decided": replayed.decided,
                "changed": replayed.changed,
                "refused": replayed.refused,
                "groups": [_row(*each) for each in groups],
            }
        )
    else:
        _show(replayed, groups)
    raise SystemExit(1 if replayed.changed else 0)


def _domain_of(caller: str) -> TrustDomain:
    try:
        return SpiffeId.parse(caller).trust_domain
    except ValueError:
        return NOBODYS


def _show(replayed: Replay, groups: list[tuple[Group, int]]) -> None:
    for group, count in groups[:_SHOWN]:
        word, tone = ("denied", Tone.BAD) if group.was_allowed else ("allowed", Tone.WARNING)
        asked = "" if group.request is None else f" {' '.join(group.request)}"
        by = f"rule {group.rule_now!r}" if group.rule_now else f"{group.reason}; before by rule {group.rule_then!r}"
        say(f"{word}", f"{count:,} x {printable(group.caller)}{printable(asked)} ({by})", tone=tone)
    if len(groups) > _SHOWN:
        say("", f"and {len(groups) - _SHOWN} more kinds; --json lists all")
    if replayed.ungrouped:
        say("", f"and {replayed.ungrouped:,} more that are not told apart")
    click.echo(f"{replayed.changed:,} of {replayed.decided:,} decisions would change", err=True)
    click.echo(f"{replayed.refused:,} calls that were let pass would be refused", err=True)


def _row(group: Group, count: int) -> dict[str, object]:
    return {
        "count": count,
        "caller": group.caller,
        "method": group.request and group.request[0],
        "path": group.request and group.request[1],
        "was_allowed": group.was_allowed,
        "rule_then": group.rule_then or None,
        "rule_now": group.rule_now or None,
        "reason": group.reason,
    }
