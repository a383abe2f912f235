"""When an authority may be prepared, activated, retired, tainted; and who would be cut off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ca import slots
from ca.events import What
from ca.lifetime import Validity
from ca.rows import AuthorityState, Issued, State
from ca.slots import Laggard, RotationError, is_due, laggards, may_activate, may_prepare, may_retire, may_taint

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROOT, INT = What.ROOT, What.INTERMEDIATE


def authority(what: What, number: int, state: str, *, root: int | None = None) -> AuthorityState:
    return AuthorityState(
        what=what,
        slot=f"{number:04d}-x",
        key_id=f"{what.value[0]}{number}",
        root_key_id=f"r{number if root is None else root}",
        certificate=b"",
        state=State(state),
        published=number if what is ROOT else 0,
    )


def pair(number: int, state: str, intermediate: str | None = None) -> list[AuthorityState]:
    return [authority(ROOT, number, state), authority(INT, number, intermediate or state)]


def leaf(lineage: int, *, online: bool = True, bundle: int = 1, ends: timedelta = HOUR) -> Issued:
    return Issued(
        issuer="i1",
        serial=f"{lineage:x}",
        seq=lineage,
        id=f"spiffe://mesh.test/{lineage}",
        spki=None,
        fingerprint="",
        not_before=NOW - HOUR,
        not_after=NOW + ends,
        lineage=lineage,
        generation=1,
        online=online,
        bundle_sequence=bundle,
    )


@dataclass
class Case:
    authorities: list[AuthorityState]
    words: str


def test_names_count_up_over_whatever_lies_there() -> None:
    assert slots.next_name([], "3f9a12cd") == "0001-3f9a12cd"
    assert slots.next_name(["0001-a", "0007-b", ".0009-c.tmp", "lost+found"], "3f9a12cd") == "0008-3f9a12cd"


@pytest.mark.parametrize(
    ("authorities", "what", "words"),
    [
        (pair(1, "active") + pair(2, "prepared"), ROOT, r"a root is prepared already \(0002-x\); activate it"),
        (pair(1, "active") + pair(2, "prepared"), INT, "a root is prepared already"),
        ([*pair(1, "active"), authority(INT, 2, "prepared", root=1)], ROOT, "an? intermediate is prepared already"),
        (pair(1, "tainted"), INT, "no root is active"),
    ],
)
def test_one_thing_is_prepared_at_a_time(authorities: list[AuthorityState], what: What, words: str) -> None:
    with pytest.raises(RotationError, match=words):
        may_prepare(authorities, what)
    may_prepare(pair(1, "active"), what)
    may_prepare(pair(1, "tainted"), ROOT)


def test_a_root_waits_for_everybody_and_an_intermediate_for_nobody() -> None:
    behind = [Laggard("spiffe://mesh.test/web", 5, 1, NOW), Laggard("spiffe://mesh.test/api", 6, 0, NOW)]
    ready = pair(1, "active") + pair(2, "prepared")
    with pytest.raises(RotationError, match=r"/web and 1 more would be cut off: their holders have not loaded"):
        may_activate(ready, ROOT, behind=behind, force=False)
    assert may_activate(ready, ROOT, behind=behind, force=True).slot == "0002-x"
    assert may_activate(ready, ROOT, behind=(), force=False).slot == "0002-x"
    below = [*pair(1, "active"), authority(INT, 2, "prepared", root=1)]
    assert may_activate(below, INT, behind=behind, force=False).key_id == "i2"
    with pytest.raises(RotationError, match="no root is prepared; begin with"):
        may_activate(below, ROOT, behind=(), force=False)
    with pytest.raises(RotationError, match="the root of the intermediate 0002-x is not active"):
        may_activate(ready, INT, behind=(), force=False)


def test_what_still_carries_somebody_is_not_retired() -> None:
    after = pair(1, "old") + pair(2, "active")
    lives = {"i1": NOW + HOUR, "i2": NOW + 9 * HOUR}
    for what in What:
        with pytest.raises(RotationError, match=rf"a certificate of the {what} 0001-x lives for another 1 h"):
            may_retire(after, what, None, lives_until=lives, now=NOW, force=False)
        assert may_retire(after, what, None, lives_until=lives, now=NOW, force=True).slot == "0001-x"
        assert may_retire(after, what, None, lives_until={}, now=NOW, force=False).slot == "0001-x"


@pytest.mark.parametrize(
    ("authorities", "what", "slot", "words"),
    [
        (pair(1, "active"), ROOT, None, "no root is old or tainted; name one with --slot"),
        (pair(1, "active"), ROOT, "0001-x", "is active; prepare and activate another one first"),
        (pair(1, "active"), ROOT, "0009-x", "there is no root 0009-x"),
        (pair(1, "retired") + pair(2, "active"), ROOT, "0001-x", "is retired already"),
        (pair(1, "old") + pair(2, "old") + pair(3, "active"), ROOT, None, r"several roots are .*\(0001-x, 0002-x\)"),
        (pair(1, "active") + pair(2, "prepared"), INT, "0002-x", "retire --what root"),
    ],
)
def test_what_cannot_be_retired(authorities: list[AuthorityState], what: What, slot: str | None, words: str) -> None:
    with pytest.raises(RotationError, match=words):
        may_retire(authorities, what, slot, lives_until={}, now=NOW, force=True)


def test_a_preparation_can_be_given_up() -> None:
    prepared = pair(1, "active") + pair(2, "prepared")
    assert may_retire(prepared, ROOT, "0002-x", lives_until={}, now=NOW, force=False).slot == "0002-x"


def test_the_active_one_is_tainted_only_by_force() -> None:
    after = pair(1, "old") + pair(2, "active")
    assert may_taint(after, ROOT, None, force=False).slot == "0001-x"
    with pytest.raises(RotationError, match="is active: first meshproxy ca rotate prepare --what root, then activate"):
        may_taint(after, ROOT, "0002-x", force=False)
    assert may_taint(after, ROOT, "0002-x", force=True).slot == "0002-x"
    with pytest.raises(RotationError, match="is tainted; only one that is active or old"):
        may_taint(pair(1, "tainted"), ROOT, "0001-x", force=True)


def test_who_lags_behind() -> None:
    leaves = [
        leaf(1),  # said nothing
        leaf(2),  # said 1
        leaf(3),  # said 2
        leaf(4, bundle=2),  # was handed 2 over the network: the answer may have been lost
        leaf(5, online=False, bundle=1),
        leaf(6, online=False, bundle=2),  # files: leaf and roots are one rename
        leaf(7, ends=-HOUR),  # expired
    ]
    found = laggards(leaves, {2: 1, 3: 2}, sequence=2, now=NOW)
    assert [(each.lineage, each.sequence) for each in found] == [(1, 0), (2, 1), (4, 0), (5, 1)]


def test_a_holder_with_two_leaves_is_named_once_with_the_later_end() -> None:
    (found,) = laggards([leaf(1), leaf(1, ends=3 * HOUR)], {}, sequence=2, now=NOW)
    assert found == Laggard("spiffe://mesh.test/1", 1, 0, NOW + 3 * HOUR)


def test_an_intermediate_is_due_after_two_thirds_of_its_life() -> None:
    life = Validity(NOW, NOW + 30 * HOUR)
    assert not is_due(life, NOW + 20 * HOUR - timedelta(seconds=1))
    assert is_due(life, NOW + 20 * HOUR)
