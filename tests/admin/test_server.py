"""The admin server over real sockets: what it answers, to whom, and what it is not held up by."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.admin.answers import Asked, Inquiry, Page, Send, Stream, View, negotiated
from meshproxy.admin.server import AdminServer, names_this_machine
from meshproxy.wire.address import Address, TcpAddress, UnixAddress, parse_address
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.tls import receive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock


def broken() -> Page:
    raise ZeroDivisionError("a bug in a view")


def counting(asked: Asked) -> Stream:
    most = asked.query.number("to", 1, least=0, most=10)
    asked.query.done()
    assert most is not None

    async def pour(send: Send) -> None:
        for number in range(int(most)):
            await send(b"%d\n" % number)

    return Stream("text/plain", pour)


async def torn(send: Send) -> None:
    await send(b"half\n")
    raise ZeroDivisionError("a bug in a stream")


async def silence(_send: Send) -> None:
    await trio.sleep_forever()


async def flood(send: Send) -> None:
    while True:
        await send(b"x" * 65536)


CROWD = 30

VIEWS: dict[str, View | Inquiry] = {
    "/live": lambda: Page(200, "application/json", b'{"live":true}\n'),
    "/ready": lambda: Page(503, "application/json", b'{"ready":false}\n'),
    "/broken": broken,
    "/counting": Inquiry(counting),
    "/torn": lambda: Stream("text/plain", torn),
    "/endless": lambda: Stream("text/plain", silence, is_endless=True),
    "/flood": lambda: Stream("text/plain", flood, is_endless=True),
}


async def reload() -> Page:
    await trio.lowlevel.checkpoint()
    return Page(422, "application/json", b'{"result":"failed"}\n')


async def broken_action() -> Page:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError("a bug in an action")


ACTIONS = {"/reload": reload, "/broken": broken_action, "/slow": trio.sleep_forever}


class Admin:
    """A running server and ways to talk to it."""

    def __init__(self, server: AdminServer, listener: socket.socket) -> None:
        self.server, self.listener = server, listener

    def connect(self) -> socket.socket:
        sock = socket.socket(self.listener.family)
        sock.connect(self.listener.getsockname())
        sock.setblocking(False)
        return sock

    async def ask(self, request: bytes) -> bytes:
        """Send all of `request`, and return all of the answer."""
        with self.connect() as sock:
            sock.send(request)
            return await everything(sock)

    async def get(self, target: str, *, host: str = "localhost", method: str = "GET") -> tuple[int, bytes, bytes]:
        """Ask as HTTP/1.1; the status, the head and the body."""
        answer = await self.ask(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.lower(), body


async def everything(sock: socket.socket) -> bytes:
    received = b""
    try:
        while data := await receive(sock, 65536):
            received += data
    except ConnectionResetError:
        return received + b"<reset>"
    return received


@pytest.fixture
async def admin(nursery: trio.Nursery) -> AsyncIterator[Admin]:
    listener = bind(TcpAddress("127.0.0.1", 0))
    server = AdminServer(listener, TcpAddress("127.0.0.1", 9900), VIEWS, ACTIONS, check_host=True)
    nursery.start_soon(server.run)
    await trio.testing.wait_all_tasks_blocked()
    yield Admin(server, listener)
    nursery.cancel_scope.cancel()
    close_listener(listener)


async def test_a_page_is_answered_and_the_connection_closed(admin: Admin) -> None:
    status, head, body = await admin.get("/live?pretty=1")
    assert (status, body) == (200, b'{"live":true}\n')
    for field in (b"content-type: application/json", b"content-length: 14", b"cache-control: no-store"):
        assert field in head
    assert b"connection: close" in head
    assert "open=0" in repr(admin.server)


async def test_a_view_chooses_its_status(admin: Admin) -> None:
    status, _, body = await admin.get("/ready")
    assert (status, body) == (503, b'{"ready":false}\n')


async def test_head_is_answered_without_a_body(admin: Admin) -> None:
    status, head, body = await admin.get("/live", method="HEAD")
    assert (status, body) == (200, b"")
    assert b"content-length: 14" in head


@pytest.mark.parametrize("target", ["/", "/live/", "/LIVE", "/%6cive", "//live", "/live%00", "http://localhost/live"])
async def test_other_targets_are_not_found_and_told_what_there_is(admin: Admin, target: str) -> None:
    status, _, body = await admin.get(target)
    assert status == 404
    assert body == b"there is: /broken /counting /endless /flood /live /ready /torn\n"


WRITES_ELSEWHERE = b'only GET here; to change things give the admin API a unix socket: listen = "unix:..."\n'


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
async def test_it_only_tells_and_says_so(admin: Admin, method: str) -> None:
    status, head, body = await admin.get("/live", method=method)
    assert (status, body) == (405, WRITES_ELSEWHERE)
    assert b"\r\nallow: get, head" in head  # RFC 9110 section 15.5.6


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "10.0.0.1:9900", "", "localhost@evil.test"])
async def test_a_request_for_another_host_is_misdirected(admin: Admin, host: str) -> None:
    """A web page in a browser on this machine can send requests here, but it cannot name this host."""
    status, _, body = await admin.get("/live", host=host)
    assert status == 421
    assert b"live" not in body


async def test_a_request_without_a_host_is_misdirected_or_no_request(admin: Admin) -> None:
    assert b" 421 " in await admin.ask(b"GET /live HTTP/1.0\r\n\r\n")
    assert await admin.ask(b"GET /live HTTP/1.1\r\n\r\n") in {b"", b"<reset>"}
    twice = b"GET /live HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n"
    assert await admin.ask(twice) in {b"", b"<reset>"}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000,
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["long target", "long field", "TLS", "no target", "zeros"],
)
async def test_what_is_no_decent_request_gets_no_answer(admin: Admin, request_bytes: bytes) -> None:
    with trio.fail_after(5):
        if request_bytes.startswith(b"\x16"):
            with admin.connect() as sock:
                sock.send(request_bytes)
                sock.shutdown(socket.SHUT_WR)
                assert await everything(sock) in {b"", b"<reset>"}
        else:
            assert await admin.ask(request_bytes) in {b"", b"<reset>"}
    assert (await admin.get("/live"))[0] == 200


async def test_who_leaves_before_asking_or_hearing_disturbs_nobody(admin: Admin) -> None:
    admin.connect().close()
    sock = admin.connect()
    sock.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    assert (await admin.get("/live"))[0] == 200


async def test_a_bug_in_a_page_ends_neither_the_server_nor_the_sidecar(admin: Admin) -> None:
    status, _, body = await admin.get("/broken")
    assert (status, body) == (500, b"internal error: ZeroDivisionError\n")
    assert (await admin.get("/live"))[0] == 200


async def test_a_client_that_dawdles_is_let_go_after_ten_seconds(admin: Admin, settling_clock: MockClock) -> None:
    started = trio.current_time()
    with admin.connect() as sock:
        sock.send(b"GET /live HTT")
        assert await everything(sock) in {b"", b"<reset>"}
    assert 10 <= trio.current_time() - started < 11


async def test_beyond_64_who_has_said_nothing_for_longest_makes_room(admin: Admin) -> None:
    held = [admin.connect() for _ in range(64)]
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert "open=64" in repr(admin.server)
    assert (await admin.get("/live"))[0] == 200
    assert await everything(held[0]) in {b"", b"<reset>"}
    held[1].send(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b'{"live":true}' in await everything(held[1])
    for sock in held:
        sock.close()


async def test_64_who_are_being_answered_keep_their_places_and_one_more_is_turned_away(admin: Admin) -> None:
    held = [admin.connect() for _ in range(64)]
    for sock in held:
        sock.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.02)
    with admin.connect() as one_too_many:
        assert await everything(one_too_many) == b"<reset>"
    for sock in held:
        sock.close()
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert "open=0" in repr(admin.server)
    assert (await admin.get("/live"))[0] == 200


async def test_a_stream_comes_in_parts_and_has_an_end_that_shows(admin: Admin) -> None:
    status, head, body = await admin.get("/counting?to=3")
    assert status == 200
    assert b"transfer-encoding: chunked" in head
    assert body == b"2\r\n0\n\r\n2\r\n1\n\r\n2\r\n2\n\r\n0\r\n\r\n"


async def test_head_of_a_stream_is_its_head_alone(admin: Admin) -> None:
    status, head, body = await admin.get("/counting?to=3", method="HEAD")
    assert (status, body) == (200, b"")
    assert b"content-type: text/plain" in head


async def test_a_stream_that_breaks_does_not_look_complete(admin: Admin) -> None:
    status, _, body = await admin.get("/torn")
    assert status == 200
    assert not body.endswith(b"0\r\n\r\n")
    assert (await admin.get("/live"))[0] == 200


async def test_who_does_not_read_a_stream_is_let_go_after_ten_seconds(admin: Admin, settling_clock: MockClock) -> None:
    with admin.connect() as sock:
        sock.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        started = trio.current_time()
        while "open=1" in repr(admin.server) or trio.current_time() == started:  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(1)
        assert 10 <= trio.current_time() - started < 13


async def test_of_pages_that_many_ask_for_at_once_one_is_made_in_a_turn(nursery: trio.Nursery) -> None:
    """Each takes milliseconds: made in a row they would be a stall to whoever has a request open."""
    turns, made = [0], list[int]()

    async def loop() -> None:
        while True:
            turns[0] += 1
            await trio.lowlevel.checkpoint()

    def page() -> Page:
        made.append(turns[0])
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return Page(200, "text/plain", b"made")

    listener = bind(TcpAddress("127.0.0.1", 0))
    server = AdminServer(listener, bound_address(listener), {"/page": page}, {}, check_host=True)
    nursery.start_soon(server.run)
    admin, answers = Admin(server, listener), list[tuple[int, bytes, bytes]]()

    async def scrape() -> None:
        answers.append(await admin.get("/page"))

    async with trio.open_nursery() as storm:
        storm.start_soon(loop)
        async with trio.open_nursery() as scrapers:
            for _ in range(CROWD):
                scrapers.start_soon(scrape)
        storm.cancel_scope.cancel()
    assert [(status, body) for status, _, body in answers] == [(200, b"made")] * CROWD
    assert max(made.count(turn) for turn in set(made)) <= 2  # trio takes those of one turn in any order
    nursery.cancel_scope.cancel()
    close_listener(listener)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/counting?to=many", "to is 'many'; expected a number from 0 to 10"),
        ("/counting?to=3&to=4", "'to' is said twice"),
        ("/counting?two=3", "'two' means nothing here; what may be asked: to"),
        ("/counting?to=" + "3" * 3000, "the query has 3003 bytes; at most 2048 are read"),
        ("/counting?to=%zz", "'%zz' has a % that begins no escape"),
        ("/counting?" + "&".join(f"a{n}" for n in range(20)), "the query has 20 values; at most 16 are read"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence(admin: Admin, target: str, sentence: str) -> None:
    status, _, body = await admin.get(target)
    assert (status, body.decode()) == (400, f"{sentence}\n")


@pytest.fixture
async def unix_admin(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Admin]:
    address = UnixAddress(str(tmp_path / "s"))
    listener = bind(address)
    views = {name: VIEWS[name] for name in ("/live", "/ready")}
    server = AdminServer(listener, address, views, ACTIONS, check_host=True)
    nursery.start_soon(server.run)
    yield Admin(server, listener)
    nursery.cancel_scope.cancel()
    close_listener(listener)


async def test_no_web_page_may_ask_for_an_action(unix_admin: Admin) -> None:
    """Browsers say from which page a POST comes (Fetch, `Origin`); no command does."""
    asked = b"POST /reload HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n"
    assert b" 403 " in await unix_admin.ask(asked)


async def test_over_a_unix_socket_any_host_will_do(unix_admin: Admin) -> None:
    """No browser reaches it."""
    assert (await unix_admin.get("/live", host="whatever"))[0] == 200


@pytest.mark.parametrize("target", ["/reload", "/reload?now=1"])
async def test_an_action_is_asked_for_by_post_on_a_unix_socket(unix_admin: Admin, target: str) -> None:
    status, _, body = await unix_admin.get(target, method="POST")
    assert (status, body) == (422, b'{"result":"failed"}\n')


@pytest.mark.parametrize("target", ["/reload", "/live", "/nothing"])
async def test_over_tcp_nothing_is_done_and_where_it_would_be_is_told(admin: Admin, target: str) -> None:
    """A web page in a browser, and any local user, can send a POST to a TCP port."""
    status, head, body = await admin.get(target, method="POST")
    assert (status, body) == (405, WRITES_ELSEWHERE)
    assert b"\r\nallow: get, head" in head


@pytest.mark.parametrize(
    ("method", "target", "status", "told"),
    [
        ("POST", "/nothing", 404, b"there is: /live /ready POST /broken POST /reload POST /slow\n"),
        ("POST", "/reload/", 404, b"there is: /live /ready POST /broken POST /reload POST /slow\n"),
        ("POST", "/live", 405, b"only GET here; POST does: /broken /reload /slow\n"),
        ("PUT", "/reload", 405, b"only POST here\n"),
        ("post", "/reload", 405, b"only POST here\n"),
        ("GET", "/reload", 405, b"only POST here\n"),
    ],
)
async def test_what_is_no_action_is_refused_in_words(
    unix_admin: Admin, method: str, target: str, status: int, told: bytes
) -> None:
    answered, head, body = await unix_admin.get(target, method=method)
    assert (answered, body) == (status, told)
    allowed = {b"only POST here\n": b"\r\nallow: post\r\n"}.get(told, b"\r\nallow: get, head\r\n")
    assert (allowed in head + b"\r\n") is (status == 405)


async def test_a_bug_in_an_action_ends_neither_the_server_nor_the_sidecar(unix_admin: Admin) -> None:
    status, _, body = await unix_admin.get("/broken", method="POST")
    assert (status, body) == (500, b"internal error: ZeroDivisionError\n")
    assert (await unix_admin.get("/live"))[0] == 200


async def test_an_action_that_takes_too_long_is_let_go(unix_admin: Admin, settling_clock: MockClock) -> None:
    started = trio.current_time()
    assert await unix_admin.ask(b"POST /slow HTTP/1.1\r\nHost: localhost\r\n\r\n") in {b"", b"<reset>"}
    assert 10 <= trio.current_time() - started < 11


@pytest.mark.parametrize(("field", "told"), [("", b""), ("Accept: text/html;q=0.3\r\n", b"text/html;q=0.3")])
async def test_a_view_in_several_media_types_is_told_what_is_liked(field: str, told: bytes) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        views = {"/echo": negotiated(lambda accept: Page(200, "text/plain", b"<" + accept + b">"))}
        server = AdminServer(listener, TcpAddress("127.0.0.1", 9900), views, {}, check_host=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            stream = await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1])
            async with stream:
                await stream.send_all(f"GET /echo HTTP/1.1\r\nHost: localhost\r\n{field}\r\n".encode())
                answer = b"".join([part async for part in stream])
            nursery.cancel_scope.cancel()
    assert answer.endswith(b"<" + told + b">")


async def test_a_public_listener_does_not_ask_for_the_host() -> None:
    with socket.socket() as listener:
        server = AdminServer(listener, TcpAddress("0.0.0.0", 9901), VIEWS, {}, check_host=False)
        answer = await server.answer(b"GET", b"/live", b"prometheus.internal")
        assert isinstance(answer, Page)
        assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "address", "ours"),
    [
        ("localhost", "127.0.0.1:9900", True),
        ("LocalHost:1234", "127.0.0.1:9900", True),
        ("127.0.0.1", "127.0.0.1:9900", True),
        ("127.0.0.9:80", "127.0.0.1:9900", True),
        ("[::1]", "127.0.0.1:9900", True),
        ("[::1]:9900", "[::1]:9900", True),
        ("admin.internal", "admin.internal:9900", True),
        ("ADMIN.internal:80", "admin.internal:9900", True),
        ("admin.internal", "127.0.0.1:9900", False),
        ("::1", "127.0.0.1:9900", False),
        ("localhost.evil.test", "127.0.0.1:9900", False),
        ("evil.test:localhost", "127.0.0.1:9900", False),
        ("localhost:", "127.0.0.1:9900", False),
        ("localhost:99999", "127.0.0.1:9900", False),
        ("unix:/run/x", "unix:/run/x", False),
        ("0.0.0.0", "127.0.0.1:9900", False),
        ("loc\xe4lhost", "127.0.0.1:9900", False),
        ("", "127.0.0.1:9900", False),
    ],
)
def test_which_hosts_are_this_machine(
    host: str,
    address: str,
    ours: bool,  # noqa: FBT001 - a row of the table
) -> None:
    where: Address = parse_address(address)
    assert names_this_machine(host.encode("latin-1"), where) is ours


class Parrot:
    """Says everything back, to whom it may."""

    token = b"parrot/1"

    def __init__(self) -> None:
        self.against = ""

    def refusal(self, _sock: socket.socket) -> str | None:
        return self.against or None

    async def attend(self, sock: socket.socket) -> None:
        sock.send(await receive(sock, 100))


SWITCH = b"POST /talk HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: %b\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(params=[True, False], ids=["unix", "tcp"])
async def parrots(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: trio.Nursery
) -> AsyncIterator[tuple[Admin, Parrot]]:
    address: Address = UnixAddress(str(tmp_path / "admin.sock")) if request.param else TcpAddress("127.0.0.1", 0)
    parrot, listener = Parrot(), bind(address)
    server = AdminServer(listener, address, VIEWS, ACTIONS, check_host=False, upgrades={"/talk": parrot})
    nursery.start_soon(server.run)
    await trio.testing.wait_all_tasks_blocked()
    yield Admin(server, listener), parrot
    nursery.cancel_scope.cancel()
    close_listener(listener)


async def test_another_protocol_is_spoken_on_a_unix_socket_only(parrots: tuple[Admin, Parrot]) -> None:
    admin, _ = parrots
    with admin.connect() as sock:
        sock.send(SWITCH % b"parrot/1")
        head = await receive(sock, 4096)
        if isinstance(admin.listener.getsockname(), tuple):
            assert head.startswith(b"HTTP/1.1 405 ")
            return
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.endswith(b"\r\n\r\n")
        sock.send(b"hello")
        assert await everything(sock) == b"hello"
    assert "open=0" in repr(admin.server)


@pytest.mark.parametrize("parrots", [True], ids=["unix"], indirect=True)
async def test_who_may_not_or_does_not_ask_rightly_is_told(parrots: tuple[Admin, Parrot]) -> None:
    admin, parrot = parrots
    told = await admin.ask(SWITCH % b"cockatoo")
    assert told.startswith(b"HTTP/1.1 403 ")
    assert told.endswith(b"only with Connection: upgrade and Upgrade: parrot/1\n")
    told = await admin.ask(b"POST /talk HTTP/1.1\r\nHost: x\r\nUpgrade: parrot/1\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 403 ")
    parrot.against = "not you\n"
    told = await admin.ask(SWITCH % b"parrot/1")
    assert told.startswith(b"HTTP/1.1 403 ")
    assert told.endswith(b"\r\n\r\nnot you\n")
    assert (await admin.get("/talk"))[0] == 404


@pytest.mark.parametrize("parrots", [True], ids=["unix"], indirect=True)
async def test_one_that_was_handed_over_answers_who_has_asked_and_nobody_new(parrots: tuple[Admin, Parrot]) -> None:
    admin, _ = parrots
    with admin.connect() as early, admin.connect() as late:
        early.send(SWITCH % b"parrot/1")
        assert (await receive(early, 4096)).startswith(b"HTTP/1.1 101 ")
        admin.server.accepting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        early.send(b"hello")
        assert await everything(early) == b"hello"
        with admin.connect() as newer:
            newer.send(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            with pytest.raises(BlockingIOError):
                newer.recv(1)
        del late


async def test_64_who_wait_for_an_answer_keep_theirs(unix_admin: Admin) -> None:
    asking = [unix_admin.connect() for _ in range(64)]
    for sock in asking:
        await trio.lowlevel.wait_writable(sock)
        sock.send(b"POST /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.02)
    with unix_admin.connect() as one_too_many:
        assert await everything(one_too_many) in {b"", b"<reset>"}
    assert "open=64" in repr(unix_admin.server)
    for sock in asking:
        sock.close()
