"""What a listener bears: read from [limits] and the listener's own table, told back as it would be written; pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from meshproxy.settings import grammar
from meshproxy.settings.schema import Inbound, Limits, Protocol
from meshproxy.toml import quote
from meshproxy.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.settings.schema import Outbound
    from meshproxy.toml import Table


@dataclass(frozen=True, slots=True)
class OnlyIn:
    """A listener's key that says nothing under the other protocol.

    There it is refused: not looking at it would leave a person with a limit that does not hold.
    """

    protocol: Protocol
    because: str
    remedy: str


OF_HTTP: Final = dict.fromkeys(
    (
        *("response_timeout", "request_timeout", "body_min_rate", "head_bytes", "max_fields", "target_bytes"),
        *("max_body_bytes", "max_pipelined", "pool_idle"),
        *("max_upstream_connections", "max_upstream_queue", "upstream_queue_timeout"),
    ),
    OnlyIn(Protocol.HTTP, "tcp sees no messages", "Remove it; in [limits] it may stay, for http listeners"),
)

# Callers of an outbound listener are programs of this machine, all at one address, and have no identity to prove.
_OF_INBOUND: Final = frozenset({"max_handshakes", "max_connections_per_peer"})

_SIZES: Final = frozenset({"body_min_rate", "head_bytes", "target_bytes", "max_body_bytes"})


def read_limits(table: Table, defaults: Limits) -> Limits:
    """Read the limits in `table`, which is [limits] or a listener; what it leaves out is as in `defaults`."""

    def timeout(key: str, default: float, like: str) -> float:
        return table.take(key, grammar.positive_duration, default, like=like)

    def age(key: str, default: float | None, like: str) -> float | None:
        return table.take(key, grammar.duration_or_none, default, like=like)

    def count(key: str, default: int, like: str) -> int:
        return table.take(key, grammar.connection_cap, default, like=like)

    limits = Limits(
        handshake_timeout=timeout("handshake_timeout", defaults.handshake_timeout, '"10s"'),
        head_timeout=timeout("head_timeout", defaults.head_timeout, '"10s"'),
        connect_timeout=timeout("connect_timeout", defaults.connect_timeout, '"5s"'),
        idle_timeout=timeout("idle_timeout", defaults.idle_timeout, '"5m"'),
        max_connections=count("max_connections", defaults.max_connections, "10000"),
        max_connection_age=age("max_connection_age", defaults.max_connection_age, '"1h"'),
        max_handshakes=count("max_handshakes", defaults.max_handshakes, "512"),
        max_connections_per_peer=count("max_connections_per_peer", defaults.max_connections_per_peer, "5000"),
        response_timeout=timeout("response_timeout", defaults.response_timeout, '"60s"'),
        request_timeout=age("request_timeout", defaults.request_timeout, '"2m"'),
        body_min_rate=table.take("body_min_rate", grammar.body_rate, defaults.body_min_rate, like='"500B"'),
        head_bytes=table.take("head_bytes", grammar.head_size, defaults.head_bytes, like='"32KiB"'),
        max_fields=table.take("max_fields", grammar.field_count, defaults.max_fields, like="100"),
        target_bytes=table.take("target_bytes", grammar.target_size, defaults.target_bytes, like='"8KiB"'),
        max_body_bytes=table.take("max_body_bytes", grammar.size_or_none, defaults.max_body_bytes, like='"10MiB"'),
        max_pipelined=table.take("max_pipelined", grammar.pipelining_depth, defaults.max_pipelined, like="100"),
        pool_idle=table.take("pool_idle", grammar.duration, defaults.pool_idle, like='"3s"'),
        max_upstream_connections=count("max_upstream_connections", defaults.max_upstream_connections, "1024"),
        max_upstream_queue=table.take(
            "max_upstream_queue", grammar.queue_length, defaults.max_upstream_queue, like="1024"
        ),
        upstream_queue_timeout=timeout("upstream_queue_timeout", defaults.upstream_queue_timeout, '"5s"'),
    )
    if "target_bytes" in table and limits.target_bytes >= limits.head_bytes:
        table.problem(
            "target_bytes",
            found=f"a target of {limits.target_bytes} bytes in a head of {limits.head_bytes}",
            expected="less than `head_bytes`: the target is a part of the head",
            remedy="Raise `head_bytes` as well, or lower `target_bytes`",
        )
    return limits


def refuse_foreign(table: Table, protocol: Protocol | None, bound: Mapping[str, OnlyIn]) -> None:
    """Record the keys of a listener that say nothing under its protocol (None: not known)."""
    for key, its in bound.items():
        if protocol not in (None, its.protocol) and key in table:
            table.problem(
                key,
                found=f"`{key}` on a listener of protocol {quote(str(protocol))}",
                expected=f"it with protocol = {quote(its.protocol)} only: {its.because}",
                remedy=its.remedy,
            )


def refuse_of_inbound(table: Table) -> None:
    """Record the limits of an outbound listener that only an inbound one can keep."""
    for key in sorted(_OF_INBOUND):
        if key in table:
            table.problem(
                key,
                found=f"`{key}` on an outbound listener",
                expected="it with [[inbound]] only: local callers have no handshake and no identity",
                remedy="Remove it, or write `max_connections`; in [limits] it may stay, for inbound listeners",
            )


def limits_in_words(listener: Inbound | Outbound) -> dict[str, str]:
    """Return the limits that hold on a listener, each as it would be written; `off` for one that bounds nothing."""
    http, inbound = listener.protocol is Protocol.HTTP, isinstance(listener, Inbound)
    return {
        each.name: _in_words(each.name, getattr(listener.limits, each.name))
        for each in fields(Limits)
        if (http or (each.name not in OF_HTTP and each.name != "head_timeout"))
        and (inbound or each.name not in _OF_INBOUND)
    }


def _in_words(name: str, value: float | None) -> str:
    if value is None:
        return "off"
    if name in _SIZES:
        return format_size(int(value))
    return str(value) if name.startswith("max_") and name != "max_connection_age" else format_duration(value)
