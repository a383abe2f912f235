"""Whoever answers in the place of our CA learns no secret of a token, and the token is shown to nobody else either."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

import pytest

from ca import tokens
from tests.factory import make_mesh_ca
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.enrolled import invite, put
from tests.scenarios.stage import meshproxy

if TYPE_CHECKING:
    from ca.tokens import JoinToken
    from tests.scenarios.stage import Stage


@pytest.fixture(scope="module")
def ca(shared_stage: Stage) -> CaServer:
    return serve(shared_stage)


@pytest.fixture(scope="module")
def double(shared_stage: Stage) -> CaServer:
    """A CA with the very same names, and other keys."""
    return shared_stage.look_after(CaServer(make_mesh_ca(shared_stage.workspace / "double")))


def enroll(stage: Stage, token: JoinToken, *more: str) -> tuple[int, str]:
    file = put(stage.workspace / "a.token", token)
    done = meshproxy("enroll", "--token-file", file, "--out", stage.workspace / "strange", *more)
    assert not (stage.workspace / "strange" / "current").exists()
    for part in (tokens.encode(token), token.secret.hex()):
        assert part not in done.stdout + done.stderr
    return done.returncode, done.stderr


def test_a_ca_with_other_roots(shared_stage: Stage, ca: CaServer, double: CaServer) -> None:
    token = invite(ca, "/web")
    code, told = enroll(shared_stage, token, "--ca", double.listens)
    assert code == 1
    assert "is not the CA this token is of" in told
    assert "nothing secret was sent to it" in told
    assert not double.log.seen("refused")
    assert not double.log.seen("granted")
    assert double.metric("meshproxy_ca_refusals_total", kind="enrol", why="wrong_secret") == 0


def test_a_wrong_pin(shared_stage: Stage, ca: CaServer) -> None:
    token = dataclasses.replace(invite(ca, "/web"), pins=(b"\7" * 32,))
    code, told = enroll(shared_stage, token)
    assert (code, "is not the CA this token is of" in told) == (1, True)
    assert not ca.issued("/web")


def test_a_token_in_argv_is_warned_of(shared_stage: Stage, ca: CaServer) -> None:
    token = invite(ca, "/argv")
    done = meshproxy("enroll", "--token", tokens.encode(token), "--out", shared_stage.workspace / "argv")
    assert done.returncode == 0, done.stderr
    assert "can be read by everybody on this machine" in done.stderr
    assert tokens.encode(token) not in done.stdout + done.stderr


def test_a_token_file_others_may_read_is_not_used(shared_stage: Stage, ca: CaServer) -> None:
    file = put(shared_stage.workspace / "open.token", invite(ca, "/open"))
    file.chmod(0o644)
    done = meshproxy("enroll", "--token-file", file, "--out", shared_stage.workspace / "open")
    assert done.returncode == 2
    assert "readable by everyone" in done.stderr
    assert "chmod 600" in done.stderr
    assert not ca.issued("/open")


def test_two_at_once_with_one_token_get_one_certificate(shared_stage: Stage, ca: CaServer) -> None:
    """The same directory, two commands: one enrols, the other finds it done."""
    file, out = put(shared_stage.workspace / "two.token", invite(ca, "/two")), shared_stage.workspace / "two"
    codes: list[int] = []

    def go() -> None:
        codes.append(meshproxy("enroll", "--token-file", file, "--out", out).returncode)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    assert len(ca.issued("/two")) == 1
