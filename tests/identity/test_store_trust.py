"""trust.json as it lives beside an identity: followed by itself, kept while it is faulty, and told when it gets old."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from ca.deny_list import RetiredIssuer, marks_of
from ca.svid import LeafFault, read_leaf
from meshproxy.identity.peer import Objection, Peer
from meshproxy.identity.store import IdentityStore
from meshproxy.identity.usable import NotReady
from meshproxy.settings.schema import IdentitySettings, StaleDenyList
from meshproxy.telemetry.metrics import Metrics
from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.hearing import Heard, listening_log
from tests.trusting import HOUR, bundle_of, by_id, by_serial, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock


@dataclass
class Watched:
    """A store, on a wall clock of the test's making."""

    identity: Identity
    mesh: MeshCa
    store: IdentityStore
    heard: Heard
    metrics: Metrics
    now: datetime
    cut: list[str] = field(default_factory=list)

    def knows(self, identity: Identity, name: str) -> None:
        """Have an open connection with a peer."""
        peer = Peer(read_leaf(identity.der), marks_of(identity.der))
        session = self.store.sessions.of(peer, listener="api", connection=name)
        session.__enter__().ended_by(lambda _why: self.cut.append(name))

    def value(self, name: str, **labels: str) -> float | None:
        self.metrics.refresh()
        return self.metrics.registry.get_sample_value(name, labels)

    def says(self, **more: object) -> None:
        say(self.identity.directory, self.mesh, **{"at": self.now, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain="partner.test")


@pytest.fixture
def watched(tmp_path: Path, mesh: MeshCa, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Watched:
    async def at_once(work: Callable[..., object], *arguments: object, **_how: object) -> object:
        # A jumping clock would take a busy thread for a blocked task.
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    monkeypatch.setattr("meshproxy.identity.own._BETWEEN_LOOKS", 0.0)
    log, heard = listening_log()
    metrics = Metrics()
    identity = mesh.issue("/api", into=tmp_path / "api")
    settings = IdentitySettings(identity.directory, stale_deny_list=getattr(request, "param", StaleDenyList.ALLOW))
    store = IdentityStore(settings, wall=lambda: made.now, log=log, metrics=metrics)
    made = Watched(identity, mesh, store, heard, metrics, datetime.now(UTC).replace(microsecond=0))
    return made


strictly = pytest.mark.parametrize("watched", [StaleDenyList.DENY], indirect=True)


async def looks(count: int) -> None:
    await trio.sleep(count + 0.5)


async def test_a_directory_without_it_is_as_before(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await looks(5)
    assert watched.store.usable().leaf.id == watched.mesh.id("/api")
    assert watched.heard.names == ["identity_loaded", "identity_ready"]
    assert watched.store.trust_error == ""
    assert watched.value("meshproxy_deny_list_sequence") == 0
    assert watched.value("meshproxy_trust_loads_total", result="loaded") is None


async def test_a_change_ends_exactly_those_who_are_denied(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    web, shop = (watched.mesh.issue(f"/{name}", into=tmp_path / name) for name in ("web", "shop"))
    watched.says(number=1)
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    watched.knows(web, "web")
    watched.knows(shop, "shop")
    await looks(2)
    assert watched.cut == []
    say(watched.identity.directory, watched.mesh, by_serial(watched.mesh, web), number=2)
    await looks(3)
    assert watched.cut == ["web"]
    assert watched.value("meshproxy_revoked_connections_total", listener="api") == 1
    [told] = watched.heard.named("revoked_connection_ended")
    assert (told["listener"], told["id"], told["peer_id"]) == ("api", "web", "spiffe://mesh.test/web")
    assert told["serial"] == f"{web.certificate.serial_number:x}"
    assert "deny-list number 2" in told["detail"]
    taken = watched.heard.named("trust_loaded")
    assert [(each["deny_list"], each["entries"], each["connections_ended"]) for each in taken] == [(1, 0, 0), (2, 1, 1)]
    assert watched.value("meshproxy_deny_list_entries") == 1
    # Said again by a list that lasts longer: nobody is cut twice.
    say(watched.identity.directory, watched.mesh, by_serial(watched.mesh, web), number=3)
    await looks(3)
    assert watched.cut == ["web"]


async def test_an_older_list_is_refused_and_nobody_is_let_in_by_it(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    web = watched.mesh.issue("/web", into=tmp_path / "web")
    say(watched.identity.directory, watched.mesh, by_serial(watched.mesh, web), number=5)
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await looks(2)
    watched.says(number=4)
    await looks(5)
    deny_list = watched.store.trusted.deny_list
    assert deny_list is not None
    assert deny_list.content.sequence == 5
    assert deny_list.denies(web.der)
    [told] = watched.heard.named("trust_load_failed")  # once, not every second
    assert "older (number 4)" in told["error"]
    assert "older (number 4)" in watched.store.trust_error
    assert watched.value("meshproxy_trust_loads_total", result="failed") == 1
    watched.says(number=6)
    await looks(3)
    assert watched.store.trust_error == ""


@pytest.mark.parametrize("damage", ["nonsense", "gone", "writable"])
async def test_a_faulty_file_never_replaces_what_is_in_force(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path, damage: str
) -> None:
    web = watched.mesh.issue("/web", into=tmp_path / "web")
    say(watched.identity.directory, watched.mesh, by_serial(watched.mesh, web), number=5)
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await looks(2)
    file = watched.identity.directory / "trust.json"
    if damage == "nonsense":
        file.write_text("{")
    elif damage == "gone":
        file.unlink()
    else:
        file.chmod(0o666)
    await looks(4)
    assert watched.store.trusted.deny_list is not None
    assert watched.store.trusted.deny_list.denies(web.der)
    assert len(watched.heard.named("trust_load_failed")) == 1
    assert watched.store.usable().leaf.id == watched.mesh.id("/api")


async def test_a_faulty_identity_holds_up_no_revocation(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    web = watched.mesh.issue("/web", into=tmp_path / "web")
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    watched.knows(web, "web")
    (watched.identity.directory / "current" / "chain.pem").write_text("nonsense")
    say(watched.identity.directory, watched.mesh, by_serial(watched.mesh, web), number=2)
    await looks(4)
    assert watched.store.last_error != ""
    assert watched.cut == ["web"]


async def test_what_lies_there_before_the_identity_comes_with_it(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    aside = watched.identity.directory.with_name("aside")
    watched.says(number=3)
    shutil.move(watched.identity.directory, aside)
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await looks(2)
    shutil.move(aside, watched.identity.directory)
    await looks(4)
    assert watched.store.trusted.deny_list is not None
    assert watched.store.trusted.deny_list.content.sequence == 3


@pytest.mark.parametrize("how", ["certificate", "intermediate"])
async def test_our_own_certificate_is_not_shown_once_it_is_revoked(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock, how: str
) -> None:
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    if how == "certificate":
        say(watched.identity.directory, watched.mesh, by_id(watched.identity), number=2)
    else:
        watched.says(retired=(RetiredIssuer(watched.mesh.authority.key_id, watched.now + HOUR),))
    await looks(3)
    with pytest.raises(NotReady, match=r"our certificate [0-9a-f]+ for spiffe://mesh.test/api was revoked") as caught:
        watched.store.usable()
    assert "meshproxy ca token create /api --dir CA_DIR --out api.token" in caught.value.remedy
    assert watched.value("meshproxy_identity_ready") == 0
    assert len(watched.heard.named("identity_not_ready")) == 1
    if how == "certificate":  # and one that was issued since heals it
        watched.now += timedelta(minutes=10)
        watched.mesh.issue("/api", into=watched.identity.directory, now=watched.now)
        await looks(3)
        assert watched.store.usable().leaf.id == watched.mesh.id("/api")


async def test_a_stale_list_is_told_when_it_gets_old_and_again_as_it_gets_older(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.says(number=1)
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    start = watched.now

    async def told_after(minutes: float) -> int:
        watched.now = start + timedelta(minutes=minutes)
        await looks(3)
        return len(watched.heard.named("deny_list_stale"))

    assert [await told_after(minutes) for minutes in (59, 70, 75, 82)] == [0, 1, 1, 2]
    told = watched.heard.named("deny_list_stale")[0]
    assert (told["deny_list"], told["late"], told["policy"]) == (1, "10m", "allow")
    assert watched.value("meshproxy_deny_list_stale") == 1
    assert watched.value("meshproxy_deny_list_age_seconds") == 82 * 60
    assert watched.store.usable().leaf.id == watched.mesh.id("/api")  # `allow`
    watched.says(number=1, at=watched.now)
    await looks(3)
    assert watched.heard.names[-1] == "deny_list_good_again"
    assert watched.value("meshproxy_deny_list_stale") == 0


@strictly
async def test_who_denies_without_a_fresh_list_believes_nobody_new(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    with pytest.raises(NotReady, match='stale_deny_list = "deny" believes nobody without one') as caught:
        watched.store.usable()
    assert "ca = " in caught.value.remedy
    watched.says(number=1)
    watched.knows(watched.identity, "itself")
    await looks(3)
    assert watched.store.usable().leaf.id == watched.mesh.id("/api")
    watched.now += timedelta(minutes=90)
    await looks(2)
    with pytest.raises(NotReady, match=r"deny-list number 1 in .*trust\.json was good until .*, 30m ago"):
        watched.store.usable()
    assert watched.cut == []  # who is in may stay until its certificate's end
    watched.says(number=2, at=watched.now)
    await looks(3)
    assert watched.store.usable().leaf.id == watched.mesh.id("/api")


@strictly
async def test_who_denies_does_so_also_when_the_list_cannot_be_read_at_start(watched: Watched) -> None:
    (watched.identity.directory / "trust.json").write_text("nonsense")
    watched.store.load_first()
    with pytest.raises(NotReady, match="there is no deny-list"):
        watched.store.usable()


async def test_a_partners_bundle_comes_and_goes_without_a_new_certificate(
    watched: Watched, partner: MeshCa, nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    shop = partner.issue("/shop", into=tmp_path / "shop")
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    before = watched.store.usable()
    watched.says(number=1, federated={"partner.test": bundle_of(partner)})
    await looks(3)
    after = watched.store.usable()
    assert after.material is before.material
    assert len(after.contexts.server().get_ca_certs()) == len(before.contexts.server().get_ca_certs()) + 1
    assert watched.store.generation == 2  # what rests in a pool was made by another trust
    assert watched.value("meshproxy_federated_trust_domains") == 1
    watched.knows(shop, "shop")
    watched.says(number=2)
    await looks(3)
    assert watched.cut == ["shop"]
    assert watched.store.usable().anchors.others == {}


async def test_new_roots_have_the_list_judged_again(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    """A list that a new root's intermediate has signed may come a moment before that root."""
    other = make_mesh_ca(tmp_path / "other")
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    say(watched.identity.directory, other, number=9)
    await looks(3)
    assert watched.value("meshproxy_deny_list_sequence") == 0
    assert "its signer is not trusted" in watched.store.trust_error
    other.issue("/api", into=watched.identity.directory)
    await looks(3)
    assert watched.store.trust_error == ""
    assert watched.value("meshproxy_deny_list_sequence") == 9
    assert watched.store.trusted.sequence == 1


async def test_who_was_ended_before_anybody_could_is_ended_when_somebody_can(watched: Watched) -> None:
    """A connection changes hands when it is upgraded; what was decided in between is not lost."""
    peer = Peer(read_leaf(watched.identity.der), marks_of(watched.identity.der))
    objection = Objection(LeafFault.REVOKED, "because")
    ends: list[str] = []
    sessions = watched.store.sessions
    with sessions.of(peer, listener="api", connection="1") as session:
        told = [sessions.recheck(lambda _: objection, lambda *_: None) for _ in range(2)]
        session.ended_by(ends.append)
        session.ended_by(ends.append)
    assert told == [1, 0]
    assert ends == ["because", "because"]
    assert len(sessions) == 0
