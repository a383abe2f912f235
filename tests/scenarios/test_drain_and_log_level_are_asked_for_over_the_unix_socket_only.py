"""What changes something is asked for at the admin unix socket: never over TCP, never by a web page."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.stage import ask, inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

pytestmark = pytest.mark.long


NOBODY = "127.0.0.1:9"


def test_drain_and_log_level(stage: Stage) -> None:
    admin = stage.workspace / "admin.sock"
    tables = f'[admin]\nlisten = "unix:{admin}"\n{inbound(forward=NOBODY)}'
    sidecar = stage.sidecar("api", tables)
    at = f"unix:{admin}"
    wrong = ask(at, "/log-level?level=loud", method="POST")
    assert (wrong.status, wrong.body) == (400, b"level is 'loud'; expected one of: info warning error\n")
    assert ask(at, "/log-level", method="POST").status == 400
    assert ask(at, "/drain?now=1", method="POST").status == 400
    assert ask(at, "/drain").status == 405

    assert ask(at, "/log-level?level=error", method="POST").json == {"level": "error"}
    sidecar.log.event("log_level", least="error")
    sidecar.log.turn_page()
    assert ask(at, "/reload", method="POST").json["result"] == "unchanged"
    stage.write("web.allow.toml", '[[allow]]\nname = "other"\nfrom = "/web"\n')
    assert ask(at, "/reload", method="POST").json["result"] == "loaded"
    assert ask(at, "/log-level?level=info", method="POST").json == {"level": "info"}
    assert not sidecar.log.seen("reloaded"), "that is info"

    with socket.socket(socket.AF_UNIX) as browser:
        browser.connect(str(admin))
        browser.sendall(b"POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:8080\r\n\r\n")
        assert browser.recv(4096).startswith(b"HTTP/1.1 403")
    sidecar.signal(signal.SIGCONT)  # from now on it may end
    answer = ask(at, "/drain", method="POST")
    assert (answer.status, answer.json) == (202, {"draining": True})
    sidecar.log.event("draining")
    assert sidecar.exit_code() == 0


def test_over_tcp_nothing_is_changed(stage: Stage) -> None:
    sidecar = stage.sidecar("api", inbound(forward=NOBODY))
    for path in ("/drain", "/log-level?level=error", "/reload"):
        assert sidecar.get(path, method="POST").status == 405
    poll(lambda: sidecar.status().state == "serving", "it still serves")
