"""The stage: a throw-away mesh on disk, and sidecars on it as real processes that tell what happens to them.

    api = stage.sidecar("api", inbound("api", forward=service.address))
    api.address("api")                                # where the listener really is: its port was left to the system
    api.log.event("denied", caller="spiffe://mesh.test/mallory")
    api.log.connection(end="clean").bytes_in

Nothing here sleeps and hopes: whatever is waited for is read from the sidecar's log or asked at its admin address, with
a deadline. Leaving the stage kills everything, and fails when a sidecar logged `internal_error`, wrote a line that is
no JSON, or ended without being told to.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec
import pytest

from meshproxy.admin.status import Status
from meshproxy.telemetry.access import ConnectionLine, RequestLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from tests.factory import Identity, MeshCa

_T = TypeVar("_T")
_S = TypeVar("_S", bound="Sidecar")

PATIENCE = 20.0  # seconds for what takes milliseconds, on a machine busy with something else
ADMIN = "127.0.0.1:0"
WORKERS = int(os.environ.get("MESHPROXY_TEST_WORKERS", "1"))  # of each sidecar whose settings do not say
LONGER_START = 4.0 if WORKERS > 1 else 0.0  # seconds for the workers' own start, on a busy machine
_WEIGHED_EVERY = 0.1  # seconds


def command(*arguments: str | Path) -> list[str]:
    """The meshproxy command line as this interpreter runs it."""
    return [sys.executable, "-m", "meshproxy", *map(str, arguments)]


def meshproxy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a meshproxy command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False)


def poll(question: Callable[[], bool], what: str, *, within: float = PATIENCE) -> None:
    """Ask until the answer is yes; fails the test after `within` seconds."""
    deadline = time.monotonic() + within
    while not question():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within:g} s in vain: {what}")
        time.sleep(0.02)


class Line(dict[str, object]):
    """One event of the log."""

    def text(self, key: str) -> str:
        """A field that is text; empty when the line has none of that name."""
        return str(self.get(key, ""))


class Log:
    """The lines a sidecar writes to stderr, read as they come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._page = 0
        self._unkept: frozenset[str] = frozenset()
        self.lines: list[Line] = []
        self.unreadable: list[bytes] = []
        self.ended = False

    def __str__(self) -> str:
        return "\n".join([*(json.dumps(line) for line in self.lines), *map(repr, self.unreadable)])

    def follow(self, raw: bytes) -> None:
        """Take one line."""
        with self._changed:
            try:
                line = Line(json.loads(raw))
                if line.get("event") not in self._unkept:
                    self.lines.append(line)
            except ValueError:
                self.unreadable.append(raw)
            self._changed.notify_all()

    def keep_none_of(self, *events: str) -> None:
        """Read these and forget them: of a long run there would be more than memory."""
        self._unkept = frozenset(events)

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def turn_page(self) -> None:
        """From here on look only at lines that come after this."""
        with self._changed:
            self._page = len(self.lines)

    def seen(self, event: str, **fields: object) -> list[Line]:
        """What has been told so far, without waiting."""
        return [line for line in self.lines[self._page :] if line.get("event") == event and _has(line, fields)]

    def event(self, event: str, *, within: float = PATIENCE, **fields: object) -> Line:
        """The first line of this kind with these fields; waits for it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended or bool(self.seen(event, **fields)), within):
                pytest.fail(f"no {event} with {fields} within {within:g} s; the log says:\n{self}")
            found = self.seen(event, **fields)
        if not found:
            pytest.fail(f"the sidecar ended without {event} {fields}; its log says:\n{self}")
        return found[0]

    def connection(self, *, within: float = PATIENCE, **fields: object) -> ConnectionLine:
        """The first access line with these fields; waits for it."""
        return msgspec.convert(self.event("connection", within=within, **fields), ConnectionLine)

    def request(self, *, within: float = PATIENCE, **fields: object) -> RequestLine:
        """The first access line of an HTTP request with these fields; waits for it."""
        return msgspec.convert(self.event("request", within=within, **fields), RequestLine)


def _has(line: Mapping[str, object], fields: Mapping[str, object]) -> bool:
    return all(line.get(key) == value for key, value in fields.items())


@dataclass(frozen=True, slots=True)
class Answer:
    """What the admin server said."""

    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> Line:
        return Line(json.loads(self.body))


def ask(admin: str, path: str, *, host: str | None = None, method: str = "GET", accept: str = "*/*") -> Answer:
    """Ask an admin server at `host:port` or `unix:path`."""
    connection = http.client.HTTPConnection("localhost" if admin.startswith("unix:") else admin, timeout=PATIENCE)
    with contextlib.closing(connection):
        if admin.startswith("unix:"):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(admin.removeprefix("unix:"))
        connection.request(method, path, headers={"Accept": accept, **({} if host is None else {"Host": host})})
        response = connection.getresponse()
        return Answer(response.status, response.getheader("content-type", ""), response.read())


class Sidecar:
    """One `meshproxy run` in its own process; or another command that serves and tells of itself in the same way."""

    def __init__(self, file: Path, *arguments: str | Path, process: subprocess.Popen[bytes] | None = None) -> None:
        """Start it with these arguments; or somebody else has, and its stderr is a pipe."""
        self.file = file
        self.log = Log()
        self._told_to_end = False
        self.forgiven: frozenset[str] = frozenset()  # what `internal_error` may be about: it was made on purpose
        self.hearing = threading.Event()  # cleared: nobody reads the log, and its pipe fills up
        self.hearing.set()
        self.process = process or subprocess.Popen(
            command(*(arguments or ("run", file))), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._started = self.log.event("started")

    def _read(self) -> None:
        stderr = self.process.stderr
        if stderr is not None:
            with stderr:
                for raw in stderr:
                    self.log.follow(raw)
                    self.hearing.wait()
        self.log.end()

    def address(self, listener: str) -> str:
        """Where a listener really listens, as an endpoint is written."""
        listeners = self._started["listeners"]
        if not isinstance(listeners, dict):
            raise TypeError("started tells its listeners as a table")
        return str(listeners[listener])

    @property
    def admin(self) -> str:
        """Where the admin server really listens."""
        return self._started.text("admin")

    def everywhere(self, event: str, *, within: float = PATIENCE, **fields: object) -> Line:
        """The first line of this kind that each of its workers tells; waits for all, and returns one of them."""
        told = [self.log.event(event, within=within, worker=each.number, **fields) for each in self.status().workers]
        return told[0] if told else self.log.event(event, within=within, **fields)

    def get(self, path: str, *, host: str | None = None, method: str = "GET", at: str | None = None) -> Answer:
        """Ask the admin server, under another Host name if told so, or at another address."""
        return ask(at or self.admin, path, host=host, method=method)

    def status(self) -> Status:
        """`/status`, as its documented shape."""
        return msgspec.json.decode(self.get("/status").body, type=Status)

    def metric(self, family: str, **labels: str) -> float:
        """One sample of `/metrics`; 0 when it has not been counted yet."""
        for name, found, value in self.samples():
            if name == family and found == labels:
                return value
        return 0.0

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Every sample of `/metrics`: its name, labels and value."""
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match:
                yield match[1], dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")), float(match[3])

    @property
    def serving(self) -> list[int]:
        """The processes that carry bytes: its workers if it has several, else the one that was started."""
        return [each.pid for each in self.status().workers if each.pid] or [self.process.pid]

    @property
    def pids(self) -> set[int]:
        """All its processes."""
        return {*self.serving, self.process.pid}

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open, in all processes."""
        return sum(1 for pid in self.pids for _ in Path(f"/proc/{pid}/fd").iterdir())

    @property
    def resident(self) -> int:
        """Resident memory in bytes, of all processes."""
        told = [re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in self.pids]
        return sum(int(found[1]) * 1024 for found in told if found)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; from now on it may end."""
        self._told_to_end = self._told_to_end or number != signal.SIGHUP
        self.process.send_signal(number)

    def expect_end(self) -> None:
        """From now on it may end: another process takes over."""
        self._told_to_end = True

    def exit_code(self, *, within: float = PATIENCE) -> int:
        """Wait for its end."""
        code = self.process.wait(within)
        self._reader.join(PATIENCE)
        return code

    def shrink_pipe(self) -> None:
        """Give the log's pipe the least room the kernel gives: one page."""
        if self.process.stderr is not None:
            fcntl.fcntl(self.process.stderr, fcntl.F_SETPIPE_SZ, 4096)

    def kill(self) -> None:
        """End it as a crash or an empty battery would."""
        self.signal(signal.SIGKILL)
        self.exit_code()

    def leave(self) -> list[str]:
        """End it whatever it does; returns what was wrong with it."""
        faults = []
        if not self._told_to_end and self.process.poll() is not None:
            faults.append(f"{self.file.stem} ended with {self.process.returncode} without being told to")
        self.hearing.set()
        self.process.kill()
        self.exit_code()
        faults += [
            f"{self.file.stem} logged {line}"
            for line in self.log.lines
            if line.get("event") == "internal_error" and not any(each in str(line) for each in self.forgiven)
        ]
        faults += [f"{self.file.stem} wrote {raw!r}, which is no JSON" for raw in self.log.unreadable]
        return faults


class Scales:
    """Weighs sidecars again and again; `growth` is by how many bytes the fattest grew."""

    def __init__(self, *sidecars: Sidecar) -> None:
        self._sidecars = sidecars
        self._over = threading.Event()
        self._before = [sidecar.resident for sidecar in sidecars]
        self.growth = 0
        self._thread = threading.Thread(target=self._weigh)
        self._thread.start()

    def _weigh(self) -> None:
        while not self._over.wait(_WEIGHED_EVERY):
            now = [sidecar.resident for sidecar in self._sidecars]
            self.growth = max(self.growth, *(b - a for a, b in zip(self._before, now, strict=True)))

    def put_away(self) -> None:
        self._over.set()
        self._thread.join()


def inbound(
    name: str = "api", *, forward: str, policy: str = "web.allow.toml", protocol: str = "tcp", more: str = ""
) -> str:
    """An [[inbound]] table on a free port; `more` is further lines of it."""
    return (
        f'[[inbound]]\nname = "{name}"\nlisten = "127.0.0.1:0"\nforward = "{forward}"\n'
        f'protocol = "{protocol}"\npolicy = "{policy}"\n{more}\n'
    )


def outbound(
    name: str = "to-api", *, endpoints: list[str], to: str = "/api", protocol: str = "tcp", more: str = ""
) -> str:
    """An [[outbound]] table on a free port; `more` is further lines of it."""
    return (
        f'[[outbound]]\nname = "{name}"\nlisten = "127.0.0.1:0"\nto = "{to}"\n'
        f'protocol = "{protocol}"\nendpoints = {json.dumps(endpoints)}\n{more}\n'
    )


class Stage:
    """A workspace with the mesh's CA beside it, and everything started on it."""

    def __init__(self, workspace: Path, mesh: MeshCa) -> None:
        self.workspace = workspace
        self.mesh = mesh
        self._leaving = contextlib.ExitStack()
        self._sidecars: list[Sidecar] = []
        self.write("web.allow.toml", '[[allow]]\nname = "web-calls"\nfrom = "/web"\n')

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faults = [fault for sidecar in self._sidecars for fault in sidecar.leave()]
        self._leaving.close()
        assert not faults, "\n".join(faults)

    def keep(self, thing: contextlib.AbstractContextManager[_T]) -> _T:
        """Enter something that is left together with the stage, after the sidecars."""
        return self._leaving.enter_context(thing)

    def on_leaving(self, do: Callable[[], object]) -> None:
        """Do something after everything on the stage has ended."""
        self._leaving.callback(do)

    def write(self, name: str, text: str) -> Path:
        """Write a file into the workspace."""
        path = self.workspace / name
        path.write_text(text)
        return path

    def identity(self, path: str) -> Identity:
        """Today's identity of `path`, in a directory of the workspace.

        It has a DNS name too (`api.test` for `/api`): sidecars do not look at it, peers that know no SPIFFE do.
        """
        name = path.strip("/").replace("/", "-")
        return self.mesh.issue(path, into=self.workspace / f"identity-{name}", dns=(f"{name}.test",))

    def configure(self, name: str, tables: str, *, identity: Path | None = None) -> Path:
        """Write a sidecar's file: as `/name`, on a free admin port, unless the tables say otherwise."""
        directory = identity or self.identity(f"/{name}").directory
        head = f'[identity]\ndir = "{directory}"\n'
        if "[admin]" not in tables:
            head += f'[admin]\nlisten = "{ADMIN}"\n'
        if WORKERS > 1 and "workers =" not in tables:
            runtime = f"[runtime]\nworkers = {WORKERS}\n"
            tables = tables.replace("[runtime]\n", runtime) if "[runtime]" in tables else f"{runtime}{tables}"
        return self.write(f"{name}.toml", f"{head}{tables}")

    def sidecar(self, name: str, tables: str, *, identity: Path | None = None) -> Sidecar:
        """Start a sidecar and wait until it says so."""
        return self.run(self.configure(name, tables, identity=identity))

    def run(self, file: Path) -> Sidecar:
        """Start the sidecar a file describes and wait until it says so."""
        return self.look_after(Sidecar(file))

    def look_after(self, sidecar: _S) -> _S:
        """End it with the stage, and see that nothing went wrong with it."""
        self._sidecars.append(sidecar)
        return sidecar
