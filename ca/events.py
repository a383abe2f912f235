"""What can happen to a CA, one value per kind; from these alone its whole state can be told again.

An event is written once, as canonical JSON (sorted keys, no blanks, defaults left out), and never changed. Each is
chained to the one before by `chained`, so nobody can take one out, put one in or change one without every hash after
it being wrong.

Times are aware and UTC. Serials, key identifiers (RFC 5280 4.2.1.2) and hashes are lower-case hex. No event ever holds
a private key or the secret of a token. A new field must have a default, so that yesterday's events can still be read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from enum import StrEnum
from typing import Final

import msgspec

from ca import json_text

GENESIS: Final = bytes(32)  # what the first event is chained to


class What(StrEnum):
    """Which authority a rotation is about."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


class By(StrEnum):
    """What a revocation names."""

    SERIAL = "serial"  # one certificate
    SPKI = "spki"  # every certificate of a key, and the key for good
    ID = "id"  # every certificate of an identity that began up to a moment


class Reason(StrEnum):
    """Why a certificate is revoked: those reasons of RFC 5280 5.3.1 that a leaf of ours can have."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    at: datetime
    uid: int | None = None  # whose command it was; None: the server's own doing


class Init(_Event, frozen=True, tag="init"):
    """The CA begins."""

    trust_domain: str


class TakeOver(_Event, frozen=True, tag="take-over"):
    """An `issued.jsonl`, the record of earlier versions, was added; `faults` tells of lines that could not be."""

    lines: int
    sha256: str
    faults: tuple[str, ...] = ()


class _Certified(_Event, frozen=True, kw_only=True):
    """One leaf. `ttl` is what was granted before any clamping, in seconds, and what its renewals get; 0: unknown.

    `bundle_sequence` is that of the roots that were handed out with it.
    """

    id: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    spki: str | None = None  # None, as `certificate`: taken over from a record that did not hold it
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    ttl: int = 0
    bundle_sequence: int = 0
    peer: str | None = None  # the address that asked; None: a command on the CA's machine
    certificate: bytes | None = None  # DER


class Issue(_Certified, frozen=True, tag="issue"):
    """A leaf that begins a lineage: by a command, or by the use of a token."""

    token: str | None = None


class Renew(_Certified, frozen=True, kw_only=True, tag="renew"):
    """A leaf that follows another of its lineage."""

    previous_issuer: str
    previous_serial: str


class Revoke(_Event, frozen=True, tag="revoke"):
    """Nobody may believe it any more. `subject` is a serial, an SPKI hash or an ID, as `by` says.

    `issuer` belongs to a serial, `cutoff` to an ID: certificates of it that began up to then are meant. `until` is when
    the last certificate meant has expired.
    """

    by: By
    subject: str
    until: datetime
    reason: Reason = Reason.UNSPECIFIED
    issuer: str = ""
    cutoff: datetime | None = None


class Suspect(_Event, frozen=True, tag="suspect"):
    """A lineage may be in two hands, and is not renewed any more. `issuer` and `serial` are of what was presented."""

    lineage: int
    id: str
    issuer: str
    serial: str
    why: str
    peer: str | None = None


class TokenCreate(_Event, frozen=True, tag="token-create"):
    """A join token; of its secret only the SHA-256 is kept. `leaf_ttl`: seconds, None for what the policy says."""

    token: str
    secret_sha256: str
    id: str
    expires: datetime
    uses: int = 1
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    leaf_ttl: int | None = None


class TokenUse(_Event, frozen=True, tag="token-use"):
    """A token became a certificate, in the same transaction as its Issue. Uses count from 1."""

    token: str
    use: int
    spki: str
    issuer: str
    serial: str
    peer: str | None = None


class TokenRevoke(_Event, frozen=True, tag="token-revoke"):
    """A token ended before its time."""

    token: str
    why: str = ""


class TokenLock(_Event, frozen=True, tag="token-lock"):
    """Too many wrong secrets were tried on a token."""

    token: str
    peer: str | None = None


class RotatePrepare(_Event, frozen=True, tag="rotate-prepare"):
    """New authorities in the directory `slot`: with `what` root a root and an intermediate below it, else the latter.

    `certificate` (DER) and `key_id` are the intermediate's, `root_certificate` and `root_key_id` those of the root
    above it, whether it is new or not.
    """

    what: What
    slot: str
    key_id: str
    root_key_id: str
    certificate: bytes
    root_certificate: bytes


class RotateActivate(_Event, frozen=True, tag="rotate-activate"):
    """A prepared authority signs from now on; the one before it is old. `laggards` were left behind by force."""

    what: What
    slot: str
    forced: bool = False
    laggards: int = 0


class RotateRetire(_Event, frozen=True, tag="rotate-retire"):
    """An authority is over; a root leaves the bundle, and what is below it goes with it."""

    what: What
    slot: str
    forced: bool = False


class RotateTaint(_Event, frozen=True, tag="rotate-taint"):
    """The key of an authority is in wrong hands; whoever was certified by it must renew now."""

    what: What
    slot: str
    forced: bool = False


class PublishBundle(_Event, frozen=True, tag="bundle"):
    """The roots changed: their SHA-256, under the next number."""

    sequence: int
    roots: tuple[str, ...]


class PublishDenyList(_Event, frozen=True, tag="deny-list"):
    """The deny-list changed. It is signed again and again in between; that is no event."""

    sequence: int


class PublishCrl(_Event, frozen=True, tag="crl"):
    """A CRL was made: a number is used once (RFC 5280 5.2.3)."""

    number: int


class Restore(_Event, frozen=True, tag="restore"):
    """The CA came back from a backup that was taken at `taken`; what happened after that is not in this ledger.

    The three numbers are those that publications go on from, beyond any that may have been used since.
    """

    taken: datetime
    bundle_sequence: int
    deny_list_sequence: int
    crl_number: int


Event = (
    Init
    | TakeOver
    | Issue
    | Renew
    | Revoke
    | Suspect
    | TokenCreate
    | TokenUse
    | TokenRevoke
    | TokenLock
    | RotatePrepare
    | RotateActivate
    | RotateRetire
    | RotateTaint
    | PublishBundle
    | PublishDenyList
    | PublishCrl
    | Restore
)
Certified = Issue | Renew


@dataclass(frozen=True, slots=True)
class Head:
    """How far a ledger goes: the number of its last event, counted from 1, and that one's hash."""

    seq: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in its place."""

    seq: int
    event: Event


_decoder: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event as canonical JSON: the same value always gives the same bytes."""
    return msgspec.json.encode(event, order="sorted")


def decode(body: bytes | str) -> Event:
    """Read what `encode` wrote. Raises ValueError with a phrase when it is none, or of a kind unknown here."""
    return json_text.read_by(_decoder, body)


def chained(head: Head, body: bytes) -> Head:
    """The head after the event with this canonical JSON: its hash is SHA-256(hash before || body)."""
    return Head(head.seq + 1, hashlib.sha256(head.hash + body).digest())
