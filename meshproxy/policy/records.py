"""Recorded decisions: what a line of a sidecar's log tells of one, read strictly enough to decide it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ca import json_text
from ca.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Why somebody is refused without asking an allow-list, as an audit log says it: by now the certificate has ended.
CERTIFICATE_EXPIRED: Final = "certificate_expired"

_LONGEST_CALLER: Final = 2048  # SPIFFE-ID section 2.3; a line that holds more is not of ours


class Record(msgspec.Struct, frozen=True):
    """One decision as it was logged, whichever event tells it; fields that are not of interest are passed over.

    `method` is empty for a connection. `decision` is `allow`, `deny` or `would_deny`.
    """

    event: str
    caller: str = ""
    method: str = ""
    path: str = ""
    decision: str = ""
    rule: str = ""
    reason: str = ""
    policy: str = ""
    listener: str = ""
    ts: str = ""

    @property
    def is_decision(self) -> bool:
        """Whether an allow-list was asked: an access line, or a line of an audit log, each of which is one decision."""
        is_one = self.event in {"request", "connection", "decision"} and bool(self.decision and self.caller)
        return is_one and self.reason != CERTIFICATE_EXPIRED

    @property
    def is_out_of_time(self) -> bool:
        """Whether somebody was refused as his certificate had ended by then; no allow-list was asked."""
        return self.event == "decision" and self.reason == CERTIFICATE_EXPIRED

    @property
    def is_objection(self) -> bool:
        """Whether it tells of a denial apart from the access line; some of these are left out by a busy sidecar."""
        return self.event in {"denied", "would_deny"} and bool(self.caller)

    @property
    def was_allowed(self) -> bool:
        """Whether a rule granted it then."""
        return self.decision == "allow"

    @property
    def was_let_pass(self) -> bool:
        """Whether it got through then: granted, or let pass in audit mode."""
        return self.decision in {"allow", "would_deny"}

    @property
    def request(self) -> tuple[str, str] | None:
        """The method and the judged path; None for a connection."""
        return (self.method, self.path) if self.method else None

    @property
    def file(self) -> str:
        """The allow-list that decided then."""
        return self.policy.rpartition("@")[0] or self.policy

    def identity(self) -> SpiffeId:
        """Who called. Raises ValueError for what is no identity."""
        if len(self.caller) > _LONGEST_CALLER:
            raise ValueError("a caller that is no SPIFFE ID")
        return SpiffeId.parse(self.caller)


_decoder = msgspec.json.Decoder(Record)


def records_in(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield what is a JSON object with an `event`; a log holds other lines, too."""
    for line in lines:
        try:
            yield json_text.read_by(_decoder, line)
        except ValueError:
            continue
