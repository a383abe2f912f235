"""Recorded decisions are found from the newest back, over rotated files and several workers, and within a bound."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from meshproxy.audit.lines import Checkpoint, Decision, encode
from meshproxy.audit.query import Question, What
from meshproxy.policy.match import IdentityPattern
from meshproxy.runtime import audit_search
from meshproxy.runtime.audit_search import audit_files, search

if TYPE_CHECKING:
    from pathlib import Path


def ts(minute: int) -> str:
    return f"2026-11-01T00:{minute:02}:00.000Z"


def decision(minute: int, caller: str = "/web", path: str = "/x", decided: str = "allow") -> Decision:
    return Decision(
        ts(minute), "api", f"spiffe://mesh.test{caller}", "a1", "p", "1", "r", "GET", path, decided, "rule", "granted"
    )


def write(file: Path, *decisions: Decision, more: bytes = b"") -> None:
    lines = [b'{"seq":1,"prev":"x",' + encode(each)[1:] for each in decisions]
    file.write_bytes(b"\n".join([*lines, encode(Checkpoint(ts(0), "p", "h", "s")), b""]) + more)


def found(home: Path, question: Question | None = None, limit: int = 100) -> tuple[list[str], bool]:
    result = search(partial(audit_files, home / "audit.jsonl"), question or Question(), limit)
    return [f"{each.ts[14:16]} {each.caller[18:]} {each.path}" for each in result.records], result.more


def test_what_is_no_line_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "audit.jsonl", decision(1), more=b'{"deep":' + b"[" * 100_000 + b'\n\xff\n{"seq":2')
    assert found(tmp_path) == (["01 /web /x"], False)


def test_which_files_are_logs(tmp_path: Path) -> None:
    ours = [
        "audit.jsonl",
        "audit.jsonl.000000000020",
        "audit.jsonl.000000000003",
        "audit.jsonl.000000000010.chain",
        "audit.2.jsonl",
        "audit.2.jsonl.000000000007",
    ]
    for name in [*ours, "audit.jsonl.new", "audit.jsonl.bak", "audit.x.jsonl", "other.jsonl", "audit.jsonl.20"]:
        (tmp_path / name).touch()
    assert [[path.name for path in chain] for chain in audit_files(tmp_path / "audit.jsonl")] == [
        ["audit.jsonl", "audit.jsonl.000000000020", "audit.jsonl.000000000010.chain", "audit.jsonl.000000000003"],
        ["audit.2.jsonl", "audit.2.jsonl.000000000007"],
    ]
    assert audit_files(tmp_path / "nowhere" / "audit.jsonl") == []


def test_the_newest_come_first_over_all_files(tmp_path: Path) -> None:
    write(tmp_path / "audit.jsonl.000000000010", decision(1), decision(2))
    write(tmp_path / "audit.jsonl", decision(4), decision(6))
    write(tmp_path / "audit.2.jsonl", decision(3, "/shop"), decision(5, "/shop"))
    everything = ["06 /web /x", "05 /shop /x", "04 /web /x", "03 /shop /x", "02 /web /x", "01 /web /x"]
    assert found(tmp_path) == (everything, False)
    assert found(tmp_path, limit=2) == (everything[:2], True)
    assert found(tmp_path, limit=6) == (everything, False)


@pytest.mark.parametrize(
    ("question", "minutes"),
    [
        (Question(who=IdentityPattern.parse("/shop")), ["2"]),
        (Question(what=What.parse("/secret/**")), ["3"]),
        (Question(decisions=("deny",)), ["3"]),
        (Question(since=datetime(2026, 11, 1, 0, 2, tzinfo=UTC)), ["3", "2"]),
        (Question(until=datetime(2026, 11, 1, 0, 2, tzinfo=UTC)), ["1"]),
        (Question(listener="elsewhere"), []),
    ],
)
def test_what_is_asked_for(tmp_path: Path, question: Question, minutes: list[str]) -> None:
    write(tmp_path / "audit.jsonl", decision(1), decision(2, "/shop"), decision(3, path="/secret/a", decided="deny"))
    assert [line[1] for line in found(tmp_path, question)[0]] == minutes


def test_a_line_that_is_being_written_and_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "audit.jsonl", decision(1), more=b'not json\n\xff\xfe\n{"seq":9,"prev":"')
    assert found(tmp_path) == (["01 /web /x"], False)


@pytest.mark.parametrize("block", [16, 100, 1000])
def test_lines_over_the_edges_of_blocks_are_whole(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_search, "_BLOCK", block)
    write(tmp_path / "audit.jsonl", *(decision(minute, path="/" + "x" * minute) for minute in range(60)))
    lines, more = found(tmp_path)
    assert [line[:2] for line in lines] == [f"{minute:02}" for minute in reversed(range(60))]
    assert not more


def test_so_much_is_read_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_search, "_BLOCK", 1000)
    monkeypatch.setattr(audit_search._Budget, "__init__", lambda self: setattr(self, "bytes", 2000))
    write(tmp_path / "audit.jsonl", *(decision(minute) for minute in range(60)))
    lines, more = found(tmp_path)
    assert 0 < len(lines) < 20
    assert more
