"""Where a message ends: RFC 9112 section 6.3, read strictly.

Every ambiguity the RFC lets a recipient repair is refused instead: two programs that repair it differently see
different messages on one connection, and that is request smuggling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.http.head import CHUNKED, NO_BODY, UNTIL_CLOSE, BadMessage, Framing, FramingKind, Version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshproxy.http.head import Field

MOST_BYTES: Final = 2**63 - 1  # what a body may announce; beyond it other programs' integers wrap around


def request_framing(version: Version, fields: Sequence[Field]) -> Framing:
    """Tell how a request's body is delimited (RFC 9112 section 6.3 rules 3 to 6).

    `fields` come from a guarded head: each framing field at most once, Content-Length of digits alone. Raises
    BadMessage: 501 for a coding we do not know, 400 for anything with two readings.
    """
    return _declared(version, fields) or NO_BODY


def response_framing(method: bytes, status: int, version: Version, fields: Sequence[Field]) -> Framing:
    """Tell how the body of the response to a `method` request is delimited (RFC 9112 section 6.3).

    `fields` as in `request_framing`. Raises BadMessage.
    """
    return framing_of_answer(method, status, _declared(version, fields))


def framing_of_answer(method: bytes, status: int, declared: Framing | None) -> Framing:
    """Tell what the framing that an answer declares (None: none) means for such a status; raises BadMessage."""
    if status < 200 or status == 204:
        # RFC 9110 section 8.6, RFC 9112 section 6.1: such a response MUST NOT say it has a body; `Content-Length: 0`
        # is sent by careless servers and means the same thing, anything else would leave its body on the connection.
        if declared is not None and declared != Framing(FramingKind.LENGTH, 0):
            raise BadMessage(502, f"a {status} that announces a body")
        return NO_BODY
    if method == b"HEAD" or status == 304:
        if declared is not None and declared.kind is FramingKind.LENGTH:
            return Framing(FramingKind.NONE, declared.length)
        return NO_BODY
    return declared or UNTIL_CLOSE


def _declared(version: Version, fields: Sequence[Field]) -> Framing | None:
    coding = length = None
    for name, value in fields:
        folded = name.lower()
        if folded == b"transfer-encoding":
            coding = value
        elif folded == b"content-length":
            length = value
    if coding is not None:
        # RFC 9112 section 6.1: with both, "ought to be handled as an error"; in HTTP/1.0 the framing is faulty.
        if length is not None:
            raise BadMessage(400, "Content-Length and Transfer-Encoding")
        if version is Version.HTTP_1_0:
            raise BadMessage(400, "Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise BadMessage(501, f"transfer coding {coding[:40]!r} (RFC 9112 section 6.1)")
        return CHUNKED
    if length is None:
        return None
    digits = length.lstrip(b"0") or b"0"
    if len(digits) > 19 or int(digits) > MOST_BYTES:
        raise BadMessage(400, f"Content-Length {length[:40]!r}")
    return Framing(FramingKind.LENGTH, int(digits))
