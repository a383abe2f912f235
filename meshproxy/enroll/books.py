"""The open CA of a server: its authority and its ledger, asked in a thread, by one at a time.

A transaction waits for the disk, and a ledger is not for several threads. Who has to wait too long for his turn is told
to come back: when the disk hangs or somebody holds the ledger, a queue would only grow.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from ca import deny_list, federation, premises, slots, spiffe_bundle
from ca.authority import open_authority
from ca.deny_list import DenyListError
from ca.ledger import LedgerBusy, LedgerError
from ca.messages import Trust
from ca.premises import AuthorityError, Rotated
from ca.rows import BUNDLE, sequence
from ca.spiffe_bundle import SpiffeBundle
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from ca.authority import Authority
    from ca.configuration import Configuration
    from ca.sqlite_ledger import SqliteLedger

PATIENCE: Final = 3.0  # seconds for another process's transaction, which takes milliseconds
_LONGEST_WAIT: Final = 6.0  # seconds for one's turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """What everybody may see, as it was when somebody last looked. `digest` is that of `trust`."""

    trust: Trust
    digest: str
    denied: deny_list.Content | None  # what the deny-list says, if it is one that anybody would follow
    crl: bytes
    roots_pem: str
    bundle_sequence: int


class Books:
    """One CA, open. `observe` is told what each turn took, in seconds."""

    def __init__(
        self,
        directory: Path,
        configured: Configuration,
        ledger: SqliteLedger,
        *,
        passphrase: bytes | None,
        wall: Callable[[], datetime],
        observe: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._passphrase = passphrase
        self._wall = wall
        self._observe = observe
        self._turn = trio.Lock()
        self._place = _inode(directory / premises.LEDGER)
        self._authority: Authority | None = None
        self._shown: Shown | None = None
        self._federated: tuple[frozenset[object], dict[str, str]] = (frozenset(), {})
        self.configured = configured  # as it was last found sound

    def __repr__(self) -> str:
        return f"<Books {self._directory} {'open' if self._authority else 'closed'}>"

    @property
    def directory(self) -> Path:
        """Where the CA lies."""
        return self._directory

    @property
    def passphrase(self) -> bytes | None:
        """What its keys are sealed with."""
        return self._passphrase

    @property
    def authority(self) -> Authority | None:
        """The authority that signed last; None while nothing may sign."""
        return self._authority

    @property
    def shown(self) -> Shown:
        """What everybody may see. `look_again` must have been called once."""
        if self._shown is None:
            raise RuntimeError("nobody has looked yet")
        return self._shown

    def configure(self, configured: Configuration) -> None:
        """Keep to another ca.toml from the next request on."""
        self.configured = configured
        if self._authority is not None:
            self._authority = replace(self._authority, configuration=configured)

    async def sign(self, work: Callable[[Authority, SqliteLedger, datetime], T]) -> T:
        """Have something done that needs the authority, in a thread, in turn.

        Raises LedgerError (LedgerBusy also when the turn does not come), AuthorityError when nothing may sign, and what
        `work` raises. When the authorities were rotated meanwhile, they are opened again and `work` is asked once more.
        """

        def signing(ledger: SqliteLedger, now: datetime) -> T:
            try:
                return work(self._opened(ledger), ledger, now)
            except Rotated:
                self._authority = None
                return work(self._opened(ledger), ledger, now)

        return await self.read(signing)

    async def read(self, work: Callable[[SqliteLedger, datetime], T]) -> T:
        """Have something done that needs the ledger alone. Raises LedgerError, and what `work` raises."""
        with trio.move_on_after(_LONGEST_WAIT) as waiting:
            await self._turn.acquire()
        if waiting.cancelled_caught:
            raise LedgerBusy("the ledger has had no time for this: nothing was recorded or issued; try again")

        def working() -> T:
            self._require_place()
            return work(self._ledger, self._wall())

        try:
            with self._measured():
                return await in_thread(working)
        finally:
            self._turn.release()

    def _require_place(self) -> None:
        """Raise LedgerError when the open file is not the one that whoever opens the CA next will find.

        What is written into a file that was removed, or that a restored one has replaced, is lost with this process.
        """
        path = self._directory / premises.LEDGER
        if _inode(path) != self._place:
            raise LedgerError(
                f"{path} was moved, removed or replaced while it is served, so nothing is issued; put it back, or "
                "restart the CA on what is there now"
            )

    def open(self) -> Authority:
        """Return the authority, opened as the ledger is now if it is not open yet; from within a turn only.

        Raises AuthorityError, NoActiveAuthority, LedgerError, OSError.
        """
        if self._authority is None:
            self._authority = open_authority(self._directory, passphrase=self._passphrase, configured=self.configured)
        return self._authority

    def _opened(self, ledger: SqliteLedger) -> Authority:
        """The authority; what everybody is shown is not older than it, or a new leaf's own root could be missing."""
        authority = self.open()
        if self._shown is None or self._shown.bundle_sequence != authority.bundle_sequence:
            self.look_again(ledger)
        return authority

    def close(self) -> None:
        """Let go of the authority: it is opened again, as the ledger is then, by whoever needs it."""
        self._authority = None

    def look_again(self, ledger: SqliteLedger) -> Shown:
        """See what everybody may see by now; from within a turn. Raises LedgerError, OSError."""
        with ledger.reading() as view:
            roots, number = slots.roots(view), sequence(view, BUNDLE)
        hint = int(self.configured.refresh_hint.total_seconds())
        bundle = spiffe_bundle.write(SpiffeBundle(roots, number, hint)).decode()
        if self._authority is not None and self._authority.bundle_sequence != number:
            self._authority = None
        trust = self._directory / premises.TRUST
        document = _content(trust / premises.DENY_LIST).decode("ascii", "replace")
        trusted, before = Trust(bundle=bundle, deny_list=document, federated=self._partners()), self._shown
        self._shown = Shown(
            trust=trusted,
            digest=before.digest if before is not None and before.trust == trusted else trusted.digest,
            denied=self._denied(document, roots),
            crl=_content(trust / premises.CRL),
            roots_pem="".join(root.public_bytes(Encoding.PEM).decode() for root in roots),
            bundle_sequence=number,
        )
        return self._shown

    def _denied(self, document: str, roots: tuple[x509.Certificate, ...]) -> deny_list.Content | None:
        """What a deny-list says, judged when it is another one than before."""
        if self._shown is not None and self._shown.trust.deny_list == document:
            return self._shown.denied
        home = self.configured.trust_domain.name
        try:
            return deny_list.read(document.encode(), home=home, roots=roots, now=self._wall()).content
        except DenyListError:
            return None

    def _partners(self) -> dict[str, str]:
        """The bundles of other trust domains, read again when one was replaced."""
        mark = federation.mark(self._directory)
        if mark != self._federated[0]:
            found = {each.trust_domain: each.bundle for each in federation.every(self._directory)}
            self._federated = mark, found
        return self._federated[1]

    @contextmanager
    def _measured(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._observe(time.perf_counter() - begun)


def read_again(directory: Path, home: Configuration) -> Configuration:
    """Read ca.toml again, for a CA that is running. Raises AuthorityError, also for another trust domain; OSError."""
    found = premises.read_configuration(directory)
    if found.trust_domain != home.trust_domain:
        raise AuthorityError(
            f"{directory / premises.CONFIGURATION} says trust_domain = {found.trust_domain.name!r}, and this CA is of "
            f"{home.trust_domain}: it is fixed for its life; put it back"
        )
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
