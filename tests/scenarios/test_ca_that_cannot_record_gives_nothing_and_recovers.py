"""A full disk or a held ledger: nothing is given, one sentence says so, and it goes on by itself afterwards."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from ca.premises import LEDGER
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.stage import Stage


@pytest.fixture
def ca(stage: Stage) -> CaServer:
    return serve(stage)


@contextlib.contextmanager
def full_disk(ca: CaServer) -> Iterator[None]:
    """No file of the CA can grow any more: what a quota or a full file system does to it."""
    pid = ca.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    wal = ca.directory / f"{LEDGER}-wal"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (min(wal.stat().st_size, 4096), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk(ca: CaServer) -> None:
    first, second = ca.token("/first"), ca.token("/second")
    web = ca.client()
    assert web.enrol(first).status == 200
    other = ca.client()
    with full_disk(ca):
        said = other.enrol(second)
        assert (said.status, said.why, said.retry_after) == (503, "unavailable", "5")
        assert web.renew().why == "unavailable"
        told = ca.log.event("unavailable", why="full")
        assert "nothing was recorded or issued" in told.text("detail")
        assert web.trust(loaded=1).status == 200  # whom to trust needs no disk
    assert ca.issued("/second") == []
    assert other.enrol(second).status == 200
    assert web.renew().status == 200
    assert [each.generation for each in ca.issued("/first")] == [1, 2]


def test_a_disk_that_is_really_full(stage: Stage) -> None:
    place = stage.workspace / "own"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("nobody may mount a small file system here")
    stage.on_leaving(lambda: subprocess.run(["umount", "-l", str(place)], check=True))
    ca = serve(stage)
    token, web, filler = ca.token("/web"), ca.client(), place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    said = web.enrol(token)
    assert (said.status, said.why) == (503, "unavailable")
    assert "no space left" in ca.log.event("unavailable", why="full").text("detail")
    filler.unlink()
    assert web.enrol(token).status == 200
    assert len(ca.issued("/web")) == 1


def test_a_ledger_that_another_process_holds(ca: CaServer) -> None:
    token, web = ca.token("/web"), ca.client()
    holder = sqlite3.connect(ca.directory / LEDGER, isolation_level=None)
    with contextlib.closing(holder):
        holder.execute("BEGIN IMMEDIATE")
        said = web.enrol(token)
        assert (said.status, said.why, said.retry_after) == (503, "unavailable", "5")
        assert ca.get("/live").status == 200
        assert web.trust().status == 200
        holder.execute("ROLLBACK")
    assert web.enrol(token).status == 200
    assert ca.metric("meshproxy_ca_ledger_failures_total", why="busy") == 1


def test_nothing_may_sign_and_then_something_may(ca: CaServer) -> None:
    """The bad day: the key of the intermediate is in wrong hands."""
    token, web = ca.token("/web"), ca.client()
    slot = next(each.name for each in (ca.directory / "authorities").iterdir())
    ca.run("rotate", "taint", "--what", "intermediate", "--slot", slot, "--force")
    said = web.enrol(token)
    assert (said.status, said.why) == (503, "unavailable")
    poll(lambda: ca.get("/ready").status == 503, "it is not ready")
    ca.run("rotate", "prepare", "--what", "intermediate")
    ca.run("rotate", "activate", "--what", "intermediate")
    assert web.enrol(token).status == 200
    poll(lambda: ca.get("/ready").status == 200, "it is ready again")
    assert web.renew().status == 200
