"""The sidecar's own file is deleted, emptied, a directory, or cut at any byte: what is in force stays or is as strict.

Cut where a table ends it may be a sound file of fewer listeners: who calls one that is gone is turned away, and nobody
else gets in anywhere. What is whole again is in force again.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, client_context, echo, tls_dial
from tests.scenarios.changes import allow, reload, unix_admin, until_first_look
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage


class Scene:
    """A sidecar with two listeners on ports that it keeps."""

    def __init__(self, stage: Stage) -> None:
        service = stage.keep(Service(echo))
        allow(stage, "/web")
        self.ports = free_port(), free_port()
        first, second = (
            inbound(name, forward=service.address).replace("127.0.0.1:0", f"127.0.0.1:{port}")
            for name, port in zip(("api", "more"), self.ports, strict=True)
        )
        limits = '[limits]\nhandshake_timeout = "10s"\nidle_timeout = "5m"\nmax_connections = 1000\n'
        tables = unix_admin("api") + limits + first + 'mode = "enforce"\n' + second
        self.api: Sidecar = stage.sidecar("api", tables)
        self.path: Path = self.api.file
        self.whole = self.path.read_text()
        self._web = client_context(stage.identity("/web"))
        self._mallory = client_context(stage.identity("/mallory"))
        until_first_look(self.api)

    def served(self, number: int) -> bool:
        return self._is_served(self._web, self.ports[number])

    def stranger_is_served(self) -> bool:
        return any(self._is_served(self._mallory, port) for port in self.ports)

    def _is_served(self, context: ssl.SSLContext, port: int) -> bool:
        try:
            with tls_dial(f"127.0.0.1:{port}", context) as sock:
                sock.sendall(b"hello")
                return sock.recv(5) == b"hello"
        except OSError:
            return False


@pytest.fixture
def scene(stage: Stage) -> Scene:
    return Scene(stage)


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


@pytest.mark.long
@pytest.mark.parametrize("harm", [delete, empty, directory, binary])
def test_what_is_no_file_changes_nothing_and_heals(scene: Scene, harm: Callable[[Path], None]) -> None:
    api = scene.api
    generation = api.status().configuration.generation
    harm(scene.path)
    failed = api.log.event("reload_failed")  # found by the watch
    assert scene.path.name in failed.text("error")
    assert failed.text("remedy")
    assert api.status().configuration.generation == generation
    assert api.get("/ready").status == 200
    assert scene.served(0)
    assert scene.served(1)
    assert not scene.stranger_is_served()
    if scene.path.is_dir():
        shutil.rmtree(scene.path)
    scene.path.write_text(scene.whole)
    poll(lambda: api.status().configuration.last_error == "", "it heals")
    assert scene.served(0)


@pytest.mark.long
def test_cut_at_every_byte_it_is_refused_or_as_strict(scene: Scene) -> None:
    api, whole = scene.api, scene.whole
    results: dict[str, int] = {}
    for length in range(len(whole)):
        scene.path.write_text(whole[:length])
        answer = reload(api)
        assert answer.status in {200, 422}, answer
        result = str(answer.json.get("result", answer.status))
        results[result] = results.get(result, 0) + 1
        if answer.status == 200:
            there = {listener.name for listener in api.status().listeners}
            assert there <= {"api", "more"}
            assert scene.served(0) == ("api" in there)
            assert scene.served(1) == ("more" in there)
            assert not scene.stranger_is_served(), whole[:length]
        elif length % 50 == 0:
            assert not scene.stranger_is_served(), whole[:length]
    print(results)
    assert results["failed"] > len(whole) // 2
    scene.path.write_text(whole)
    assert reload(api).status == 200
    assert scene.served(0)
    assert scene.served(1)
