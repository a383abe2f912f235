"""`ledger.head`: how far the ledger goes, signed by the intermediate. Keep a copy of it on another machine.

The hash chain shows what was changed inside a ledger; only a signed head shows that its end was cut off, or that the
whole of it was exchanged. The head is signed whenever the key is open. A command that does not open the key (revoking
with a sealed one, say) leaves the head behind; what came after it is chained all the same, and signed by the next that
opens the key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from typing import TYPE_CHECKING, Final

import msgspec

from ca import events, json_text, signed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from ca.events import Head
    from ca.ledger import View
    from ca.signed import Signer

KIND: Final = "meshproxy-ledger-head"


class _Payload(msgspec.Struct, frozen=True):
    trust_domain: str
    seq: int
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Seal:
    """What the head says about a ledger: a sentence for each fault, and how many events it does not cover yet."""

    faults: tuple[str, ...]
    uncovered: int


def sign(head: Head, *, trust_domain: str, by: Signer, now: datetime) -> bytes:
    """The content of `ledger.head`."""
    payload = _Payload(trust_domain, head.seq, head.hash.hex(), now)
    return signed.sign(msgspec.json.encode(payload), kind=KIND, by=by)


def judge(document: bytes, view: View, *, trust_domain: str, roots: Iterable[x509.Certificate]) -> Seal:
    """Compare a ledger with a head of it, this one or an older copy; `roots` are all it ever had, retired ones too."""
    try:
        payload = json_text.read(signed.verify(document, kind=KIND, roots=roots, now=None).payload, _Payload)
    except ValueError as error:
        return Seal((f"the signed head cannot be believed: {error}",), 0)
    if payload.trust_domain != trust_domain:
        return Seal((f"the signed head is of {payload.trust_domain[:80]!a}",), 0)
    reached = view.head().seq
    if payload.seq > reached:
        return Seal(
            (f"the signed head covers {payload.seq} events, and only {reached} are here: the end is cut off",), 0
        )
    head = events.Head()
    for link in view.links():
        head = events.chained(head, link.body)
        if head.seq == payload.seq:
            break
    if head.hash.hex() != payload.hash:
        return Seal((f"event {payload.seq} is not the one that was signed: the ledger was exchanged or changed",), 0)
    return Seal((), reached - payload.seq)
