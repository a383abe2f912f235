"""Which resource a request means, and that there is only one reading of it.

A path is granted as it is forwarded and forwarded as it is granted. Whatever two programs may read differently (an
escaped slash, a dot segment, an empty segment) is refused before any rule is asked.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from meshproxy.http.head import BadMessage, Target, TargetForm, Version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshproxy.http.head import Field

# RFC 3986 section 3.3: pchar and `/`. Escapes are looked at on their own.
_PATH: Final = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]++|%[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986 2.3
_REFUSED_WHEN_ESCAPED: Final = frozenset(b"/\\\0")
_DOTS: Final = frozenset({b".", b".."})

# A query is carried, never judged, so only what could break the request line or begin a fragment is kept out of it.
_QUERY: Final = re.compile(rb"[\x21\x22\x24-\x7e]*+")

# RFC 9112 section 3.2.2. Any other scheme would ask us to be somebody else's gateway.
_ABSOLUTE: Final = re.compile(rb"(?i:(https?))://([^/?]*)(.*)", re.DOTALL)
_DEFAULT_PORTS: Final = {b"http": b"80", b"https": b"443"}

# RFC 3986 section 3.2.2, host [ ":" port ] without userinfo (RFC 9110 section 4.2.4). An empty host names nobody.
_AUTHORITY: Final = re.compile(
    rb"(?P<host>\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]*))?"
)


def parse_target(method: bytes, raw: bytes) -> Target:
    """Judge a request target as it stood on the request line (RFC 9112 section 3.2).

    Returns it in the form in which rules are asked and in which it is forwarded. Raises BadMessage: 405 for CONNECT (a
    tunnel has no path to judge), 400 for everything that has no single reading.
    """
    if method == b"CONNECT":
        raise BadMessage(405, "CONNECT")
    if raw == b"*":
        if method != b"OPTIONS":
            raise BadMessage(400, "the target * belongs to OPTIONS (RFC 9112 section 3.2.4)")
        return Target(TargetForm.ASTERISK, b"*")
    if raw.startswith(b"/"):
        return _origin(TargetForm.ORIGIN, raw, None)
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        raise BadMessage(400, f"not a request target: {raw[:60]!r}")
    scheme, authority, rest = absolute.groups()
    _judge_authority(authority, scheme.lower())
    # RFC 9110 section 4.2.3: an empty path of an http URI is /.
    return _origin(TargetForm.ABSOLUTE, rest if rest.startswith(b"/") else b"/" + rest, authority)


def judge_host(raw_target: bytes, target: Target, version: Version, fields: Sequence[Field]) -> None:
    """Judge the Host field against the version and the target (RFC 9112 sections 3.2 and 3.2.2).

    `raw_target` tells the scheme of an absolute-form target, and with it the default port. Raises BadMessage (400):
    none in HTTP/1.1, more than one, one that is not host[:port], or one that names another host than the target does.
    """
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1 or (not hosts and version is Version.HTTP_1_1):
        raise BadMessage(400, f"{len(hosts)} Host fields")
    scheme = raw_target.partition(b":")[0].lower() if target.authority is not None else b"http"
    for host in hosts:
        named = _judge_authority(host, scheme)
        if target.authority is not None and named != _judge_authority(target.authority, scheme):
            raise BadMessage(400, f"target and Host differ: {target.authority[:60]!r} and {host[:60]!r}")


def _origin(form: TargetForm, raw: bytes, authority: bytes | None) -> Target:
    path, mark, query = raw.partition(b"?")
    if not _QUERY.fullmatch(query):
        raise BadMessage(400, "the query holds # or is not ASCII (RFC 9112 section 3.2)")
    return Target(form, _judge_path(path), query if mark else None, authority)


def _judge_path(raw: bytes) -> bytes:
    """Return the path with its unreserved escapes decoded (RFC 3986 section 6.2.2.2)."""
    if not _PATH.fullmatch(raw):
        raise BadMessage(400, f"not a path: {raw[:60]!r} (RFC 3986 section 3.3)")
    path = raw
    if b"%" in raw:
        if any(int(digits, 16) in _REFUSED_WHEN_ESCAPED for digits in _ESCAPE.findall(raw)):
            raise BadMessage(400, f"an escaped slash, backslash or NUL: {raw[:60]!r}")
        path = _ESCAPE.sub(_decoded, raw)
    segments = path.split(b"/")[1:]
    if b"" in segments[:-1]:
        raise BadMessage(400, f"an empty segment: {raw[:60]!r}")
    for segment in segments:
        # Servlets cut a segment at `;`, some after decoding it: `..;x` and `..%3bx` are `..` to them, and of `/;x/b`,
        # which `/*/b` would grant, they make `//b`, and of that `/b`.
        kept = segment.partition(b";")[0].partition(b"%3b")[0].partition(b"%3B")[0]
        if kept in _DOTS:
            raise BadMessage(400, f"a dot segment: {raw[:60]!r}")
        if segment and not kept:
            raise BadMessage(400, f"a segment that is empty when cut at a semicolon: {raw[:60]!r}")
    return path


def _decoded(escape: re.Match[bytes]) -> bytes:
    byte = int(escape[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else escape[0]


def _judge_authority(raw: bytes, scheme: bytes) -> tuple[bytes, bytes]:
    """Return host and port in a form that can be compared (RFC 9110 section 4.2.3)."""
    found = _AUTHORITY.fullmatch(raw)
    if found is None:
        raise BadMessage(400, f"not host[:port]: {raw[:60]!r} (RFC 3986 section 3.2)")
    if found["v6"] is not None:
        try:
            IPv6Address(found["v6"].decode())
        except ValueError:
            raise BadMessage(400, f"not an IPv6 address: {raw[:60]!r}") from None
    # Zeros in front mean nothing, and a number of any length must not be converted.
    port = (found["port"] or b"").lstrip(b"0") or (b"0" if found["port"] else _DEFAULT_PORTS[scheme])
    if len(port) > 5 or int(port) > 65535:
        raise BadMessage(400, f"not a port: {raw[:60]!r}")
    return found["host"].lower(), port
