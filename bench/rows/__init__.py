"""The rows of the benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.load import Direction
from bench.pair import Mode
from bench.processes import BenchError
from bench.results import Must
from bench.rows.cpu import CLOSED, KEPT, POOLED_FLOOR, Bulk, CpuRow, Small
from bench.rows.decisions import DecisionsRow
from bench.rows.fairness import FairnessRow
from bench.rows.forms import LanesRow, WorkersRow
from bench.rows.issuance import IssuanceRow
from bench.rows.memory import HeldRow, IdleRow
from bench.rows.observability import ObservabilityRow
from bench.rows.rate import RateRow
from bench.rows.sequential import SequentialRow

if TYPE_CHECKING:
    from bench.contest import Row

_BULK_TCP: Final = (Must(1.1, 0.95, ("haproxy", "ghostunnel", "nginx")),)
_BULK_LENGTH: Final = (Must(1.2, 1.0, ("haproxy",)),)
_BULK_CHUNKED: Final = (Must(1.5, 1.2, ("haproxy",)),)
_FAIR: Final = (Must(3.0, None, ("haproxy",)),)

ROWS: Final[dict[str, Row]] = {
    row.name: row
    for row in (
        CpuRow(
            "tcp-keepalive",
            "TCP mode, 32 kept connections, 1 KiB replies",
            Mode.TCP,
            KEPT,
            (Must(1.5, 1.0, ("ghostunnel",)), Must(0.9, 0.7, ("stunnel",))),
        ),
        CpuRow("tcp-bulk-down", "TCP mode, 100 MiB down", Mode.TCP, Bulk(Direction.DOWN), _BULK_TCP),
        CpuRow("tcp-bulk-up", "TCP mode, 100 MiB up", Mode.TCP, Bulk(Direction.UP), _BULK_TCP),
        CpuRow(
            "tcp-handshake",
            "TCP mode, a new connection for each request, full mTLS handshake",
            Mode.TCP,
            Small(connections=16, keeps=False),
            (Must(1.3, 1.1, ("haproxy", "nginx")),),
        ),
        CpuRow(
            "http-keepalive",
            "HTTP mode, 32 kept connections, 1 KiB replies, 100 rules",
            Mode.HTTP,
            KEPT,
            (Must(0.55, 0.45, ("caddy",)), Must(2.2, 1.7, ("haproxy",))),
        ),
        CpuRow(
            "http-close",
            "HTTP mode, clients that close, pooled upstream connections",
            Mode.HTTP,
            CLOSED,
            (Must(0.8, 0.6, ("caddy",)),),
            kernel_floor=POOLED_FLOOR,
            crypto_floor=KEPT,
        ),
        CpuRow("http-bulk", "HTTP mode, 100 MiB down, by length", Mode.HTTP, Bulk(Direction.DOWN), _BULK_LENGTH),
        CpuRow("http-bulk-up", "HTTP mode, 100 MiB up, by length", Mode.HTTP, Bulk(Direction.UP), _BULK_LENGTH),
        CpuRow(
            "http-chunked",
            "HTTP mode, 100 MiB down, in chunks of 16 KiB",
            Mode.HTTP,
            Bulk(Direction.DOWN, chunked=True),
            _BULK_CHUNKED,
        ),
        CpuRow(
            "http-chunked-up",
            "HTTP mode, 100 MiB up, in chunks of 16 KiB",
            Mode.HTTP,
            Bulk(Direction.UP, chunked=True),
            _BULK_CHUNKED,
        ),
        SequentialRow("tcp-sequential", "TCP mode, one connection", Mode.TCP, (Must(1.5, 1.2, ("ghostunnel",)),)),
        SequentialRow("http-sequential", "HTTP mode, one connection", Mode.HTTP, (Must(1.5, 1.2, ("caddy",)),)),
        LanesRow("lanes", "HTTP mode as http-keepalive, the fast lane on and off"),
        ObservabilityRow("observability", "HTTP mode as http-keepalive, all that is told on and off"),
        WorkersRow("workers", "TCP mode, two workers"),
        DecisionsRow("decisions", "one decision about a request"),
        IssuanceRow("issuance", "a certificate from the CA"),
        IdleRow("memory-idle", "one idle server side", (Must(45, 32),)),
        HeldRow("memory-held", "an idle mTLS connection", (Must(40, 28),)),
        RateRow("tcp-rate", "TCP mode, constant rate", Mode.TCP),
        RateRow("http-rate", "HTTP mode, constant rate", Mode.HTTP),
        FairnessRow("tcp-fairness", "TCP mode, 31 small ones beside one bulk stream", Mode.TCP, _FAIR),
        FairnessRow("http-fairness", "HTTP mode, 31 small ones beside one bulk stream", Mode.HTTP, _FAIR),
    )
}


def select_rows(only: str) -> list[Row]:
    """Return the rows named, separated by commas, or all; raises BenchError that lists the valid names."""
    if not only:
        return list(ROWS.values())
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    wrong = [name for name in wanted if name not in ROWS]
    if wrong:
        raise BenchError(f"no row is called {', '.join(wrong)}; the rows are {', '.join(ROWS)}")
    return [ROWS[name] for name in dict.fromkeys(wanted)]
