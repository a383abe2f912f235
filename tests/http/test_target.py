from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http.head import BadMessage, Target, TargetForm, Version
from meshproxy.http.target import judge_host, parse_target

_ORIGIN, _ABSOLUTE = TargetForm.ORIGIN, TargetForm.ABSOLUTE


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"/", Target(_ORIGIN, b"/")),
        (b"/a/", Target(_ORIGIN, b"/a/")),
        (b"/a?", Target(_ORIGIN, b"/a", b"")),
        (b"/a?b?c", Target(_ORIGIN, b"/a", b"b?c")),
        (b"/%7e%41%2D%5f", Target(_ORIGIN, b"/~A-_")),
        (b"/%c3%A9%2B%20", Target(_ORIGIN, b"/%c3%A9%2B%20")),  # escapes that stay, stay as they were written
        (b"/%2541", Target(_ORIGIN, b"/%2541")),  # decoded once
        (b"/.a/..b/c../...", Target(_ORIGIN, b"/.a/..b/c../...")),
        (b"/a;b=c;d/e;", Target(_ORIGIN, b"/a;b=c;d/e;")),
        (b"/a:b@c!$&'()*+,=", Target(_ORIGIN, b"/a:b@c!$&'()*+,=")),
        (b'/a?%2f\\"|^%', Target(_ORIGIN, b"/a", b'%2f\\"|^%')),
        (b"http://h", Target(_ABSOLUTE, b"/", None, b"h")),
        (b"http://h?a", Target(_ABSOLUTE, b"/", b"a", b"h")),
        (b"HTTPS://H:8443/%61", Target(_ABSOLUTE, b"/a", None, b"H:8443")),
        (b"http://h/a?http://x/", Target(_ABSOLUTE, b"/a", b"http://x/", b"h")),
    ],
)
def test_targets_as_they_are_judged(raw: bytes, target: Target) -> None:
    assert parse_target(b"GET", raw) == target


@pytest.mark.parametrize(
    ("method", "raw", "status"),
    [
        (b"CONNECT", b"a:443", 405),
        (b"CONNECT", b"/", 405),
        (b"GET", b"*", 400),
        (b"OPTIONS", b"**", 400),
        (b"GET", b"", 400),
        (b"GET", b"a", 400),
        (b"GET", b"/ ", 400),
        (b"GET", b"//", 400),
        (b"GET", b"/a//", 400),
        (b"GET", b"/.", 400),
        (b"GET", b"/..", 400),
        (b"GET", b"/./", 400),
        (b"GET", b"/a/%2E", 400),
        (b"GET", b"/..;", 400),
        (b"GET", b"/.;a=b/c", 400),
        (b"GET", b"/..%3B", 400),
        (b"GET", b"/%2e%2e%3b", 400),
        (b"GET", b"/a%2F", 400),
        (b"GET", b"/%5C", 400),
        (b"GET", b"/%00", 400),
        (b"GET", b"/%0", 400),
        (b"GET", b"/%%", 400),
        (b"GET", b"/\\", 400),
        (b"GET", b"/#", 400),
        (b"GET", b"/?#", 400),
        (b"GET", b"/\x80", 400),
        (b"GET", b"/?\x80", 400),
        (b"GET", b'/"', 400),
        (b"GET", b"/[", 400),
        (b"GET", b"http://", 400),
        (b"GET", b"http:///a", 400),
        (b"GET", b"http://u:p@h/", 400),
        (b"GET", b"http://h:x/", 400),
        (b"GET", b"http://h:99999/", 400),
        (b"GET", b"http://h\\x/", 400),
        (b"GET", b"ws://h/", 400),
        (b"GET", b"file:///a", 400),
    ],
)
def test_targets_with_more_than_one_reading_are_refused(method: bytes, raw: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        parse_target(method, raw)
    assert caught.value.status == status


def test_the_asterisk_is_for_options() -> None:
    target = parse_target(b"OPTIONS", b"*")
    assert target == Target(TargetForm.ASTERISK, b"*")
    assert target.as_origin_form() == b"*"


@given(st.lists(st.sampled_from([b"/", b".", b"a", b";", b"%2e", b"%2f", b"%41", b"%3b", b"%20", b"?", b"~"])))
def test_what_is_forwarded_is_judged_the_same_again(pieces: list[bytes]) -> None:
    try:
        target = parse_target(b"GET", b"/" + b"".join(pieces))
    except BadMessage:
        return
    assert parse_target(b"GET", target.as_origin_form()) == target
    # and no reader who decodes once more, cuts at `;` or merges slashes finds a way upwards
    for segment in target.path.split(b"/"):
        decoded = segment.replace(b"%3b", b";").replace(b"%2e", b".")
        assert decoded.partition(b";")[0] not in {b".", b".."}
    assert b"//" not in target.path


def _refused(host: bytes | None, raw: bytes = b"/", version: Version = Version.HTTP_1_1) -> bool:
    fields = [] if host is None else [(b"Host", host)]
    try:
        judge_host(raw, parse_target(b"GET", raw), version, fields)
    except BadMessage as bad:
        return bad.status == 400
    return False


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"A.b-c_d.",
        b"1.2.3.4:80",
        b"a:",
        b"a:0",
        b"a:65535",
        b"a:00000080",
        b"[::1]",
        b"[::ffff:1.2.3.4]:1",
        b"a=b",
    ],
)
def test_hosts(host: bytes) -> None:
    assert not _refused(host)


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b"a b", b"a, b", b"a:" + b"9" * 5000, b"caf\xc3\xa9", b"a\\b"),
        *b':80 u@a a/b a? a# a:b a:1:2 a:65536 a:-1 [::1 ::1 [1.2.3.4] [::1%25eth0] [v1.a] [] a% a%4 "a"'.split(),
    ],
)
def test_hosts_that_are_none(host: bytes) -> None:
    """RFC 3986 section 3.2.2 and RFC 9110 section 4.2.4."""
    assert _refused(host)


def test_how_many_hosts() -> None:
    """RFC 9112 section 3.2."""
    assert _refused(None)
    assert not _refused(None, version=Version.HTTP_1_0)
    with pytest.raises(BadMessage):
        judge_host(b"/", parse_target(b"GET", b"/"), Version.HTTP_1_0, [(b"Host", b"a"), (b"host", b"a")])


@pytest.mark.parametrize(
    ("raw", "host", "refused"),
    [
        (b"http://a/", b"a", False),
        (b"http://A/", b"a:80", False),
        (b"http://a:080/", b"a:", False),
        (b"https://a/", b"a:443", False),
        (b"https://a/", b"a:80", True),
        (b"http://a/", b"b", True),
        (b"http://a:81/", b"a", True),
        (b"http://a./", b"a", True),
    ],
)
def test_target_and_host_name_the_same(raw: bytes, host: bytes, refused: bool) -> None:  # noqa: FBT001 - a table's column
    """RFC 9112 section 3.2.2, read strictly: two hosts are two meanings."""
    assert _refused(host, raw) is refused
