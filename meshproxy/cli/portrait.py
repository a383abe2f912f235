"""A certificate's portrait: the report of `ca.inspection` for a terminal of 80 columns, and as a JSON document."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from ca.inspection import Verdict, Weight
from meshproxy.cli.terminal import Tone, paint, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ca.inspection import CertificateFacts, Report
    from meshproxy.wire.probe import Probe

_LABEL: Final = 12  # columns; a SHA-256 in hex just fits beside it
_BAR: Final = 20  # columns of the bar that shows how much of a life is used
_VERDICT_TONE: Final = {Verdict.FINE: Tone.GOOD, Verdict.WARNED: Tone.WARNING, Verdict.WRONG: Tone.BAD}
_WEIGHT_TONE: Final = {Weight.WRONG: Tone.BAD, Weight.WARNING: Tone.WARNING}


def as_document(target: str, report: Report, seen: Probe | None) -> dict[str, object]:
    """The report as plain values for JSON; `endpoint` is null unless a live endpoint was asked."""
    endpoint = None
    if seen is not None:
        endpoint = {
            "address": seen.address,
            "outcome": seen.outcome,
            "detail": seen.detail,
            "tls_version": seen.tls_version,
            "cipher": seen.cipher,
            "alpn": seen.alpn,
        }
    return {"target": target, "verdict": report.verdict, **asdict(report), "endpoint": endpoint}


def show(target: str, report: Report, seen: Probe | None) -> None:
    """Print the report for a person."""
    title = report.id or (f"claims {report.claimed}" if report.claimed else "no identity")
    verdict = paint(report.verdict.value, _VERDICT_TONE[report.verdict])
    click.echo(f"{paint(printable(title), Tone.STRONG)}: {verdict}")
    for label, text in _lines(target, report, seen):
        click.echo(f"  {label:<{_LABEL - 2}}{text}")
    for finding in report.findings:
        _show_finding(finding.weight, finding.text)


def _lines(target: str, report: Report, seen: Probe | None) -> Iterator[tuple[str, str]]:
    if seen is not None:
        spoken = ", ".join(filter(None, (seen.tls_version, seen.cipher, seen.alpn and f"ALPN {seen.alpn}")))
        yield "endpoint", printable(f"{seen.address}, {spoken}" if spoken else seen.address)
    else:
        yield "from", printable(target)
    if names := (*report.dns, *report.ips):
        yield "also", printable(", ".join(names))
    if report.leaf is not None:
        yield from _leaf_lines(report.leaf, report)
    for position, authority in enumerate(report.authorities):
        label = "" if position else "signed by" if report.leaf is not None else "CA"
        yield label, printable(authority.subject)
        yield "", paint(f"{authority.left}, until {authority.not_after:%Y-%m-%d}, {authority.key}", Tone.FAINT)
        if report.leaf is None:
            yield "", paint(authority.sha256, Tone.FAINT)
    if report.leaf is not None:
        yield "trust", _TRUST_WORDS[report.trusted]


_TRUST_WORDS: Final = {
    True: "leads up to a root of the bundle",
    False: "does not lead up to a root of the bundle",
    None: "not judged, for want of a bundle (--bundle FILE)",
}


def _leaf_lines(leaf: CertificateFacts, report: Report) -> Iterator[tuple[str, str]]:
    beside = {True: ", the private key matches", False: ", the private key does not match", None: ""}
    if leaf.subject:
        yield "subject", printable(leaf.subject)
    yield "lasts", f"{_bar(leaf.used)} {leaf.left}"
    yield "", f"{leaf.not_before:%Y-%m-%d %H:%M:%S} to {leaf.not_after:%Y-%m-%d %H:%M:%S} UTC"
    yield "key", leaf.key + beside[report.key_matches]
    yield "serial", leaf.serial
    yield "SHA-256", leaf.sha256
    if not report.authorities:
        yield "signed by", printable(leaf.issuer)


def _bar(used: float) -> str:
    filled = round(min(max(used, 0.0), 1.0) * _BAR)
    return "[" + "#" * filled + "." * (_BAR - filled) + "]"


def _show_finding(weight: Weight, text: str) -> None:
    width = max(40, min(shutil.get_terminal_size().columns, 100)) - _LABEL
    first, *rest = textwrap.wrap(printable(text), width) or [""]
    label = f"{weight.value:<{_LABEL - 2}}"
    click.echo(f"  {paint(label, _WEIGHT_TONE[weight])}{first}")
    for line in rest:
        click.echo(" " * _LABEL + line)
