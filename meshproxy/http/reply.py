"""The answers that are our own: short, of a known form, and silent about everything inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.http.fields import REQUEST_ID
from meshproxy.http.writing import fields_text, response_bytes

if TYPE_CHECKING:
    from meshproxy.http.head import Field

REASONS: Final = {
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


def problem(
    status: int,
    *,
    title: str,
    request_id: bytes,
    error_token: str | None,
    close: bool,
    retry_after: int | None = None,
    with_body: bool = True,
) -> bytes:
    """Return a whole response that tells a caller what went wrong (RFC 9457), and no more.

    `title` is one sentence for people; `request_id` leads to our log, where the rest stands. `error_token` is the error
    type of RFC 9209 section 2.3 for `Proxy-Status` (None: not a proxy's failure). `retry_after` is in seconds. Without
    `with_body` (the answer to HEAD) the head is the same and the body is left out (RFC 9110 section 9.3.2).
    """
    body = msgspec.json.encode({"title": title, "status": status, "request_id": request_id.decode("ascii")})
    fields: list[Field] = [
        (b"Content-Type", b"application/problem+json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
        (REQUEST_ID, request_id),
    ]
    if error_token is not None:
        fields.append((b"Proxy-Status", b"meshproxy; error=" + error_token.encode("ascii")))
    if status == 405:
        # RFC 9110 section 15.5.6: Allow is a MUST. We say 405 to CONNECT alone, whose target is the far end of a tunnel
        # and no resource of ours: it allows nothing (section 10.2.1: an empty value says so).
        fields.append((b"Allow", b""))
    if retry_after is not None:
        fields.append((b"Retry-After", b"%d" % retry_after))
    if close:
        fields.append((b"Connection", b"close"))
    head = response_bytes(status, REASONS.get(status, b""), b"", fields_text(fields), count=len(fields))
    return head + body if with_body else head
