from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.policy.match import IdentityPattern, PathPattern, Segments, identity_segments

HOME = TrustDomain("example.org")


@pytest.mark.parametrize(
    ("pattern", "caller", "granted"),
    [
        ("/web", "spiffe://example.org/web", True),
        ("/web", "spiffe://example.org/Web", False),
        ("/web", "spiffe://example.org/web/a", False),
        ("/web", "spiffe://example.org/we", False),
        ("/web", "spiffe://partner.net/web", False),
        ("/batch/*", "spiffe://example.org/batch/a", True),
        ("/batch/*", "spiffe://example.org/batch", False),
        ("/batch/*", "spiffe://example.org/batch/a/b", False),
        ("/*/web", "spiffe://example.org/team/web", True),
        ("/*/web", "spiffe://example.org/team/api", False),
        ("/batch/**", "spiffe://example.org/batch", True),
        ("/batch/**", "spiffe://example.org/batch/a/b/c", True),
        ("/batch/**", "spiffe://example.org/batches", False),
        ("/batch/*/**", "spiffe://example.org/batch", False),
        ("/batch/*/**", "spiffe://example.org/batch/a", True),
        ("/**", "spiffe://example.org/web", True),
        ("/**", "spiffe://partner.net/web", False),
        ("spiffe://partner.net/web", "spiffe://partner.net/web", True),
        ("spiffe://partner.net/web", "spiffe://example.org/web", False),
        ("spiffe://example.org/web", "spiffe://example.org/web", True),
        ("spiffe://partner.net/*", "spiffe://partner.net/x", True),
        ("spiffe://partner.net/**", "spiffe://partner.net.evil/x", False),
    ],
)
def test_whom_an_identity_pattern_grants(pattern: str, caller: str, granted: bool) -> None:  # noqa: FBT001
    assert IdentityPattern.parse(pattern).match(SpiffeId.parse(caller), home=HOME) is granted


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "an identity such as /web, or a full spiffe://example.org/web"),
        ("web", "an identity such as /web, or a full"),
        ("*", "an identity such as /web, or a full"),
        ("SPIFFE://example.org/web", "an identity such as /web, or a full"),
        ("https://example.org/web", "an identity such as /web, or a full"),
        ("/", "a trailing / is not allowed"),
        ("/web/", "a trailing / is not allowed"),
        ("/a//b", "an empty path segment"),
        ("/a/../b", "a path segment . or .."),
        ("/web\n", "a path segment has only"),
        ("/wéb", "outside ASCII"),
        ("/a%2fb", "percent-encoding"),
        ("/web?x", "a query or fragment"),
        ("/web ", "a path segment has only"),
        ("/batch-*", "`*` only as a whole segment"),
        ("/**/web", "`**` only as the last one"),
        ("/***", "`*` only as a whole segment"),
        ("spiffe://*/web", "a trust domain has only"),
        ("spiffe://**", "a trust domain has only"),
        ("spiffe://Example.org/web", "must be lower case"),
        ("spiffe:///web", "the trust domain is empty"),
        ("spiffe://", "the trust domain is empty"),
        ("spiffe://example.org:443/web", "a port is not allowed"),
        ("spiffe://example.org", "its own ID belongs to no service"),
        ("spiffe://example.org/", "a trailing / is not allowed"),
        ("/" + "a" * 2048, "at most 2048 bytes"),
    ],
)
def test_what_is_no_identity_pattern(pattern: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        IdentityPattern.parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "path", "granted"),
    [
        ("/charges", "/charges", True),
        ("/charges", "/charges/", False),
        ("/charges", "/Charges", False),
        ("/charges/", "/charges/", True),
        ("/charges/", "/charges", False),
        ("/charges/*/refunds", "/charges/7/refunds", True),
        ("/charges/*/refunds", "/charges//refunds", False),
        ("/charges/*/refunds", "/charges/7/8/refunds", False),
        ("/charges/*", "/charges/", False),
        ("/docs/**", "/docs", True),
        ("/docs/**", "/docs/", True),
        ("/docs/**", "/docs/a/b/", True),
        ("/docs/**", "/docsx", False),
        ("/docs/**", "/Docs/a", False),
        ("/docs/*", "/docs", False),
        ("/docs/*", "/docs/a/", False),
        ("/docs/*/", "/docs/a/", True),
        ("/docs/*/", "/docs/a", False),
        ("/docs/*", "/docs/*", True),
        ("/docs/*", "/docs/**", True),
        ("/", "/", True),
        ("/", "/a", False),
        ("/**", "/", True),
        ("/**", "/a/b", True),
        ("/**", "*", False),
        ("/a;v=1", "/a;v=1", True),
        ("/a%20b", "/a%20b", True),
        ("/a.b/~c", "/a.b/~c", True),
        ("/...", "/...", True),
    ],
)
def test_which_paths_a_path_pattern_grants(pattern: str, path: str, granted: bool) -> None:  # noqa: FBT001
    assert PathPattern.parse(pattern).match(path) is granted


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "begins with /"),
        ("charges", "begins with /"),
        ("*", "begins with /"),
        ("/" + "a" * 8192, "at most 8192 characters"),
        ("/a?b=1", "without query or fragment"),
        ("/a#b", "without query or fragment"),
        ("/a\\b", "without backslash"),
        ("/é", "percent-escapes of their UTF-8 bytes"),
        ("/a b", "only the characters of a path"),
        ("/a\n", "only the characters of a path"),
        ('/"', "only the characters of a path"),
        ("/a%zz", "only the characters of a path"),
        ("/a%2", "only the characters of a path"),
        ("/a%2Fb", "no escaped /, \\ or NUL"),
        ("/a%2fb", "no escaped /, \\ or NUL"),
        ("/a%5cb", "no escaped /, \\ or NUL"),
        ("/a%00", "no escaped /, \\ or NUL"),
        ("/%41", "unescaped"),
        ("/%2e%2e/b", "unescaped"),
        ("//", "no //"),
        ("/a//b", "no //"),
        ("/a/./b", "no segment . or .."),
        ("/a/..", "no segment . or .."),
        ("/a/..;x=1/b", "no segment . or .."),
        ("/a/..%3Bx/b", "no segment . or .."),
        ("/a/.%3b", "no segment . or .."),
        ("/a*", "`*` only as a whole segment"),
        ("/**/a", "`**` only as the last one"),
    ],
)
def test_what_is_no_path_pattern_or_matches_no_judged_path(pattern: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        PathPattern.parse(pattern)


SEGMENT = st.text("ab.-_A", min_size=1, max_size=3).filter(lambda text: text not in {".", ".."})


@given(st.lists(st.one_of(SEGMENT, st.just("*")), max_size=4), st.booleans(), st.lists(SEGMENT, min_size=1, max_size=5))
def test_segments_match_as_the_regular_expression_they_read_like(
    fixed: list[str],
    open_ended: bool,  # noqa: FBT001
    segments: list[str],
) -> None:
    pattern = "".join("/[^/]+" if segment == "*" else "/" + re.escape(segment) for segment in fixed)
    expected = re.fullmatch(pattern + ("(?:/.*)?" if open_ended else ""), "/" + "/".join(segments)) is not None
    assert Segments(tuple(fixed), open_ended).match(segments) is expected


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused_and_an_identity_grants_itself(text: str) -> None:
    for parse in (IdentityPattern.parse, PathPattern.parse):
        try:
            assert str(parse(text)) == text
        except ValueError as error:
            refusal = str(error)
        else:
            refusal = ""
        assert not refusal or refusal.isprintable()


@given(st.lists(SEGMENT, min_size=1, max_size=5))
def test_an_identity_is_a_pattern_that_grants_it(segments: list[str]) -> None:
    caller = SpiffeId.of(HOME, "/" + "/".join(segments))
    assert identity_segments(caller) == segments
    assert IdentityPattern.parse(caller.path).match(caller, home=HOME)
    assert IdentityPattern.parse(str(caller)).match(caller, home=TrustDomain("else.where"))
