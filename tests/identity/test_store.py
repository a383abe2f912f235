"""The identity as it lives: followed on disk, never replaced by a worse one, refusing while unusable, and healing."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ca import keys
from meshproxy.errors import FaultyInput
from meshproxy.identity import own
from meshproxy.identity.material import read_material
from meshproxy.identity.own import load
from meshproxy.identity.store import IdentityStore
from meshproxy.identity.trust import Trusted
from meshproxy.identity.usable import NotReady
from meshproxy.settings.schema import IdentitySettings
from meshproxy.telemetry.metrics import Metrics
from tests.factory import MeshCa, make_mesh_ca
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock


@dataclass
class Watched:
    """A store on a wall clock of the test's making, over a directory the test changes."""

    directory: Path
    mesh: MeshCa
    store: IdentityStore
    heard: Heard
    metrics: Metrics
    now: datetime

    def issue(self, path: str = "/web", *, ttl: timedelta | None = None) -> None:
        self.mesh.issue(path, into=self.directory, ttl=ttl, now=self.now)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    @property
    def serial(self) -> int | None:
        return self.store.loaded.leaf.serial if self.store.loaded else None


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture
def watched(tmp_path: Path, mesh: MeshCa, monkeypatch: pytest.MonkeyPatch) -> Watched:
    async def at_once(work: Callable[..., object], *arguments: object, **_how: object) -> object:
        # A jumping clock would take a busy thread for a blocked task.
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    log, heard = listening_log()
    metrics = Metrics()
    directory = tmp_path / "identity"
    store = IdentityStore(IdentitySettings(directory), wall=lambda: made.now, log=log, metrics=metrics)
    made = Watched(directory, mesh, store, heard, metrics, datetime.now(UTC).replace(microsecond=0))
    return made


async def looks(count: int) -> None:
    """Let the watch look `count` times; the clock jumps."""
    await trio.sleep(count + 0.5)


def test_a_good_identity_is_loaded_at_start(watched: Watched) -> None:
    watched.issue()
    watched.store.load_first()
    assert watched.store.usable().leaf.id == watched.mesh.id("/web")
    assert (watched.store.generation, watched.store.last_error) == (1, "")
    assert watched.store.loaded_at == watched.now
    assert watched.heard.names == ["identity_loaded", "identity_ready"]
    assert watched.value("meshproxy_identity_ready") == 1
    assert watched.value("meshproxy_identity_loads_total", result="loaded") == 1


def test_a_faulty_identity_at_start_is_raised_with_every_fault(watched: Watched) -> None:
    watched.issue()
    (watched.directory / "current" / "key.pem").chmod(0o644)
    (watched.directory / "current" / "bundle.pem").write_text("")
    with pytest.raises(FaultyInput) as caught:
        watched.store.load_first()
    assert len(caught.value.problems) == 2


async def test_a_missing_identity_is_waited_for_and_heals(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.store.load_first()
    with pytest.raises(NotReady, match="there is no identity in") as caught:
        watched.store.usable()
    assert "meshproxy ca issue" in caught.value.remedy
    assert watched.value("meshproxy_identity_ready") == 0
    nursery.start_soon(watched.store.watch)
    await looks(5)
    assert watched.heard.names == ["identity_not_ready"]  # told once, not every second
    watched.issue()
    await looks(3)
    assert watched.store.usable().leaf.id == watched.mesh.id("/web")
    assert watched.heard.names == ["identity_not_ready", "identity_loaded", "identity_ready"]


async def test_a_renewal_is_taken_up_once_it_is_stable_over_two_looks(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    first = watched.serial
    nursery.start_soon(watched.store.watch)
    await looks(2)
    watched.issue()
    await trio.sleep(1)
    assert watched.serial == first  # seen once: somebody may still be writing
    await trio.sleep(1)
    assert watched.serial != first
    assert watched.store.generation == 2
    await looks(5)
    assert watched.store.generation == 2  # and not again and again


async def test_what_changes_at_every_look_is_not_read_until_it_rests(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await trio.sleep(0.5)
    for turn in range(5):
        os.utime(watched.directory / "chain.pem", ns=(turn, turn))
        await trio.sleep(1)
    assert watched.value("meshproxy_identity_loads_total", result="unchanged") is None
    await trio.sleep(1)
    assert watched.value("meshproxy_identity_loads_total", result="unchanged") == 1


async def test_a_faulty_one_never_replaces_a_good_one_and_says_so_loudly(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    first = watched.serial
    nursery.start_soon(watched.store.watch)
    other = keys.to_pem(keys.generate(), passphrase=None)
    (watched.directory / "current" / "key.pem").write_bytes(other)
    await looks(6)
    assert watched.serial == first
    assert watched.store.usable().leaf.serial == first
    assert "does not belong to the first certificate" in watched.store.last_error
    (event,) = watched.heard.named("identity_load_failed")
    assert event["kept_the_old_one"] is True
    assert event["remedy"]
    assert watched.value("meshproxy_identity_loads_total", result="failed") == 1
    watched.issue()
    await looks(3)
    assert watched.serial != first
    assert watched.store.last_error == ""


async def test_a_removed_identity_leaves_the_loaded_one_in_use(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    shutil.rmtree(watched.directory)
    await looks(3)
    assert watched.store.usable().leaf.id == watched.mesh.id("/web")
    assert watched.store.last_error == f"there is no identity in {watched.directory}"


async def test_another_name_is_refused_because_it_would_be_another_sidecar(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    watched.issue("/admin")
    await looks(3)
    assert watched.store.usable().leaf.id == watched.mesh.id("/web")
    assert "the identity spiffe://mesh.test/admin" in watched.store.last_error
    assert "restart the sidecar" in watched.store.last_error


async def test_being_asked_it_looks_at_once_changed_or_not(
    watched: Watched, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """SIGHUP; the clock stands still."""
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await trio.testing.wait_all_tasks_blocked()
    for times in (1, 2):
        watched.store.look_now()
        await trio.testing.wait_all_tasks_blocked()
        assert watched.value("meshproxy_identity_loads_total", result="unchanged") == times
    assert watched.store.generation == 1  # resting upstream connections of this generation may stay
    watched.issue()
    watched.store.look_now()
    await trio.testing.wait_all_tasks_blocked()
    assert watched.store.generation == 2


async def test_what_failed_is_read_again_when_only_its_mode_was_mended(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    key = watched.directory / "current" / "key.pem"
    key.chmod(0o644)
    await looks(3)
    assert "readable by everyone" in watched.store.last_error
    key.chmod(0o600)
    await looks(3)
    assert watched.store.last_error == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_a_mended_owner_is_seen_too(watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    bundle = watched.directory / "current" / "bundle.pem"
    os.chown(bundle, 0, 12345)
    bundle.chmod(0o664)
    await looks(3)
    assert "writable by group 12345" in watched.store.last_error
    os.chown(bundle, 0, os.getegid())
    await looks(3)
    assert watched.store.last_error == ""


async def test_an_expired_identity_refuses_names_the_remedy_and_heals(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue(ttl=timedelta(hours=1))
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    await looks(1)
    watched.now += timedelta(hours=2)
    with pytest.raises(NotReady, match=r"our certificate for spiffe://mesh\.test/web expired at") as caught:
        watched.store.usable()
    assert caught.value.remedy == (f"issue it again: meshproxy ca issue /web --dir CA_DIR --out {watched.directory}")
    await looks(3)
    (event,) = watched.heard.named("identity_not_ready")
    assert event["effect"] == "all listeners refuse"
    assert watched.value("meshproxy_identity_ready") == 0
    watched.issue()
    await looks(3)
    assert watched.store.usable().leaf.id == watched.mesh.id("/web")
    assert watched.value("meshproxy_identity_ready") == 1


def test_an_identity_of_tomorrow_refuses_and_suspects_the_clock(watched: Watched) -> None:
    watched.issue()
    watched.store.load_first()
    watched.now -= timedelta(days=1)
    with pytest.raises(NotReady, match="is valid only from") as caught:
        watched.store.usable()
    assert "clock" in caught.value.remedy


async def test_expiry_is_warned_of_once_per_degree_and_anew_after_a_renewal(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue(ttl=timedelta(hours=10))
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    start = watched.now

    async def warnings_at(hours: float) -> int:
        watched.now = start + timedelta(hours=hours)
        await looks(5)
        return len(watched.heard.named("certificate_expires"))

    assert [await warnings_at(hours) for hours in (1, 7, 8, 8.5, 9.5, 9.8)] == [0, 0, 1, 1, 2, 2]
    first, second = watched.heard.named("certificate_expires")
    assert (first["certificate"], first["id"], first["left"]) == ("leaf", "spiffe://mesh.test/web", "2h")
    assert second["remedy"] == f"issue it again: meshproxy ca issue /web --dir CA_DIR --out {watched.directory}"
    assert await warnings_at(11) == 3
    watched.issue(ttl=timedelta(hours=10))
    start = watched.now
    assert [await warnings_at(hours) for hours in (1, 8)] == [3, 4]


async def test_the_cas_own_certificates_are_watched_with_another_remedy(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watched.issue()
    watched.store.load_first()
    nursery.start_soon(watched.store.watch)
    loaded = watched.store.loaded
    assert loaded is not None
    intermediate = loaded.material.terms[1]
    watched.now = intermediate.not_after - timedelta(seconds=90)
    await looks(2)
    by_role = {event["certificate"]: event for event in watched.heard.named("certificate_expires")}
    assert by_role["intermediate"]["left"] == "1m 30s"
    assert "meshproxy ca init" in by_role["intermediate"]["remedy"]
    assert by_role["leaf"]["left"] == "0s"


def test_what_was_never_loaded_cannot_be_used_and_says_where_to_look(watched: Watched) -> None:
    with pytest.raises(NotReady, match="cannot be used") as caught:
        watched.store.usable()
    assert caught.value.remedy == f"see: meshproxy inspect {watched.directory}"
    assert watched.store.loaded is None
    assert "last_error=''" in repr(watched.store)


def test_what_openssl_refuses_is_a_fault_and_no_crash(mesh: MeshCa, tmp_path: Path) -> None:
    """OpenSSL is stricter than cryptography, with weak keys for one: told like any other fault."""
    identity = mesh.issue("/web", into=tmp_path / "web")
    material = read_material(IdentitySettings(identity.directory))
    broken = replace(material, chain_pem=material.chain_pem.replace(b"-----BEGIN", b"-----BEGIM"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "read_material", lambda _settings: broken)
        patch.setattr(own, "_BETWEEN_LOOKS", 0.0)
        with pytest.raises(FaultyInput, match="an identity that TLS does not take"):
            load(IdentitySettings(identity.directory), before=Trusted(), now=datetime.now(UTC))
