"""One errand to the CA, for one identity directory: enrol, renew, ask whom to believe. Read, ask, judge, write.

What is asked for and what is written is done under a lock, and the directory is read anew under it: two processes on
one directory (a sidecar and a person with `meshproxy renew`) must not both renew, for the CA takes whoever shows a
certificate that was renewed before for a thief.
"""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ca import storage
from ca.refusals import Why
from meshproxy.enroll import judging
from meshproxy.enroll.approach import Patience
from meshproxy.enroll.client import request_for
from meshproxy.enroll.faults import RefusedByCa, Untrusted, Unwritable
from meshproxy.enroll.holding import Enrolment, Holding, leads_to
from meshproxy.enroll.plan import patience
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ca.keys import SigningKey
    from ca.messages import Certified, Trust
    from ca.tokens import JoinToken
    from meshproxy.enroll.approach import Anchor
    from meshproxy.enroll.client import CaClient
    from meshproxy.enroll.holding import Held
    from meshproxy.enroll.judging import Believed
    from meshproxy.wire.address import TcpAddress
    from meshproxy.wire.relay import Wall

_LOOK_AT_LOCK: Final = 0.2  # seconds
_LONGEST_LOCK: Final = 120.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A certificate that is in place.

    `elsewhere`: somebody else had got it before we asked; `again`: the CA had given it before, and that answer was
    lost. `doubt`: why what came with it of whom to believe was not taken; empty when it was.
    """

    held: Held
    elsewhere: bool = False
    again: bool = False
    clamped_by: str | None = None
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """What the CA says of whom to believe, as it lies on disk now.

    `must_renew`: who signed our certificate is in wrong hands. `roots_wait`: our certificate does not lead to the new
    roots, which are therefore not in use; whoever uses them does not believe us.
    """

    held: Held
    believed: Believed
    must_renew: bool
    roots_changed: bool = False
    roots_wait: bool = False


class Errands:
    """Goes to the CA for one directory. Every method raises an EnrolmentError."""

    def __init__(self, holding: Holding, client: CaClient, wall: Wall) -> None:
        self.holding = holding
        self._client = client
        self._wall = wall

    def __repr__(self) -> str:
        return f"<Errands for {self.holding!r}>"

    async def look(self) -> Held | None:
        """What is held now."""
        return await in_thread(lambda: self.holding.look(now=self._wall()))

    async def addresses(self, given: Sequence[TcpAddress] = (), token: JoinToken | None = None) -> list[TcpAddress]:
        """Where the CA is: as we are told, else as the token says, else as it was when we last got something."""
        enrolment = await in_thread(self.holding.enrolment)
        return list(given) or (_of_token(token) if token is not None else []) or list(enrolment.parsed)

    async def enrol(self, token: JoinToken, given: Sequence[TcpAddress] = ()) -> Taken:
        """Use a token; who did that before, with this very token, has what it gave (`elsewhere`)."""
        async with self._alone():
            held = await self.look()
            enrolment = await in_thread(self.holding.enrolment)
            await in_thread(self.holding.forget_used, held)
            if held is not None and enrolment.token == token.id.hex() and held.may_renew(self._wall()):
                return Taken(held, elsewhere=True)
            addresses = await self.addresses(given, token)
            key = await in_thread(self.holding.pending_key, held)
            with _kept_if_useful(self.holding):
                certified, anchor = await self._client.enrol(addresses, token, request_for(key))
            origin = Enrolment(tuple(map(str, addresses)), token.id.hex())
            return await self._take(certified, key, anchor, held, origin)

    async def renew(self, leaf: str, given: Sequence[TcpAddress] = ()) -> Taken:
        """Replace the leaf with this fingerprint; if another is there by now, there is nothing to do (`elsewhere`).

        A leaf that has expired is renewed if the CA's rules say so (`renew_grace`).
        """
        async with self._alone():
            held = await self.look()
            if held is None:
                raise Unwritable(f"there is no identity in {self.holding.directory} to be renewed")
            if held.leaf.fingerprint != leaf:
                return Taken(held, elsewhere=True)
            addresses = await self.addresses(given)
            enrolment = await in_thread(self.holding.enrolment)
            key = await in_thread(self.holding.pending_key, held)
            csr, within = request_for(key), Patience().part(patience(held.life))
            with _kept_if_useful(self.holding):
                if held.may_renew(self._wall()):
                    certified = await self._client.renew(addresses, held.anchor, held.proof, csr, patience=within)
                else:
                    certified = await self._client.renew_late(
                        addresses, held.anchor, held.der, held.key, csr, patience=within
                    )
            origin = Enrolment(tuple(map(str, addresses)), enrolment.token)
            return await self._take(certified, key, held.anchor, held, origin)

    async def poll(self, given: Sequence[TcpAddress] = ()) -> News:
        """Ask whom to believe, say what we have loaded, and keep the answer."""
        held = await self.look()
        if held is None:
            raise Unwritable(f"there is no identity in {self.holding.directory} yet")
        addresses, within = await self.addresses(given), Patience().part(patience(held.life))
        proof = held.proof if held.may_renew(self._wall()) else None
        known = held.believed
        have = None if known is None else known.trust.digest
        said = await self._client.trust(addresses, held.anchor, proof, loaded=held.loaded, have=have, patience=within)
        async with self._alone():
            held = await self.look()  # it may have been renewed meanwhile
            if held is None:
                raise Unwritable(f"there is no identity in {self.holding.directory} any more")
            believed = await self._judged(said, known, held)
            changed = set(believed.bundle.roots) != set(held.roots)
            fits = leads_to(held, believed.bundle.roots)
            if changed and fits:
                await in_thread(self.holding.take_roots, held, believed.bundle.roots)
            await in_thread(self.holding.take_trust, believed)
            must_renew = believed.deny_list.must_renew(held.der)
            return News(await self.look() or held, believed, must_renew, changed and fits, not fits)

    async def _judged(self, said: Trust | None, known: Believed | None, held: Held) -> Believed:
        """What is believed once the CA has said this; None: what is `known`."""
        if said is None:
            if known is None:
                raise Untrusted("the CA says that there is no news, and was not asked for any")
            said = known.trust
        before = held.believed
        if before is not None and before.trust == said:
            return before
        home, now = held.leaf.id.trust_domain, self._wall()
        return await in_thread(  # a long list takes a while, and others are served meanwhile
            partial(judging.trust, said, home=home, before=before, now=now)
        )

    async def _take(
        self, certified: Certified, key: SigningKey, anchor: Anchor, held: Held | None, origin: Enrolment
    ) -> Taken:
        """Judge what came, and put it in place."""
        assert anchor.home is not None, "a line knows whose CA it leads to"
        home, now, doubt = anchor.home, self._wall(), ""
        believed = None if held is None else held.believed
        try:
            believed = judging.trust(certified.trust, home=home, before=believed, now=now)
        except Untrusted as error:
            if held is None:
                raise
            doubt = str(error)
        roots = held.roots if doubt and held is not None else believed.bundle.roots if believed else anchor.roots
        expected = None if held is None else held.leaf.id
        certificate = judging.certificate(certified.chain, key=key, expected=expected, home=home, roots=roots, now=now)
        # Before the identity: whoever sees that one knows where to renew it.
        await in_thread(self.holding.note, origin)
        await in_thread(self.holding.take, key, certificate, roots)
        if believed is not None and not doubt:
            await in_thread(self.holding.take_trust, believed)
        taken = await self.look()
        if taken is None:
            raise Unwritable(f"the identity in {self.holding.directory} vanished as it was written")
        return Taken(taken, again=certified.again, clamped_by=certified.clamped_by, doubt=doubt)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Be the only one who changes this directory, among all processes; a kill lets go."""
        await in_thread(self.holding.prepare)
        tries = int(_LONGEST_LOCK / _LOOK_AT_LOCK)
        with ExitStack() as stack:
            for left in reversed(range(tries)):
                try:
                    stack.enter_context(storage.locked(self.holding.pending, wait=False))
                    break
                except BlockingIOError:
                    if not left:
                        words = f"another process has been busy with {self.holding.directory} for {_LONGEST_LOCK:g} s"
                        raise Unwritable(words) from None
                    await trio.sleep(_LOOK_AT_LOCK)
                except OSError as error:
                    raise Unwritable(f"{self.holding.pending} cannot be locked: {error.strerror}") from error
            yield


@contextmanager
def _kept_if_useful(holding: Holding) -> Iterator[None]:
    """Let go of a pending key that the CA says it will never certify; the next attempt has a new one."""
    try:
        yield
    except RefusedByCa as refused:
        if refused.refusal.why == Why.BAD_CSR:
            holding.forget_pending()
        raise


def _of_token(token: JoinToken) -> list[TcpAddress]:
    return list(Enrolment(token.addresses).parsed)
