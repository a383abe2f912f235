"""What tests of every floor may ask for."""

from __future__ import annotations

import pytest
from hypothesis import settings
from trio.testing import MockClock

# How long an example takes says nothing on a machine that is busy with something else.
settings.register_profile("meshproxy", deadline=None)
settings.load_profile("meshproxy")

# Loopback delivers in microseconds, but not within the same system call everywhere.
_QUIET_SECONDS = 0.01


@pytest.fixture
def settling_clock() -> MockClock:
    """A clock that jumps to the next deadline as `autojump_clock` does, but only once real sockets have gone quiet.

    pytest-trio takes it for the run only if the test itself asks for it.
    """
    return MockClock(autojump_threshold=_QUIET_SECONDS)
