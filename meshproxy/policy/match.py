"""Patterns for identities and request paths, parsed once and matched segment by segment.

One grammar for both: a literal segment is itself (case-sensitive), `*` is exactly one non-empty segment, a trailing
`**` is zero or more. `*` is never part of a segment: `/batch-*` would grant `/batch-evil` to whoever may pick names.

A slash at the end of a request path is one more segment, an empty one. So `/a` is not `/a/`, and `/a/*` grants neither;
`/a/**` grants both, as zero and one segments more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ca.spiffe_id import MAX_ID_BYTES, SCHEME, SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANY_SEGMENT: Final = "*"
ANY_TAIL: Final = "**"
MAX_PATH_PATTERN: Final = 8192  # characters; as long as a request target may be by default

_STAND_IN: Final = "x"  # a legal segment, where the pattern has `*`, so that ca.spiffe_id can judge the rest
_STAND_IN_DOMAIN: Final = TrustDomain("x")

# RFC 3986 section 3.3: pchar without pct-encoded, which is looked at on its own.
_PATH_TEXT: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986 2.3
_PARAMETER: Final = re.compile(r";|%3[Bb]")  # where some servers cut a segment
_REFUSED_WHEN_ESCAPED: Final = frozenset("/\\\0")


@dataclass(frozen=True, slots=True)
class Segments:
    """What stands between the slashes of a pattern: `*` where any one segment may stand, `open_ended` for `**`."""

    fixed: tuple[str, ...]
    open_ended: bool

    def __str__(self) -> str:
        return spelt((*self.fixed, ANY_TAIL) if self.open_ended else self.fixed)

    def match(self, segments: Sequence[str]) -> bool:
        """Whether the pattern grants these segments (of `/a/b`: `a` and `b`; of `/a/`: `a` and the empty one)."""
        if len(segments) != len(self.fixed) and not (self.open_ended and len(segments) > len(self.fixed)):
            return False
        return all(
            wanted == segment or (wanted == ANY_SEGMENT and segment != "")
            for wanted, segment in zip(self.fixed, segments, strict=False)
        )


@dataclass(frozen=True, slots=True)
class IdentityPattern:
    """Whom a rule grants: `/batch/*` in the own trust domain (`trust_domain` None), or a full `spiffe://` pattern."""

    text: str
    trust_domain: TrustDomain | None
    segments: Segments

    @classmethod
    def parse(cls, text: str) -> IdentityPattern:
        """Read a short or full pattern; the segments obey SPIFFE-ID 2.2, the trust domain holds no wildcard.

        Raises ValueError with a phrase that completes "expected ...".
        """
        full = text.startswith(SCHEME)
        if not full and not text.startswith("/"):
            raise ValueError("an identity such as /web, or a full spiffe://example.org/web")
        if len(text) > MAX_ID_BYTES:
            raise ValueError(f"an identity of at most {MAX_ID_BYTES} bytes (SPIFFE-ID 2.3)")
        parts = text.split("/")
        first = 3 if full else 1  # `spiffe:`, nothing and the trust domain, or nothing, stand before the segments
        fixed, open_ended = _wildcards(parts[first:])
        exemplar = "/".join([*parts[:first], *(_STAND_IN if part == ANY_SEGMENT else part for part in fixed)])
        try:
            identity = SpiffeId.parse(exemplar) if full else SpiffeId.of(_STAND_IN_DOMAIN, exemplar)
        except ValueError as error:
            rule = str(error).rpartition(" is not a SPIFFE ID: ")[2]
            raise ValueError(f"an identity such as /web, /batch/* or spiffe://example.org/web ({rule})") from None
        if not fixed and not open_ended:
            raise ValueError("a path behind the trust domain: its own ID belongs to no service (X509-SVID 5.2)")
        return cls(text, identity.trust_domain if full else None, Segments(fixed, open_ended))

    def match(self, caller: SpiffeId, *, home: TrustDomain) -> bool:
        """Whether the pattern grants `caller`, where `home` is the trust domain a short pattern speaks of."""
        return caller.trust_domain == (self.trust_domain or home) and self.segments.match(identity_segments(caller))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class PathPattern:
    """Which request paths a rule grants: `/charges/*/refunds`, `/docs/**`."""

    text: str
    segments: Segments

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Read a pattern over paths as they are judged: no query, unreserved escapes decoded (RFC 3986 2.3).

        A pattern that no judged path can ever match is refused: it would look like a grant and be none.
        Raises ValueError with a phrase that completes "expected ...".
        """
        if fault := _path_fault(text):
            raise ValueError(fault)
        return cls(text, Segments(*_wildcards(text.split("/")[1:])))

    def match(self, path: str) -> bool:
        """Whether the pattern grants a judged path; `/a` is not `/a/`."""
        return path.startswith("/") and self.segments.match(path.split("/")[1:])

    def __str__(self) -> str:
        return self.text


def identity_segments(identity: SpiffeId) -> list[str]:
    """Return the path segments of an identity: `a`, `b` of `spiffe://td/a/b`; none for a trust domain's own ID."""
    return identity.path.split("/")[1:]


def spelt(segments: Iterable[str]) -> str:
    """Return segments as the path they make: `/a/b` of `a` and `b`."""
    return "".join(f"/{segment}" for segment in segments)


def _wildcards(parts: list[str]) -> tuple[tuple[str, ...], bool]:
    """Split off a trailing `**`; raises ValueError for a `*` anywhere but alone in its segment."""
    open_ended = bool(parts) and parts[-1] == ANY_TAIL
    fixed = tuple(parts[:-1] if open_ended else parts)
    if any("*" in part and part != ANY_SEGMENT for part in fixed):
        raise ValueError("`*` only as a whole segment (/batch/*), and `**` only as the last one (/docs/**)")
    return fixed, open_ended


def _path_fault(text: str) -> str | None:
    """The phrase for a path pattern that is malformed or unreachable, or None; the first a reader would notice."""
    escaped = {chr(int(digits, 16)) for digits in _ESCAPE.findall(text)}
    segments = text.split("/")[1:]
    rules = (
        (not text.startswith("/"), "a path that begins with /"),
        (len(text) > MAX_PATH_PATTERN, f"a path of at most {MAX_PATH_PATTERN} characters"),
        ("?" in text or "#" in text, "a path without query or fragment: rules judge the path alone"),
        ("\\" in text, "a path without backslash: such requests are refused before any rule"),
        (not text.isascii(), "ASCII; write other characters as the percent-escapes of their UTF-8 bytes"),
        (not _PATH_TEXT.fullmatch(text), "only the characters of a path (RFC 3986 3.3), others as escapes like %20"),
        (bool(escaped & _REFUSED_WHEN_ESCAPED), "no escaped /, \\ or NUL: such requests are refused before any rule"),
        (bool(escaped & _UNRESERVED), "letters, digits and -._~ unescaped: paths are judged with those decoded"),
        ("" in segments[:-1], "no // in a path: such requests are refused before any rule"),
        (
            any(_PARAMETER.split(segment, 1)[0] in {".", ".."} for segment in segments),
            "no segment . or .., also before a ; : such requests are refused before any rule",
        ),
    )
    return next((phrase for broken, phrase in rules if broken), None)
