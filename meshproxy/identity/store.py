"""The current identity: watched on disk, swapped whole, never replaced by a worse one.

A missing, expired or not yet valid identity is a state the sidecar lives in (refusing, not ready) and heals from. A
faulty one never replaces what is loaded.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshproxy.errors import FaultyInput, Problem
from meshproxy.identity.contexts import Contexts
from meshproxy.identity.expiry import CertificateRole, Urgency, Validity, urgency
from meshproxy.identity.material import MissingIdentity, read_material, remedy_for
from meshproxy.snapshot import Snapshot
from meshproxy.units import format_duration
from meshproxy.watching import Signature, signature_of

if TYPE_CHECKING:
    from datetime import datetime

    from ca.svid import Leaf
    from meshproxy.identity.expiry import Term
    from meshproxy.identity.material import Material
    from meshproxy.settings.schema import IdentitySettings
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.wire.relay import Wall

_LOOK_EVERY = 1.0

_LOOKS = 3
_BETWEEN_LOOKS = 0.1

_FILES = ("", "current", "key.pem", "chain.pem", "bundle.pem")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a handshake needs: who we are, and the contexts that prove it."""

    material: Material
    contexts: Contexts

    @property
    def leaf(self) -> Leaf:
        """Our own leaf."""
        return self.material.leaf


class NotReady(Exception):
    """There is no identity that can be used now; the text says why, `remedy` what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class IdentityStore:
    """Holds the identity of one sidecar and follows its directory."""

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
        self.last_error = ""
        self.loaded_at: datetime | None = None

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

    def usable(self) -> Identity:
        """Return the identity to use for a handshake now; raises NotReady."""
        identity = self._current.value
        directory = self._settings.dir
        if identity is None:
            if self._missing is not None:
                raise NotReady(str(self._missing), self._missing.remedy)
            raise NotReady(f"the identity in {directory} cannot be used", f"see: meshproxy inspect {directory}")
        validity = identity.material.validity(self._wall())
        if validity is Validity.VALID:
            return identity
        leaf, until = identity.leaf, identity.material.not_after
        if validity is Validity.EXPIRED:
            raise NotReady(
                f"our certificate for {leaf.id} expired at {until:%Y-%m-%dT%H:%M:%SZ}",
                remedy_for(self._settings, leaf.id.path),
            )
        raise NotReady(
            f"our certificate for {leaf.id} is valid only from {leaf.not_before:%Y-%m-%dT%H:%M:%SZ}",
            f"check this machine's clock; or {remedy_for(self._settings, leaf.id.path)}",
        )

    def load_first(self) -> None:
        """Load at start, blocking. A missing identity is waited for; raises FaultyInput for one that is faulty."""
        self._signature = self._look()
        try:
            self._swap(read_identity(self._settings))
        except MissingIdentity as missing:
            self._missing = missing
        self._tell_state()

    def look_now(self) -> None:
        """Ask the watch to load the directory again now, changed or not."""
        self._asked.set()

    async def watch(self) -> None:
        """Follow the directory until cancelled: a change that is stable over two looks is loaded in a thread."""
        seen = self._signature
        while True:
            asked = False
            with trio.move_on_after(_LOOK_EVERY):
                await self._asked.wait()
                self._asked, asked = trio.Event(), True
            before, seen = seen, await trio.to_thread.run_sync(self._look, abandon_on_cancel=True)
            if asked or (seen == before != self._signature):
                self._signature = seen
                await self._reload()
            self._tell_state()
            self._warn_of_expiry()

    async def _reload(self) -> None:
        try:
            identity = await trio.to_thread.run_sync(read_identity, self._settings, abandon_on_cancel=True)
            self._refuse_other_name(identity)
        except MissingIdentity as missing:
            self._failed(str(missing), missing.remedy)
            self._missing = missing
        except FaultyInput as faulty:
            first = faulty.problems[0]
            self._failed("; ".join(map(str, faulty.problems)), first.remedy)
        else:
            current = self._current.value
            if current is not None and current.material == identity.material:
                self._keep()
            else:
                self._swap(identity)

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

    def _look(self) -> Signature:
        source = self._settings.passphrase_file
        paths = [self._settings.dir / name for name in _FILES]
        return signature_of([*paths, source] if source else paths)


def _renewal(term: Term, leaf: Leaf, settings: IdentitySettings) -> str:
    if term.role is CertificateRole.LEAF:
        return remedy_for(settings, leaf.id.path)
    if settings.ca:
        return "this is the CA's own certificate; on its machine: meshproxy ca rotate status --dir CA_DIR"
    return "this is the CA's own certificate: make a new CA (meshproxy ca init) and issue every identity from it"


def read_identity(settings: IdentitySettings) -> Identity:
    """Read, judge and make contexts (blocking); raises MissingIdentity or FaultyInput.

    A faulty look is taken twice more: a flat directory may be in the middle of being written, key first.
    """
    for _ in range(_LOOKS - 1):
        try:
            return _look_once(settings)
        except FaultyInput:
            time.sleep(_BETWEEN_LOOKS)
    return _look_once(settings)


def _look_once(settings: IdentitySettings) -> Identity:
    material = read_material(settings)
    try:
        return Identity(material, Contexts(material))
    except (ssl.SSLError, OSError) as error:
        # What cryptography can read OpenSSL may still refuse, a key that is too weak for example.
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise FaultyInput(
            [
                Problem(
                    file=str(settings.dir / "chain.pem"),
                    found=f"an identity that TLS does not take ({str(reason).lower().replace('_', ' ')})",
                    expected="a key and certificates that OpenSSL accepts",
                    remedy=remedy_for(settings, material.leaf.id.path),
                )
            ]
        ) from error
