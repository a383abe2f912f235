"""The load: wrk for many small requests, and a transfer of 100 MiB counted to its last byte."""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bench.backend import CHUNKED_PATH, LENGTH_PATH, SMALL_PATH
from bench.bulk import BULK_BYTES, CHUNKED_FIELD, LENGTH_FIELD, PIECE, send_body, swallow
from bench.processes import PATIENCE, BenchError, need_program

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS: Final = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}  # of wrk's times, in microseconds


@dataclass(frozen=True, slots=True)
class WrkReport:
    """What wrk says of one run; times in microseconds."""

    requests: int
    per_second: float
    p50: float
    p90: float
    p99: float


def read_wrk(text: str) -> WrkReport:
    """Read what wrk prints with `--latency`; raises BenchError if anything but good answers came."""
    wrong = re.findall(r"^\s*((?:Non-2xx|Socket errors).*)$", text, re.MULTILINE)
    if wrong:
        raise BenchError(f"wrk says: {'; '.join(wrong)}")
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    times = dict(re.findall(r"^\s+(50|90|99)%\s+([\d.]+[a-z]+)\s*$", text, re.MULTILINE))
    if requests is None or rate is None or len(times) != 3 or int(requests[1]) == 0:
        raise BenchError(f"wrk counted nothing: {text.strip() or 'it printed nothing'}")
    return WrkReport(int(requests[1]), float(rate[1]), *(_microseconds(times[each]) for each in ("50", "90", "99")))


def _microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr] # of read_wrk's pattern
    return float(number) * _UNITS[unit]


def run_wrk(port: int, *, connections: int, seconds: int, fields: Sequence[str] = ()) -> WrkReport:
    """Run wrk to its end, on the benchmark's own core; raises BenchError on any error it tells."""
    command = [
        *(need_program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE:g}s"),
        *("--latency", f"http://127.0.0.1:{port}{SMALL_PATH}"),
        *(part for field in fields for part in ("-H", field)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * PATIENCE, check=False)
    return read_wrk(done.stdout + done.stderr)


class Direction(StrEnum):
    """Which way bulk goes, as the application sees it."""

    DOWN = "down"
    UP = "up"


def transfer(port: int, direction: Direction, *, chunked: bool) -> None:
    """Move 100 MiB over a connection of its own; raises BenchError unless every byte came."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        fields = (
            f"{CHUNKED_PATH if chunked else LENGTH_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
        )
        if direction is Direction.DOWN:
            connection.sendall(b"GET " + fields + b"\r\n")
            moved = swallow(connection, _read_head(connection), chunked=chunked)
        else:
            connection.sendall(b"PUT " + fields + (CHUNKED_FIELD if chunked else LENGTH_FIELD) + b"\r\n")
            send_body(connection, chunked=chunked)
            moved = _read_number(connection, _read_head(connection))
    if moved < BULK_BYTES or (moved > BULK_BYTES and not chunked):
        raise BenchError(f"bulk {direction} moved {moved} bytes instead of {BULK_BYTES}")


def _read_head(connection: socket.socket) -> bytes:
    """Read a head; returns what came behind it. Raises BenchError unless all is well."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(PIECE)
        if not more:
            raise BenchError(f"bulk was answered {received[:80]!r}, and no more")
        received += more
    if not received.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"bulk was answered {received[:80]!r}")
    return received.partition(b"\r\n\r\n")[2]


def _read_number(connection: socket.socket, begun: bytes) -> int:
    """Read the body of the answer to an upload: how many bytes of it came."""
    while more := connection.recv(PIECE):
        begun += more
    return int(begun)
