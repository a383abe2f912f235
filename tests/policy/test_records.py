"""What is read from logs, and what is passed over."""

from __future__ import annotations

import pytest

from meshproxy.policy.records import records_in

LINE = b'{"event":"request","caller":"spiffe://mesh.test/web","method":"GET","path":"/a","decision":"allow","x":%s}\n'


@pytest.mark.parametrize("inside", [b"[" * 100_000 + b"]" * 100_000, b"\xff", b"", b'"\\ud800"', b"1e999999"])
def test_a_line_that_is_no_json_is_passed_over_and_the_next_is_read(inside: bytes) -> None:
    *others, last = records_in([LINE % inside, b"\0", b"[1]\n", b'{"event":1}\n', LINE % b"1"])
    assert last.is_decision
    assert len(others) <= 1
