"""What a CA that serves tells of what it did: every certificate, every alert, and of failed attempts enough.

Who fails may do so as often as he likes, so failures are told at a bounded pace, each with how many went untold before.
No line ever holds a secret, a request or a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.limits.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ca.granting import Granted
    from ca.refusals import Refused
    from meshproxy.enroll.figures import Figures
    from meshproxy.enroll.rates import TooOften
    from meshproxy.telemetry.events import Logger

_PER_SECOND: Final = 1.0  # of each kind of failure
_BURST: Final = 10


class Account:
    """The log and the numbers of one CA. `clock` is any clock of seconds that does not go back."""

    def __init__(self, log: Logger, figures: Figures, *, clock: Callable[[], float]) -> None:
        self.log = log
        self.figures = figures
        self._clock = clock
        self._rates: dict[str, Rate] = {}  # by words of our own: a few dozen at most
        self._failing: set[str] = set()

    def __repr__(self) -> str:
        return f"<Account failing={sorted(self._failing)}>"

    @property
    def failing(self) -> frozenset[str]:
        """Which parts of the CA's own work fail at present."""
        return frozenset(self._failing)

    def granted(self, kind: str, granted: Granted, *, peer: str, token: str = "") -> None:
        """A certificate leaves."""
        self.figures.grants.labels(kind, "yes" if granted.again else "no").inc()
        issued = granted.issued
        more = {"token": token} if token else {}
        self.log.info(
            "granted",
            kind=kind,
            identity=issued.id,
            serial=issued.serial,
            generation=issued.generation,
            until=f"{issued.not_after:%Y-%m-%dT%H:%M:%SZ}",
            again=granted.again,
            peer=peer,
            **more,
        )
        if granted.clamped_by is not None:
            self._paced("clamped", "certificate_cut_short", by=granted.clamped_by, identity=issued.id)

    def refused(self, kind: str, refused: Refused, *, peer: str, token: str = "", identity: str = "") -> None:
        """Somebody gets no certificate."""
        self.figures.refusals.labels(kind, refused.why).inc()
        named = {key: value for key, value in (("token", token), ("identity", identity)) if value}
        if refused.alert:
            self.figures.alerts.labels(kind, refused.why).inc()
            self.log.error("alert", kind=kind, why=refused.why, detail=refused.text, peer=peer, **named)
            return
        self._paced(refused.why, "refused", kind=kind, why=refused.why, detail=refused.text, peer=peer, **named)

    def too_often(self, kind: str, wait: TooOften, *, peer: str, identity: str = "") -> None:
        """Somebody is told to come back later."""
        self.figures.rate_limited.labels(kind, wait.by).inc()
        named = {"identity": identity} if identity else {}
        self._paced(
            f"{kind} {wait.by}", "rate_limited", kind=kind, by=wait.by, wait=round(wait.wait, 3), peer=peer, **named
        )

    def trouble(self, kind: str, why: str, detail: str, *, peer: str) -> None:
        """Somebody asked for something that is no question."""
        self.figures.refusals.labels(kind, why).inc()
        self._paced(f"{kind} {why}", "refused", kind=kind, why=why, detail=detail, peer=peer)

    def handshake_failed(self, reason: str, detail: str, *, peer: str) -> None:
        """A connection never got so far that something could be asked."""
        self.figures.handshake_failures.labels(reason).inc()
        self._paced(f"handshake {reason}", "handshake_failed", reason=reason, detail=detail, peer=peer)

    def turned_away(self, reason: str, *, peer: str, remedy: str) -> None:
        """A connection was closed before its handshake."""
        self.figures.refused.labels(reason).inc()
        self._paced(f"refused {reason}", "connection_refused", reason=reason, peer=peer, remedy=remedy)

    def unavailable(self, why: str, detail: str) -> None:
        """The ledger, or the authority, cannot serve."""
        self.figures.ledger_failures.labels(why).inc()
        self._paced(f"unavailable {why}", "unavailable", why=why, detail=detail)

    def fails(self, what: str, detail: str) -> None:
        """A part of the CA's own work fails; told again every ten minutes for as long as it does."""
        self.figures.failing.labels(what).set(1)
        self._failing.add(what)
        rate = self._rates.setdefault(f"failing {what}", Rate(per_second=1 / 600, burst=1))
        if rate.take(self._clock()) is not None:
            self.log.error("failing", what=what, detail=detail)

    def works(self, what: str) -> None:
        """It works."""
        if what in self._failing:
            self._failing.discard(what)
            self._rates.pop(f"failing {what}", None)
            self.log.info("works_again", what=what)
        self.figures.failing.labels(what).set(0)

    def forget(self, what: str) -> None:
        """It is no longer done."""
        if what in self._failing:
            self._failing.discard(what)
            self._rates.pop(f"failing {what}", None)
            self.figures.failing.labels(what).set(0)

    def _paced(self, key: str, event: str, **fields: object) -> None:
        rate = self._rates.setdefault(key, Rate(per_second=_PER_SECOND, burst=_BURST))
        untold = rate.take(self._clock())
        if untold is not None:
            self.log.warning(event, **fields, **({"untold": untold} if untold else {}))
