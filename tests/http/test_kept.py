from __future__ import annotations

import pytest

from meshproxy.http.forwarded import forwarded_head
from meshproxy.http.head import HeadLimits
from meshproxy.http.kept import Memory
from meshproxy.http.writing import Unwritable

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def test_a_request_is_written_again_like_the_first_time() -> None:
    memory = Memory(HeadLimits(), None)
    for line in (b"GET /a", b"GET /b?c", b"PATCH /"):
        for host in (b"one", b"two"):
            found = memory.from_caller.recognise(b"%b HTTP/1.1\r\nHost: %b\r\nX: y\r\n\r\n" % (line, host))
            assert found is not None
            for client, request_id in ((b"spiffe://td/a", b"1"), (None, b"22"), (b"spiffe://td/b", b'"\\')):
                again = memory.to_service.head(found[0], client, request_id, TRACE)
                assert again == forwarded_head(found[0], client, request_id, TRACE, None)


@pytest.mark.parametrize("request_id", [b"r\r\nX: y", b"r\n", b"r\0", b"r r", b"r\r\n\r\nGET / HTTP/1.1"])
def test_a_head_that_is_written_again_is_checked_again(request_id: bytes) -> None:
    memory = Memory(HeadLimits(), None)
    found = memory.from_caller.recognise(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert found is not None
    memory.to_service.head(found[0], None, b"r", TRACE)
    with pytest.raises(Unwritable):
        memory.to_service.head(found[0], None, request_id, TRACE)
    with pytest.raises(Unwritable):
        memory.to_service.head(found[0], None, b"r", request_id)
