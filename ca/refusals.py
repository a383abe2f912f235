"""Why somebody does not get a certificate, in a word for programs and a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """The word; the values are metric labels and log words."""

    WRONG_SECRET = "wrong_secret"  # noqa: S105 - as below
    TOKEN_LOCKED = "token_locked"  # noqa: S105 - a word about a token
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - a word about a token
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a word about a token
    TOKEN_USED = "token_used"  # noqa: S105 - a word about a token
    BAD_CSR = "bad_csr"
    NOT_ALLOWED = "not_allowed"  # by the rules of ca.toml
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    REVOKED = "revoked"
    SUSPECT = "suspect"
    EXPIRED = "expired"
    CA_RUNNING_OUT = "ca_running_out"


@dataclass(frozen=True, slots=True)
class Refused:
    """The sentence is for whoever asked; it holds no secret. `alert`: a person should look at it."""

    why: Why
    text: str
    alert: bool = False
