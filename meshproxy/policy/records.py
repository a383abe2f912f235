"""Recorded decisions: what a line of a sidecar's log tells of one, read strictly enough to decide it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ca import json_text
from ca.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONGEST_CALLER = 2048  # SPIFFE-ID section 2.3; a line that holds more is not of ours


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
        return self.event in {"request", "connection", "decision"} and bool(self.decision and self.caller)

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
            yield json_text.decode_by(_decoder.decode, line)
        except msgspec.DecodeError:
            continue
