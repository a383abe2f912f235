"""The trace a request belongs to: W3C Trace Context kept or begun, B3 read, and whether spans are made of it.

The mesh follows whoever has decided before (parent-based sampling): callers are services that have proved who they are.
Only for a trace that begins here, or whose caller leaves it open, the share in the settings decides, by the trace's own
id: so all sidecars that ever have to decide about the same trace decide alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.http.fields import new_request_id
from meshproxy.http.head import B3

if TYPE_CHECKING:
    from meshproxy.http.fields import RandomSource
    from meshproxy.http.head import RequestHead

# Of a well-formed traceparent (W3C Trace Context section 3.2.2); a later version begins alike.
TRACE_ID: Final = slice(3, 35)
_PARENT_ID: Final = slice(36, 52)
LAST_FLAG: Final = 54  # the digit whose lowest bit says that it is sampled
SAMPLED: Final = b"13579bdf"

# What decides: the last 56 bits of a trace id (OpenTelemetry's consistent probability sampling), as digits.
_DECIDING: Final = slice(18, 32)
_DIGITS: Final = 14

_STATE: Final = re.compile(rb"\r\ntracestate: ([^\r]*+)", re.IGNORECASE)
# W3C Trace Context section 3.3.1.3.
_MEMBER: Final = re.compile(
    rb"[a-z0-9][a-z0-9_\-*/]{0,240}(?:@[a-z][a-z0-9_\-*/]{0,13})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MOST_MEMBERS: Final = 32
_LONGEST_STATE: Final = 2048

_B3: Final = re.compile(rb"\r\n(?=[bBxX])(b3|x-b3-(?:traceid|spanid|sampled|flags)): ([^\r]*+)", re.IGNORECASE)
_B3_SINGLE: Final = re.compile(rb"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_B3_TRACE: Final = re.compile(rb"(?!0+\Z)(?:[0-9a-f]{16}|[0-9a-f]{32})")
_B3_SPAN: Final = re.compile(rb"(?!0{16})[0-9a-f]{16}")
_B3_SAID: Final = {b"1": True, b"d": True, b"true": True, b"0": False, b"false": False}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which traces that begin here are sampled: those whose last digits are no lower than `lowest`."""

    lowest: bytes

    @classmethod
    def of(cls, share: float) -> Sampling:
        """Take this share of them, from 0 to 1."""
        rejected = round((1 - share) * (1 << 56))
        return cls(b"%014x" % rejected if rejected < 1 << 56 else b"g" * _DIGITS)  # no digit comes so late

    def takes(self, trace_id: bytes) -> bool:
        """Whether the trace of this id is one of them."""
        return trace_id[_DECIDING] >= self.lowest


class FailedTry(msgspec.Struct, frozen=True, gc=False):
    """An attempt at an upstream that no answer came of; times are the relay's. `why` is a word, `detail` a phrase."""

    span_id: bytes
    began: float
    ended: float
    target: str
    why: str
    detail: str


class Trace(msgspec.Struct, eq=False):
    """What the spans of one sampled request are made of, besides its exchange.

    `parent_id`: the span of whoever called, empty where the trace begins here. `attempt_id`: what the upstream is told
    as its parent. `attempt_began`: when it was first dialled, 0.0 if a connection was at rest.
    """

    trace_id: bytes
    parent_id: bytes
    span_id: bytes
    attempt_id: bytes
    state: bytes
    rng: RandomSource
    attempt_began: float = 0.0
    failed: list[FailedTry] = []

    @property
    def traceparent(self) -> bytes:
        """What the upstream is told; flags we do not know are not passed on (section 3.2.2.5)."""
        return b"00-%b-%b-01" % (self.trace_id, self.attempt_id)

    def try_failed(self, began: float, ended: float, target: str, why: str, detail: str) -> None:
        """Take that an attempt came to nothing before the upstream was told anything."""
        self.failed.append(FailedTry(_span_id(self.rng), began, ended, target, why, detail))

    def try_again(self, told: bytes, began: float, ended: float, why: str, detail: str) -> bytes:
        """Take that the upstream gave no answer; return the head it was `told`, with the id of another attempt."""
        self.failed.append(FailedTry(self.attempt_id, began, ended, "", why, detail))
        before, self.attempt_id, self.attempt_began = self.traceparent, _span_id(self.rng), 0.0
        return told.replace(before, self.traceparent, 1)


def ids_for(head: RequestHead, rng: RandomSource, sampling: Sampling | None) -> tuple[bytes, bytes]:
    """Return request id and traceparent: what came with a request, a new one in the place of each that did not."""
    if head.traceparent is not None:
        return head.request_id or new_request_id(rng), head.traceparent
    if head.request_id is None:
        ids = rng.randbytes(40).hex().encode()  # once for both: the usual first hop
        request_id = ids[48:]
    else:
        ids, request_id = rng.randbytes(24).hex().encode(), head.request_id
    trace_id, span_id, sampled = ids[:32], ids[32:48], None
    b3 = head.fields.b3
    if b3 is not None:
        trace_id, span_id, sampled = b3.trace_id or trace_id, b3.span_id or span_id, b3.sampled
    if sampled is None:
        sampled = sampling is not None and sampling.takes(trace_id)
    return request_id, (b"00-%b-%b-01" if sampled else b"00-%b-%b-00") % (trace_id, span_id)


def trace_of(head: RequestHead, traceparent: bytes, rng: RandomSource) -> Trace:
    """Return the trace of a sampled request: `traceparent` is what it came with, or what it was given by `ids_for`."""
    told, b3 = traceparent[_PARENT_ID], head.fields.b3
    begins_here = head.traceparent is None and (b3 is None or not b3.span_id)
    parent_id, span_id = (b"", told) if begins_here else (told, _span_id(rng))
    state = b"" if head.traceparent is None else read_state(head.fields.carried)
    return Trace(traceparent[TRACE_ID], parent_id, span_id, _span_id(rng), state, rng)


def read_state(carried: bytes) -> bytes:
    """Return the state that belongs to a trace, all its fields as one; empty if it is not well-formed (section 3.3.1).

    What is forwarded is the state as it came: we add nothing to it, so it is not ours to change.
    """
    members = [member.strip(b" \t") for value in _STATE.findall(carried) for member in value.split(b",")]
    told = [member for member in members if member]
    sound = len(told) <= _MOST_MEMBERS and all(_MEMBER.fullmatch(member) for member in told)
    state = b",".join(told) if sound else b""
    return state if len(state) <= _LONGEST_STATE else b""


def read_b3(carried: bytes) -> B3 | None:
    """Return what Zipkin's fields say, in one field or several (openzipkin/b3-propagation); None if nothing sound."""
    found = _B3.findall(carried)
    if not found:
        return None
    said = {name.lower(): value for name, value in found}
    if len(said) != len(found):
        return None
    if b"b3" in said:  # goes before the others
        return _of_one_field(said[b"b3"])
    trace_id, span_id = said.get(b"x-b3-traceid", b"").lower(), said.get(b"x-b3-spanid", b"").lower()
    sampled = _B3_SAID.get(said.get(b"x-b3-sampled", b"").lower())
    if said.get(b"x-b3-flags") == b"1":  # debug implies it
        sampled = True
    if _B3_TRACE.fullmatch(trace_id) and _B3_SPAN.fullmatch(span_id):
        return B3(trace_id.rjust(32, b"0"), span_id, sampled)
    return None if sampled is None else B3(b"", b"", sampled)


def _of_one_field(value: bytes) -> B3 | None:
    value = value.lower()
    if value in _B3_SAID and len(value) == 1:
        return B3(b"", b"", _B3_SAID[value])
    parts = _B3_SINGLE.fullmatch(value)
    if parts is None or not _B3_TRACE.fullmatch(parts[1]) or not _B3_SPAN.fullmatch(parts[2]):
        return None
    return B3(parts[1].rjust(32, b"0"), parts[2], None if parts[3] is None else _B3_SAID[parts[3]])


def _span_id(rng: RandomSource) -> bytes:
    return rng.randbytes(8).hex().encode()  # all zeros would be no id; once in 2^64
