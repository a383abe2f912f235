from __future__ import annotations

import pytest

from meshproxy.http.framing import request_framing, response_framing
from meshproxy.http.head import CHUNKED, NO_BODY, UNTIL_CLOSE, BadMessage, Field, Framing, FramingKind, Version

_CL = (b"content-length", b"5")
_TE = (b"Transfer-Encoding", b"Chunked")
_FIVE = Framing(FramingKind.LENGTH, 5)
_OLD, _NEW = Version.HTTP_1_0, Version.HTTP_1_1


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (_NEW, (), NO_BODY),
        (_OLD, (), NO_BODY),
        (_NEW, (_CL,), _FIVE),
        (_OLD, (_CL,), _FIVE),
        (_NEW, (_TE,), CHUNKED),
        (_OLD, (_TE,), 400),
        (_NEW, (_CL, _TE), 400),
        (_NEW, (_TE, _CL), 400),
        (_NEW, ((b"transfer-encoding", b"gzip"),), 501),
        (_NEW, ((b"transfer-encoding", b"gzip, chunked"),), 501),
        (_NEW, ((b"transfer-encoding", b""),), 501),
        (_NEW, ((b"content-length", b"0" * 50),), Framing(FramingKind.LENGTH, 0)),
        (_NEW, ((b"content-length", b"%d" % (2**63 - 1)),), Framing(FramingKind.LENGTH, 2**63 - 1)),
        (_NEW, ((b"content-length", b"%d" % 2**63),), 400),
        (_NEW, ((b"content-length", b"9" * 20000),), 400),  # and not Python's own limit on integers
    ],
)
def test_requests(version: Version, fields: tuple[Field, ...], expected: Framing | int) -> None:
    """RFC 9112 section 6.3."""
    if isinstance(expected, Framing):
        assert request_framing(version, fields) == expected
        return
    with pytest.raises(BadMessage) as caught:
        request_framing(version, fields)
    assert caught.value.status == expected


@pytest.mark.parametrize(
    ("method", "status", "fields", "expected"),
    [
        (b"GET", 200, (), UNTIL_CLOSE),
        (b"GET", 200, (_CL,), _FIVE),
        (b"GET", 200, (_TE,), CHUNKED),
        (b"HEAD", 200, (), NO_BODY),
        (b"HEAD", 200, (_CL,), Framing(FramingKind.NONE, 5)),
        (b"HEAD", 200, (_TE,), NO_BODY),
        (b"head", 200, (_CL,), _FIVE),  # methods are case-sensitive
        (b"GET", 304, (_CL,), Framing(FramingKind.NONE, 5)),
        (b"GET", 304, (_TE,), NO_BODY),
        (b"GET", 204, (), NO_BODY),
        (b"GET", 204, ((b"content-length", b"0"),), NO_BODY),
        (b"GET", 204, (_CL,), None),
        (b"GET", 204, (_TE,), None),
        (b"GET", 100, (), NO_BODY),
        (b"GET", 101, (_CL,), None),
        (b"GET", 103, (_TE,), None),
        (b"HEAD", 200, (_CL, _TE), None),
        (b"GET", 304, (_CL, _TE), None),
    ],
)
def test_responses(method: bytes, status: int, fields: tuple[Field, ...], expected: Framing | None) -> None:
    if expected is not None:
        assert response_framing(method, status, _NEW, fields) == expected
        return
    with pytest.raises(BadMessage):
        response_framing(method, status, _NEW, fields)
