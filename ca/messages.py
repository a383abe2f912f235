"""What a CA and its clients say to each other, as JSON values. `docs/ca.md` tells the protocol.

    GET  /v1/bundle          the roots, as SPIFFE writes them (a JWK Set); to be compared with the token's pins
    GET  /v1/crl             the CRLs, PEM, for programs that know nothing else
    POST /v1/enroll          EnrolRequest -> Certified
    GET  /v1/trust?loaded=N  Trust; a client certificate says who has loaded bundle number N
                  &have=D    304 without a body if that is what the client has: `Trust.digest`
    POST /v1/renew           RenewRequest -> Certified, by mutual TLS with the leaf to be renewed
    GET  /v1/nonce           Nonce, for the next
    POST /v1/renew-expired   LateRenewRequest -> Certified, for a leaf that TLS takes no more

A refusal is an RFC 9457 problem whose `why` is a word of `ca.refusals.Why` or of `Trouble`.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

import msgspec

BUNDLE: Final = b"/v1/bundle"
CRL: Final = b"/v1/crl"
ENROL: Final = b"/v1/enroll"
TRUST: Final = b"/v1/trust"
RENEW: Final = b"/v1/renew"
NONCE: Final = b"/v1/nonce"
RENEW_EXPIRED: Final = b"/v1/renew-expired"

SERVICE_PATH: Final = "/meshproxy/ca"  # of the CA's own leaf; nobody else is issued below /meshproxy
LATE_CONTEXT: Final = b"meshproxy renew-expired 1\0"  # what an old key signs begins with it, and is for nothing else


class Trouble(StrEnum):
    """Why a CA does not answer a request that its rules say nothing about."""

    BAD_REQUEST = "bad_request"
    TOO_MANY = "too_many_requests"  # come back after `retry_after`
    UNAVAILABLE = "unavailable"  # the ledger cannot be written, or nothing may sign: come back later
    NO_CERTIFICATE = "no_certificate"  # it must be asked by mutual TLS


class EnrolRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody with a join token: its id in hex, its secret, and a PKCS#10 request (DER)."""

    token: str
    secret: bytes
    csr: bytes

    def __repr__(self) -> str:
        """All but the secret."""
        return f"EnrolRequest(token={self.token!r})"


class RenewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request for the next certificate of whoever has proved to hold the one before."""

    csr: bytes


class Nonce(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Good for one minute at the CA that gave it."""

    nonce: bytes


class LateRenewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As RenewRequest, with a leaf (DER) that has expired.

    `signature`: by the leaf's key over `LATE_CONTEXT`, the SHA-256 of the nonce and the SHA-256 of `csr`.
    """

    leaf: bytes
    nonce: bytes
    signature: bytes
    csr: bytes


class Trust(msgspec.Struct, frozen=True):
    """Whom to believe: the roots (a SPIFFE bundle with its sequence and refresh hint), and whom not all the same.

    `deny_list` is the signed document of `ca.deny_list`, `federated` the bundles of other trust domains by name. A
    client keeps it as it came, in the file `trust.json` of its identity directory.
    """

    bundle: str
    deny_list: str
    federated: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """What tells one from another: the SHA-256 of it as JSON, in hex."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class Certified(msgspec.Struct, frozen=True):
    """A certificate: `chain` is PEM, leaf first. `again`: it was given before, for the same key.

    `clamped_by` names the CA certificate that ends sooner than what was asked for, if one does.
    """

    chain: str
    trust: Trust
    again: bool = False
    clamped_by: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """RFC 9457: `title` is the sentence for people, `why` the word for programs; `retry_after` in seconds."""

    title: str
    status: int
    why: str
    retry_after: float | None = None
