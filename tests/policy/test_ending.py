"""When a grant that ends is spoken of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meshproxy.policy.document import parse_allow_list
from meshproxy.policy.ending import Notice, is_near, notice

END = datetime(2027, 3, 1, tzinfo=UTC)
ENDING, ENDLESS = parse_allow_list(
    b'[[allow]]\nfrom = "/web"\nexpires = 2027-03-01\n[[allow]]\nfrom = "/web"\n', file="api.allow.toml"
).rules


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (timedelta(days=14, seconds=1), Notice.NONE),
        (timedelta(days=14), Notice.SOON),
        (timedelta(days=1, seconds=1), Notice.SOON),
        (timedelta(days=1), Notice.LAST),
        (timedelta(microseconds=1), Notice.LAST),
        (timedelta(), Notice.ENDED),
        (timedelta(days=-400), Notice.ENDED),
    ],
)
def test_a_grant_is_spoken_of_two_weeks_and_a_day_before_its_end(before: timedelta, expected: Notice) -> None:
    assert notice(ENDING, END - before) is expected
    assert is_near(ENDING, END - before) == (expected in {Notice.SOON, Notice.LAST})
    assert notice(ENDLESS, END - before) is Notice.NONE
