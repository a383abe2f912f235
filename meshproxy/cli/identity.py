"""`meshproxy inspect`: gather what there is to know of a file, a directory, an endpoint; `ca.inspection` judges it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from cryptography.hazmat.primitives.serialization import Encoding

from ca import identity_directory, inspection, keys
from ca.bundle import BundleError, read_bundle
from ca.inspection import Evidence, Finding, Report, Verdict, Weight
from ca.permissions import authority_mode_fault, key_mode_fault
from ca.spiffe_id import SpiffeId, TrustDomain
from ca.svid import LeafError, read_certificate, read_chain, read_leaf
from meshproxy.cli import portrait
from meshproxy.cli.terminal import example, fail, os_error_words, print_json
from meshproxy.units import parse_duration
from meshproxy.wire.address import parse_address
from meshproxy.wire.probe import ClientIdentity, IdentityUnusableError, Outcome, Probe, probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from meshproxy.wire.address import Address

_LARGEST_FILE: Final = 1 << 20  # bytes; a chain is a few kilobytes, and somebody will name a log file


@dataclass(frozen=True, slots=True)
class Trust:
    """What to judge by: the bundle's text and where it came from, and the trust domain expected, as far as given."""

    bundle: bytes | None = None
    source: str = ""
    home: TrustDomain | None = None


@click.command(
    epilog=example(
        "meshproxy inspect web/identity",
        "meshproxy inspect chain.pem --bundle bundle.pem",
        "meshproxy inspect ledger.internal:8443 --identity web/identity",
    )
)
@click.argument("target", metavar="FILE|DIR|HOST:PORT")
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Judge trust by the roots in FILE.")
@click.option(
    "--identity",
    "own",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For HOST:PORT: offer this identity, and judge trust by its bundle.",
)
@click.option("--timeout", default="5s", show_default=True, metavar="DURATION", help="How long an endpoint may take.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def inspect(*, target: str, bundle: Path | None, own: Path | None, timeout: str, as_json: bool) -> None:
    """Tell what a certificate or a live endpoint is: who it is, who signed it, how long it lasts, what is wrong.

    FILE holds certificates in PEM, leaf first; DIR is an identity directory; HOST:PORT (or unix:/path) is asked over
    TLS. Exits 0 when it is fine, 1 when something is wrong with it, 2 when it cannot be read or reached.
    """
    try:
        report, seen = _look(target, _trust(bundle, own), own, timeout)
    except OSError as error:
        fail(f"{target} cannot be read: {os_error_words(error)}")
    if as_json:
        print_json(portrait.as_document(target, report, seen))
    else:
        portrait.show(target, report, seen)
    raise SystemExit(1 if report.verdict is Verdict.WRONG else 0)


def _look(target: str, trust: Trust, own: Path | None, timeout: str) -> tuple[Report, Probe | None]:
    """Decide what the target is, gather, and have it judged."""
    path = Path(target)
    now = datetime.now(UTC)
    if (path / "ca.toml").is_file():
        return inspection.inspect_authorities(_authority_chain(path), now=now), None
    if path.is_dir():
        return inspection.inspect_identity(_from_directory(path, trust), now=now), None
    if path.exists():
        evidence = _from_file(path, trust)
        if inspection.is_authority(evidence.chain[0]):
            return inspection.inspect_authorities(evidence.chain, now=now, findings=evidence.findings), None
        return inspection.inspect_identity(evidence, now=now), None
    try:
        address = parse_address(target)
    except ValueError as error:
        fail(f"{target!a} is no file, no directory and no endpoint; expected {error}")
    seen = _ask(address, own, timeout)
    evidence = _from_endpoint(seen, trust, _endpoint_findings(seen, anonymous=own is None))
    return inspection.inspect_identity(evidence, now=now), seen


def _trust(bundle: Path | None, own: Path | None) -> Trust:
    """What the options give to judge by; the bundle named outranks the one of the identity."""
    trust = Trust()
    try:
        if own is not None:
            files = _read_identity(own)
            home = _claimed_domain(read_chain(files.chain or b"")[0])
            trust = Trust(files.bundle, f"{own}/{identity_directory.BUNDLE}", home)
        if bundle is not None:
            trust = replace(trust, bundle=bundle.read_bytes(), source=str(bundle))
    except OSError as error:
        fail(f"nothing to judge by: {os_error_words(error)}")
    except ValueError as error:
        fail(f"the identity {own} cannot be used: its chain.pem holds {error}")
    return trust


def _authority_chain(directory: Path) -> tuple[x509.Certificate, ...]:
    files = sorted(directory.glob("authorities/*/*.crt"))
    try:
        certificates = tuple(each for file in files for each in read_chain(file.read_bytes()))
    except ValueError as error:
        fail(f"the CA in {directory} cannot be read: a certificate file holds {error}")
    return certificates or fail(f"the CA in {directory} holds no certificates")


def _from_directory(directory: Path, trust: Trust) -> Evidence:
    files = _read_identity(directory)
    findings: list[Finding] = []
    if files.chain is None:
        fail(f"{directory} is not an identity directory: it holds no {identity_directory.CHAIN}")
    chain = _chain(files.chain, str(files.place / identity_directory.CHAIN))
    matches = None
    if files.key is None:
        findings.append(Finding(Weight.WRONG, f"there is no {identity_directory.KEY}"))
    else:
        matches, found = _key_beside(files.key, files.place / identity_directory.KEY, chain[0])
        findings += found
    if trust.bundle is None:
        trust = replace(trust, bundle=files.bundle, source=identity_directory.BUNDLE)
        if files.bundle is None:
            findings.append(Finding(Weight.WRONG, f"there is no {identity_directory.BUNDLE}"))
    for guarded in (directory, files.place, files.place / identity_directory.BUNDLE):
        findings += _authority_mode(guarded)
    roots, found = _roots(chain[0], trust)
    return Evidence(chain, roots, trust.home, matches, (*dict.fromkeys(findings), *found))


def _from_file(path: Path, trust: Trust) -> Evidence:
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        fail(f"{path} is larger than 1 MiB; expected certificates in PEM")
    chain = _chain(content, str(path))
    matches, findings = _key_beside(content, path, chain[0]) if b"PRIVATE KEY-----" in content else (None, ())
    roots, found = _roots(chain[0], trust)
    return Evidence(chain, roots, trust.home, matches, (*findings, *found))


def _from_endpoint(seen: Probe, trust: Trust, findings: tuple[Finding, ...]) -> Evidence:
    if not seen.chain:
        fail(f"{seen.address}: {seen.detail}")
    try:
        chain = tuple(map(read_certificate, seen.chain))
    except ValueError as error:
        fail(f"{seen.address} presents {error}", exit_code=1)
    roots, found = _roots(chain[0], trust)
    return Evidence(chain, roots, trust.home, None, (*findings, *found))


def _endpoint_findings(seen: Probe, *, anonymous: bool) -> tuple[Finding, ...]:
    """What the conversation itself tells: a refusal may be about us, a failed handshake is about the endpoint."""
    findings = []
    if seen.outcome is Outcome.REFUSED_AFTERWARDS:
        advice = "; offer an identity with --identity DIR" if anonymous else ""
        findings.append(Finding(Weight.WARNING, f"it turned us away: {seen.detail}{advice}"))
    elif seen.outcome is not Outcome.COMPLETED:
        findings.append(Finding(Weight.WRONG, f"the handshake failed: {seen.detail}"))
    if seen.tls_version not in {None, "TLSv1.3"}:
        findings.append(Finding(Weight.WARNING, f"it speaks {seen.tls_version}; sidecars speak TLS 1.3 only"))
    return tuple(findings)


def _ask(address: Address, own: Path | None, timeout: str) -> Probe:
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise click.BadParameter(f"found {timeout!a}; expected {error}", param_hint="--timeout") from None
    place = None if own is None else _read_identity(own).place
    offered = (
        None if place is None else ClientIdentity(place / identity_directory.CHAIN, place / identity_directory.KEY)
    )
    try:
        return probe(address, timeout=seconds, identity=offered)
    except IdentityUnusableError as error:
        fail(f"the identity {own} cannot be offered: {error}")


def _read_identity(directory: Path) -> identity_directory.IdentityFiles:
    """One consistent look; asked again when a generation vanished between resolving and reading."""
    try:
        return identity_directory.read_identity(directory)
    except FileNotFoundError:
        return identity_directory.read_identity(directory)


def _chain(content: bytes, source: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text, or the one of a DER file."""
    if content[:1] == b"\x30":  # a DER SEQUENCE (X.690 8.9); PEM is text
        try:
            return (read_certificate(content),)
        except ValueError as error:
            fail(f"{source} holds {error}")
    try:
        return read_chain(content)
    except ValueError as error:
        fail(f"{source} holds {error}")


def _key_beside(pem: bytes, path: Path, leaf: x509.Certificate) -> tuple[bool | None, tuple[Finding, ...]]:
    """Whether the key belongs to the leaf, None when it is sealed; and what is wrong with the key and its file."""
    status = path.stat()
    fault = key_mode_fault(status.st_mode, status.st_gid, own_gids=_own_gids())
    findings = (Finding(Weight.WRONG, f"{path.name} has {fault}"),) if fault else ()
    if keys.is_sealed(pem):
        return None, (*findings, Finding(Weight.WARNING, f"{path.name} is sealed, so it was not tried"))
    try:
        return keys.matches(keys.from_pem(pem, passphrase=None), leaf), findings
    except keys.PrivateKeyError as error:
        return None, (*findings, Finding(Weight.WRONG, f"{path.name} holds {error}"))


def _authority_mode(path: Path) -> Sequence[Finding]:
    try:
        status = path.stat()
    except OSError:
        return ()
    fault = authority_mode_fault(status.st_mode, status.st_gid, own_gids=_own_gids())
    return (Finding(Weight.WRONG, f"{path} has {fault}"),) if fault else ()


def _roots(leaf: x509.Certificate, trust: Trust) -> tuple[tuple[x509.Certificate, ...] | None, tuple[Finding, ...]]:
    """The roots to judge the leaf by, read as its own trust domain's when none is expected; or why there are none."""
    home = trust.home or _claimed_domain(leaf)
    if trust.bundle is None or home is None:
        return None, ()
    try:
        return read_bundle(trust.bundle, home=home), ()
    except BundleError as error:
        return None, (Finding(Weight.WRONG, f"{trust.source} cannot judge it: {error}"),)


def _claimed_domain(leaf: x509.Certificate) -> TrustDomain | None:
    try:
        return read_leaf(leaf.public_bytes(Encoding.DER)).id.trust_domain
    except LeafError as error:
        try:
            return SpiffeId.parse(error.claimed).trust_domain
        except ValueError:
            return None


def _own_gids() -> set[int]:
    return {os.getegid(), *os.getgroups()}
