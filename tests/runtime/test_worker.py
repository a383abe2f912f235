"""One worker in this process, led over its channel as a supervisor leads it, on real sockets."""

from __future__ import annotations

import gc
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.runtime.auditing import file_of
from meshproxy.runtime.control import (
    Abort,
    Answer,
    Channel,
    Commit,
    Cut,
    Drain,
    Ended,
    File,
    Hello,
    LookAtIdentity,
    Order,
    Prepare,
    Report,
    Tell,
    Word,
)
from meshproxy.runtime.telling import Telling
from meshproxy.runtime.worker import Place, Worker
from meshproxy.settings.schema import AuditSettings
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.writer import LogWriter
from meshproxy.wire.occupancy import make_page
from meshproxy.wire.tls import receive
from tests.factory import MeshCa, make_mesh_ca
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from meshproxy.telemetry.access import AccessLine

HEAD = '[identity]\ndir = "api"\n[runtime]\ndrain_timeout = "5s"\ndrain_delay = "60s"\n'
INBOUND = (
    '[[inbound]]\nname = "in"\nlisten = "unix:in"\nforward = "unix:service"\nprotocol = "tcp"\npolicy = "allow.toml"\n'
)
OUTBOUND = (
    '[[outbound]]\nname = "{name}"\nlisten = "unix:{name}"\nto = "/api"\nendpoints = "unix:in"\nprotocol = "tcp"\n'
)
SELF = '[[allow]]\nname = "self"\nfrom = "/api"\n'
IN, OUT = ("inbound", "in"), ("outbound", "out")


@dataclass
class Supervisor:
    """What the test does in its place: it binds, and speaks over the channel."""

    home: Path
    mesh: MeshCa
    channel: Channel[Word]
    worker: Worker
    heard: Heard
    lines: list[AccessLine]
    kept: ExitStack
    nothing_cut: bool | None = None
    ids: int = 0
    sockets: dict[tuple[str, str], tuple[socket.socket, int]] = field(default_factory=dict)

    async def run(self) -> None:
        self.nothing_cut = await self.worker.run()

    def bind(self, key: tuple[str, str]) -> None:
        """Listen at the unix socket that has the listener's name."""
        sock = self.kept.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(str(self.home / key[1]))
        sock.listen()
        page = make_page(2)
        self.kept.callback(os.close, page)
        self.sockets[key] = (sock, page)

    def files(self, settings: str, allow: str = SELF) -> None:
        for name, text in {"side.toml": settings, "allow.toml": allow}.items():
            self.channel.say(File(os.fsencode(self.home / name), text.encode()))

    async def hear(self) -> Word | None:
        with trio.fail_after(5):
            return await self.channel.hear()

    async def prepare(self, generation: int, *keys: tuple[str, str]) -> Answer:
        """Order it, and hear what is wrong."""
        self.ids += 1
        descriptors = [each for key in keys for each in (self.sockets[key][0].fileno(), self.sockets[key][1])]
        self.channel.say(Prepare(self.ids, generation, keys), descriptors)
        answer = await self.hear()
        assert isinstance(answer, Answer)
        assert answer.id == self.ids
        return answer

    async def commit(self) -> None:
        self.ids += 1
        self.channel.say(Commit(self.ids))
        assert await self.hear() == Answer(self.ids)

    async def tell(self) -> Report:
        self.channel.say(Tell(9))
        report = await self.hear()
        assert isinstance(report, Report)
        return report

    def connect(self, name: str) -> socket.socket:
        sock = self.kept.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(str(self.home / name))
        sock.setblocking(False)
        return sock

    async def call(self, name: str = "out") -> socket.socket:
        """Connect through the worker to the service behind it, and be answered."""
        sock = self.connect(name)
        sock.send(b"a")
        with trio.fail_after(5):
            assert await receive(sock, 1) == b"A"
        return sock

    async def ended(self) -> None:
        with trio.fail_after(10):
            while self.nothing_cut is None:  # noqa: ASYNC110 - its end wakes nobody
                await trio.sleep(0.002)

    def refuses(self, name: str) -> bool:
        """Whether nobody listens, when we do not ourselves."""
        for sock, _ in self.sockets.values():
            sock.close()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.home / name)) != 0


@pytest.fixture
async def led(tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """A worker that has said hello."""
    monkeypatch.chdir(tmp_path)  # a unix socket's path must be short
    mesh = make_mesh_ca(tmp_path)
    mesh.issue("/api")
    log, heard = listening_log()
    lines: list[AccessLine] = []
    with ExitStack() as kept:
        file = kept.enter_context((tmp_path / "log").open("wb"))
        writer = LogWriter(file.fileno())
        kept.callback(writer.close)
        ours, theirs = socket.socketpair()
        worker = Worker(
            str(tmp_path / "side.toml"),
            Place(1, 2),
            Channel(theirs, Order),
            Telling(log, lines.append, writer, Metrics()),
        )
        made = Supervisor(tmp_path, mesh, Channel(ours, Word), worker, heard, lines, kept)
        kept.callback(made.channel.close)
        nursery.start_soon(made.channel.run)
        nursery.start_soon(made.run)
        assert isinstance(await made.hear(), Hello)
        yield made
        nursery.cancel_scope.cancel()
    gc.unfreeze()


@pytest.fixture
async def serving(led: Supervisor, nursery: trio.Nursery) -> Supervisor:
    """A worker that calls itself: its outbound listener leads to its inbound one."""

    async def attend(sock: trio.SocketStream) -> None:
        async for data in sock:
            await sock.send_all(data.upper())

    service = trio.socket.socket(socket.AF_UNIX)
    await service.bind(str(led.home / "service"))
    service.listen()
    nursery.start_soon(trio.serve_listeners, attend, [trio.SocketListener(service)])
    for key in (IN, OUT):
        led.bind(key)
    led.files(HEAD + INBOUND + OUTBOUND.format(name="out"))
    assert await led.prepare(1, IN, OUT) == Answer(1)
    await led.commit()
    return led


async def test_it_serves_what_it_was_handed_and_reads_no_file(serving: Supervisor) -> None:
    assert not (serving.home / "side.toml").exists()
    await serving.call()
    report = await serving.tell()
    assert (report.status.state, report.status.configuration.generation) == ("serving", 1)
    assert [(each.name, each.open) for each in report.status.listeners] == [("in", 1), ("out", 1)]
    assert [each.value for each in report.samples if each.name == "meshproxy_connections_open"] == [1, 1]
    assert serving.heard.named("started") == []  # that is told by who leads


async def test_a_change_is_prepared_then_put_in_force(serving: Supervisor) -> None:
    before = await serving.call()
    more = ("outbound", "more")
    serving.bind(more)
    serving.files(HEAD + INBOUND + OUTBOUND.format(name="more"), SELF + SELF.replace("self", "other"))
    await serving.prepare(2, more)
    await serving.call()  # nothing has changed yet
    await serving.commit()
    await serving.call("more")
    report = await serving.tell()
    inbound, outbound = report.status.listeners
    assert outbound.name == "more"
    assert inbound.policy is not None
    assert (inbound.policy.generation, inbound.policy.rules) == (2, 2)
    before.send(b"b")
    assert await receive(before, 1) == b"B"  # it is given its time


async def test_what_was_taken_back_leaves_nothing(serving: Supervisor) -> None:
    more = ("outbound", "more")
    serving.bind(more)
    serving.files(HEAD + INBOUND + OUTBOUND.format(name="more"))
    await serving.prepare(2, more)
    serving.channel.say(Abort())
    await serving.commit()
    assert (await serving.tell()).status.configuration.generation == 1
    await serving.call()
    assert serving.refuses("more")


@pytest.mark.parametrize(
    ("settings", "keys", "found"),
    [
        (HEAD + INBOUND, (IN, IN), "4 descriptors"),
        ("colour = 1", (IN,), "no [identity]"),
        (HEAD.replace('"api"', '"other"') + INBOUND, (IN,), "other/chain.pem"),
    ],
    ids=["descriptors-lost", "no-settings", "no-identity"],
)
async def test_what_it_cannot_serve_is_told(
    led: Supervisor, settings: str, keys: tuple[tuple[str, str], ...], found: str
) -> None:
    (led.home / "other").mkdir()
    for name in ("key.pem", "chain.pem", "bundle.pem"):
        (led.home / "other" / name).write_text("")
    led.bind(IN)
    led.files(settings)
    if keys == (IN, IN):  # as when the kernel had no descriptors left for it
        led.channel.say(Prepare(5, 1, (IN,)), [led.sockets[IN][0].fileno()] * 4)
        answer = await led.hear()
    else:
        answer = await led.prepare(1, *keys)
    assert isinstance(answer, Answer)
    assert found in str(answer.problems[0])


async def test_it_drains_when_told_and_has_the_last_word(serving: Supervisor) -> None:
    await serving.call()
    serving.channel.say(Drain())
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert (await serving.tell()).status.state == "draining"
    await serving.commit()  # too late to change anything
    serving.channel.say(Cut())
    last = await serving.hear()
    assert isinstance(last, Ended)
    assert not last.nothing_cut
    assert last.report is not None
    assert await serving.hear() is None
    await serving.ended()
    assert [line.end for line in serving.lines] == ["drained", "drained"]


async def test_without_its_supervisor_it_frees_the_addresses_and_serves_who_is_in(serving: Supervisor) -> None:
    """`drain_delay` is for load balancers; a sidecar that is started anew in its place must be able to listen."""
    app = await serving.call()
    serving.channel.close()
    with trio.fail_after(5):
        while not (serving.refuses("in") and serving.refuses("out")):  # noqa: ASYNC110 - its end wakes nobody
            await trio.sleep(0.002)
    app.send(b"b")
    assert await receive(app, 1) == b"B"
    app.shutdown(socket.SHUT_WR)
    assert await receive(app, 1) == b""
    await serving.ended()
    assert serving.nothing_cut is True
    assert serving.heard.named("draining")[0]["reason"] == "the supervisor is gone"


async def test_before_it_serves_nothing_is_worth_staying_for(led: Supervisor) -> None:
    led.channel.say(Tell(1))  # nothing to tell yet
    led.channel.say(LookAtIdentity())
    led.channel.close()
    await led.ended()
    assert led.nothing_cut is False


async def test_it_looks_at_its_identity_when_told(serving: Supervisor) -> None:
    serving.mesh.issue("/api")
    serving.channel.say(LookAtIdentity())
    with trio.fail_after(5):
        while (await serving.tell()).status.identity.generation != 2:  # noqa: ASYNC110 - its load wakes nobody
            await trio.sleep(0.01)


@pytest.mark.parametrize("place", [Place(0, 2), Place(1, 2, shift=1)])
def test_a_place_is_one_word_of_the_command_line(place: Place) -> None:
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize(
    ("worker", "shift", "name"),
    [(None, 0, "audit.jsonl"), (2, 0, "audit.2.jsonl"), (None, 1, "audit.b.jsonl"), (2, 1, "audit.b.2.jsonl")],
)
def test_processes_that_overlap_write_to_different_audit_logs(worker: int | None, shift: int, name: str) -> None:
    assert file_of(AuditSettings(Path("/var/audit.jsonl")), worker, shift) == Path("/var") / name
