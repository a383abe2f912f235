"""Which fields are passed on as they are, which are read, and which are ours to say.

Names are compared folded (lower case, every byte that is no letter or digit as `-`), because that is how many backends
read them: CGI and WSGI know one name for `x-mesh-client-id` and `X_Mesh_Client_ID`. So a name that only resembles one
of ours, or one that frames the message, is dropped with it.

`Forwarded` and `X-Forwarded-*` are end-to-end fields we neither read nor vouch for; they pass as they came. Who called
stands in `x-mesh-client-id` alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from meshproxy.http.guard import TOKEN
from meshproxy.http.head import BadMessage, FramingKind, Version
from meshproxy.http.writing import fields_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshproxy.http.head import Field, Framing

CLIENT_ID: Final = b"x-mesh-client-id"
REQUEST_ID: Final = b"x-request-id"
TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"

_IDENTITY: Final = frozenset({CLIENT_ID, b"x-forwarded-client-cert"})
_NOT_ALPHANUMERIC: Final = rb"[!#$%&'*+\-.^_`|~]"  # of the bytes that a name may have
_FOLDED: Final = bytes(ord(chr(b).lower()) if chr(b).isalnum() and b < 0x80 else 0x2D for b in range(256))

# RFC 9110 section 7.6.1: about this connection, whether Connection names them or not. The framing fields are here
# because ours come from the framing that was judged. The Proxy-* credentials (section 11.7) are for a proxy that asks
# for some, which we are not; the service has no business with them. HTTP2-Settings: RFC 7540 section 3.2.1.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"content-length",
        b"upgrade",
        b"http2-settings",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
    }
)
OURS_IN_REQUESTS: Final = _HOP_BY_HOP | _IDENTITY | {b"host", b"expect", REQUEST_ID, TRACEPARENT}
OURS_IN_RESPONSES: Final = _HOP_BY_HOP | {REQUEST_ID}

# RFC 9110 section 6.5.1: framing, routing, modifiers, authentication, content and response control decide how a message
# is taken, and whoever took it has done so when the trailers come.
_NOT_IN_TRAILERS: Final = OURS_IN_REQUESTS | frozenset(
    b"trailer tracestate via forwarded max-forwards range if-match if-none-match if-modified-since"
    b" if-unmodified-since if-range authorization www-authenticate authentication-info cookie set-cookie"
    b" content-encoding content-type content-range content-location cache-control pragma age date expires location"
    b" retry-after vary warning allow".split()
)
_FORWARDED_BY_PROXIES: Final = b"x-forwarded-"

# RFC 9110 section 7.6.1: a sender MUST NOT name a field meant for every recipient. Taken at its word, it would make us
# forward a message without its framing, its host or its credentials.
_NEVER_OPTIONS: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"cookie", b"set-cookie"}
)

# What follows such a switch would be requests no rule has judged (HTTP/2 in clear), or hide them from us (RFC 2817).
_NEVER_UPGRADES: Final = frozenset({b"h2c", b"h2", b"http", b"tls"})
_PROTOCOL: Final = re.compile(b"(" + TOKEN + b")(?:/" + TOKEN + b")?")  # RFC 9110 section 7.8

# W3C Trace Context section 3.2.2; a later version may append to it.
PLAIN_TRACEPARENT: Final = rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT: Final = re.compile(PLAIN_TRACEPARENT)
_LATER_TRACEPARENT: Final = re.compile(rb"(?!00)" + _TRACEPARENT.pattern + rb"-[\x21-\x7e]{1,200}")
PLAIN_REQUEST_ID: Final = rb"[\x21-\x7e]{1,128}"
_REQUEST_ID: Final = re.compile(PLAIN_REQUEST_ID)


class RandomSource(Protocol):
    """What new ids are made of; `random.Random` is one."""

    def randbytes(self, n: int, /) -> bytes:
        """Return `n` random bytes."""


def is_identity_spelling(name: bytes) -> bool:
    """Whether a backend might read this field name as one that tells the caller's identity."""
    return name.translate(_FOLDED) in _IDENTITY


def connection_options(fields: Iterable[Field]) -> frozenset[bytes]:
    """Return the options of all Connection fields in lower case (RFC 9110 section 7.6.1).

    Raises BadMessage (400) for an option that would take a field away which is not the sender's to take.
    """
    options: set[bytes] = set()
    for name, value in fields:
        if name.lower() == b"connection":
            options.update(option.strip(b" \t").lower() for option in value.split(b","))
    for option in options:
        if option in _NEVER_OPTIONS or is_identity_spelling(option):
            raise BadMessage(400, f"Connection names {option.decode('latin-1')!r}")
    return frozenset(options)


def keeps_alive(version: Version, options: frozenset[bytes]) -> bool:
    """Whether the sender lets another message follow on the connection (RFC 9112 section 9.3)."""
    return b"close" not in options and (version is Version.HTTP_1_1 or b"keep-alive" in options)


def offered_upgrade(version: Version, options: frozenset[bytes], fields: Iterable[Field]) -> bytes | None:
    """Return what a request offers to switch to (RFC 9110 section 7.8), or None where it may not be granted."""
    if version is not Version.HTTP_1_1 or b"upgrade" not in options or b"close" in options:
        return None
    return upgrade_value(fields)


def expects_continue(version: Version, framing: Framing, fields: Iterable[Field]) -> bool:
    """Whether the sender waits for a 100 (RFC 9110 section 10.1.1); raises BadMessage (417) for other expectations.

    From an HTTP/1.0 client, or without a body to wait for, the expectation is ignored as the RFC says.
    """
    expected = False
    for name, value in fields:
        if name.lower() == b"expect":
            if value.lower() != b"100-continue":
                raise BadMessage(417, f"expectation {value[:40]!r}")
            expected = version is Version.HTTP_1_1 and framing.kind is not FramingKind.NONE
    return expected


def takes_trailers(fields: Iterable[Field]) -> bool:
    """Whether TE says that the sender of a request takes trailers (RFC 9110 section 10.1.4)."""
    return any(
        name.lower() == b"te" and b"trailers" in [coding.strip(b" \t").lower() for coding in value.split(b",")]
        for name, value in fields
    )


def upgrade_value(fields: Iterable[Field]) -> bytes | None:
    """Return the protocols of the Upgrade fields; None where there is none, or one that we never offer."""
    protocols = []
    for name, value in fields:
        if name.lower() == b"upgrade":
            protocols += [protocol.strip(b" \t") for protocol in value.split(b",")]
    for protocol in protocols:
        known = _PROTOCOL.fullmatch(protocol)
        if known is None or known[1].lower() in _NEVER_UPGRADES:
            return None
    return b", ".join(protocols) or None


def carried(fields: Iterable[Field], ours: frozenset[bytes], options: frozenset[bytes]) -> bytes:
    """Return as text what is passed on: all but what is `ours`, in any spelling, and what Connection names."""
    return fields_text(
        field for field in fields if field[0].translate(_FOLDED) not in ours and field[0].lower() not in options
    )


def spelt(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Return what finds the fields, name and value, that a backend might read as one of `names`.

    It searches a text of judged fields that stand behind their line ends, as `fields_text` writes them.
    """
    spellings = [re.escape(name).replace(rb"\-", _NOT_ALPHANUMERIC) for name in sorted(names)]
    initials = bytes(sorted({name[0] for name in names}))  # looked at first: most fields are none of these
    return re.compile(rb"\r\n(?=[%b])(%b): ([^\r]*+)" % (initials, b"|".join(spellings)), re.IGNORECASE)


def outgoing_trailers(trailers: Iterable[Field]) -> list[Field]:
    """Return the trailer fields that may be passed on (RFC 9110 section 6.5.1)."""
    return [field for field in trailers if not _is_refused_trailer(field[0].translate(_FOLDED))]


def read_request_id(fields: Iterable[Field]) -> bytes | None:
    """Return the request id that came, if it is one, once, and fit to be logged: 1 to 128 visible ASCII characters."""
    return judged_request_id(_only(fields, REQUEST_ID))


def judged_request_id(value: bytes | None) -> bytes | None:
    """Return a request id as it stood in its field, or None if it is not fit to be one."""
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def new_request_id(rng: RandomSource) -> bytes:
    """Return a new request id: 32 hexadecimal digits."""
    return rng.randbytes(16).hex().encode()


def read_traceparent(fields: Iterable[Field]) -> bytes | None:
    """Return the trace the request belongs to, if it says so once and well-formed (W3C Trace Context 3.2, 3.3)."""
    return judged_traceparent(_only(fields, TRACEPARENT))


def judged_traceparent(value: bytes | None) -> bytes | None:
    """Return a traceparent as it stood in its field, or None if it is not well-formed."""
    if value is None or not (_TRACEPARENT.fullmatch(value) or _LATER_TRACEPARENT.fullmatch(value)):
        return None
    return value


def _is_refused_trailer(folded: bytes) -> bool:
    return folded in _NOT_IN_TRAILERS or folded.startswith(_FORWARDED_BY_PROXIES)


def _only(fields: Iterable[Field], wanted: bytes) -> bytes | None:
    values = [value for name, value in fields if name.lower() == wanted]
    return values[0] if len(values) == 1 else None
