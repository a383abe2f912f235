"""What a CA knows now: the rows that its events add up to, and the small interface of whatever keeps rows.

`ca/fold` says how an event changes rows. A store keeps each kind of row under its KEY and needs to know no more.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar

import msgspec

from ca.events import By, Reason, What  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Iterable

Key = tuple[str | int, ...]


class State(StrEnum):
    """The life of an authority, in its order; a tainted one was not old, or no longer is just that."""

    PREPARED = "prepared"  # in the bundle; nothing of it is in use
    ACTIVE = "active"  # signs
    OLD = "old"  # signs no more; what it signed is still believed
    TAINTED = "tainted"  # as old, but its key is in wrong hands: what it signed must be replaced at once
    RETIRED = "retired"  # out of the bundle, believed by nobody


class TokenState(StrEnum):
    """What was done to a token; that it has expired or is used up follows from its numbers."""

    OPEN = "open"
    REVOKED = "revoked"
    LOCKED = "locked"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row; KEY names the fields that tell it from others of its kind."""

    KEY: ClassVar[tuple[str, ...]]

    @property
    def key(self) -> Key:
        """The values of the fields that KEY names."""
        return tuple(getattr(self, name) for name in self.KEY)


class Issued(Row, frozen=True):
    """A leaf. `seq` is the event that holds it whole; `online`: it was handed out over the network, not into files."""

    KEY: ClassVar[tuple[str, ...]] = ("issuer", "serial")

    issuer: str
    serial: str
    seq: int
    id: str
    spki: str | None
    fingerprint: str
    not_before: datetime
    not_after: datetime
    lineage: int
    generation: int  # within the lineage, from 1
    online: bool
    bundle_sequence: int


class Lineage(Row, frozen=True):
    """A leaf and all its renewals: one holder's. It bears the number of the event that began it."""

    KEY: ClassVar[tuple[str, ...]] = ("lineage",)

    lineage: int
    id: str
    generation: int
    issuer: str  # of the latest leaf, as the serial
    serial: str
    suspect: bool = False


class Token(Row, frozen=True):
    """A join token."""

    KEY: ClassVar[tuple[str, ...]] = ("token",)

    token: str
    secret_sha256: str
    id: str
    dns: tuple[str, ...]
    ips: tuple[str, ...]
    leaf_ttl: int | None
    created: datetime
    expires: datetime
    uses: int
    used: int = 0
    state: TokenState = TokenState.OPEN


class Redemption(Row, frozen=True):
    """One use of a token: whose key it certified, and in which leaf."""

    KEY: ClassVar[tuple[str, ...]] = ("token", "use")

    token: str
    use: int
    at: datetime
    spki: str
    peer: str | None
    issuer: str
    serial: str


class Revocation(Row, frozen=True):
    """What may not be believed; see `events.Revoke`."""

    KEY: ClassVar[tuple[str, ...]] = ("by", "issuer", "subject")

    by: By
    issuer: str
    subject: str
    cutoff: datetime | None
    until: datetime
    at: datetime
    reason: Reason


class AuthorityState(Row, frozen=True):
    """A root or an intermediate. `published` is the bundle's sequence when a root first was in it, 0 before."""

    KEY: ClassVar[tuple[str, ...]] = ("what", "slot")

    what: What
    slot: str
    key_id: str
    root_key_id: str
    certificate: bytes  # DER
    state: State
    published: int = 0


class Sequence(Row, frozen=True):
    """The last number used for a publication."""

    KEY: ClassVar[tuple[str, ...]] = ("name",)

    name: str
    value: int


KINDS: Final[tuple[type[Row], ...]] = (
    Issued,
    Lineage,
    Token,
    Redemption,
    Revocation,
    AuthorityState,
    Sequence,
)
BUNDLE: Final = "bundle"
DENY_LIST: Final = "deny-list"
CRL: Final = "crl"

R = TypeVar("R", bound=Row)


class Rows(Protocol):
    """Where rows are looked up."""

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """The row of this kind and key, or None."""
        ...

    def every(self, kind: type[R]) -> Iterable[R]:
        """All rows of a kind, in the order of their keys."""
        ...


class Tables(Rows, Protocol):
    """Where rows are looked up and written."""

    def put(self, row: Row) -> None:
        """Keep a row, in the place of the one with its key if there is one."""
        ...


class MemoryTables:
    """Rows in dictionaries: what a store is compared with."""

    def __init__(self) -> None:
        self._rows: dict[type[Row], dict[Key, Row]] = {kind: {} for kind in KINDS}

    def __repr__(self) -> str:
        return f"<MemoryTables {', '.join(f'{len(rows)} {kind.__name__}' for kind, rows in self._rows.items())}>"

    def get(self, kind: type[R], *key: str | int) -> R | None:
        """See `Rows.get`."""
        row = self._rows[kind].get(key)
        return row if isinstance(row, kind) else None

    def every(self, kind: type[R]) -> list[R]:
        """See `Rows.every`."""
        return [row for _, row in sorted(self._rows[kind].items()) if isinstance(row, kind)]

    def put(self, row: Row) -> None:
        """See `Tables.put`."""
        self._rows[type(row)][row.key] = row


def sequence(rows: Rows, name: str) -> int:
    """The last number used under this name; 0 when there was none."""
    found = rows.get(Sequence, name)
    return found.value if found else 0
