from __future__ import annotations

import pytest

from meshproxy.tracing.delivery import Again, Lost, NotSent, Reply, Sent, what_follows


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"", Sent()),
        (b"{}", Sent()),
        (b'{"partialSuccess":{}}', Sent()),
        (b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}', Sent(3, "too old")),
        (b'{"partialSuccess":{"rejectedSpans":2}}', Sent(2)),
        (b'{"partialSuccess":{"rejectedSpans":"-2"}}', Sent()),
        (b'{"partialSuccess":{"rejectedSpans":"many"}}', Sent()),
        (b"\x0a\x02\x08\x03", Sent()),
        (b"[]", Sent()),
        (b"\xff", Sent()),
        (b'{"x":' + b"[" * 60_000, Sent()),
    ],
)
def test_a_success_is_never_sent_again(body: bytes, sent: Sent) -> None:
    assert what_follows(Reply(200, body), 1, 0.5) == sent


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501])
def test_what_would_be_refused_again_is_lost(status: int) -> None:
    assert what_follows(Reply(status), 1, 0.5) == Lost(f"it answered {status}", refused=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("tries", "jitter", "retry_after", "pause"),
    [
        (1, 0.0, None, 0.5),
        (1, 1.0, None, 1.0),
        (2, 1.0, None, 2.0),
        (5, 1.0, None, 16.0),
        (1, 1.0, 7, 7.0),
        (5, 1.0, 2, 16.0),
        (1, 1.0, 9999, 30.0),
        (1, 0.0, -5, 0.5),
    ],
)
def test_what_may_go_well_later_is_tried_later(
    status: int, tries: int, jitter: float, retry_after: float | None, pause: float
) -> None:
    assert what_follows(Reply(status, b"", retry_after), tries, jitter) == Again(pause, f"it answered {status}")


def test_it_is_not_tried_for_ever() -> None:
    assert what_follows(NotSent("connection refused"), 5, 1.0) == Again(16.0, "connection refused")
    assert what_follows(NotSent("connection refused"), 6, 1.0) == Lost("connection refused, 6 times")
