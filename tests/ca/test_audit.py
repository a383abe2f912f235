"""A ledger under a hostile hand: whatever is changed, taken out, put in or cut off is found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ca import events, ledger_head
from ca.audit import audit
from ca.events import Head
from ca.ledger_head import Seal, judge
from ca.sqlite_ledger import open_ledger
from tests.ca.histories import NOW, beginning, issue
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

TRIGGERS = "events_follow_one_another", "events_are_never_changed", "events_are_never_removed"


def tampered(path: Path, *statements: str) -> list[str]:
    """What an audit finds after a hand at the SQL shell, which has taken the triggers away first."""
    with closing(open_ledger(path, begin=[*beginning(), issue("1"), issue("2"), issue("3")])):
        pass
    with closing(sqlite3.connect(path)) as shell, shell:
        for trigger in TRIGGERS:
            shell.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            shell.execute(statement)
    with closing(open_ledger(path)) as opened, opened.reading() as view:
        return list(audit(view))


def rechained(path: Path) -> str:
    """What somebody would do who knows the chain: an event put in the place of another, and all hashes made anew."""
    head = Head()
    bodies = [events.encode(event) for event in [*beginning(), issue("1"), issue("9"), issue("3")]]
    script = ["DELETE FROM events"]
    for body in bodies:
        before, head = head, events.chained(head, body)
        script.append(
            f"INSERT INTO events (seq, body, prev_hash, hash) VALUES "
            f"({head.seq}, '{body.decode()}', x'{before.hash.hex()}', x'{head.hash.hex()}')"
        )
    return "; ".join(script)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([], None),
        (["UPDATE events SET body = replace(body, 'web', 'wed') WHERE seq = 6"], "event 6 was changed"),
        (["DELETE FROM events WHERE seq = 6"], "event 6 is missing"),
        (["DELETE FROM events WHERE seq = 6", "UPDATE events SET seq = 6 WHERE seq = 7"], "event 6 is not chained"),
        (["UPDATE events SET hash = zeroblob(32) WHERE seq = 5"], "event 5 was changed"),
        (["DELETE FROM issued WHERE serial = '2'"], "the state of Issued aa/2 is not what the events add up to"),
        (["DELETE FROM issued WHERE serial IN ('2', '3')"], "Issued aa/2 and 1 more"),
        (["UPDATE authorities SET row = replace(row, 'active', 'old')"], "the state of AuthorityState"),
        (["DELETE FROM events WHERE seq = 7"], "the state of Lineage"),  # the end cut off, the state forgotten
    ],
)
def test_an_audit_finds_it(tmp_path: Path, statements: list[str], words: str | None) -> None:
    found = tampered(tmp_path / "ledger", *statements)
    if words is None:
        assert found == []
    else:
        assert any(words in fault for fault in found), found


def test_only_a_signed_head_shows_a_chain_that_was_made_anew(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path / "mesh")
    path = tmp_path / "ledger"
    assert tampered(path) == []
    with closing(open_ledger(path)) as opened, opened.reading() as view:
        signed = seal(mesh, view.head())
    with closing(sqlite3.connect(path)) as shell:
        shell.executescript(rechained(path))
    with closing(open_ledger(path)) as opened:
        opened.rebuild()
        with opened.reading() as view:
            assert list(audit(view)) == []
            found = judge(signed, view, trust_domain="mesh.test", roots=mesh.roots)
    assert found == Seal(("event 7 is not the one that was signed: the ledger was exchanged or changed",), 0)


def seal(mesh: MeshCa, head: Head) -> bytes:
    return ledger_head.sign(head, trust_domain="mesh.test", by=mesh.authority.signer, now=NOW)


def test_what_was_written_with_a_sealed_key_is_not_covered_yet_and_no_fault(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path / "mesh")
    with closing(open_ledger(tmp_path / "ledger", begin=beginning())) as opened:
        with opened.reading() as view:
            signed = seal(mesh, view.head())
        with opened.writing() as transaction:
            transaction.append(issue("1"))
            assert judge(signed, transaction, trust_domain="mesh.test", roots=mesh.roots) == Seal((), 1)


@pytest.mark.parametrize("kind", ["foreign", "damaged", "of another trust domain"])
def test_a_head_that_cannot_be_believed_is_told(tmp_path: Path, kind: str) -> None:
    mesh, foreign = make_mesh_ca(tmp_path / "mesh"), make_mesh_ca(tmp_path / "foreign")
    document = seal(foreign if kind == "foreign" else mesh, Head(4, bytes(32)))
    if kind == "damaged":
        document = document[:-20]
    domain = "other.test" if kind == "of another trust domain" else "mesh.test"
    with closing(open_ledger(tmp_path / "ledger", begin=beginning())) as opened, opened.reading() as view:
        (fault,) = judge(document, view, trust_domain=domain, roots=mesh.roots).faults
    assert fault.startswith("the signed head is of 'mesh.test'" if "other" in domain else "the signed head cannot be")
