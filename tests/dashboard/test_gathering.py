"""Many sidecars gathered over real sockets: what they say together, and how one that is broken harms nobody."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from meshproxy.admin.answers import Asked, Page
from meshproxy.admin.questions import Query
from meshproxy.dashboard.asking import NoAnswer, get
from meshproxy.dashboard.gathering import Gathering
from meshproxy.dashboard.merging import merged
from meshproxy.dashboard.pages import Pages
from meshproxy.dashboard.roll import Post
from meshproxy.telemetry.series import Marker
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.listen import close_listener
from tests.dashboard.acting import Line, Play, denial

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from meshproxy.wire.address import Address

ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"


def play(*, past: int = 2) -> Play:
    now = time.time()
    acted = Play([Line("/web", "/api", 20, 0.02, samples=4), Line("/api", "/db", 5, 0.01, samples=4)], now, past=past)
    acted.live_through(now)
    return acted


@asynccontextmanager
async def gathered(acted: Play, *more: Post) -> AsyncIterator[tuple[Gathering, Pages]]:
    """The play's sidecars, and others, each asked once."""
    gathering = Gathering(time.time)
    async with trio.open_nursery() as nursery:
        posts, servers = list(more), []
        for sidecar in acted.sidecars.values():
            server, address = sidecar.server()
            posts.append(Post(address))
            servers.append(server)
            nursery.start_soon(server.run)
        gathering.watch(posts)
        try:
            await look(gathering)
            yield gathering, Pages(gathering)
        finally:
            nursery.cancel_scope.cancel()
            for server in servers:
                close_listener(server._listener)


async def look(gathering: Gathering) -> None:
    async with trio.open_nursery() as nursery:
        for watch in gathering.watches:
            nursery.start_soon(watch.look, gathering.wall())


async def asked(view: Callable[[Asked], Page | Awaitable[Page]], query: str = "") -> Any:
    answer = view(Asked(Query(query.encode()), {}))
    page = answer if isinstance(answer, Page) else await answer
    assert page.status == 200, page.body
    return json.loads(page.body)


@asynccontextmanager
async def hostile(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[Post]:
    """A server that does as it likes."""

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            nursery.start_soon(trio.serve_listeners, handle, [listener])
            host, port = listener.socket.getsockname()
            yield Post(TcpAddress(host, port))
            nursery.cancel_scope.cancel()


async def silent(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def endless(stream: trio.SocketStream) -> None:
    await stream.receive_some(4096)  # else our end is a reset
    await stream.send_all(ENDLESS)
    while True:
        await stream.send_all(b" " * 65536)


async def garbage(stream: trio.SocketStream) -> None:
    await stream.receive_some(4096)
    await stream.send_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")


async def nested(stream: trio.SocketStream) -> None:
    await stream.receive_some(4096)
    body = b"[" * 200_000
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def deep(stream: trio.SocketStream) -> None:
    await stream.receive_some(4096)
    body = b'{"unknown":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def half(stream: trio.SocketStream) -> None:
    await stream.receive_some(4096)
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")


def answering(body: object) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def serve(stream: trio.SocketStream) -> None:
        told = json.dumps(body).encode()
        await stream.receive_some(4096)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))

    return serve


async def test_many_answer_as_one() -> None:
    acted = play()
    async with gathered(acted) as (gathering, pages):
        mesh = await asked(pages.mesh)
        assert [(each["name"], each["state"]) for each in mesh["sidecars"]] == [
            ("/api", "serving"),
            ("/db", "serving"),
            ("/web", "serving"),
        ]
        assert (mesh["kind"], mesh["trust_domain"], gathering.home) == ("mesh", "shop.example", "shop.example")
        series = await asked(pages.series, f"tier=10s&since={time.time() - 60:.0f}&step=60")
        assert [(each["source"], each["target"], each["reporter"]) for each in series["edges"]] == [
            ("/api", "/db", "destination"),
            ("/web", "/api", "destination"),
        ]
        requests = sum(point[1] for point in series["edges"][1]["points"])
        track = next(track for track in acted.sidecars["/api"].series if track.edge.reporter == "destination")
        first = series["start"] // 10
        assert requests == sum(point.requests for _, point in track.rings["10s"].since(int(first)))
        graph = await asked(pages.topology, "window=60&idle=1")
        assert {edge["data"]["id"] for edge in graph["elements"]["edges"]} == {each["edge"] for each in series["edges"]}
        assert len((await asked(pages.certificates))["certificates"]) == 9
        assert {each["service"] for each in (await asked(pages.policy))["listeners"]} == {"/api", "/db", "/web"}
        assert (await asked(pages.connections))["more"] == 0


async def test_denial_is_asked_about_when_it_happens_and_told_once() -> None:
    acted = play()
    async with gathered(acted) as (gathering, pages):
        assert (await asked(pages.denials))["denials"] == []
        gathering.tell()
        before = repr(gathering.feed)
        acted.sidecars["/api"].denials.append(denial("/web", "/api", now=time.time()))
        acted.line("/web", "/api").denied = 4
        acted.second(time.time())
        await look(gathering)
        (row,) = (await asked(pages.denials))["denials"]
        assert (row["principal"], row["target"], row["reason"]) == ("/web", "/api", "method")
        gathering.tell()
        assert repr(gathering.feed) != before
        assert gathering.denials()[0].principal == "/web"


async def test_a_start_with_another_version_or_other_settings_is_a_deploy() -> None:
    acted = play()
    series = acted.sidecars["/api"].series
    series.markers.clear()
    starts = [
        ("started without an identity: meshproxy 1.0, settings aa", "start"),
        ("started as spiffe://mesh.test/api: meshproxy 1.0, settings aa", "start"),
        ("started as spiffe://mesh.test/api: meshproxy 1.1, settings aa", "deploy"),
        ("started as spiffe://mesh.test/api: meshproxy 1.1, settings aa", "start"),
        ("started as spiffe://mesh.test/api: meshproxy 1.1, settings bb", "deploy"),
    ]
    async with gathered(acted) as (gathering, pages):
        for text, _ in starts:
            series.mark(Marker(time.time(), "start", text))
            acted.second(time.time())
            await look(gathering)
            for _ in range(2):
                gathering.tell()
        told = [marker for marker in (await asked(pages.series))["markers"] if marker["sidecar"] == "/api"]
        assert [(marker["text"], marker["kind"]) for marker in told] == starts


async def test_tick_tells_a_second_again_only_when_it_is_another() -> None:
    acted = play()
    async with gathered(acted) as (gathering, _):
        first = gathering._news(_calls(gathering))
        assert {each["target"] for each in first} == {"/api", "/db"}
        assert gathering._news(_calls(gathering)) == []
        acted.second(time.time())
        await look(gathering)
        assert {each["point"][0] for each in gathering._news(_calls(gathering))} == {int(time.time() - 0.5)}  # type: ignore[index]


def _calls(gathering: Gathering) -> Any:
    reports = [watch.report(watch.series) for watch in gathering.watches if watch.series is not None]
    return merged(reports, gathering.home)


@pytest.mark.parametrize(
    ("serve", "state", "words"),
    [
        (endless, "unreachable", "longer than 4 MiB"),
        (garbage, "unreachable", "speaks no HTTP"),
        (half, "unreachable", "broke off in the middle"),
        (nested, "broken", "none of this version"),
        (deep, "broken", "none of this version"),
        (answering({"api": 1}), "broken", "none of this version"),
        (answering([]), "broken", "none of this version"),
    ],
)
async def test_broken_one_is_shown_with_the_reason_and_harms_nobody(
    serve: Callable[[trio.SocketStream], Awaitable[None]], state: str, words: str
) -> None:
    async with hostile(serve) as post, gathered(play(), post) as (_, pages):
        mesh = await asked(pages.mesh)
        (found,) = [each for each in mesh["sidecars"] if each["state"] != "serving"]
        assert (found["state"], found["address"]) == (state, str(post.address))
        assert words in found["reason"]
        assert len((await asked(pages.series, "tier=10s"))["edges"]) == 2


async def test_liar_is_not_believed_about_others() -> None:
    acted = play()
    edge = next(iter(acted.sidecars["/db"].series)).edge
    acted.sidecars["/web"].series.take(
        time.time(), [(edge, next(iter(acted.sidecars["/db"].series)).rings["1s"].since(0).__next__()[1])]
    )
    async with gathered(acted) as (_, pages):
        states = {each["name"]: (each["state"], each["reason"]) for each in (await asked(pages.mesh))["sidecars"]}
        assert states["/web"][0] == "broken"
        assert "in which it has no part" in states["/web"][1]
        assert states["/api"][0] == "serving"


async def test_silence_is_borne_for_so_long(settling_clock: trio.testing.MockClock) -> None:
    async with hostile(silent) as post:
        with pytest.raises(NoAnswer, match="no answer within 3 s"):
            await get(post.address, "/mesh", within=3, most=1000)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_nobody_there_is_told_plainly(tmp_path: Path, kind: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener.socket.getsockname()
    await listener.aclose()
    address: Address = TcpAddress(host, port) if kind == "tcp" else UnixAddress(str(tmp_path / "gone.sock"))
    with pytest.raises(NoAnswer, match="nothing listens there"):
        await get(address, "/mesh", within=3, most=1000)


async def test_who_fails_is_asked_less_often_and_remembered_by_name() -> None:
    acted = play()
    async with gathered(acted) as (gathering, _):
        watch = gathering.watches[0]
        now = gathering.wall()
        for times in range(8):
            watch.failed("unreachable", "nothing listens there", now)
            assert watch.is_due(now + 15), times
        assert not watch.is_due(now + 10)
        assert watch.name_in("shop.example") == "/api"
        await watch.look(now)
        assert (watch.state, watch.is_due(now)) == ("serving", True)


async def test_same_question_in_a_storm_is_asked_once() -> None:
    acted = play()
    async with gathered(acted) as (gathering, pages):
        asks = 0
        everybody = gathering.everybody

        async def counted(*args: Any, **more: Any) -> Any:
            nonlocal asks
            asks += 1
            return await everybody(*args, **more)

        gathering.everybody = counted  # type: ignore[method-assign]
        since = int(time.time()) - 60
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(asked, pages.series, f"tier=10s&since={since}")
        assert asks == 1
