from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING

import pytest

from meshproxy.errors import FaultyInput, Problem, StartError
from meshproxy.runtime import build, process
from meshproxy.runtime.process import LogLook
from meshproxy.runtime.sandbox import Sandbox
from meshproxy.telemetry.events import LogStyle
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meshproxy.runtime.origin import Origin
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.load import Configuration

SIDECAR = """
[identity]
dir = "api"
[[outbound]]
name = "out"
listen = "127.0.0.1:7001"
to = "/ledger"
endpoints = "127.0.0.1:8443"
protocol = "tcp"
max_connections = 1000
"""
JSON = LogLook(LogStyle.JSON)
FAULTY = FaultyInput([Problem("x", "a", "b", "c")])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_mesh_ca(tmp_path).issue("/api")
    path = tmp_path / "side.toml"
    path.write_text(SIDECAR)
    # The test process keeps its own limits, and its freedom.
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(process, "harden", lambda: None)
    monkeypatch.setattr(process, "enter", lambda *_args, **_named: Sandbox())
    return path


def put_in_place(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[], bool]) -> None:
    async def run_sidecar(_file: str, _configuration: Configuration, _telling: Telling, _origin: Origin) -> bool:
        return outcome()

    monkeypatch.setattr(build, "run_sidecar", run_sidecar)


def raising(error: BaseException) -> Callable[[], bool]:
    def fail() -> bool:
        raise error

    return fail


@pytest.mark.parametrize("nothing_cut", [True, False])
def test_it_returns_whether_nothing_was_cut(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    nothing_cut: bool,  # noqa: FBT001 - a row of the table
) -> None:
    put_in_place(monkeypatch, lambda: nothing_cut)
    assert process.run(file, JSON) is nothing_cut


@pytest.mark.parametrize("error", [StartError("in use"), FAULTY], ids=["start", "faulty"])
def test_what_a_person_can_mend_comes_out_of_every_nursery_bare(
    file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    put_in_place(monkeypatch, raising(ExceptionGroup("house", [ExceptionGroup("room", [error])])))
    with pytest.raises(type(error)) as caught:
        process.run(file, JSON)
    assert caught.value is error


def test_a_bug_is_logged_whole_and_raised(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put_in_place(monkeypatch, raising(ExceptionGroup("house", [ZeroDivisionError("a bug")])))
    with pytest.raises(ExceptionGroup):
        process.run(file, JSON)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert told[-1]["event"] == "internal_error"
    assert "ZeroDivisionError: a bug" in told[-1]["exception"]


def test_faulty_files_are_told_before_anything_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, raising(AssertionError("it ran")))
    file.write_text("colour = 1\n")
    with pytest.raises(FaultyInput):
        process.run(file, JSON)


@pytest.mark.parametrize(("limit", "warned"), [(1024, True), (2063, True), (2064, False)])
def test_too_few_descriptors_for_what_was_promised_are_told(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    limit: int,
    warned: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """Two for each connection, 64 for ourselves."""
    put_in_place(monkeypatch, lambda: True)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, limit))
    process.run(file, JSON)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(each["event"], each["needed_for_max_connections"]) for each in told if each["event"] != "no_sandbox"] == (
        [("few_descriptors", 2064)] if warned else []
    )
