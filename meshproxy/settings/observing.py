"""What a sidecar's file says of its being watched: where spans go, and what is told of the traffic; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.settings import grammar
from meshproxy.settings.schema import TracingSettings
from meshproxy.telemetry.wanted import AccessLines, Wanted
from meshproxy.toml import boolean

if TYPE_CHECKING:
    from meshproxy.toml import Table

TRACED: Final = 0.01  # the share of traces, where none is said


def read_tracing(root: Table) -> TracingSettings | None:
    """Read [tracing]; None where there is none, or with the problems recorded."""
    table = root.table("tracing") if "tracing" in root else None
    if table is None:
        return None
    endpoint = table.require("endpoint", grammar.collector, like='"http://127.0.0.1:4318"')
    sample = table.take("sample", grammar.share, TRACED, like=str(TRACED))
    to = table.take("to", grammar.far_identity, None, like='"/collector"')
    service = table.take("service", grammar.service_name, None, like='"orders"')
    if endpoint is None:
        return None
    if endpoint.is_tls and "to" not in table:
        table.problem(
            "endpoint",
            found="an https endpoint without `to`",
            expected="the identity of whoever is there: no public CA is believed, only the mesh's",
            remedy='Add `to = "/collector"`, or name a collector on this machine with http://',
        )
    if not endpoint.is_tls and "to" in table:
        table.problem(
            "to",
            found="`to` with an http endpoint, where nobody shows an identity",
            expected="an https endpoint",
            remedy="Write https://, or remove `to`",
        )
    if not endpoint.is_tls and not endpoint.address.is_local:
        table.problem(
            "endpoint",
            found=f"{endpoint.url}, which spans would go to in the clear",
            expected="a loopback address, or an https endpoint and `to`: spans say who calls what",
            remedy="Write https:// and `to`, or send through an [[outbound]] of this file on a loopback address",
        )
    return TracingSettings(endpoint, sample, to, service)


def read_telemetry(root: Table) -> Wanted:
    """Read [telemetry]; what it leaves out is as by default."""
    default = Wanted()
    table = root.table("telemetry")
    if table is None:
        return default
    return Wanted(
        lines=table.take("access_log", grammar.one_of(AccessLines), default.lines, like='"all"'),
        request_metrics=table.take("request_metrics", boolean, default=default.request_metrics, like="true"),
        series=table.take("series", boolean, default=default.series, like="true"),
    )
