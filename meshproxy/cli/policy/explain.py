"""`meshproxy policy explain`: what an allow-list says to one caller, why, and what would have to be written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from meshproxy.cli.policy.lists import (
    AllowList,
    caller_and_home,
    judged,
    load_or_fail,
    own_domain,
    say,
    trust_domain_option,
    visible,
)
from meshproxy.cli.policy.logs import records_of
from meshproxy.cli.terminal import Tone, example, fail, print_json, printable
from meshproxy.policy.decide import Decision, Reason, decide_connection, decide_request
from meshproxy.policy.edit import Edit, smallest_edit
from meshproxy.policy.explain import (
    Nearest,
    RuleVerdict,
    explain_connection,
    explain_request,
    nearest_rule,
    nearest_rule_of_request,
)

if TYPE_CHECKING:
    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.records import Record

_MOST_SHOWN: Final = 20  # rules of a long list; --all shows every one
_REASONS: Final = {
    Reason.NO_RULE: "no rule grants this caller anything",
    Reason.PATH: "rules grant this caller other paths",
    Reason.METHOD: "rules grant this caller other methods on this path",
    Reason.EXPIRED_GRANT: "a rule granted just this, and has expired",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about: a request by method and judged path, or a connection (None)."""

    caller: SpiffeId
    home: TrustDomain
    request: tuple[str, str] | None

    def __str__(self) -> str:
        who = self.caller.path if self.caller.trust_domain == self.home else str(self.caller)
        return who if self.request is None else f"{who} {' '.join(self.request)}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an allow-list says, by the same evaluator that runs in a sidecar, and all there is to say about it."""

    asked: Asked
    decision: Decision
    verdicts: tuple[RuleVerdict, ...]
    nearest: Nearest | None
    edit: Edit | None


def explained(allow_list: AllowList, asked: Asked, *, now: datetime) -> Explanation:
    """Ask an allow-list, and what each of its rules says."""
    policy, caller, home = allow_list.policy, asked.caller, asked.home
    if asked.request is None:
        decision = decide_connection(policy, caller, home=home, now=now)
        verdicts = explain_connection(policy, caller, home=home, now=now)
        nearest = None if decision.granted else nearest_rule(policy, caller, home=home, now=now)
    else:
        decision = decide_request(policy, caller, *asked.request, home=home, now=now)
        verdicts = explain_request(policy, caller, *asked.request, home=home, now=now)
        nearest = (
            None if decision.granted else nearest_rule_of_request(policy, caller, *asked.request, home=home, now=now)
        )
    edit = None if decision.granted else smallest_edit(policy, caller, asked.request, nearest, home=home, now=now)
    return Explanation(asked, decision, verdicts, nearest, edit)


@click.command(
    short_help="Why one caller is allowed or denied.",
    epilog=example(
        "meshproxy policy explain api.allow.toml --from /web --method GET --path /a",
        "meshproxy policy explain ledger.allow.toml --from /orders --tcp",
        "grep '\"denied\"' sidecar.log | tail -1 | meshproxy policy explain --log -",
    ),
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--from", "caller", metavar="ID", help="Who calls: /web, or a full spiffe:// ID.")
@click.option("--method", metavar="M", help="Of the request.")
@click.option("--path", metavar="P", help="Of the request, as it is sent; a query is not looked at.")
@click.option("--tcp", is_flag=True, help="A connection, not a request.")
@click.option("--log", metavar="LOG", help="Explain the lines of a sidecar's log instead; - is standard input.")
@click.option("--all", "everything", is_flag=True, help="Show what every rule says, however many.")
@trust_domain_option
@click.option("--json", "as_json", is_flag=True, help="Report as JSON; with --log one line for each.")
def explain(
    *,
    file: Path | None,
    caller: str | None,
    method: str | None,
    path: str | None,
    tcp: bool,
    log: str | None,
    everything: bool,
    trust_domain: str | None,
    as_json: bool,
) -> None:
    """Tell what the allow-list FILE says to a caller: the rule that decides, what each rule says, what would grant it.

    With --log the questions come from lines of a sidecar's log (access lines, `denied` and `would_deny`), and FILE may
    be left out: the lines name it. Exits 0 when it is allowed, 1 when it is denied, 2 when nothing can be said.
    """
    now = datetime.now(UTC)
    if log is not None:
        if caller or method or path or tcp:
            raise click.UsageError("--log brings its own questions; leave --from, --method, --path and --tcp out")
        _explain_log(log, file, trust_domain, as_json=as_json, everything=everything, now=now)
        return
    if file is None or caller is None:
        raise click.UsageError("name the allow-list and --from ID, or --log LOG")
    if tcp == (method is not None and path is not None) or (tcp and (method or path)):
        raise click.UsageError("give --method and --path for a request, or --tcp for a connection")
    who, home = caller_and_home(caller, trust_domain)
    request = None if method is None or path is None else judged(method, path)
    allow_list = load_or_fail(file, tcp=tcp)
    found = explained(allow_list, Asked(who, home, request), now=now)
    if as_json:
        print_json(_document(found, allow_list))
    else:
        _show(found, allow_list, everything=everything)
    raise SystemExit(0 if found.decision.granted else 1)


def _explain_log(
    log: str, file: Path | None, trust_domain: str | None, *, as_json: bool, everything: bool, now: datetime
) -> None:
    lists: dict[tuple[Path, bool], AllowList] = {}
    own = own_domain(trust_domain)
    told = denied = 0
    for line in records_of((log,), prints=True):
        if line.is_out_of_time:
            _tell_out_of_time(line, as_json=as_json, apart=bool(told))
            told, denied = told + 1, denied + 1
            continue
        if not (line.is_decision or line.is_objection):
            continue
        named = file or Path(line.file)
        if named == Path():
            fail("the line does not name its allow-list; name it before --log")
        kind = (named, not line.method)
        if kind not in lists:
            lists[kind] = load_or_fail(named, tcp=not line.method)
        try:
            who = line.identity()
        except ValueError:
            continue  # not of a sidecar's writing
        asked = Asked(who, own or who.trust_domain, (line.method, line.path) if line.method else None)
        found = explained(lists[kind], asked, now=now)
        denied += not found.decision.granted
        if as_json:
            click.echo(msgspec.json.encode(_document(found, lists[kind])))
        else:
            if told:
                click.echo()
            _show(found, lists[kind], everything=everything)
            _tell_change(line, found)
        told += 1
    if not told:
        fail(f"{log} holds no decision: expected lines of a sidecar's log, as JSON, with `caller`")
    raise SystemExit(1 if denied else 0)


def _tell_out_of_time(line: Record, *, as_json: bool, apart: bool) -> None:
    if as_json:
        asked = {"caller": line.caller, "method": line.method or None, "path": line.path or None}
        click.echo(msgspec.json.encode({"allowed": False, **asked, "reason": line.reason}))
        return
    if apart:
        click.echo()
    say("denied", printable(" ".join(filter(None, (line.caller, line.method, line.path)))), tone=Tone.BAD)
    say("reason", f"{line.reason}: the caller's certificate had ended by then; no allow-list was asked")


def _tell_change(line: Record, found: Explanation) -> None:
    then = "deny" if line.event == "denied" else line.decision or line.event
    if line.was_allowed != found.decision.granted:
        say("then", f"{then}, by {line.policy}: the file has changed since")


def _show(found: Explanation, allow_list: AllowList, *, everything: bool) -> None:
    decision = found.decision
    word, tone = ("allowed", Tone.GOOD) if decision.granted else ("denied", Tone.BAD)
    say(word, printable(str(found.asked)), tone=tone)
    if decision.rule is not None:
        say("by", f'rule "{decision.rule.name}" ({decision.place})')
        click.echo()
        for line in allow_list.text_of(decision.rule).split("\n"):
            click.echo(f"    {visible(line)}")
        click.echo()
    else:
        say("reason", f"{decision.reason}: {_REASONS[decision.reason]}, by {decision.file}")
    _show_rules(found, everything=everything)
    if found.nearest is not None:
        say("nearest", str(found.nearest))
    if found.edit is not None:
        _show_edit(found.edit, decision.file)
    elif not decision.granted:
        say("edit", "no rule can name just this method and path; how much to grant is for you to decide")


def _show_rules(found: Explanation, *, everything: bool) -> None:
    others = [each for each in found.verdicts if each.rule is not found.decision.rule]
    # The nearest come last in the order of conditions, so they are shown first.
    shown = others if everything else sorted(others, key=lambda each: -_rank(each))[:_MOST_SHOWN]
    for each in sorted(shown, key=lambda each: each.rule.ordinal):
        say("rule", str(each))
    if len(shown) < len(others):
        say("rule", f"and {len(others) - len(shown)} more that are further off; --all shows them")


def _rank(verdict: RuleVerdict) -> int:
    return 99 if verdict.failed is None else int(verdict.failed)


def _show_edit(edit: Edit, file: str) -> None:
    where = f"in the place of {file}:{edit.replaces.line}" if edit.replaces else f"anywhere in {file}"
    say("edit", f"{where}, which grants {edit.effect}:")
    click.echo()
    for line in edit.text.splitlines():
        click.echo(f"    {line}")


def _document(found: Explanation, allow_list: AllowList) -> dict[str, object]:
    decision, edit = found.decision, found.edit
    return {
        "allowed": decision.granted,
        "caller": str(found.asked.caller),
        "method": found.asked.request and found.asked.request[0],
        "path": found.asked.request and found.asked.request[1],
        "reason": decision.reason,
        "rule": decision.rule and decision.rule.name,
        "place": decision.place,
        "text": allow_list.text_of(decision.rule) if decision.rule else None,
        "rules": [
            {
                "rule": each.rule.name,
                "place": f"{each.file}:{each.rule.line}",
                "stopped_at": None if each.failed is None else each.failed.name.lower(),
            }
            for each in found.verdicts
        ],
        "nearest": None if found.nearest is None else str(found.nearest),
        "edit": None
        if edit is None
        else {"text": edit.text, "replaces_line": edit.replaces and edit.replaces.line, "grants": edit.effect},
    }
