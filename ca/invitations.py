"""Making and ending join tokens: asked of the rules first, so that a token nobody could use is never handed out."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from ca import events, issuance, slots, tokens
from ca.issuance import IssuanceRefused
from ca.rows import Token, TokenState
from ca.tokens import MOST_USES, JoinToken

if TYPE_CHECKING:
    from datetime import datetime

    from ca.configuration import Configuration
    from ca.ledger import Ledger, Transaction
    from ca.profiles import Names

LONGEST: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who is to be let in: as whom, how often, until when; and what the token says about where to go.

    `leaf_ttl` None: as long as the rules of ca.toml say when it is used.
    """

    names: Names
    ttl: timedelta = timedelta(minutes=10)
    uses: int = 1
    leaf_ttl: timedelta | None = None
    addresses: tuple[str, ...] = ()


def create(configured: Configuration, ledger: Ledger, invitation: Invitation, *, now: datetime) -> JoinToken:
    """Make a token; the ledger keeps a hash of its secret, and the token returned is the only place that holds it.

    Raises IssuanceRefused when its identity would not be issued now, or when it would live or serve too long;
    TokenError for an address that is none; LedgerError.
    """
    if not timedelta(0) < invitation.ttl <= LONGEST:
        raise IssuanceRefused("a token lives for at most 7 d: whoever finds it is let in")
    if not 0 < invitation.uses <= MOST_USES:
        raise IssuanceRefused(f"a token serves 1 to {MOST_USES} times")
    rules, limits, home = configured.rules, configured.limits, configured.trust_domain
    allowed = issuance.decide(rules, limits, home, invitation.names, invitation.leaf_ttl)
    if not limits.minimum <= allowed.ttl <= limits.maximum:
        raise IssuanceRefused("its leaves would live shorter or longer than [leaf] in ca.toml allows")
    with ledger.writing() as transaction:
        roots = (root.public_bytes(Encoding.DER) for root in slots.roots(transaction))
        token = JoinToken(
            id=secrets.token_bytes(tokens.ID_BYTES),
            secret=secrets.token_bytes(tokens.SECRET_BYTES),
            pins=tuple(hashlib.sha256(root).digest() for root in roots),
            addresses=invitation.addresses,
        )
        transaction.append(
            events.TokenCreate(
                at=now.astimezone(UTC),
                uid=os.getuid(),
                token=token.id.hex(),
                secret_sha256=tokens.secret_hash(token.secret),
                id=str(invitation.names.id),
                expires=(now + invitation.ttl).astimezone(UTC).replace(microsecond=0),
                uses=invitation.uses,
                dns=invitation.names.dns,
                ips=tuple(map(str, invitation.names.ips)),
                leaf_ttl=None if invitation.leaf_ttl is None else int(invitation.leaf_ttl.total_seconds()),
            )
        )
    return token


def is_open(token: Token, *, now: datetime) -> bool:
    """Whether somebody could still be let in by it."""
    return token.state is TokenState.OPEN and token.used < token.uses and now <= token.expires


def end(transaction: Transaction, token: Token, *, why: str, now: datetime) -> None:
    """End a token before its time. Raises LedgerError."""
    transaction.append(events.TokenRevoke(at=now.astimezone(UTC), uid=os.getuid(), token=token.token, why=why))
