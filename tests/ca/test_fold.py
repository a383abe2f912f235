"""What events add up to, and which can never follow."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ca import events
from ca.events import By, Entry, What
from ca.fold import ImpossibleEvent, fold
from ca.rows import (
    AuthorityState,
    Issued,
    Lineage,
    MemoryTables,
    Redemption,
    Revocation,
    Token,
    TokenState,
    sequence,
)
from tests.ca.histories import (
    DAY,
    NOW,
    WEB,
    activate,
    beginning,
    bundle,
    init,
    issue,
    prepare,
    renew,
    retire,
    revoke,
    taint,
    token,
    use,
)


def folded(*more: events.Event) -> MemoryTables:
    tables = MemoryTables()
    fold(tables, (Entry(seq, event) for seq, event in enumerate([*beginning(), *more], start=1)))
    return tables


def states(tables: MemoryTables) -> dict[str, str]:
    """`r1` is the root of slot 1, `i1` its intermediate."""
    return {f"{each.what.value[0]}{each.slot[3]}": each.state.value for each in tables.every(AuthorityState)}


def test_a_renewal_is_the_next_generation_of_its_lineage() -> None:
    tables = folded(issue("1"), renew("1", "2"), renew("2", "3"), issue("4"))
    assert [(each.serial, each.lineage, each.generation, each.online) for each in tables.every(Issued)] == [
        ("1", 5, 1, False),
        ("2", 5, 2, True),
        ("3", 5, 3, True),
        ("4", 8, 1, False),
    ]
    assert tables.get(Lineage, 5) == Lineage(lineage=5, id=WEB, generation=3, issuer="aa", serial="3")


def test_a_token_remembers_each_use() -> None:
    tables = folded(token(uses=2), issue("1", token="t1"), use(serial="1"))
    used = tables.get(Token, "t1")
    assert used is not None
    assert (used.used, used.state) == (1, TokenState.OPEN)
    (redemption,) = tables.every(Redemption)
    assert (redemption.use, redemption.spki, redemption.serial, redemption.peer) == (1, "k1", "1", "10.0.0.1")
    assert [each.online for each in tables.every(Issued)] == [True]


def test_revoking_again_only_ever_adds() -> None:
    later = NOW + timedelta(hours=1)
    tables = folded(revoke(WEB, by=By.ID, at=later), revoke(WEB, by=By.ID, at=NOW))
    (revocation,) = tables.every(Revocation)
    assert (revocation.cutoff, revocation.until, revocation.at) == (later, later + DAY, later)


def test_a_root_rotates_with_its_intermediate() -> None:
    steps: list[events.Event] = [prepare("0002-bb"), bundle(2), activate("0002-bb"), retire("0001-aa"), bundle(3)]
    seen = [states(folded(*steps[:count])) for count in (0, 1, 3, 4)]
    assert seen == [
        {"r1": "active", "i1": "active"},
        {"r1": "active", "i1": "active", "r2": "prepared", "i2": "prepared"},
        {"r1": "old", "i1": "old", "r2": "active", "i2": "active"},
        {"r1": "retired", "i1": "retired", "r2": "active", "i2": "active"},
    ]
    published = folded(*steps).get(AuthorityState, What.ROOT, "0002-bb")
    assert published is not None
    assert published.published == 2
    assert sequence(folded(*steps), "bundle") == 3


def test_an_intermediate_rotates_below_a_root_that_stays() -> None:
    kind = What.INTERMEDIATE
    steps: list[events.Event] = [
        prepare("0002-bb", what=kind, root="root-aa"),
        activate("0002-bb", what=kind),
        retire("0001-aa", what=kind),
    ]
    assert states(folded(*steps)) == {"r1": "active", "i1": "retired", "i2": "active"}


def test_with_a_tainted_root_goes_everything_below_it() -> None:
    kind = What.INTERMEDIATE
    below: list[events.Event] = [prepare("0002-bb", what=kind, root="root-aa"), activate("0002-bb", what=kind)]
    waiting = prepare("0003-cc", what=kind, root="root-aa")
    assert states(folded(*below, waiting, taint("0001-aa"))) == {
        "r1": "tainted",
        "i1": "tainted",
        "i2": "tainted",
        "i3": "retired",
    }
    retired = states(folded(*below, taint("0001-aa"), retire("0001-aa")))
    assert retired == {"r1": "retired", "i1": "retired", "i2": "retired"}


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([init()], "only once"),
        ([issue("1"), issue("1")], "exists already"),
        ([renew("1", "2")], "no serial 1 to renew"),
        ([issue("1"), renew("1", "2"), renew("1", "3")], "not the latest"),
        ([issue("1"), renew("1", "2", id="spiffe://mesh.test/other")], "is of spiffe://mesh.test/web"),
        (
            [issue("1"), events.Suspect(at=NOW, lineage=5, id=WEB, issuer="aa", serial="1", why="x"), renew("1", "2")],
            "suspect",
        ),
        ([events.Suspect(at=NOW, lineage=5, id=WEB, issuer="aa", serial="1", why="x")], "no lineage 5"),
        ([use()], "no token t1"),
        ([token(), token()], "exists already"),
        ([token(), use()], "no serial 1"),
        ([token(), issue("1"), use(), issue("2"), use(number=2, serial="2")], "used up"),
        ([token(uses=2), issue("1"), use(number=2)], "not its next"),
        ([token(), events.TokenRevoke(at=NOW, token="t1"), issue("1"), use()], "is revoked"),
        ([token(), events.TokenLock(at=NOW, token="t1"), issue("1"), use()], "is locked"),
        ([prepare()], "exists already"),
        ([prepare("0002-bb"), prepare("0003-cc")], "a second root"),
        ([activate("0002-bb")], "no root 0002-bb"),
        ([activate()], "is active, it cannot become active"),
        ([retire("0001-aa")], "is active, it cannot become retired"),
        ([prepare("0002-bb"), activate("0002-bb", what=What.INTERMEDIATE)], "the root of 0002-bb is not active"),
        ([bundle(1)], "bundle number 1 was used already"),
        ([events.PublishCrl(at=NOW, number=0)], "crl number 0"),
        (
            [events.Restore(at=NOW, taken=NOW, bundle_sequence=1, deny_list_sequence=1, crl_number=1)],
            "bundle number 1 was used",
        ),
    ],
)
def test_what_cannot_follow_is_refused(history: list[events.Event], words: str) -> None:
    with pytest.raises(ImpossibleEvent, match=words):
        folded(*history)


def test_nothing_comes_before_the_beginning() -> None:
    with pytest.raises(ImpossibleEvent, match="begins with init"):
        fold(MemoryTables(), [Entry(1, issue())])


def test_an_event_is_encoded_in_one_way_only() -> None:
    body = events.encode(issue())
    assert events.decode(body) == issue()
    assert events.encode(events.decode(body)) == body
    assert b'"kind":"issue"' in body
    assert b" " not in body.replace(b"der of", b"")
    with pytest.raises(ValueError, match="Invalid value 'nonsense'"):
        events.decode(b'{"kind":"nonsense"}')
