from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http import fields
from meshproxy.http.head import NO_BODY, BadMessage, Field, Framing, FramingKind, Version
from meshproxy.http.writing import fields_text
from tests.http.texts import fields_in

_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "option",
    b"Host content-length Transfer-Encoding x-mesh-client-id X_Mesh_Client_Id authorization x-forwarded-client-cert"
    b" Cookie content-type".split(),
)
def test_connection_may_not_take_what_is_not_the_senders(option: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        fields.connection_options([(b"Connection", b"close ,\t" + option)])
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("version", "connection", "alive"),
    [
        (Version.HTTP_1_1, b"", True),
        (Version.HTTP_1_1, b"Close", False),
        (Version.HTTP_1_1, b"close, keep-alive", False),
        (Version.HTTP_1_0, b"", False),
        (Version.HTTP_1_0, b"Keep-Alive", True),
        (Version.HTTP_1_0, b"keep-alive, close", False),
    ],
)
def test_keeping_alive(version: Version, connection: bytes, alive: bool) -> None:  # noqa: FBT001 - a table's column
    """RFC 9112 section 9.3."""
    assert fields.keeps_alive(version, fields.connection_options([(b"Connection", connection)])) is alive


def test_expectations() -> None:
    """RFC 9110 section 10.1.1."""
    body = Framing(FramingKind.LENGTH, 1)
    expect = [(b"Expect", b"100-CONTINUE")]
    assert fields.expects_continue(Version.HTTP_1_1, body, expect)
    assert not fields.expects_continue(Version.HTTP_1_0, body, expect)
    assert not fields.expects_continue(Version.HTTP_1_1, NO_BODY, expect)
    with pytest.raises(BadMessage) as caught:
        fields.expects_continue(Version.HTTP_1_1, body, [(b"Expect", b"x 100-continue")])
    assert caught.value.status == 417


_tokens = st.text("abcehiklmnoprstux-_.~!%9TXKC", min_size=1, max_size=9).map(str.encode)
_read_names = st.sampled_from(sorted(fields.OURS_IN_REQUESTS)).flatmap(
    lambda name: st.lists(st.sampled_from(b"-_.~|!9a"), min_size=len(name), max_size=len(name)).map(
        lambda instead: bytes(i if c == 0x2D else c - 0x20 * (i & 1) for c, i in zip(name, instead, strict=True))
    )
)


@given(
    st.lists(st.tuples(st.one_of(_tokens, _read_names), st.sampled_from([b"a", b"te: a", b"\xe9 b", b":"])), max_size=6)
)
def test_spellings_are_found_in_a_text_as_in_single_names(every: list[Field]) -> None:
    spelt = fields.spelt(fields.OURS_IN_REQUESTS)
    text = fields_text(every)
    kept = fields.carried(every, fields.OURS_IN_REQUESTS, frozenset())
    assert spelt.sub(b"", text) == kept
    read = list(every)
    for field in fields_in(kept):
        read.remove(field)
    assert spelt.findall(text) == read


def test_what_is_carried() -> None:
    every = [(b"A", b"1"), (b"b", b""), (b"C_D", b"2"), (b"te", b"3"), (b"T_E", b"4")]
    assert fields.carried(every, frozenset({b"te", b"c-d"}), frozenset({b"b"})) == b"\r\nA: 1\r\nT_E: 4"


def test_trailers_decide_nothing() -> None:
    """RFC 9110 section 6.5.1."""
    refused = b"""content-length transfer-encoding host connection te trailer authorization cookie set-cookie expect
        content-type content-encoding cache-control x-mesh-client-id x_mesh_client_id x-forwarded-for X-Forwarded-Host
        forwarded via x-request-id traceparent Content_Length range location""".split()
    kept = [(b"grpc-status", b"0"), (b"X-Checksum", b"1"), (b"server-timing", b"a")]
    assert fields.outgoing_trailers([*((name, b"1") for name in refused), *kept]) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (_TRACE, True),
        (_TRACE.replace(b"00-", b"01-", 1) + b"-more", True),
        (_TRACE + b"-more", False),
        (_TRACE.replace(b"00-", b"ff-", 1), False),
        (_TRACE.upper(), False),
        (b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01", False),
        (_TRACE[:-1], False),
        (b"", False),
    ],
)
def test_traces(value: bytes, kept: bool) -> None:  # noqa: FBT001 - a table's column
    """W3C Trace Context section 3.2.2."""
    assert fields.read_traceparent([(b"TraceParent", value)]) == (value if kept else None)
    assert fields.read_traceparent([(b"traceparent", value), (b"traceparent", value)]) is None


def test_new_ids_are_well_formed() -> None:
    rng = random.Random(1)
    made = fields.new_request_id(rng)
    assert fields.read_request_id([(b"X-Request-Id", made)]) == made
    for bad in (b"", b"a b", b"a" * 129, b"\xe9"):
        assert fields.read_request_id([(b"x-request-id", bad)]) is None
