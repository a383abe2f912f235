"""Which decisions somebody asks for: by whom, for what, where, since when, and how it was decided; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ca.spiffe_id import SpiffeId
from meshproxy.policy.match import IdentityPattern, PathPattern

if TYPE_CHECKING:
    from ca.spiffe_id import TrustDomain
    from meshproxy.audit.lines import Decision


@dataclass(frozen=True, slots=True)
class What:
    """A method, a path pattern, or both: `DELETE`, `/accounts/**`, `DELETE /accounts/*`."""

    method: str
    path: PathPattern | None

    @classmethod
    def parse(cls, text: str) -> What:
        """Read it as a person writes it. Raises ValueError with a phrase that completes "expected ..."."""
        method, _, path = text.strip().rpartition(" ") if "/" in text else (text.strip(), "", "")
        method = method.strip()
        if (method and not method.isascii()) or " " in method or not (method or path):
            raise ValueError("a method, a path pattern, or both: DELETE, /accounts/**, 'DELETE /accounts/*'")
        return cls(method, PathPattern.parse(path) if path else None)

    def match(self, decision: Decision) -> bool:
        """Whether that was asked."""
        if self.method and decision.method != self.method:
            return False
        return self.path is None or self.path.match(decision.path)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for; what is left out does not matter. `home` is what short identities belong to, if known."""

    who: IdentityPattern | None = None
    what: What | None = None
    since: datetime | None = None
    until: datetime | None = None
    decisions: tuple[str, ...] = ()
    listener: str = ""
    home: TrustDomain | None = None

    def match(self, decision: Decision) -> bool:
        """Whether a recorded decision is one of those."""
        if self.decisions and decision.decision not in self.decisions:
            return False
        if self.listener and decision.listener != self.listener:
            return False
        if self.what is not None and not self.what.match(decision):
            return False
        if self.who is not None and not self._is_by(decision.caller, self.who):
            return False
        return self._is_in_time(decision.ts)

    def _is_by(self, caller: str, who: IdentityPattern) -> bool:
        try:
            identity = SpiffeId.parse(caller)
        except ValueError:
            return False
        # Without a home a short identity means that path, in whichever trust domain.
        return who.match(identity, home=self.home or identity.trust_domain)

    def _is_in_time(self, ts: str) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            at = datetime.fromisoformat(ts)
        except ValueError:
            return False
        if at.tzinfo is None:  # no sidecar writes such a time, and it cannot be compared
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)
