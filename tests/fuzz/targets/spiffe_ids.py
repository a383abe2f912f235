"""SPIFFE IDs: what is taken is what the document allows, no more and no less, and it is taken as it stands."""

from __future__ import annotations

from ca import SpiffeId, TrustDomain
from ca.spiffe_id import complete
from meshproxy.policy.match import IdentityPattern
from tests.fuzz.target import Target

_HOME = TrustDomain("mesh.test")
_DOMAIN = set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
_SEGMENT = _DOMAIN | set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _is_id(text: str) -> bool:
    """SPIFFE-ID 2 to 2.3, character by character."""
    if not text.startswith("spiffe://") or len(text) > 2048:
        return False
    name, *segments = text[len("spiffe://") :].split("/")
    return (
        0 < len(name) <= 255
        and set(name) <= _DOMAIN
        and all(each and set(each) <= _SEGMENT and each not in (".", "..") for each in segments)
    )


def _run(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        identity = SpiffeId.parse(text)
    except ValueError as error:
        assert not _is_id(text)
        assert str(error).isprintable()
    else:
        assert _is_id(text)
        assert str(identity) == text
        assert SpiffeId.of(identity.trust_domain, identity.path) == identity
    try:
        short = complete(text, _HOME)
    except ValueError:
        assert not _is_id(text)
        assert not (text.startswith("/") and _is_id(f"spiffe://mesh.test{text}"))
    else:
        assert _is_id(str(short))
    try:
        pattern = IdentityPattern.parse(text)
    except ValueError:
        return
    if "*" not in text and _is_id(text):
        assert pattern.match(SpiffeId.parse(text), home=_HOME)
    assert not pattern.match(SpiffeId.parse("spiffe://strange.test/x"), home=_HOME) or "strange.test" in text


TARGET = Target(
    _run,
    (
        *(
            b"spiffe://mesh.test/web",
            b"spiffe://mesh.test",
            b"/web",
            b"/a/b/c",
            b"/batch/*",
            b"spiffe://a.b/x/**",
            b"/**",
        ),
        *(b"spiffe://MESH.test/web", b"spiffe://mesh.test/..", b"spiffe://mesh.test/a//b", b"spiffe://mesh.test/a/"),
        *(b"spiffe://u@mesh.test/a", b"spiffe://mesh.test:80/a", b"spiffe://mesh.test/%61", b"spiffe://mesh.test?a#b"),
        b"spiffe://" + b"a" * 255 + b"/x",
        b"spiffe://a/" + b"b" * 2037,
    ),
    (
        *(
            b"spiffe://",
            b"/",
            b"..",
            b".",
            b"*",
            b"**",
            b"%2e",
            b"\n",
            b"\0",
            b"@",
            b":",
            b"?",
            b"#",
            "\u212a".encode(),
        ),
        b"a" * 60,
    ),
)
