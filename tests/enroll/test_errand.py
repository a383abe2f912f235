"""Enrolling, renewing and polling against a CA on a socket: what is asked, what is kept, and what is never said."""

from __future__ import annotations

import dataclasses
import json
import socket
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from ca import identity_directory, messages, rotation, storage
from ca.events import What
from ca.refusals import Why
from ca.rows import Lineage
from ca.svid import read_chain
from meshproxy.enroll import judging
from meshproxy.enroll.faults import ClockApart, RefusedByCa, Unreachable, Untrusted, Unwritable
from meshproxy.identity.material import read_material
from meshproxy.settings.schema import IdentitySettings
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.dial import Resolver, Target
from tests.enroll.ca_room import CaRoom, Mood

if TYPE_CHECKING:
    from pathlib import Path

    from meshproxy.enroll.errand import Taken
    from tests.enroll.conftest import Customer, Visitors

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def closed_port() -> TcpAddress:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return TcpAddress("127.0.0.1", sock.getsockname()[1])


async def enrolled(room: CaRoom, web: Customer, *, leaf_ttl: timedelta | None = None) -> Taken:
    return await web.errands.enrol(room.invite(leaf_ttl=leaf_ttl))


async def test_a_token_becomes_an_identity_a_sidecar_takes(room: CaRoom, web: Customer) -> None:
    token = room.invite()
    taken = await web.errands.enrol(token)
    material = read_material(IdentitySettings(web.directory))
    assert material.leaf.id == room.mesh.id("/web") == taken.held.leaf.id
    assert (taken.again, taken.elsewhere, taken.doubt) == (False, False, "")
    assert room.paths() == [messages.BUNDLE, messages.ENROL]
    assert identity_directory.read_trust(web.directory) is not None
    noted = json.loads((web.directory / "enrolment.json").read_text())
    assert noted == {"addresses": [str(room.address)], "token": token.id.hex()}
    assert not (web.directory / "pending" / "key.pem").exists()
    assert stat.S_IMODE(web.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((web.directory / "key.pem").stat().st_mode) == 0o600


async def test_a_lost_answer_is_given_again(room: CaRoom, web: Customer) -> None:
    token = room.invite()
    room.mood = Mood.LOSE_ANSWER
    with pytest.raises(Unreachable):
        await web.errands.enrol(token)
    waiting = web.directory / "pending" / "key.pem"
    assert stat.S_IMODE(waiting.stat().st_mode) == 0o600
    assert await web.errands.look() is None
    room.mood = Mood.KIND
    taken = await web.errands.enrol(token)
    assert taken.again
    assert not waiting.exists()


async def test_who_enrolled_is_not_enrolled_twice(room: CaRoom, web: Customer) -> None:
    token = room.invite()
    first = await web.errands.enrol(token)
    again = await web.errands.enrol(token)
    assert again.elsewhere
    assert again.held.leaf == first.held.leaf
    assert room.paths().count(messages.ENROL) == 1


async def test_renewal_has_a_new_key_and_the_same_name(room: CaRoom, web: Customer) -> None:
    first = await enrolled(room, web)
    second = await web.errands.renew(first.held.leaf.fingerprint)
    assert second.held.leaf.id == first.held.leaf.id
    assert second.held.leaf.serial != first.held.leaf.serial
    assert second.held.proof.key_pem != first.held.proof.key_pem
    assert read_material(IdentitySettings(web.directory)).leaf == second.held.leaf


async def test_a_renewal_whose_answer_was_lost_is_asked_for_with_the_same_key(room: CaRoom, web: Customer) -> None:
    first = await enrolled(room, web)
    room.mood = Mood.LOSE_ANSWER
    with pytest.raises(Unreachable):
        await web.errands.renew(first.held.leaf.fingerprint)
    waiting = (web.directory / "pending" / "key.pem").read_bytes()
    room.mood = Mood.KIND
    second = await web.errands.renew(first.held.leaf.fingerprint)
    assert second.again
    assert second.held.proof.key_pem == waiting
    third = await web.errands.renew(second.held.leaf.fingerprint)
    assert not third.again
    with room.ledger.reading() as view:
        assert not any(each.suspect for each in view.every(Lineage))


async def test_of_two_processes_one_renews(room: CaRoom, visitors: Visitors) -> None:
    one, other = visitors.one("web"), visitors.one("web")
    first = await one.errands.enrol(room.invite())
    found: list[Taken] = []

    async def renew(customer: Customer) -> None:
        found.append(await customer.errands.renew(first.held.leaf.fingerprint))

    async with trio.open_nursery() as both:
        both.start_soon(renew, one)
        both.start_soon(renew, other)
    assert sorted(each.elsewhere for each in found) == [False, True]
    assert len({each.held.leaf.serial for each in found}) == 1
    assert room.paths().count(messages.RENEW) == 1


async def test_a_wrong_pin_is_told_and_nothing_secret_is_sent(room: CaRoom, web: Customer, tmp_path: Path) -> None:
    token = dataclasses.replace(room.invite(), pins=(b"\1" * 32,))
    with pytest.raises(Untrusted, match="is not the CA this token is of") as fault:
        await web.errands.enrol(token)
    assert room.paths() == [messages.BUNDLE]
    assert token.secret.hex() not in str(fault.value)


async def test_who_shows_our_roots_without_their_key_hears_nothing(
    room: CaRoom, web: Customer, nursery: trio.Nursery, tmp_path: Path
) -> None:
    """A man in the middle passes our CA's bundle on, and has a certificate of a CA with the very same names."""
    token = room.invite()
    double = await CaRoom.open(nursery, tmp_path / "double")
    ours = room.bundle()
    double.bundle = lambda: ours  # type: ignore[method-assign]
    with pytest.raises(Untrusted, match="leads to none of our roots"):
        await web.errands.enrol(token, [double.address])
    assert double.paths() == [messages.BUNDLE]
    double.close()


async def test_a_service_of_the_mesh_is_not_its_ca(room: CaRoom, web: Customer, visitors: Visitors) -> None:
    api = room.mesh.issue("/api")
    room.context.load_cert_chain(api.chain, api.key)
    with pytest.raises(Untrusted, match=r"is spiffe://mesh\.test/api, not spiffe://mesh\.test/meshproxy/ca"):
        await web.errands.enrol(room.invite())
    assert room.paths() == [messages.BUNDLE]


async def test_the_next_address_is_asked_when_one_is_dead(room: CaRoom, web: Customer) -> None:
    taken = await web.errands.enrol(room.invite(), [closed_port(), room.address])
    assert taken.held.leaf.id == room.mesh.id("/web")
    assert [type(each) for each in web.told] == [Unreachable]


async def test_nobody_there_is_unreachable(room: CaRoom, web: Customer) -> None:
    with pytest.raises(Unreachable, match="cannot be reached: connection refused"):
        await web.errands.enrol(room.invite(), [closed_port()])
    with pytest.raises(Unreachable, match="nobody said where the CA is"):
        await web.errands.enrol(dataclasses.replace(room.invite(), addresses=()))


@pytest.mark.parametrize("mood", [Mood.BUSY, Mood.BABBLING])
async def test_what_is_no_certificate_leaves_all_as_it_was(room: CaRoom, web: Customer, mood: Mood) -> None:
    first = await enrolled(room, web)
    room.mood = mood
    with pytest.raises((RefusedByCa, Unreachable)):
        await web.errands.renew(first.held.leaf.fingerprint)
    held = await web.errands.look()
    assert held is not None
    assert held.leaf == first.held.leaf


async def test_a_silent_ca_is_given_up_after_the_deadline(
    room: CaRoom, web: Customer, autojump_clock: trio.testing.MockClock
) -> None:
    room.mood = Mood.SILENT
    autojump_clock.autojump_threshold = 0.05
    with pytest.raises(Unreachable, match="gave no answer within 15 s"):
        await web.errands.enrol(room.invite())


async def test_a_used_token_is_refused_in_the_words_of_the_ca(room: CaRoom, visitors: Visitors) -> None:
    token = room.invite()
    await visitors.one("first").errands.enrol(token)
    with pytest.raises(RefusedByCa, match="this token was used by") as refused:
        await visitors.one("second").errands.enrol(token)
    assert refused.value.refusal.why == Why.TOKEN_USED
    assert refused.value.is_about_token


async def test_expired_is_renewed_only_within_the_grace(room: CaRoom, web: Customer) -> None:
    first = await enrolled(room, web, leaf_ttl=10 * MINUTE)
    web.off_by = HOUR
    room.wall.append(datetime.now(UTC) + HOUR)
    with pytest.raises(RefusedByCa) as refused:
        await web.errands.renew(first.held.leaf.fingerprint)
    assert refused.value.refusal.why == Why.EXPIRED
    assert room.paths()[-2:] == [messages.NONCE, messages.RENEW_EXPIRED]
    rules = room.mesh.directory / "ca.toml"
    rules.write_text(rules.read_text() + '\n[[issue]]\npaths = ["/web"]\nrenew_grace_seconds = 86400\n')
    taken = await web.errands.renew(first.held.leaf.fingerprint)
    assert taken.held.leaf.not_after > web.wall


async def test_the_clock_of_this_machine_is_behind(room: CaRoom, web: Customer) -> None:
    """Five minutes behind: the certificate is not valid yet by our clock; it is taken as soon as it is."""
    token = room.invite()
    web.off_by = -5 * MINUTE
    with pytest.raises(ClockApart, match="clock"):
        await web.errands.enrol(token)
    assert await web.errands.look() is None


async def test_the_clock_of_this_machine_is_ahead(room: CaRoom, web: Customer) -> None:
    web.off_by = 5 * MINUTE
    first = await enrolled(room, web)
    assert (await web.errands.renew(first.held.leaf.fingerprint)).held.leaf.serial != first.held.leaf.serial


async def test_polling_reports_what_is_loaded_and_takes_new_roots(room: CaRoom, web: Customer) -> None:
    first = await enrolled(room, web)
    news = await web.errands.poll()
    assert not news.roots_changed
    assert room.loaded == [f"loaded={first.held.loaded}"]
    before = (web.directory / "current").readlink()
    await trio.to_thread.run_sync(prepare_root, room)
    news = await web.errands.poll()
    assert news.roots_changed
    assert len(read_chain((web.directory / "bundle.pem").read_bytes())) == 2
    assert (web.directory / "current").readlink() != before
    held = await web.errands.look()
    assert held is not None
    assert held.leaf == first.held.leaf
    await web.errands.poll()
    assert room.loaded[-1] == f"loaded={held.loaded}"
    assert held.loaded == news.believed.sequence


async def test_what_the_client_has_does_not_travel_again(room: CaRoom, web: Customer) -> None:
    await enrolled(room, web)
    kept = (web.directory / "trust.json").read_bytes()
    first, second = await web.errands.poll(), await web.errands.poll()
    assert room.unchanged == 2
    assert first.believed == second.believed
    assert (web.directory / "trust.json").read_bytes() == kept
    await trio.to_thread.run_sync(prepare_root, room)
    assert (await web.errands.poll()).believed.sequence == first.believed.sequence + 1
    assert room.unchanged == 2
    (web.directory / "trust.json").write_text("{")  # who has nothing that can be read asks for all of it
    await web.errands.poll()
    assert room.unchanged == 2
    assert (await web.errands.poll()).believed.sequence == first.believed.sequence + 1
    assert room.unchanged == 3


async def test_what_was_judged_is_not_judged_again_while_it_says_the_same(
    room: CaRoom, web: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enrolled(room, web)
    judged: list[bytes | None] = []

    def counted(content: bytes | None, **more: object) -> object:
        judged.append(content)
        return judge(content, **more)  # type: ignore[arg-type]

    judge = judging.kept_trust
    monkeypatch.setattr(judging, "kept_trust", counted)
    for _ in range(3):
        await web.errands.poll()
    assert len(judged) <= 1
    await trio.to_thread.run_sync(prepare_root, room)
    news = await web.errands.poll()
    assert len(judged) <= 2
    assert news.held.believed == news.believed


async def test_a_trust_file_nobody_can_read_keeps_nobody_from_renewing(room: CaRoom, web: Customer) -> None:
    first = await enrolled(room, web)
    trust = web.directory / "trust.json"
    trust.write_bytes(b" " * (identity_directory.MOST_TRUST_BYTES + 1))
    second = await web.errands.renew(first.held.leaf.fingerprint)
    assert second.held.leaf.serial != first.held.leaf.serial
    assert second.held.believed is not None
    assert trust.stat().st_size < 10_000
    trust.write_bytes(b" " * (identity_directory.MOST_TRUST_BYTES + 1))
    assert not (await web.errands.poll()).roots_changed
    assert trust.stat().st_size < 10_000


def prepare_root(room: CaRoom) -> None:
    rotation.prepare(room.mesh.directory, room.ledger, What.ROOT, passphrase=None, now=datetime.now(UTC))


async def test_an_older_bundle_is_not_taken(room: CaRoom, web: Customer) -> None:
    await enrolled(room, web)
    room.sequence_off_by = -1
    with pytest.raises(Untrusted, match="are older"):
        await web.errands.poll()
    room.sequence_off_by = 0
    await web.errands.poll()


async def test_a_full_disk_keeps_the_old_identity_and_the_pending_key(
    room: CaRoom, web: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await enrolled(room, web)
    full = True
    write = storage.write_all

    def write_all(descriptor: int, content: bytes) -> None:
        if full and b"CERTIFICATE" in content:
            raise OSError(28, "No space left on device")
        write(descriptor, content)

    monkeypatch.setattr(storage, "write_all", write_all)
    with pytest.raises(Unwritable, match=r"No space left on device; what was there is kept"):
        await web.errands.renew(first.held.leaf.fingerprint)
    held = await web.errands.look()
    assert held is not None
    assert held.leaf == first.held.leaf
    full = False
    assert (await web.errands.renew(first.held.leaf.fingerprint)).again


async def test_a_name_is_looked_up(room: CaRoom, web: Customer) -> None:
    taken = await web.errands.enrol(room.invite(), [TcpAddress("localhost", room.address.port)])
    assert taken.held.leaf.id == room.mesh.id("/web")


async def test_a_name_may_have_several_addresses_and_the_next_may_be_sound(
    room: CaRoom, visitors: Visitors, nursery: trio.Nursery, tmp_path: Path
) -> None:
    double = await CaRoom.open(nursery, tmp_path / "double")
    places = [closed_port(), double.address, room.address]

    def ask(_host: str, _port: int) -> list[Target]:
        return [Target(socket.AF_INET, (each.host, each.port)) for each in places]

    web = visitors.one(resolver=Resolver(ask))
    first = await enrolled(room, web)
    name = [TcpAddress("ca.test", 8440)]
    assert not (await web.errands.renew(first.held.leaf.fingerprint, name)).elsewhere
    del places[2]
    with pytest.raises(Untrusted, match="leads to none of our roots"):
        await web.errands.poll(name)
    assert double.asked == []
    double.close()


async def test_a_bundle_that_would_end_our_chain_waits_for_the_next_certificate(
    room: CaRoom, web: Customer, nursery: trio.Nursery, tmp_path: Path
) -> None:
    """The CA let a root go that our chain still needs: a directory with that bundle alone would not load any more."""
    await enrolled(room, web)
    kept = (web.directory / "bundle.pem").read_bytes()
    other = await CaRoom.open(nursery, tmp_path / "other")
    other.sequence_off_by = 1
    room.trust = other.trust  # type: ignore[method-assign]
    news = await web.errands.poll()
    assert (news.must_renew, news.roots_wait, news.roots_changed) == (False, True, False)
    assert (web.directory / "bundle.pem").read_bytes() == kept
    read_material(IdentitySettings(web.directory))
    held = await web.errands.look()
    assert held is not None
    assert held.loaded is None
    other.close()


async def test_a_tainted_issuer_means_renew_now(room: CaRoom, web: Customer) -> None:
    await enrolled(room, web)
    assert not (await web.errands.poll()).must_renew
    now = datetime.now(UTC)
    rotation.prepare(room.mesh.directory, room.ledger, What.INTERMEDIATE, passphrase=None, now=now)
    rotation.activate(room.ledger, What.INTERMEDIATE, now=now, force=True)
    slot = room.mesh.authority.slot
    rotation.taint(room.ledger, What.INTERMEDIATE, slot=slot, now=now, force=True)
    assert (await web.errands.poll()).must_renew
