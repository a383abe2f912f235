"""Asking a running sidecar for `/status`, and saying it in words: the 2 a.m. command."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click
import msgspec

from ca import json_text
from meshproxy.admin.status import Status
from meshproxy.cli.asking import PATIENCE, NoAnswer, admin_address, get
from meshproxy.cli.terminal import Tone, fail, paint
from meshproxy.settings.schema import DEFAULT_ADMIN
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from meshproxy.admin.status import (
        AuditStatus,
        ConfigurationStatus,
        IdentityStatus,
        ListenerStatus,
        LoadStatus,
        RenewalStatus,
        TrustStatus,
    )
    from meshproxy.wire.address import Address

_SHORTEST_PATIENCE = 0.1
_ASK_EVERY = 1.0
_POLL_EVERY = 0.1
_DENIALS_SHOWN = 5
_ANSWERS = {"none": "never"}  # else the class of the status, as it is
_OBJECTIONS_SHOWN = 10
_RULES_SHOWN = 8


def ask(file: Path | None) -> Status:
    """Return what the sidecar of `file` (None: the default admin address) says. Ends the command when it cannot."""
    address = DEFAULT_ADMIN if file is None else admin_address(file)
    try:
        return _ask(address, file)
    except NoAnswer as error:
        fail(str(error))


def watch_status(file: Path | None, *, as_json: bool) -> None:
    """Show the status again every second, on a screen of its own where there is one, until Ctrl-C."""
    address = DEFAULT_ADMIN if file is None else admin_address(file)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                answer = _ask(address, file)
                told = msgspec.json.encode(answer).decode() if as_json else in_words(answer)
            except NoAnswer as error:
                told = msgspec.json.encode({"error": str(error)}).decode() if as_json else str(error)
            if not as_json and sys.stdout.isatty():
                click.clear()
            click.echo(told)
            time.sleep(_ASK_EVERY)


def wait_until_ready(file: Path | None, timeout: float) -> str:
    """Return an empty text once the sidecar serves, or after `timeout` seconds what it said or did not say last."""
    address = DEFAULT_ADMIN if file is None else admin_address(file)
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), _SHORTEST_PATIENCE)
        try:
            answer = _ask(address, file, within=min(left, PATIENCE))
            if answer.state == "serving":
                return ""
            unwritten = (
                f"the audit log {each.file} cannot be written: {each.error}" for each in answer.audit if each.error
            )
            reason = answer.identity.reason or next(unwritten, "")
            why = f"it is {answer.state}" + (f": {reason}" if reason else "")
        except NoAnswer as error:
            why = str(error)
        if time.monotonic() >= deadline:
            return why
        time.sleep(min(_POLL_EVERY, max(deadline - time.monotonic(), 0.0)))


def _ask(address: Address, file: Path | None, *, within: float = PATIENCE) -> Status:
    http_status, body = get(address, "/status", within=within, starting=f"meshproxy run {file or 'FILE'}")
    try:
        return json_text.read(body, Status)
    except ValueError:
        what = f"what answers at {address} is not a meshproxy sidecar of this version (HTTP {http_status})"
        raise NoAnswer(what) from None


def in_words(status: Status) -> str:
    """Return the answer as a person reads it."""
    tone = {"serving": Tone.GOOD, "draining": Tone.WARNING, "overloaded": Tone.WARNING}.get(status.state, Tone.BAD)
    lines = [
        f"{paint(status.state, tone)}  {status.file}",
        f"pid {status.pid}, meshproxy {status.version}, started {status.started_at}",
        *([f"sandbox     {status.sandbox}"] if status.sandbox else []),
        *_workers(status),
        *_load(status.load),
        "",
        *_identity(status.identity),
        *_configuration(status.configuration),
        "",
        *(line for listener in status.listeners for line in _listener(listener)),
        "",
        *_denials(status),
        *_objections(status),
    ]
    lines += [line for each in status.audit for line in _audit(each)]
    if status.log_lines_dropped:
        lines += ["", f"{status.log_lines_dropped} log lines were dropped: whoever reads stderr is too slow"]
    return "\n".join(lines)


def _load(load: LoadStatus | None) -> list[str]:
    """Say how busy it is, when it is too busy."""
    if load is None or (not load.turned_away_for and load.most_in_flight is None):
        return []
    refused = "any number" if load.most_in_flight is None else str(load.most_in_flight)
    away = f"; new connections are turned away for {load.turned_away_for}" if load.turned_away_for else ""
    behind = paint(f"{load.lag_seconds * 1000:.0f} ms behind", Tone.WARNING)
    return [f"load        {behind}, {load.in_flight} requests in flight, {refused} let in{away}"]


def _audit(audit: AuditStatus) -> list[str]:
    refused = paint(f", {audit.refused} refused for want of room", Tone.BAD) if audit.refused else ""
    lines = ["", f"audit log   {audit.file}", f"            {audit.records} decisions recorded{refused}"]
    if audit.error:
        lines += [
            f"            {paint('it cannot be written', Tone.BAD)}: {audit.error}; what is to be recorded is refused",
            f"            -> make room where it is: df -h {audit.file}",
        ]
    return lines


def _workers(status: Status) -> list[str]:
    lines = []
    for worker in status.workers:
        state = worker.state if worker.state == status.state else paint(worker.state, Tone.WARNING)
        words = [state, f"{worker.open} open"]
        if worker.restarts:
            times = "once" if worker.restarts == 1 else f"{worker.restarts} times"
            words.append(paint(f"started again {times}", Tone.WARNING))
        if worker.generation and worker.generation != status.configuration.generation:
            words.append(f"generation {worker.generation}")
        lines.append(f"worker {worker.number}    {f'pid {worker.pid}, ' if worker.pid else ''}{', '.join(words)}")
    return lines


def _identity(identity: IdentityStatus) -> list[str]:
    lines = [f"identity    {identity.id or 'none'}"]
    if not identity.ready:
        lines += [f"            {paint('not ready', Tone.BAD)}: {identity.reason}", f"            -> {identity.remedy}"]
    for certificate in identity.certificates:
        left = certificate.seconds_left
        told = f"{format_duration(left)} left" if left > 0 else paint("expired", Tone.BAD)
        lines.append(f"            {certificate.role:12} until {certificate.not_after}  ({told})")
    if identity.renewal is not None:
        lines += _renewal(identity.renewal)
    if identity.loaded_at:
        lines.append(f"            generation {identity.generation}, loaded {identity.loaded_at}")
    if identity.last_error:
        lines.append(f"            {paint('last load failed', Tone.WARNING)}: {identity.last_error}")
    return lines + ([] if identity.trust is None else _trust(identity.trust))


def _trust(trust: TrustStatus) -> list[str]:
    """What is trusted beside the bundle; nothing where nobody ever said anything of it."""
    lines = []
    if trust.deny_list is not None:
        entries = "1 entry" if trust.entries == 1 else f"{trust.entries} entries"
        retired = f", {trust.retired} retired intermediates" if trust.retired else ""
        age = format_duration(max(trust.age_seconds, 0.0))
        lines.append(f"deny-list   number {trust.deny_list}, {entries}{retired}, {age} old")
        if trust.stale_seconds is not None:
            stale = paint(f"stale for {format_duration(trust.stale_seconds)}", Tone.BAD)
            lines.append(f'            {stale} (since {trust.good_until}); stale_deny_list = "{trust.stale_policy}"')
    elif trust.stale_policy == "deny":
        lines.append(f'deny-list   {paint("none", Tone.BAD)}; stale_deny_list = "deny"')
    if trust.bundle_sequence is not None:
        lines.append(f"bundle      number {trust.bundle_sequence}")
    if trust.federated:
        lines.append(f"federated   {', '.join(trust.federated)}")
    if trust.last_error:
        lines.append(f"            {paint('trust.json', Tone.WARNING)}: {trust.last_error}")
    return lines


def _renewal(renewal: RenewalStatus) -> list[str]:
    """How it goes with the CA: what is planned, and what fails."""
    done = f"renewed {renewal.renewed_at}, next" if renewal.renewed_at else "next"
    planned = f"renewal      {done} {renewal.next_renewal}" if renewal.next_renewal else "renewal      not planned yet"
    lines = [f"            {planned}"]
    if renewal.last_error:
        since = f"{paint('failing', Tone.WARNING)} since {renewal.failing_since}, next try {renewal.next_try}"
        lines += [f"            {since}: {renewal.last_error}", f"            -> {renewal.remedy}"]
    loaded, known = renewal.bundle_loaded, renewal.bundle_known
    number = "no bundle" if known is None else f"bundle {known}"
    if known is not None and loaded != known:
        number += paint(" (not in use yet)", Tone.WARNING)
    heard = f"heard {renewal.trust_at}" if renewal.trust_at else "not heard since start"
    lines.append(f"            trust        {number}, {heard}, from {', '.join(renewal.ca)}")
    if renewal.trust_error:
        lines.append(f"            {paint('no news of whom to believe', Tone.WARNING)}: {renewal.trust_error}")
    return lines


def _listener(listener: ListenerStatus) -> list[str]:
    mode = f", {listener.mode}" if listener.mode else ""
    route = f"{listener.listen} -> {listener.to}  ({listener.protocol}{mode})"
    lines = [f"{listener.direction:11} {paint(listener.name, Tone.STRONG)}  {route}"]
    decided = ", ".join(f"{count} {word}" for word, count in sorted(listener.decided.items()))
    ended = ", ".join(f"{count} {word}" for word, count in sorted(listener.ended.items()))
    answered = ", ".join(f"{count} {_ANSWERS.get(word, word)}" for word, count in sorted(listener.answered.items()))
    failed = [
        (listener.handshake_failures, "handshakes failed"),
        *((count, f"refused: {reason}") for reason, count in sorted(listener.refused.items())),
        (listener.failed_upstream, "upstream attempts failed"),
    ]
    lines.append(
        f"            {listener.open} open of {listener.max_connections}" + (f"; {decided}" if decided else "")
    )
    if answered:
        lines.append(f"            answered: {answered}")
    if ended:
        lines.append(f"            ended: {ended}")
    told = ", ".join(f"{count} {what}" for count, what in failed if count)
    if told:
        lines.append(f"            {paint(told, Tone.WARNING)}")
    if listener.limits_reached:
        most_first = sorted(listener.limits_reached.items(), key=lambda item: -item[1])
        reached = [f"{count} x {key} ({listener.limits.get(key, 'of the machine')})" for key, count in most_first]
        lines.append(f"            {paint('limits reached', Tone.WARNING)}: {_some(reached)}")
    if listener.policy:
        policy = listener.policy
        rules = "1 rule" if policy.rules == 1 else f"{policy.rules} rules"
        lines.append(f"            {policy.file}: {rules}, generation {policy.generation}, {policy.hash}")
        if policy.expired_rules:
            lines.append(f"            {paint('expired', Tone.WARNING)}: {_some(policy.expired_rules)}")
        if policy.expiring:
            ending = [f"{each.rule} in {format_duration(each.seconds_left)}" for each in policy.expiring]
            lines.append(f"            {paint('expires', Tone.WARNING)}: {_some(ending)}")
        lines += [f"            unused since {each.since}: {_some(each.rules)}" for each in policy.unused]
    return lines


def _some(words: Sequence[str]) -> str:
    rest = len(words) - _RULES_SHOWN
    return ", ".join(words[:_RULES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _denials(status: Status) -> list[str]:
    if not status.denials:
        return ["no denials since start"]
    shown = status.denials[-_DENIALS_SHOWN:]
    lines = [f"last {len(shown)} of {len(status.denials)} remembered denials"]
    for denial in reversed(shown):
        lines.append(f"  {denial.ts}  {denial.listener}  {denial.caller}  ({denial.reason})")
        lines.append(f"            {denial.nearest}")
    return lines


def _configuration(configuration: ConfigurationStatus) -> list[str]:
    version = f"generation {configuration.generation}, hash {configuration.hash}"
    lines = [f"files       {version}, loaded {configuration.loaded_at}"]
    if configuration.last_error:
        failed = paint("last reload failed", Tone.BAD)
        lines.append(f"            {failed} {configuration.last_attempt_at}; the last good one is in force")
        lines += [f"            {problem}" for problem in configuration.last_error.split("; ")]
    return lines


def _objections(status: Status) -> list[str]:
    if not status.objections:
        return []
    lines = ["", "since start, the most frequent first"]
    for objection in status.objections[:_OBJECTIONS_SHOWN]:
        asked = f" {objection.asked}" if objection.asked else ""
        word = "denied" if objection.outcome == "deny" else "would deny"
        lines.append(
            f"  {objection.count:6} x  {objection.listener}  {word} {objection.caller}{asked}  ({objection.reason})"
        )
        if objection.nearest:
            lines.append(f"            {objection.nearest}")
    others = sum(each.count for each in status.objections[_OBJECTIONS_SHOWN:]) + status.objections_beyond
    if others:
        lines.append(f"  {others:6} x  others; more of them: meshproxy status --json")
    return lines
