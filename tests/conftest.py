"""What tests of every floor may ask for."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

# Loopback delivers in microseconds, but not within the same system call everywhere.
_QUIET_SECONDS = 0.01


@pytest.fixture
def settling_clock() -> MockClock:
    """A clock that jumps to the next deadline as `autojump_clock` does, but only once real sockets have gone quiet.

    pytest-trio takes it for the run only if the test itself asks for it.
    """
    return MockClock(autojump_threshold=_QUIET_SECONDS)
