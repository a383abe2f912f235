"""What a CA that serves does by itself: follow its ledger, publish, renew its own leaf, replace its intermediate.

Admin commands of other processes change the ledger at any time, so it is looked at every second; that costs one look at
its last row. What takes longer is done when something happened that others must know, or when it is due.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVarTuple

import trio
from cryptography import x509

from ca import events, publishing, rotation, slots
from ca.events import What
from ca.ledger import LedgerError
from ca.lifetime import LifetimeError, in_words
from ca.premises import AuthorityError
from ca.rows import AuthorityState, State
from ca.slots import RotationError
from meshproxy.enroll import own_leaf

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from datetime import datetime

    from ca.authority import Authority
    from ca.ledger import Ledger, View
    from ca.sqlite_ledger import SqliteLedger
    from meshproxy.enroll.account import Account
    from meshproxy.enroll.books import Books
    from meshproxy.enroll.own_leaf import OwnLeaf, ServerNames

_EVERY: Final = 1.0  # seconds
_DUE_EVERY: Final = timedelta(seconds=30)  # how often it is looked whether something is due
_WARN_EVERY: Final = timedelta(hours=24)
_WARN_SHARE: Final = 6  # of its life: less than that left of a CA's certificate is told
# These change nothing that is published, and most events are such.
_QUIET: Final = (events.Issue, events.Renew, events.TokenCreate, events.TokenUse, events.TokenRevoke, events.TokenLock)

Args = TypeVarTuple("Args")
_FAULTS: Final = (LedgerError, AuthorityError, LifetimeError, RotationError, OSError)


@dataclass(frozen=True, slots=True)
class Ends:
    """When the certificates the CA stands on run out."""

    intermediate: datetime
    root: datetime


class Housekeeper:
    """Does what is due; `context` is what the doors terminate TLS with."""

    def __init__(self, books: Books, names: ServerNames, account: Account) -> None:
        self._books = books
        self._names = names
        self._account = account
        self._seen = -1  # how far the ledger went when it was looked at
        self._looked: datetime | None = None  # when it was looked for what is due
        self._warned: dict[str, datetime] = {}
        self._leaf: OwnLeaf | None = None
        self._roots_pem = ""
        self._context: ssl.SSLContext | None = None
        self.ends: Ends | None = None

    def __repr__(self) -> str:
        return f"<Housekeeper seen={self._seen} failing={sorted(self._account.failing)}>"

    @property
    def leaf(self) -> OwnLeaf | None:
        """The CA's own leaf."""
        return self._leaf

    def context(self) -> ssl.SSLContext:
        """Return what to terminate TLS with now."""
        if self._context is None:
            raise RuntimeError("the CA has no leaf of its own yet")
        return self._context

    async def begin(self) -> None:
        """Look for the first time. Raises LedgerError, AuthorityError, LifetimeError, OSError."""
        await self._books.sign(self._first_look)

    async def run(self) -> None:
        """Look every second until cancelled; what fails is told, and tried again."""
        while True:
            await trio.sleep(_EVERY)
            try:
                await self._books.read(self._look)
            except _FAULTS as error:
                self._account.fails("ledger", str(error))
            else:
                self._account.works("ledger")

    async def finish(self) -> None:
        """Look for the last time, so that the signed head covers all that was granted."""
        with suppress(*_FAULTS):
            await self._books.read(self._look)

    def look_soon(self) -> None:
        """Look for what is due at the next look."""
        self._looked = None

    def _first_look(self, authority: Authority, ledger: SqliteLedger, now: datetime) -> None:
        self._publish(authority, ledger, now)
        self._books.look_again(ledger)
        self._renew_own(ledger, now)
        self._look(ledger, now)

    def _look(self, ledger: SqliteLedger, now: datetime) -> None:
        """One look, in the ledger's turn. Each part fails by itself. Raises LedgerError."""
        before = self._seen
        with ledger.reading() as view:
            self._seen = view.head().seq
            touched = before < 0 or any(not isinstance(each.event, _QUIET) for each in view.entries(after=before))
            if touched:
                self._follow_rotation(view)
        if touched or self._looked is None or not timedelta(0) <= now - self._looked < _DUE_EVERY:
            self._looked = now
            self._attempt("intermediate", lambda: self._replace_intermediate(ledger, now))
            self._attempt("publishing", lambda: self._publish(self._books.open(), ledger, now))
            self._warn(now)
        elif self._seen != before:
            self._attempt("publishing", lambda: self._sign_head(ledger, now))
        self._books.look_again(ledger)
        self._attempt("own_leaf", lambda: self._renew_own(ledger, now))

    def _attempt(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except _FAULTS as error:
            if what != "intermediate":  # that has months left; a revocation should not wait to be published
                self._looked = None
            self._tell(self._account.fails, what, str(error))
        else:
            self._tell(self._account.works, what)

    def _log(self, event: str, **fields: str) -> None:
        self._tell(lambda: self._account.log.info(event, **fields))

    @staticmethod
    def _tell(what: Callable[[*Args], object], *words: *Args) -> None:
        """A look is in a thread, and what is told belongs to the loop's."""
        trio.from_thread.run_sync(what, *words)

    def _follow_rotation(self, view: View) -> None:
        """Open the authority anew when another one signs by now, and see when it ends."""
        authorities = tuple(view.every(AuthorityState))
        signing = slots.one(authorities, What.INTERMEDIATE, State.ACTIVE)
        authority = self._books.authority
        if authority is not None and (signing is None or signing.slot != authority.slot):
            self._books.close()
        root = slots.one(authorities, What.ROOT, State.ACTIVE)
        if signing is not None and root is not None:
            self.ends = Ends(*(_ends(each) for each in (signing, root)))

    def _replace_intermediate(self, ledger: Ledger, now: datetime) -> None:
        slot = rotation.replace_intermediate_if_due(
            self._books.directory, ledger, passphrase=self._books.passphrase, now=now
        )
        if slot is not None:
            self._books.close()
            with ledger.reading() as view:
                self._follow_rotation(view)
            self._log("intermediate_replaced", slot=slot)

    def _publish(self, authority: Authority, ledger: Ledger, now: datetime) -> None:
        """Write what everybody may see. Our own entry in the ledger about it is nothing to be followed again."""
        written = publishing.publish_revocations(authority, ledger, now=now)
        publishing.publish(
            self._books.directory, ledger, now=now, signer=authority.signer, configured=self._books.configured
        )
        if written:
            self._log("published")

    def _sign_head(self, ledger: Ledger, now: datetime) -> None:
        authority = self._books.open()
        with ledger.reading() as view:
            head = view.head()
        publishing.sign_head(self._books.directory, authority.trust_domain, head, authority.signer, now=now)

    def _renew_own(self, ledger: Ledger, now: datetime) -> None:
        """Renew our own leaf at half of its life, and when another intermediate signs: the old one may be tainted."""
        authority, leaf = self._books.open(), self._leaf
        if leaf is None or leaf.is_due(now) or leaf.issuer != authority.key_id:
            self._leaf = own_leaf.issue(authority, ledger, self._names, now=now)
            self._log(
                "own_leaf_issued",
                serial=f"{self._leaf.certificate.serial_number:x}",
                until=f"{self._leaf.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            )
        roots_pem = self._books.shown.roots_pem
        if self._leaf is not leaf or self._roots_pem != roots_pem:
            assert self._leaf is not None, "it was issued a moment ago, or before"
            self._context = own_leaf.server_context(self._leaf, roots_pem)
            self._roots_pem = roots_pem

    def _warn(self, now: datetime) -> None:
        """Tell once a day of a CA's certificate that runs out, and that nobody has replaced."""
        authority = self._books.authority
        if authority is None:
            return
        for name, certificate in (("intermediate", authority.intermediate), ("root", authority.root)):
            ends = certificate.not_valid_after_utc
            life = ends - certificate.not_valid_before_utc
            if ends - now > life / _WARN_SHARE or now - self._warned.get(name, now - _WARN_EVERY) < _WARN_EVERY:
                continue
            self._warned[name] = now
            fields = {
                "what": name,
                "until": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                "left": in_words(ends - now) if ends > now else "",
                "remedy": f"meshproxy ca rotate prepare --what {name}; see docs/ca.md, Rotation",
            }
            self._tell(partial(self._account.log.warning, "running_out", **fields))


def _ends(authority: AuthorityState) -> datetime:
    return x509.load_der_x509_certificate(authority.certificate).not_valid_after_utc
