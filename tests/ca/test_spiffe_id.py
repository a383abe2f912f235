"""SPIFFE IDs: vectors of the SPIFFE ID document and the traps other libraries fell into, then the round trip."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca import SpiffeId, TrustDomain
from ca.spiffe_id import complete

HOME = TrustDomain.parse("mesh.test")


@pytest.mark.parametrize(
    "name",
    [
        "example.org",
        "a",
        "localhost",
        "127.0.0.1",
        "under_score",
        # DNS rules do not apply (SPIFFE-ID 2.1).
        "example..org",
        ".example.org",
        "example.org.",
        "-a",
        ".",
        "..",
        "x" * 255,
    ],
)
def test_a_legal_trust_domain_reads_as_itself(name: str) -> None:
    domain = TrustDomain.parse(name)
    assert (domain.name, str(domain), domain.id) == (name, name, f"spiffe://{name}")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("Example.org", "lower case"),
        ("x" * 256, "256 bytes"),
        ("example.org\n", "only a-z"),
        (" example.org", "only a-z"),
        ("example.org\x00", "only a-z"),
        ("example org", "only a-z"),
        ("example.org:8080", "port"),
        ("user@example.org", "user information"),
        ("ex%61mple.org", "percent-encoding"),
        ("[::1]", "port"),
        ("\u212aube.org", "outside ASCII"),  # KELVIN SIGN: str.lower() makes it a k
        ("exámple.org", "outside ASCII"),
        ("\u0661.example", "outside ASCII"),  # ARABIC-INDIC DIGIT ONE: a digit to str.isdigit and \d
        ("spiffe://example.org", "bare name"),
        ("example.org/web", "only a-z"),
        ("example.org?", "query"),
        ("example.org#", "fragment"),
        ("a+b", "only a-z"),
        ("a~b", "only a-z"),
    ],
)
def test_an_illegal_trust_domain_is_refused_naming_the_rule(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrustDomain.parse(name)
    with pytest.raises(ValueError, match=rule):
        TrustDomain(name)  # there is no back door past the parser


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        ("spiffe://example.org", "example.org", ""),
        ("spiffe://example.org/web", "example.org", "/web"),
        ("spiffe://example.org/a/b/c", "example.org", "/a/b/c"),
        ("spiffe://example.org/...", "example.org", "/..."),
        ("spiffe://example.org/.x", "example.org", "/.x"),
        ("spiffe://example.org/x.", "example.org", "/x."),
        ("spiffe://example.org/..x/x..", "example.org", "/..x/x.."),
        ("spiffe://../web", "..", "/web"),
        ("spiffe://1.2.3.4/Web_1-2.3", "1.2.3.4", "/Web_1-2.3"),
    ],
)
def test_a_legal_id_reads_as_itself(text: str, domain: str, path: str) -> None:
    identity = SpiffeId.parse(text)
    assert (identity.trust_domain.name, identity.path, str(identity)) == (domain, path, text)
    assert SpiffeId.of(TrustDomain.parse(domain), path) == identity


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "begin with spiffe://"),
        ("/web", "begin with spiffe://"),
        ("https://example.org/web", "begin with spiffe://"),
        ("SPIFFE://example.org/web", "begin with spiffe://"),
        ("Spiffe://example.org/web", "begin with spiffe://"),
        (" spiffe://example.org/web", "begin with spiffe://"),
        ("\tspiffe://example.org/web", "begin with spiffe://"),
        ("spiffe:/example.org/web", "begin with spiffe://"),
        ("spiffe:///web", "trust domain is empty"),
        ("spiffe://", "trust domain is empty"),
        ("spiffe://Example.org/web", "lower case"),
        ("spiffe://\u212aube.org/x", "outside ASCII"),
        ("spiffe://user@example.org/web", "user information"),
        ("spiffe://example.org:8443/web", "port"),
        ("spiffe://example.org/", "trailing /"),
        ("spiffe://example.org/web/", "trailing /"),
        ("spiffe://example.org//web", "empty path segment"),
        ("spiffe://example.org/a//b", "empty path segment"),
        ("spiffe://example.org/.", r"segment \. or \.\."),
        ("spiffe://example.org/a/../b", r"segment \. or \.\."),
        ("spiffe://example.org/..", r"segment \. or \.\."),
        ("spiffe://example.org/./b", r"segment \. or \.\."),
        ("spiffe://example.org/foo\n", "only a-z"),  # what `$` lets through
        ("spiffe://example.org/f\too", "only a-z"),  # what a URL parser strips
        ("spiffe://example.org/f\x00oo", "only a-z"),
        ("spiffe://example.org/f oo", "only a-z"),
        ("spiffe://example.org/f%6fo", "percent-encoding"),
        ("spiffe://example.org/web?", "query"),
        ("spiffe://example.org/web#", "fragment"),
        ("spiffe://example.org?q", "query"),
        ("spiffe://example.org#f", "fragment"),
        ("spiffe://example.org/wéb", "outside ASCII"),
        ("spiffe://example.org/web\\x", "only a-z"),
        ("spiffe://example.org/web;v=1", "only a-z"),
        ("spiffe://example.org/*", "only a-z"),
    ],
)
def test_an_illegal_id_is_refused_naming_the_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        SpiffeId.parse(text)


def test_an_id_of_2048_bytes_is_legal_and_one_more_is_not() -> None:
    longest = "spiffe://example.org/" + "x" * (2048 - len("spiffe://example.org/"))
    assert str(SpiffeId.parse(longest)) == longest
    with pytest.raises(ValueError, match="2049 bytes"):
        SpiffeId.parse(longest + "x")
    with pytest.raises(ValueError, match="2049 bytes"):
        SpiffeId.of(TrustDomain.parse("example.org"), longest.removeprefix("spiffe://example.org") + "x")


def test_paths_are_case_sensitive_and_ids_sort_by_domain_then_path() -> None:
    a, b, other = (SpiffeId.parse(f"spiffe://{t}") for t in ("a.test/Web", "a.test/web", "b.test/A"))
    assert a != b
    assert sorted([other, b, a]) == [a, b, other]
    assert len({a, b, SpiffeId.parse(str(a))}) == 2


def test_a_path_given_to_of_must_begin_with_a_slash() -> None:
    with pytest.raises(ValueError, match="begin with /"):
        SpiffeId.of(HOME, "web")


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("/web", "spiffe://mesh.test/web"),
        ("/a/b", "spiffe://mesh.test/a/b"),
        ("spiffe://mesh.test/web", "spiffe://mesh.test/web"),
        ("spiffe://partner.test/web", "spiffe://partner.test/web"),
    ],
)
def test_short_and_full_spellings_complete_to_the_full_id(text: str, full: str) -> None:
    assert str(complete(text, HOME)) == full


@pytest.mark.parametrize("text", ["", "web", "/", "/web/", "//web", "web/x", "mesh.test/web", "SPIFFE://mesh.test/web"])
def test_anything_else_does_not_complete(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an identity|not a SPIFFE ID"):
        complete(text, HOME)


def test_refusals_never_echo_control_characters_or_kilobytes() -> None:
    with pytest.raises(ValueError, match="not a SPIFFE ID") as refusal:
        SpiffeId.parse("spiffe://example.org/\x1b[31m\n" + "x" * 5000)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


_NAMES = st.text(string.ascii_lowercase + string.digits + ".-_", min_size=1, max_size=255)
_SEGMENTS = st.text(string.ascii_letters + string.digits + ".-_", min_size=1, max_size=40).filter(
    lambda segment: segment not in {".", ".."}
)


@given(_NAMES, st.lists(_SEGMENTS, max_size=20))
def test_every_legal_id_survives_the_round_trip(name: str, segments: list[str]) -> None:
    text = f"spiffe://{name}" + "".join(f"/{segment}" for segment in segments)
    identity = SpiffeId.parse(text)
    assert str(identity) == text
    assert SpiffeId.parse(str(identity)) == identity
    assert complete(text, HOME) == identity


@given(st.text(max_size=60))
def test_whatever_is_accepted_is_the_same_text_and_within_the_characters(tail: str) -> None:
    text = "spiffe://" + tail
    try:
        identity = SpiffeId.parse(text)
    except ValueError:
        return
    assert str(identity) == text
    assert set(tail) <= set(string.ascii_letters + string.digits + "._-/")
    assert not set(identity.trust_domain.name) & set(string.ascii_uppercase + "/")
