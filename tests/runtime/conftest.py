"""A sidecar's files in `tmp_path` and its stations on real loopback sockets, with handlers that tell who they are."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.inbound.authorize import Authorizer
from meshproxy.inbound.live import Live
from meshproxy.runtime.drain import Ending, serve_until_drained
from meshproxy.runtime.stations import Equipment, Stations
from meshproxy.settings.load import Configuration, load_configuration
from meshproxy.settings.plan import plan_reload
from meshproxy.settings.schema import Inbound, Outbound
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.ends import ConnectionEnd, End
from meshproxy.wire.tls import receive
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from meshproxy.inbound.visit import Visit
    from meshproxy.telemetry.access import ConnectionLine, RequestLine

WEB = '[[allow]]\nfrom = "/web"\n'
PATIENCE = 5
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


def inbound(name: str, listen: str, *, more: str = "", policy: str = "web.allow.toml", protocol: str = "tcp") -> str:
    """An `[[inbound]]` table."""
    return (
        f'[[inbound]]\nname = "{name}"\nlisten = "{listen}"\nforward = "127.0.0.1:9"\nprotocol = "{protocol}"\n'
        f'policy = "{policy}"\n{more}\n'
    )


def outbound(name: str, listen: str, *, more: str = "") -> str:
    """An `[[outbound]]` table."""
    return (
        f'[[outbound]]\nname = "{name}"\nlisten = "{listen}"\nto = "/ledger"\nendpoints = "ledger:8443"\n'
        f'protocol = "tcp"\n{more}\n'
    )


class WallClock:
    """Time of day, as told; `moved` by tests, and with the clock of the loop."""

    def __init__(self) -> None:
        self.moved = timedelta()
        self._began = trio.current_time()

    def __call__(self) -> datetime:
        return MOMENT + self.moved + timedelta(seconds=trio.current_time() - self._began)


@dataclass
class House:
    """Stations that serve, and the files they are made from."""

    directory: Path
    wall: WallClock
    metrics: Metrics = field(default_factory=Metrics)
    lines: list[ConnectionLine | RequestLine] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    asked_to_end: list[str] = field(default_factory=list)
    stopping: trio.Event = field(default_factory=trio.Event)
    nothing_cut: bool | None = None

    def __post_init__(self) -> None:
        self.log, self.heard = listening_log()
        self.recorder = Recorder(self.metrics, self.log, self.lines.append, trio.current_time)
        self.stations = Stations(self.equip, self.recorder, self.wall)
        self.sockets: list[socket.socket] = []

    heard: Heard = field(init=False)
    configuration: Configuration = field(init=False)

    def write(self, *tables: str, file: str = "sidecar.toml") -> None:
        """Write the settings, or another file."""
        head = '[identity]\ndir = "identity"\n' if file == "sidecar.toml" else ""
        path = self.directory / file
        path.write_text(head + "\n".join(tables))
        path.chmod(0o644)

    def load(self, generation: int = 1) -> Configuration:
        return load_configuration(self.directory / "sidecar.toml", generation=generation)

    def equip(
        self, settings: Inbound | Outbound, configuration: Configuration, previous: Equipment | None
    ) -> Equipment:
        """Equipment whose connections answer `<name> <forward or to>`, then echo, until they are asked to end."""
        live = Live() if previous is None else previous.live
        authorizer = previous.authorizer if previous else None
        if authorizer is None and isinstance(settings, Inbound):
            authorizer = Authorizer(settings, Snapshot(configuration.policies[settings.name]), self.recorder)
        makes = f"{settings.name} {settings.forward if isinstance(settings, Inbound) else settings.to}"

        async def handle(sock: socket.socket, visit: Visit) -> None:
            visit.caller = "somebody"
            sock.send(makes.encode())
            with live.holding(Asked(makes, self.asked_to_end)):
                while data := await receive(sock, 100):
                    sock.send(data)
            visit.end = ConnectionEnd(End.CLEAN)

        return Equipment(handle, live, authorizer, lambda: self.retired.append(makes))

    def apply(self, *tables: str, within: float = 30) -> None:
        """Write the settings and take them up."""
        old = self.configuration
        self.write(*tables)
        new = self.load()
        self.stations.apply(plan_reload(old.settings, new.settings), new, grace=1, within=within)
        self.configuration = new

    async def serve(self, *tables: str, nursery: trio.Nursery) -> None:
        """Bind and run what the tables say."""
        self.write(*tables)
        self.configuration = self.load()
        self.stations.bind_all(self.configuration)
        await nursery.start(self.run)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.nothing_cut = await serve_until_drained(self.stations, self.stopping, self.begin, task_status)

    def begin(self) -> Ending:
        return Ending(self.configuration.settings.runtime)

    def address(self, name: str) -> tuple[str, int] | str:
        (found,) = [each.acceptor.post for each in self.stations if each.settings.name == name]
        name_of: tuple[str, int] | str = found.listener.getsockname()
        return name_of

    async def call(self, at: tuple[str, int] | str) -> Caller:
        """Connect, and hear who answers."""
        sock = socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET)
        self.sockets.append(sock)
        sock.connect(at)
        sock.setblocking(False)
        with trio.fail_after(PATIENCE):
            return Caller(sock, (await receive(sock, 100)).decode())

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@dataclass(eq=False)
class Asked:
    """Remembers that it was asked to end."""

    name: str
    told: list[str]

    def drain(self, grace: float) -> None:  # noqa: ARG002 - as the protocol has it
        self.told.append(self.name)


@dataclass
class Caller:
    """A connection, and who answered it."""

    sock: socket.socket
    answered: str

    async def is_served(self) -> bool:
        """Whether it still gets an answer."""
        with trio.fail_after(PATIENCE):
            try:
                self.sock.send(b"?")
                return await receive(self.sock, 100) == b"?"
            except OSError:
                return False

    def leave(self) -> None:
        self.sock.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, WallClock())
    house.write(WEB, file="web.allow.toml")
    yield house
    house.stations.close_all()
    for sock in house.sockets:
        sock.close()
    assert house.heard.named("internal_error") == []
