"""What is wrong with a CA, or soon will be: looked at from outside, nothing is changed.

Each check yields findings; a check that cannot be made is a finding too. `meshproxy ca doctor` belongs into monitoring.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import crl, deny_list, ledger_head, lifetime, occupancy, premises, publishing, slots
from ca.audit import audit
from ca.deny_list import DenyListError
from ca.events import What
from ca.inspection import Finding, Weight, inspect_authorities
from ca.ledger import LedgerError
from ca.lifetime import in_words
from ca.permissions import authority_mode_fault, key_mode_fault
from ca.premises import AuthorityError
from ca.rows import DENY_LIST, AuthorityState, State, sequence
from ca.svid import signature_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ca.configuration import Configuration
    from ca.ledger import View

_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, and who serves the CA now, as words (None: nobody)."""

    findings: tuple[Finding, ...]
    occupant: str | None


def examine(directory: Path, *, now: datetime) -> Examination:
    """Look at everything of the CA in `directory`. Raises AuthorityError when there is none."""
    premises.require(directory)
    findings = [*_files(directory), *_place(directory)]
    try:
        configured = premises.read_configuration(directory)
        with premises.opened(directory / premises.LEDGER) as ledger, ledger.reading() as view:
            findings += _ledger(directory, view, configured, now)
            findings += _authorities(directory, view, now)
            findings += _published(directory, view, configured, now)
    except (AuthorityError, LedgerError) as error:
        findings.append(_wrong(str(error)))
    except OSError as error:
        findings.append(_wrong(f"{error.filename}: {error.strerror}"))
    return Examination(tuple(findings), occupancy.occupant(directory))


def _files(directory: Path) -> Iterator[Finding]:
    """Modes and owners: who may write here may be anybody, and who may read a key as well."""
    own = directory.stat()
    groups = {os.getegid(), *os.getgroups()}
    if fault := authority_mode_fault(own.st_mode, own.st_gid, own_gids=groups):
        yield _wrong(f"{directory} has {fault}")
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            yield _wrong(f"{path} is a symbolic link; a CA has none")
            continue
        if status.st_uid != own.st_uid:
            yield _wrong(
                f"{path} belongs to user {status.st_uid}, the directory to {own.st_uid}: chown it, and run meshproxy "
                "as that user"
            )
        judge = key_mode_fault if path.suffix == ".key" else authority_mode_fault
        if fault := judge(status.st_mode, status.st_gid, own_gids=groups):
            yield _wrong(f"{path} has {fault}")


def _place(directory: Path) -> Iterator[Finding]:
    if kind := occupancy.shared_file_system(directory):
        yield _wrong(f"{directory} lies on a file system that machines share ({kind}); move the CA to a local disk")
    free = os.statvfs(directory)
    if free.f_bavail * free.f_frsize < 64 << 20:
        yield _warning("less than 64 MiB are free on its disk; without space nothing is issued")


def _ledger(directory: Path, view: View, configured: Configuration, now: datetime) -> Iterator[Finding]:
    faults = list(audit(view))
    for fault in faults:
        yield _wrong(f"the ledger is not sound: {fault}")
    last = None if faults else view.entry(view.head().seq)
    if last is not None and last.event.at > now + _SKEW:
        yield _wrong(
            f"the clock says {now:%Y-%m-%dT%H:%M:%SZ}, and the ledger's last event is of "
            f"{last.event.at:%Y-%m-%dT%H:%M:%SZ}: the clock went back"
        )
    head = directory / premises.HEAD
    if not head.is_file():
        yield _warning("there is no ledger.head: meshproxy ca publish")
        return
    seal = ledger_head.judge(
        head.read_bytes(), view, trust_domain=configured.trust_domain.name, roots=slots.every_root(view)
    )
    for fault in seal.faults:
        yield _wrong(f"ledger.head: {fault}")
    if seal.uncovered:
        yield _warning(f"{seal.uncovered} events are not covered by the signed head yet: meshproxy ca publish")


def _authorities(directory: Path, view: View, now: datetime) -> Iterator[Finding]:
    known = list(view.every(AuthorityState))
    active = [slots.one(known, what, State.ACTIVE) for what in What]
    if None in active:
        yield _wrong("no authority is active, so nothing is issued; see meshproxy ca rotate")
    living = [each for each in known if each.state is not State.RETIRED]
    for each in living:
        yield from _slot(directory, each, now, known)
    in_use = [x509.load_der_x509_certificate(each.certificate) for each in active if each is not None]
    yield from inspect_authorities(in_use, now=now).findings
    intermediate = slots.one(known, What.INTERMEDIATE, State.ACTIVE)
    if intermediate is not None and slots.is_due(_validity(intermediate), now):
        yield _warning("two thirds of the intermediate's life are over; see meshproxy ca rotate prepare")
    for each in known:
        if each.state is State.TAINTED:
            yield _warning(f"the {each.what} {each.slot} is tainted; retire it as soon as nobody needs it")
    named = {each.slot for each in known}
    for place in sorted((directory / premises.AUTHORITIES).iterdir()):
        if place.name not in named:
            yield _warning(f"{place} is in no event: a preparation that was interrupted; it can be removed")


def _slot(directory: Path, each: AuthorityState, now: datetime, known: list[AuthorityState]) -> Iterator[Finding]:
    """Whether what lies in a slot is what the ledger holds, and whether it leads up to its root."""
    place = directory / premises.AUTHORITIES / each.slot
    name = premises.ROOT_CERTIFICATE if each.what is What.ROOT else premises.CERTIFICATE
    if premises.certificate(place / name).public_bytes(Encoding.DER) != each.certificate:
        yield _wrong(f"{place / name} is not the certificate that the ledger holds")
    if each.what is not What.INTERMEDIATE:
        return
    if each.state is State.ACTIVE and not (place / premises.KEY).is_file():
        yield _wrong(f"{place / premises.KEY} is missing; this CA cannot issue without it")
    root = slots.above(known, each)
    roots = [x509.load_der_x509_certificate(root.certificate)] if root else []
    if fault := signature_fault([x509.load_der_x509_certificate(each.certificate)], roots):
        yield _wrong(f"the intermediate {each.slot} does not lead up to its root: {fault}")
    if each.state is State.ACTIVE and now < _validity(each).not_before:
        yield _wrong("the active intermediate is not valid yet; check this machine's clock")


def _published(directory: Path, view: View, configured: Configuration, now: datetime) -> Iterator[Finding]:
    trust = directory / premises.TRUST
    for name, content in publishing.trust_files(configured, view).items():
        if not (trust / name).is_file() or (trust / name).read_bytes() != content:
            yield _wrong(f"{trust / name} is not what the ledger says: meshproxy ca publish")
    if deny_list.weight(view, now=now) > deny_list.MOST_BYTES * 3 / 4:
        yield _warning(
            "the deny-list is nearly full, and what does not fit is refused; replace an intermediate instead "
            "(docs/ca.md, Rotation: a key was stolen)"
        )
    if not sequence(view, DENY_LIST):
        return  # nothing was ever revoked, and nobody served
    try:
        document = (trust / premises.DENY_LIST).read_bytes() if (trust / premises.DENY_LIST).is_file() else b""
        found = deny_list.read(document, home=configured.trust_domain.name, roots=slots.roots(view), now=now)
    except DenyListError as error:
        yield _wrong(f"the deny-list is of no use: {error}")
        return
    if found.content.sequence != sequence(view, DENY_LIST):
        yield _wrong("a revocation is not on the published deny-list yet: meshproxy ca publish")
    if (late := found.stale_for(now)) is not None and occupancy.occupant(directory) is not None:
        yield _wrong(f"the deny-list has been stale for {in_words(late)} although the CA is served")
    if not (trust / premises.CRL).is_file() or crl.ends(premises.content(trust / premises.CRL)) < now:
        yield _warning("the CRL is missing or has expired, and who demands one refuses everybody: meshproxy ca publish")


def _validity(authority: AuthorityState) -> lifetime.Validity:
    return lifetime.validity_of(x509.load_der_x509_certificate(authority.certificate))


def _wrong(text: str) -> Finding:
    return Finding(Weight.WRONG, text)


def _warning(text: str) -> Finding:
    return Finding(Weight.WARNING, text)
