"""What only time shows: expiry, a clock that went back, lists that nobody renews."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ca import TrustDomain, deny_list, doctor, publishing, revocation, rotation
from ca.authority import open_authority
from ca.events import Reason, What
from ca.founding import initialise
from ca.inspection import Weight
from ca.occupancy import sole
from ca.premises import ledger_of

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    initialise(tmp_path / "ca", TrustDomain.parse("mesh.test"), passphrase=None, now=NOW)
    return tmp_path / "ca"


def found(place: Path, now: datetime) -> list[tuple[Weight, str]]:
    return [(each.weight, each.text) for each in doctor.examine(place, now=now).findings]


@pytest.mark.parametrize(
    ("later", "weight", "words"),
    [
        (0 * DAY, None, ""),
        (244 * DAY, Weight.WARNING, "two thirds of the intermediate's life are over"),
        (310 * DAY, Weight.WARNING, "expires in 55 d"),
        (366 * DAY, Weight.WRONG, "expired at 2027-11-22"),
        (-1 * DAY, Weight.WRONG, "the clock went back"),
        (-1 * DAY, Weight.WRONG, "is not valid yet; check this machine's clock"),
    ],
)
def test_time_passes(place: Path, later: timedelta, weight: Weight | None, words: str) -> None:
    told = found(place, NOW + later)
    if weight is None:
        assert told == []
    else:
        assert any(each is weight and words in text for each, text in told), told


def test_lists_that_nobody_renews(place: Path) -> None:
    with ledger_of(place) as ledger:
        publishing.publish_revocations(open_authority(place, passphrase=None), ledger, now=NOW)
        publishing.publish(place, ledger, now=NOW, signer=open_authority(place, passphrase=None).signer)
    assert found(place, NOW) == []
    assert found(place, NOW + 2 * DAY) == [
        (
            Weight.WARNING,
            "the CRL is missing or has expired, and who demands one refuses everybody: meshproxy ca publish",
        )
    ]
    with sole(place):  # a server should have
        assert (Weight.WRONG, "the deny-list has been stale for 1 d 23 h although the CA is served") in found(
            place, NOW + 2 * DAY
        )
    (place / "trust/denylist.json").unlink()
    assert any("the deny-list is of no use" in text for _, text in found(place, NOW))


def test_what_a_rotation_left_behind(place: Path) -> None:
    with ledger_of(place) as ledger:
        rotation.prepare(place, ledger, What.INTERMEDIATE, passphrase=None, now=NOW)
        rotation.activate(ledger, What.INTERMEDIATE, now=NOW)
        rotation.taint(ledger, What.INTERMEDIATE, slot=None, now=NOW)
    told = found(place, NOW)
    assert any("is tainted; retire it" in text for weight, text in told if weight is Weight.WARNING)
    assert any("events are not covered" in text for _, text in told)
    with ledger_of(place) as ledger:
        active = open_authority(place, passphrase=None).slot
        rotation.taint(ledger, What.INTERMEDIATE, slot=active, now=NOW, force=True)
    assert (Weight.WRONG, "no authority is active, so nothing is issued; see meshproxy ca rotate") in found(place, NOW)


def test_a_deny_list_that_is_nearly_full(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deny_list, "MOST_BYTES", 1000)
    words = "the deny-list is nearly full"
    with ledger_of(place) as ledger:
        publishing.publish_revocations(open_authority(place, passphrase=None), ledger, now=NOW)
        for number in range(9):
            told = any(words in text for _, text in found(place, NOW))
            assert told == (number * len(_ENTRY) > 750), number
            with ledger.writing() as transaction:
                identity = f"spiffe://mesh.test/{number}"
                revocation.revoke_id(transaction, identity, reason=Reason.UNSPECIFIED, now=NOW, longest=7 * DAY)
    assert any(each is Weight.WARNING and words in text for each, text in found(place, NOW))


_ENTRY = '{"by":"id","subject":"spiffe://mesh.test/0","until":"2026-11-29T12:00:00Z","cutoff":"2026-11-22T12:00:00Z"},'
