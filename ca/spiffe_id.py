"""SPIFFE IDs and trust domains, parsed once into values that cannot be wrong.

The rules are those of the SPIFFE ID document (spiffe/spiffe, standards/SPIFFE-ID.md, sections 2.1 to 2.4), taken
strictly: the document lets a reader fold the case of scheme and trust domain, we refuse upper case instead, because
two spellings of one identity are an authorization hazard. No URL parser is involved (they strip tabs, line ends and
empty queries), nor `str.lower` (it turns U+212A into `k`): the text must be ASCII, short enough, and match whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SCHEME: Final = "spiffe://"
MAX_ID_BYTES: Final = 2048  # SPIFFE-ID 2.3
MAX_TRUST_DOMAIN_BYTES: Final = 255  # SPIFFE-ID 2.3

# DNS rules do not apply to a trust domain (SPIFFE-ID 2.1): `.example.`, `-a` and even `..` are legal names.
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]+")
_UPPER: Final = re.compile(r"[A-Z]")
_SEGMENT: Final = r"(?!\.{1,2}(?:/|\Z))[a-zA-Z0-9._-]+"
_PATH: Final = re.compile(rf"(?:/{_SEGMENT})*")


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name of one realm of trust, such as `example.org`; constructing one checks it.

    Raises ValueError, naming the rule, for any name SPIFFE-ID 2.1 or 2.3 forbids and for upper case. A name is not a
    safe file name (`..` is legal): name files by a hash of it.
    """

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES or not _TRUST_DOMAIN.fullmatch(self.name):
            raise ValueError(f"{_quoted(self.name)} is not a trust domain: {_trust_domain_fault(self.name)}")

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Take a bare name (`example.org`, without `spiffe://`) and return it as a trust domain.

        Raises ValueError, naming the rule of SPIFFE-ID 2.1 or 2.3 that the text breaks.
        """
        return cls(text)

    @property
    def id(self) -> str:
        """The SPIFFE ID of the trust domain itself, `spiffe://example.org`, as text."""
        return SCHEME + self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """One identity: a trust domain and a path, which is empty for the ID of the trust domain itself.

    Constructing one checks it: ValueError, naming the rule, for any path SPIFFE-ID 2.2 forbids, and for an ID longer
    than 2048 bytes (2.3). Paths are case-sensitive (2.4), so equality is plain equality.
    """

    trust_domain: TrustDomain
    path: str

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"{_quoted(str(self))} is not a SPIFFE ID: {_path_fault(self.path)}")
        if (length := len(str(self))) > MAX_ID_BYTES:  # everything is ASCII by now: characters are bytes
            raise ValueError(f"{_quoted(str(self))} is not a SPIFFE ID: {length} bytes, at most {MAX_ID_BYTES} allowed")

    @classmethod
    def of(cls, trust_domain: TrustDomain, path: str) -> SpiffeId:
        """The identity `path` (`/web`, or empty for the trust domain's own ID) in `trust_domain`.

        Raises ValueError, naming the rule of SPIFFE-ID 2.2 or 2.3 that the path breaks.
        """
        return cls(trust_domain, path)

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Take a full ID (`spiffe://example.org/web`) and return it; nothing is trimmed, folded or decoded.

        Raises ValueError, naming the rule of SPIFFE-ID 2 to 2.3 that the text breaks.
        """
        if not text.startswith(SCHEME):
            raise ValueError(f"{_quoted(text)} is not a SPIFFE ID: it must begin with {SCHEME} in lower case")
        name, slash, rest = text[len(SCHEME) :].partition("/")
        try:
            trust_domain = TrustDomain(name)
        except ValueError:
            raise ValueError(f"{_quoted(text)} is not a SPIFFE ID: {_trust_domain_fault(name)}") from None
        return cls(trust_domain, slash + rest)

    def __str__(self) -> str:
        return self.trust_domain.id + self.path


def complete(text: str, home: TrustDomain) -> SpiffeId:
    """Read an identity as people write it: a full ID as it stands, a short one (`/web`) within `home`.

    Raises ValueError for anything else, and for what SPIFFE-ID 2 forbids, naming the rule.
    """
    if text.startswith("/"):
        return SpiffeId.of(home, text)
    if text.startswith(SCHEME):
        return SpiffeId.parse(text)
    raise ValueError(f"{_quoted(text)} is not an identity: write a path such as /web, or a full {home.id}/web")


def _trust_domain_fault(name: str) -> str:
    """The rule a refused trust domain breaks, as a phrase; the first in the order a reader would notice it."""
    rules = (
        (not name, "the trust domain is empty (SPIFFE-ID 2.1)"),
        (not name.isascii(), "the trust domain has a character outside ASCII (SPIFFE-ID 2.1)"),
        (
            len(name) > MAX_TRUST_DOMAIN_BYTES,
            f"the trust domain is {len(name)} bytes, at most {MAX_TRUST_DOMAIN_BYTES} allowed (SPIFFE-ID 2.3)",
        ),
        ("%" in name, "percent-encoding is not allowed in a trust domain (SPIFFE-ID 2.1)"),
        ("@" in name, "user information is not allowed in a trust domain (SPIFFE-ID 2.1)"),
        ("?" in name or "#" in name, "a query or fragment is not allowed (SPIFFE-ID 2)"),
        (name.startswith(SCHEME), f"write the bare name, without {SCHEME}"),
        (":" in name, "a port is not allowed in a trust domain (SPIFFE-ID 2.1)"),
        (_UPPER.search(name) is not None, "the trust domain must be lower case (SPIFFE-ID 2.1)"),
    )
    return _first_broken(rules, "a trust domain has only a-z, 0-9, dot, hyphen and underscore (SPIFFE-ID 2.1)")


def _path_fault(path: str) -> str:
    """The rule a refused path breaks, as a phrase; the first in the order a reader would notice it."""
    segments = path.split("/")[1:]
    rules = (
        (not path.startswith("/"), "the path must begin with / (SPIFFE-ID 2.2)"),
        (not path.isascii(), "the path has a character outside ASCII (SPIFFE-ID 2.2)"),
        (path.endswith("/"), "a trailing / is not allowed (SPIFFE-ID 2.2)"),
        ("" in segments, "an empty path segment is not allowed (SPIFFE-ID 2.2)"),
        ("." in segments or ".." in segments, "a path segment . or .. is not allowed (SPIFFE-ID 2.2)"),
        ("%" in path, "percent-encoding is not allowed in a path (SPIFFE-ID 2.2)"),
        ("?" in path or "#" in path, "a query or fragment is not allowed (SPIFFE-ID 2)"),
    )
    return _first_broken(rules, "a path segment has only a-z, A-Z, 0-9, dot, hyphen and underscore (SPIFFE-ID 2.2)")


def _first_broken(rules: tuple[tuple[bool, str], ...], otherwise: str) -> str:
    return next((phrase for broken, phrase in rules if broken), otherwise)


def _quoted(text: str) -> str:
    """Hostile text made safe to print: escaped to ASCII and cut, since an ID may be as long as a certificate."""
    shown = text if len(text) <= 120 else text[:117] + "..."
    return ascii(shown)
