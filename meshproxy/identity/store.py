"""The current identity and what is trusted beside it: watched on disk, swapped whole, never replaced by worse.

A missing, expired, not yet valid or revoked identity is a state the sidecar lives in (refusing, not ready) and heals
from. A faulty one never replaces what is loaded, and holds up no deny-list: `trust.json` is followed by itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from ca.identity_directory import TRUST
from ca.svid import LeafError
from meshproxy.errors import FaultyInput, Problem
from meshproxy.identity.expiry import CertificateRole, Urgency, urgency
from meshproxy.identity.material import MissingIdentity, remedy_for
from meshproxy.identity.own import load, load_beside
from meshproxy.identity.peer import judge_peer, objection_to
from meshproxy.identity.sessions import Sessions
from meshproxy.identity.telling import TrustTelling
from meshproxy.identity.trust import Trusted
from meshproxy.identity.usable import NotReady, denied, out_of_time, staleness
from meshproxy.snapshot import Snapshot
from meshproxy.units import format_duration
from meshproxy.watching import Signature, signature_of, standing_of
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from datetime import datetime

    from ca.svid import Leaf
    from meshproxy.identity.expiry import Term
    from meshproxy.identity.own import Identity, Loaded
    from meshproxy.identity.peer import Objection, Peer
    from meshproxy.identity.sessions import Session
    from meshproxy.settings.schema import IdentitySettings
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.wire.relay import Wall
    from meshproxy.wire.tls import TlsConnection

_LOOK_EVERY = 1.0

_FILES = ("current", "key.pem", "chain.pem", "bundle.pem")


class IdentityStore:
    """Holds the identity of one sidecar and what it trusts, and follows their directory."""

    def __init__(self, settings: IdentitySettings, *, wall: Wall, log: Logger, metrics: Metrics) -> None:
        self._settings = settings
        self._wall = wall
        self._log = log
        self._metrics = metrics
        self._current: Snapshot[Identity | None] = Snapshot(None)
        self._missing: MissingIdentity | None = None
        self._signature: Signature = ()
        self._warned: dict[Term, Urgency] = {}
        self._state = ""
        self._asked = trio.Event()
        self._trusted = Trusted()
        self._trust_signature: Signature = ()
        self._denied: NotReady | None = None  # while our own certificate is on the deny-list
        self._telling = TrustTelling(settings, log, metrics)
        self.sessions = Sessions()
        self.last_error = ""
        self.trust_error = ""
        self.loaded_at: datetime | None = None
        metrics.before_scrape(lambda: self._telling.measure(self._trusted, wall()))

    def __repr__(self) -> str:
        return f"<IdentityStore {self._current!r} last_error={self.last_error!r}>"

    @property
    def generation(self) -> int:
        """How many identities have been loaded."""
        return self._current.generation - 1

    @property
    def loaded(self) -> Identity | None:
        """What was loaded last, usable now or not."""
        return self._current.value

    @property
    def trusted(self) -> Trusted:
        """What is in force of `trust.json`."""
        return self._trusted

    def usable(self) -> Identity:
        """Return the identity to use for a handshake now; raises NotReady."""
        identity, settings = self._current.value, self._settings
        if identity is None:
            if self._missing is not None:
                raise NotReady(str(self._missing), self._missing.remedy)
            raise NotReady(f"the identity in {settings.dir} cannot be used", f"see: meshproxy inspect {settings.dir}")
        now = self._wall()
        fault = out_of_time(identity.material, settings, now) or self._denied or staleness(self._trusted, settings, now)
        if fault is not None:
            raise fault
        return identity

    def judge(self, tls: TlsConnection, identity: Identity, now: datetime) -> Peer:
        """Return who is at the far end of a finished handshake that was made as `identity`. Raises LeafError.

        A connection that goes on must enter `sessions` before anything is waited for: from then on it is asked about
        again whenever what is trusted changes.
        """
        peer = judge_peer(tls, anchors=identity.anchors, now=now)
        objection = self._objection(peer)
        if objection is not None:
            raise LeafError(objection.fault, objection.detail, claimed=str(peer.leaf.id))
        return peer

    def load_first(self) -> None:
        """Load at start, blocking. A missing identity is waited for; raises FaultyInput for one that is faulty."""
        self._signature, self._trust_signature = self._look()
        try:
            loaded = load(self._settings, before=self._trusted, now=self._wall())
        except MissingIdentity as missing:
            self._missing = missing
        else:
            self._take_up(loaded)
        self._tell_state()

    async def newer_than(self, generation: int) -> None:
        """Wait until an identity was loaded after that of `generation`."""
        await self._current.newer_than(generation + 1)

    def look_now(self) -> None:
        """Ask the watch to load the directory again now, changed or not."""
        self._asked.set()

    async def watch(self) -> None:
        """Follow the directory until cancelled: a change that is stable over two looks is loaded in a thread."""
        seen = self._signature, self._trust_signature
        while True:
            asked = False
            with trio.move_on_after(_LOOK_EVERY):
                await self._asked.wait()
                self._asked, asked = trio.Event(), True
            before, seen = seen, await in_thread(self._look, abandon_on_cancel=True)
            news = asked or seen[0] == before[0] != self._signature
            trust_news = asked or seen[1] == before[1] != self._trust_signature
            if news:
                self._signature = seen[0]
                trust_news = not await self._reload() and trust_news
            if trust_news:  # by itself: a faulty identity holds up no revocation
                self._trust_signature = seen[1]
                await self._reload_trust()
            self._tell_state()
            self._telling.age(self._trusted, self._wall())
            self._warn_of_expiry()

    async def _reload(self) -> bool:
        """Read all anew; returns whether it was taken up, what is trusted with it."""
        read = partial(load, self._settings, before=self._trusted, now=self._wall())
        try:
            loaded = await in_thread(read, abandon_on_cancel=True)
            self._refuse_other_name(loaded.identity)
        except MissingIdentity as missing:
            self._failed(str(missing), missing.remedy)
            self._missing = missing
        except FaultyInput as faulty:
            first = faulty.problems[0]
            self._failed("; ".join(map(str, faulty.problems)), first.remedy)
        else:
            self._take_up(loaded)
            return True
        return False

    async def _reload_trust(self) -> None:
        current = self._current.value
        if current is None:
            return  # no roots to judge it by; it is read with the identity that will come
        read = partial(
            load_beside, current.material, self._settings, before=self._trusted, now=self._wall(), keep=current
        )
        self._take_up_trust(await in_thread(read, abandon_on_cancel=True))

    def _refuse_other_name(self, identity: Identity) -> None:
        # Allow-lists were read in the own trust domain, and callers dial us by name: a new name is a new sidecar.
        current = self._current.value
        if current is not None and current.leaf.id != identity.leaf.id:
            raise FaultyInput(
                [
                    Problem(
                        file=str(self._settings.dir / "chain.pem"),
                        found=f"the identity {identity.leaf.id}",
                        expected=f"a new certificate for {current.leaf.id}, as which this sidecar runs",
                        remedy="restart the sidecar to change its identity",
                    )
                ]
            )

    def _take_up(self, loaded: Loaded) -> None:
        """Go over to what was loaded; all in one turn, so that nobody is judged by half of it."""
        current, identity = self._current.value, loaded.identity
        if current is not None and current.material == identity.material:
            self._keep()
        else:
            self._swap(identity)
        self._take_up_trust(loaded)

    def _take_up_trust(self, loaded: Loaded) -> None:
        current = self._current.value
        if current is not None and current.federation != loaded.identity.federation:
            self._current.replace(loaded.identity)
            self._metrics.identity_generation.set(self.generation)
        before, self._trusted = self._trusted, loaded.trusted
        self.trust_error = "; ".join(loaded.faults)
        self._denied = self._own_denial()
        ended = 0 if before == self._trusted else self.sessions.recheck(self._objection, self._tell_ended)
        self._telling.taken_up(before, self._trusted, loaded.faults, ended=ended)

    def _own_denial(self) -> NotReady | None:
        identity, deny_list = self._current.value, self._trusted.deny_list
        denial = None if identity is None or deny_list is None else deny_list.denies_marked(identity.marks)
        return None if identity is None or denial is None else denied(identity.material, denial, self._settings)

    def _objection(self, peer: Peer) -> Objection | None:
        identity = self._current.value
        return None if identity is None else objection_to(peer, self._trusted, identity.home)

    def _tell_ended(self, session: Session, objection: Objection) -> None:
        self._telling.ended(session, objection, trio.current_time())

    def _swap(self, identity: Identity) -> None:
        self._current.replace(identity)
        self._missing = None
        self.last_error = ""
        self.loaded_at = self._wall()
        self._metrics.identity_loads.labels("loaded").inc()
        self._metrics.identity_generation.set(self.generation)
        leaf = identity.leaf
        self._log.info(
            "identity_loaded",
            id=str(leaf.id),
            serial=f"{leaf.serial:x}",
            expires=leaf.not_after.isoformat(),
            generation=self.generation,
        )

    def _keep(self) -> None:
        """The same again: another generation would cost every resting upstream connection for nothing."""
        self._missing = None
        self.last_error = ""
        self._metrics.identity_loads.labels("unchanged").inc()

    def _failed(self, error: str, remedy: str) -> None:
        kept = self._current.value is not None
        self.last_error = error
        self._metrics.identity_loads.labels("failed").inc()
        self._log.error("identity_load_failed", error=error, remedy=remedy, kept_the_old_one=kept)

    def _tell_state(self) -> None:
        """Log when the identity becomes usable or stops being so; the gauge follows every look."""
        try:
            state, remedy = f"ready as {self.usable().leaf.id}", ""
        except NotReady as not_ready:
            state, remedy = str(not_ready), not_ready.remedy
        self._metrics.identity_ready.set(not remedy)
        if state != self._state:
            self._state = state
            if remedy:
                self._log.error("identity_not_ready", reason=state, remedy=remedy, effect="all listeners refuse")
            else:
                self._log.info("identity_ready", state=state)

    def _warn_of_expiry(self) -> None:
        identity = self._current.value
        if identity is None:
            return
        now = self._wall()
        # Only what is loaded is remembered, so the memory is bounded by one chain.
        warned, self._warned = self._warned, {}
        for term in identity.material.terms:
            level = urgency(term, now)
            if level > warned.get(term, Urgency.NONE):
                self._log.warning(
                    "certificate_expires",
                    certificate=term.role,
                    id=str(identity.leaf.id),
                    expires=term.not_after.isoformat(),
                    left=format_duration(max((term.not_after - now).total_seconds(), 0.0)),
                    remedy=_renewal(term, identity.leaf, self._settings),
                )
            self._warned[term] = level

    def _look(self) -> tuple[Signature, Signature]:
        """What tells states of the identity's files apart, and of what is trusted beside it."""
        home, source = self._settings.dir, self._settings.passphrase_file
        paths = [home / name for name in _FILES]
        own = signature_of([*paths, source] if source else paths)
        # Not when the directory was written to: trust.json comes there every minute.
        return (*standing_of(home), *own), signature_of([home / TRUST])


def _renewal(term: Term, leaf: Leaf, settings: IdentitySettings) -> str:
    if term.role is CertificateRole.LEAF:
        return remedy_for(settings, leaf.id.path)
    if settings.ca:
        return "this is the CA's own certificate; on its machine: meshproxy ca rotate status --dir CA_DIR"
    return "this is the CA's own certificate: make a new CA (meshproxy ca init) and issue every identity from it"
