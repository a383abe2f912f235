"""nginx stream in place of a sidecar.

As it comes, it passes an end on with close_notify, but tears the connection down when one side half-closes, and then
leaves a close_notify that it received unanswered. With `proxy_half_close on` it half-closes, but by a bare FIN always:
that is truncation, and no application takes it for an end. A listener that knows it has nginx at the far end says
`peer_eof = "lenient"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, answer_of_a_sink, dial, echo, listen_to, sink, source, tell_a_sink
from tests.scenarios.programs import Program, free_port, require
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    from tests.factory import Identity
    from tests.scenarios.stage import Stage

MUCH = 4 * 1024 * 1024
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian has it as a module to load
HALF_CLOSE = "proxy_half_close on;"


def nginx(stage: Stage, server: str) -> str:
    """Start nginx with one stream server; returns the address it listens on."""
    program, port = require("nginx"), free_port()
    folder = stage.workspace
    load = f"load_module {STREAM_MODULE};\n" if STREAM_MODULE.exists() else ""
    file = stage.write(
        f"nginx-{port}.conf",
        f"{load}daemon off; worker_processes 1; pid {folder}/nginx-{port}.pid; error_log stderr info;\n"
        f"events {{ worker_connections 100; }}\n"
        f"stream {{ server {{ listen 127.0.0.1:{port}{server} }} }}\n",
    )
    stage.keep(Program([program, "-c", file], ports=[port], folder=folder))
    return f"127.0.0.1:{port}"


def calling(stage: Stage, target: str, more: str = "") -> str:
    web = stage.identity("/web")
    return nginx(
        stage,
        f"; proxy_pass {target}; proxy_ssl on; proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {web.chain};"
        f" proxy_ssl_certificate_key {web.key}; proxy_ssl_trusted_certificate {web.bundle}; proxy_ssl_verify on;"
        f" proxy_ssl_verify_depth 3; proxy_ssl_name api.test; {more}",
    )


def serving(stage: Stage, target: str, more: str = "") -> str:
    api: Identity = stage.identity("/api")
    return nginx(
        stage,
        f" ssl; proxy_pass {target}; ssl_protocols TLSv1.3; ssl_certificate {api.chain}; ssl_certificate_key {api.key};"
        f" ssl_client_certificate {api.bundle}; ssl_verify_client on; ssl_verify_depth 3; {more}",
    )


def ask_and_hang_up(address: str) -> None:
    """Ask an echo, hear the answer, and close: no half-close needed."""
    with dial(address) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"


def test_it_calls_us_and_the_caller_ends(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", inbound(forward=service.address))

    ask_and_hang_up(calling(stage, api.address("api")))

    assert service.visit().ended is Ended.EOF
    line = api.log.connection()
    assert (line.end, line.caller, line.bytes_in, line.bytes_out) == ("clean", "spiffe://mesh.test/web", 5, 5)


def test_it_calls_us_and_the_service_ends(stage: Stage) -> None:
    service = stage.keep(Service(source(MUCH)))
    api = stage.sidecar("api", inbound(forward=service.address))

    heard, ended = listen_to(calling(stage, api.address("api")))

    assert (len(heard), ended) == (MUCH, Ended.EOF)
    line = api.log.connection()
    assert (line.end, line.bytes_out) == ("truncated", MUCH)  # as below


def test_we_call_it_and_the_caller_ends(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    web = stage.sidecar("web", outbound(endpoints=[serving(stage, service.address)]))

    ask_and_hang_up(web.address("to-api"))

    assert service.visit().ended is Ended.EOF
    line = web.log.connection()
    # Once it has heard our close_notify it says none of its own (no_send_shutdown in ngx_event_openssl.c).
    assert (line.end, line.upstream_id, line.bytes_in, line.bytes_out) == ("truncated", "spiffe://mesh.test/api", 5, 5)


def test_we_call_it_and_the_service_ends(stage: Stage) -> None:
    service = stage.keep(Service(source(MUCH)))
    web = stage.sidecar("web", outbound(endpoints=[serving(stage, service.address)]))

    heard, ended = listen_to(web.address("to-api"))

    assert (len(heard), ended) == (MUCH, Ended.EOF)
    assert web.log.connection().end == "clean"


def test_we_call_it_and_half_close(stage: Stage) -> None:
    """The answer that would come after our half-close is lost, and the caller is not told that there was none."""
    service = stage.keep(Service(sink))
    web = stage.sidecar("web", outbound(endpoints=[serving(stage, service.address)]))

    assert tell_a_sink(web.address("to-api"), 5) == (b"", Ended.RESET)

    assert web.log.connection().end == "truncated"


def test_it_calls_us_with_half_close_and_a_bare_fin(stage: Stage) -> None:
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address))

    heard, _ = tell_a_sink(calling(stage, api.address("api"), HALF_CLOSE), MUCH)

    assert heard == b""
    visit = service.visit()
    assert (visit.count, visit.ended) == (MUCH, Ended.RESET)  # all that came was delivered, and not called complete
    assert api.log.connection().end == "truncated"


def test_we_call_it_with_half_close_and_a_bare_fin(stage: Stage) -> None:
    service = stage.keep(Service(source(MUCH)))
    web = stage.sidecar("web", outbound(endpoints=[serving(stage, service.address, HALF_CLOSE)]))

    heard, ended = listen_to(web.address("to-api"))

    assert ended is Ended.RESET
    assert len(heard) <= MUCH
    line = web.log.connection()
    assert (line.end, line.bytes_out) == ("truncated", MUCH)


@pytest.mark.long
@pytest.mark.parametrize("who_calls", ["it", "we"])
def test_a_lenient_listener_works_with_its_half_close(stage: Stage, who_calls: str) -> None:
    lenient = 'peer_eof = "lenient"'
    service = stage.keep(Service(sink))
    if who_calls == "it":
        us = stage.sidecar("api", inbound(forward=service.address, more=lenient))
        address = calling(stage, us.address("api"), HALF_CLOSE)
    else:
        us = stage.sidecar("web", outbound(endpoints=[serving(stage, service.address, HALF_CLOSE)], more=lenient))
        address = us.address("to-api")

    assert tell_a_sink(address, MUCH) == answer_of_a_sink(MUCH)

    line = us.log.connection()
    assert (line.end, line.detail) == ("clean", "the peer ended without close_notify")
