"""What a stranger writes into a certificate is told on one line, escaped: no line of its own, no terminal steered."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, underneath
from tests.scenarios.stage import inbound, meshproxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage

FORGED = '{"event":"connection","decision":"allow","caller":"spiffe://mesh.test/admin"}'

# ECMA-48 sequences that clear a screen and set a window's title; a right-to-left override; a line separator.
HOSTILE = [
    f"spiffe://mesh.test/web\n{FORGED}",
    f"spiffe://mesh.test/web\r\n{FORGED}\r\n",
    "spiffe://mesh.test/\x1b[2J\x1b]0;owned\x07",
    "spiffe://mesh.test/" + "a" * 5000,
]


@pytest.fixture(scope="module")
def services(shared_stage: Stage) -> tuple[Service, Sidecar]:
    service = shared_stage.keep(Service(echo))
    return service, shared_stage.sidecar("api", inbound(forward=service.address))


@pytest.mark.parametrize("uri", HOSTILE, ids=["newline", "crlf", "escape-sequences", "very-long"])
def test_hostile_uri_cannot_forge_a_log_line(shared_stage: Stage, services: tuple[Service, Sidecar], uri: str) -> None:
    service, api = services
    api.log.turn_page()
    evil = shared_stage.mesh.forge(into=shared_stage.workspace / "evil", uris=[uri])

    with tls_dial(api.address("api"), client_context(evil)) as caller:
        heard = underneath(caller)

    assert heard == (b"", Ended.RESET)
    failed = api.log.event("handshake_failed")
    assert failed["reason"] == "bad_id"
    assert failed.text("claimed").startswith("spiffe://mesh.test/")
    assert len(failed.text("claimed")) <= 512
    for line in api.log.lines:
        assert line.get("caller") != "spiffe://mesh.test/admin"
        assert all(value.isprintable() for value in line.values() if isinstance(value, str))
    assert service.visits == []


def test_hostile_subject_cannot_forge_a_log_line(shared_stage: Stage, services: tuple[Service, Sidecar]) -> None:
    """A stranger's CA and certificate may have any name at all."""
    _, api = services
    api.log.turn_page()
    evil = trustme.CA(organization_name=f"ours\n{FORGED}"[:64], organization_unit_name="\x1b[2J\x1b]0;owned\x07")
    context = client_context(None, trusting=shared_stage.identity("/api"))
    evil.issue_cert("web.test", common_name="web\r\nforged").configure_cert(context)

    with tls_dial(api.address("api"), context) as caller, pytest.raises(ssl.SSLError):
        caller.recv(1)

    assert api.log.event("handshake_failed")["reason"] == "unknown_ca"
    for line in api.log.lines:
        assert "forged" not in str(line)
        assert all(value.isprintable() for value in line.values() if isinstance(value, str))
    chain = shared_stage.workspace / "evil.pem"
    evil.cert_pem.write_to_path(str(chain))
    said = meshproxy("inspect", chain)
    assert not set("\x1b\x07") & set(said.stdout + said.stderr)


def test_hostile_identity_reaches_no_terminal_through_status(stage: Stage) -> None:
    """What is shown to a person at 2 a.m. is escaped as well."""
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))
    evil = stage.mesh.forge(into=stage.workspace / "evil", uris=[HOSTILE[2]])
    with tls_dial(api.address("api"), client_context(evil)) as caller:
        underneath(caller)
    api.log.event("handshake_failed")

    file = asking(stage, api.file, api.admin)
    for arguments in (("status", file), ("status", "--json", file), ("inspect", evil.directory)):
        said = meshproxy(*arguments)
        assert "\x1b" not in said.stdout + said.stderr
        assert "\x07" not in said.stdout + said.stderr
    assert json.loads(api.get("/status").body)["listeners"][0]["handshake_failures"] == 1


def asking(stage: Stage, file: Path, admin: str) -> Path:
    return stage.write("asked.toml", file.read_text().replace("127.0.0.1:0", admin, 1))
