"""Audit logs that somebody has written into: judged to their end, and never sound unless they are what was written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ca import TrustDomain
from meshproxy.audit.chain import Head, chained
from meshproxy.audit.lines import Decision, Opened, Why, decode, encode
from meshproxy.audit.query import Question, What
from meshproxy.audit.verify import Demands, Verifier, in_order
from meshproxy.policy.match import IdentityPattern
from tests.fuzz.target import Target

if TYPE_CHECKING:
    from meshproxy.audit.lines import Body

_QUESTION = Question(
    who=IdentityPattern.parse("/web"),
    what=What.parse("GET /a/**"),
    since=datetime(2026, 1, 1, tzinfo=UTC),
    home=TrustDomain("mesh.test"),
)


def _log() -> bytes:
    head = Head()
    lines: list[bytes] = []
    opened = Opened("2026-11-01T12:00:00.000Z", "c0ffee", Why.NEW, "0")
    decisions = [
        Decision("2026-11-01T12:00:01.000Z", "api", "spiffe://mesh.test/web", "1f", "127.0.0.1:1", f"c-{number}",
                 method="GET", path="/a/b", decision="allow", rule="r")
        for number in range(3)
    ]  # fmt: skip
    bodies: list[Body] = [opened, *decisions]
    for body in bodies:
        line = chained(head, encode(body))
        head = head.after(line)
        lines.append(line)
    return b"".join(lines)


_SOUND = _log()


def _run(data: bytes) -> None:
    lines = data.splitlines(keepends=True)
    verifier = Verifier(Demands())
    verifier.take("audit.jsonl", lines)
    report = verifier.report()
    for fault in report.faults:
        assert str(fault).isprintable()
    if data == _SOUND:
        assert report.sound
    elif report.sound and report.begins_at == 1 and report.reached > 1:
        # Each line is vouched for by its successor; the last by a checkpoint only, and there is none.
        assert lines[: report.reached - 1] == _SOUND.splitlines(keepends=True)[: report.reached - 1]
    for line in lines:
        try:
            body = decode(line)
        except ValueError:
            continue
        if isinstance(body, Decision):
            _QUESTION.match(body)
    in_order([("audit.jsonl", line) for line in lines[:1]])


TARGET = Target(
    _run,
    (_SOUND, b"", b"{}\n", _SOUND[:-1]),
    (
        *(b"\n", b"{", b"}", b"[" * 1100, b'"seq":', b'"prev":"', b'"event":"decision"', b'"event":"opened"', b"null"),
        *(b'"event":"checkpoint","ts":"","payload":"","protected":"","signature":""', b"\\u0000", b"\\ud800", b"1e999"),
        *(
            b"18446744073709551616",
            b"-1",
            b"\xff",
            b"2026-11-01T12:00:01.000Z",
            b"2026-11-01",
            b'"cut_bytes":',
            b'"why":"new"',
        ),
    ),
)
