"""stderr is a file, and its disk is full: calls are served, lost lines are counted, and those that follow are whole."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_exchange
from tests.scenarios.changes import unix_admin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import ask, command, inbound, poll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.scenarios.stage import Stage

CALLS = 30


class Logging:
    """A sidecar whose stderr is a file; it is asked at its admin socket only."""

    def __init__(self, stage: Stage, log: Path) -> None:
        port = free_port()
        tables = unix_admin("api") + "[runtime]\nworkers = 1\n"
        tables += inbound(forward=stage.keep(Service(echo)).address).replace("127.0.0.1:0", f"127.0.0.1:{port}")
        self.address, self.log = f"127.0.0.1:{port}", log
        self.admin = f"unix:{stage.workspace / 'api.admin.sock'}"
        self._context = client_context(stage.identity("/web"))
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                command("run", stage.configure("api", tables)), stdin=subprocess.DEVNULL, stderr=stderr
            )
        stage.on_leaving(self._end)
        poll(self._ready, "it serves")

    def call(self, times: int) -> None:
        for _ in range(times):
            assert tls_exchange(self.address, self._context, b"hello") == b"hello"

    @property
    def dropped(self) -> int:
        for line in ask(self.admin, "/metrics").body.decode().splitlines():
            if line.startswith("meshproxy_log_lines_dropped "):
                return int(float(line.split()[1]))
        raise AssertionError("there is no such metric")

    def lines(self, event: str) -> list[dict[str, object]]:
        """What was told; of all lines one may be cut off, where the disk became full. The last may be on its way."""
        found, cut = [], 0
        for line in self.log.read_bytes().rpartition(b"\n")[0].splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                cut += 1
        assert cut <= 1
        return [line for line in found if line["event"] == event]

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return ask(self.admin, "/ready").status == 200
        return False

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()


def judge(api: Logging, full: contextlib.AbstractContextManager[object]) -> None:
    """Calls before, while and after the disk is full."""
    api.call(CALLS)
    poll(lambda: len(api.lines("connection")) == CALLS, "every call has its line")
    with full:
        api.call(CALLS)
        poll(lambda: api.dropped > 0, "lost lines are counted")
        assert ask(api.admin, "/ready").status == 200
        api.call(CALLS)
        poll(lambda: api.dropped >= CALLS, "and those that came later")
    api.call(CALLS)
    poll(lambda: bool(api.lines("log_lines_dropped")), "the log says what is missing")
    poll(lambda: len(api.lines("connection")) + api.dropped >= 4 * CALLS, "every line is written, or counted")
    missing = sum(int(str(line["count"])) for line in api.lines("log_lines_dropped"))
    assert missing == api.dropped
    assert len(api.lines("connection")) >= 2 * CALLS


@pytest.mark.long
def test_a_log_that_may_not_grow(stage: Stage) -> None:
    """A quota, or a file system that is full for everybody but root: the write is cut in the middle of a line."""
    api = Logging(stage, stage.workspace / "api.log")

    @contextlib.contextmanager
    def full() -> Iterator[None]:
        pid = api.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (api.log.stat().st_size + 100, before[1]))
        yield
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    judge(api, full())


@pytest.mark.long
def test_a_disk_that_is_really_full(stage: Stage) -> None:
    place = stage.workspace / "logs"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], check=False).returncode:
        pytest.skip("nobody may mount a small file system here")
    stage.on_leaving(lambda: subprocess.run(["umount", "-l", str(place)], check=True))
    api = Logging(stage, place / "api.log")

    @contextlib.contextmanager
    def full() -> Iterator[None]:
        filler = place / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
        filler.unlink()

    judge(api, full())
