"""Behind a load balancer the PROXY protocol tells who really called, and so do we the own service; HAProxy is both."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest

from meshproxy.wire.proxy_protocol import PREFIX, Endpoints, Session, body_length, compose, endpoints
from tests.scenarios.actors import Ended, Service, Visit, chunks, client_context, dial, echo, read_to_end, tls_exchange
from tests.scenarios.http_actors import Caller
from tests.scenarios.programs import Program, free_port, require
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    import socket

    from tests.scenarios.stage import Sidecar, Stage

CALLER = Endpoints(("203.0.113.9", 4711), ("198.51.100.1", 443))
SAID = compose(CALLER, Session("spiffe://lies.test/admin", "TLSv1.3", "x"))
FROM_HERE = 'accept_proxy = "127.0.0.0/8"\n'
WORDS = b"hello"


def haproxy(stage: Stage, proxying: str) -> int:
    program, port = require("haproxy"), free_port()
    head = "global\n maxconn 100\ndefaults\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
    file = stage.write(f"haproxy-{port}.cfg", head + proxying.replace("{port}", str(port)))
    stage.keep(Program([program, "-db", "-f", file], ports=[port], folder=stage.workspace))
    return port


def behind(stage: Stage, api: Sidecar, sender: bytes) -> bytes:
    """What a caller hears whose connection begins with some bytes, before TLS."""
    with dial(api.address("api")) as plain:
        plain.sendall(sender)
        with client_context(stage.identity("/web")).wrap_socket(plain) as sock:
            sock.sendall(WORDS)
            heard = sock.recv(100)
            sock.unwrap().close()
    return heard


def test_a_load_balancers_word_counts_for_where_the_caller_is_and_no_more(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more=FROM_HERE))
    assert behind(stage, api, SAID) == WORDS
    line = api.log.connection()
    # Who the caller is, its certificate says.
    assert (line.peer, line.caller) == ("203.0.113.9:4711", "spiffe://mesh.test/web")


@pytest.mark.long
def test_haproxy_is_the_load_balancer(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more=FROM_HERE))
    port = haproxy(
        stage,
        "listen in\n mode tcp\n bind 127.0.0.1:{port}\n"
        f" server far {api.address('api')} send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id check inter 200\n",
    )
    with dial(f"127.0.0.1:{port}") as plain:
        caller = "{}:{}".format(*plain.getsockname())
        with client_context(stage.identity("/web")).wrap_socket(plain) as sock:
            sock.sendall(WORDS)
            assert sock.recv(100) == WORDS
            sock.unwrap().close()
    assert api.log.connection().peer == caller
    assert api.log.seen("connection_refused", reason="proxy_header") == []  # its health checks neither


REFUSED = {
    b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n": "version 1 of the PROXY protocol",
    SAID[:13] + b"\x99" + SAID[14:]: "which there are none of",
    SAID[:14] + b"\xff\xff" + SAID[16:]: "expected at most 4096",
}


def test_what_is_no_header_is_refused_with_the_reason(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward="127.0.0.1:9", more=FROM_HERE))
    for said, why in REFUSED.items():
        api.log.turn_page()
        with dial(api.address("api")) as plain:
            plain.sendall(said)
            assert read_to_end(plain) == (b"", Ended.RESET)
        assert why in api.log.event("connection_refused", reason="proxy_header").text("remedy")
    refused = api.metric("meshproxy_connections_refused_total", listener="api", reason="proxy_header")
    assert refused == len(REFUSED)


def test_without_a_header_nobody_gets_in_by_silence_or_by_tls_alone(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward="127.0.0.1:9", more=FROM_HERE + 'handshake_timeout = "500ms"\n'))
    with dial(api.address("api")) as silent:
        silent.sendall(SAID[:20])
        assert read_to_end(silent) == (b"", Ended.RESET)
    assert "no PROXY header within 0.5 s" in api.log.event("connection_refused").text("remedy")
    api.log.turn_page()
    with pytest.raises((ConnectionError, ssl.SSLError)):
        tls_exchange(api.address("api"), client_context(stage.identity("/web")), WORDS)
    assert "no PROXY header; expected one" in api.log.event("connection_refused").text("remedy")


@pytest.mark.long
def test_from_elsewhere_no_header_is_believed_and_none_is_needed(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address, more='accept_proxy = "10.0.0.0/8"\n'))
    context = client_context(stage.identity("/web"))
    assert tls_exchange(api.address("api"), context, WORDS) == WORDS
    with dial(api.address("api")) as plain:
        plain.sendall(SAID)
        assert read_to_end(plain)[1] in {Ended.EOF, Ended.RESET}
    api.log.event("handshake_failed", reason="not_tls")


def introduced(sock: socket.socket, visit: Visit) -> None:
    """Answer with what the connection began with, as JSON, and say the rest back."""
    data = b""
    while len(data) < PREFIX or len(data) < PREFIX + body_length(data[:PREFIX]):
        data += sock.recv(1)
    who = endpoints(data[:PREFIX], data[PREFIX:])
    visit.take(data)
    sock.sendall(json.dumps({"who": str(who), "as": data[data.index(b"spiffe:") :].decode()}).encode())
    for _ in chunks(sock, visit):
        pass


def test_the_own_service_hears_who_called(stage: Stage) -> None:
    service = stage.keep(Service(introduced))
    api = stage.sidecar("api", inbound(forward=service.address, more=FROM_HERE + "send_proxy = true\n"))
    heard = json.loads(behind(stage, api, SAID))
    assert heard == {"who": "203.0.113.9:4711", "as": "spiffe://mesh.test/web"}
    header = bytes(service.visit().received)
    assert b"\x07\0\0\0\0\x21\x00\x07TLSv1.3" in header  # with a certificate, and it was verified


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_haproxy_is_the_own_service(stage: Stage, protocol: str) -> None:
    """In HTTP mode two callers take turns: each request is told of under its own address, on its own connection."""
    port = haproxy(
        stage,
        "frontend app\n mode http\n bind 127.0.0.1:{port} accept-proxy\n"
        ' http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port]"\n',
    )
    stage.write("web.allow.toml", '[[allow]]\nfrom = ["/web", "/batch"]\n')
    table = inbound(forward=f"127.0.0.1:{port}", protocol=protocol, more="send_proxy = true\n")
    api = stage.sidecar("api", table)
    api.status()
    before = api.descriptors
    callers = []
    for name in ("/web", "/batch"):
        plain = dial(api.address("api"))
        where = "{}:{}".format(*plain.getsockname())
        callers.append((where, stage.keep(Caller(client_context(stage.identity(name)).wrap_socket(plain)))))
    for _ in range(3):
        for where, caller in callers:
            assert caller.ask("GET", "/").body.decode() == where
    for _, caller in callers:
        caller.__exit__(None, None, None)
    poll(lambda: api.descriptors == before, "no connection to the service outlives its caller")
