"""What is to be told of the traffic; the words are those of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AccessLines(StrEnum):
    """What has a line of its own in the log."""

    ALL = "all"
    FAILURES = "failures"  # what was denied, or would be, what failed, and answers from 500 on
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is told of the traffic; decisions, refusals and failures of connections are counted in any case."""

    lines: AccessLines = AccessLines.ALL
    request_metrics: bool = True  # what is counted and timed for each HTTP request
    series: bool = True  # who calls whom, how much and how long, for the admin pages of the last two days
