"""Memory: of a proxy that does nothing, and of each connection it holds that does nothing."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.backend import PYTHONPATH, SMALL_BODY, SMALL_PATH, start_small
from bench.bulk import PIECE
from bench.contest import line_up, tell
from bench.pair import Mode
from bench.processes import PATIENCE, BenchError, Memory, memory
from bench.product import NAME, Product
from bench.results import Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.contest import Contest
    from bench.pair import Contestant
    from bench.processes import Process
    from bench.results import Must
    from bench.stage import Stage

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_SETTLE: Final = 2.0  # seconds, for what is freed or grown after the last request
_SPARE: Final = 500  # descriptors beside those of the held connections
_AT_ONCE: Final = 64  # connections being opened
_REQUEST: Final = f"GET {SMALL_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
_LIBRARIES: Final = "import ssl, trio, cryptography.x509, h11, structlog, msgspec, prometheus_client"


@dataclass(frozen=True, slots=True)
class IdleRow:
    """The server side alone, freshly started, with nobody there."""

    name: str
    title: str
    musts: Sequence[Must] = ()

    def run(self, contest: Contest) -> list[Block]:
        """Weigh everybody, one after the other: pages shared with another of its kind would flatter it."""
        samples: dict[str, list[float]] = {}
        own: dict[str, list[float]] = {}
        everybody: list[Contestant] = [Product(), *contest.peers]
        for contestant in everybody:
            weighed = _weigh_alone(contest, contestant)
            samples[contestant.name] = [weighed.pss / _MIB]
            own[contestant.name] = [weighed.own / _MIB]
        with contest.stage() as stage:
            libraries = stage.processes.start(
                [sys.executable, "-c", f"{_LIBRARIES}\nimport time\ntime.sleep(60)"], core=stage.cores.proxies
            )
            time.sleep(_SETTLE)
            lowest = [memory([libraries.pid]).pss / _MIB]
        note = "PSS. Floor: an interpreter that has imported the libraries the product is made with, and nothing else."
        return [
            Block(
                *(self.name, self.title, "MiB", NAME, samples, lowest),
                musts=tuple(self.musts),
                also={"own pages, MiB": own},
                note=note,
            )
        ]


def _weigh_alone(contest: Contest, contestant: Contestant) -> Memory:
    tell(f"weighing {contestant.name}")
    mode = Mode.TCP if contestant in contest.contestants(Mode.TCP) else Mode.HTTP
    with contest.stage() as stage:
        pair = contestant.start(stage, mode, start_small(stage))
        pair.client_side.popen.terminate()
        pair.client_side.popen.wait()
        time.sleep(_SETTLE)
        return memory([pair.server_side.pid])


@dataclass(frozen=True, slots=True)
class HeldRow:
    """Thousands of connections through a pair in TCP mode, each asked once and then left alone."""

    name: str
    title: str
    musts: Sequence[Must] = ()

    def run(self, contest: Contest) -> list[Block]:
        """Weigh everybody before and after; the figure is of the side that grew more."""
        count = contest.options.held
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = 2 * count + _SPARE
        if needed > descriptors:
            raise BenchError(
                f"to hold {count} connections a proxy needs {needed} descriptors and may open {descriptors};"
                f" raise `ulimit -Hn` or hold fewer: HELD={(descriptors - _SPARE) // 2}"
            )
        samples, sides = {}, {}
        for contestant in contest.contestants(Mode.TCP):
            tell(f"holding {count} connections: {contestant.name}")
            with contest.stage() as stage:
                grown = _hold(stage, contestant, count)
            sides[contestant.name] = grown
            samples[contestant.name] = [max(grown)]
        with contest.stage() as stage:
            lowest = [_openssl_alone(stage)]
        note = (
            "PSS of the side that grew more; kernel memory is not in it. Floor: what OpenSSL keeps for a handshaken"
            " connection with its two buffers, in a Python process that does nothing else."
        )
        return [
            Block(
                *(self.name, f"{self.title}, {count:,} held", "KiB/connection", NAME, samples, lowest),
                musts=tuple(self.musts),
                also={"client side and server side, KiB": sides},
                note=note,
            )
        ]


def _hold(stage: Stage, contestant: Contestant, count: int) -> list[float]:
    """Return by how many KiB per connection each side grew."""
    pair = line_up(stage, [contestant], Mode.TCP, start_small(stage))[contestant.name]
    sides = (pair.client_side, pair.server_side)
    with contextlib.ExitStack() as held:
        _open(held, pair.entry, 2 * _AT_ONCE)  # what is made once is made before
        before = _weigh(sides)
        _open(held, pair.entry, count)
        after = _weigh(sides)
    return [(now - then) / count / _KIB for then, now in zip(before, after, strict=True)]


def _open(held: contextlib.ExitStack, port: int, count: int) -> None:
    """Open connections, some at a time, and have each answered: that proves its handshake to be over."""
    for start in range(0, count, _AT_ONCE):
        batch = []
        for _ in range(start, min(start + _AT_ONCE, count)):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            connection.sendall(_REQUEST)
            batch.append(connection)
        for connection in batch:
            received = b""
            while not received.endswith(SMALL_BODY):
                more = connection.recv(PIECE)
                if not more:
                    raise BenchError(f"only {start} connections could be held")
                received += more


def _weigh(sides: Sequence[Process]) -> list[int]:
    time.sleep(_SETTLE)
    return [memory([side.pid]).pss for side in sides]


def _openssl_alone(stage: Stage) -> float:
    files = map(str, (stage.api.chain, stage.api.key, stage.api.bundle))
    command = [sys.executable, "-m", "bench.tls_memory", *files]
    done = subprocess.run(command, env=PYTHONPATH, capture_output=True, text=True, check=True)
    return float(done.stdout) / _KIB
