"""Durations and sizes as people write them: `"30s"`, `"24h"`, `"64KiB"`; read once at the border, told back in words.

A number always carries its unit: a bare `30` in a file is a question ("thirty what?"), so it is refused.
"""

from __future__ import annotations

import math
import re

MAX_DURATION = 3650 * 86400.0  # seconds; ten years: longer is a slip of the pen, and stays far from any overflow
MAX_SIZE = 1 << 40  # bytes; 1 TiB

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

# ASCII digits spelled out: `\d` also accepts the digits of every other script. Lengths bounded before int() sees them.
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")


def parse_duration(text: str) -> float:
    """Read one number and one unit (`ms`, `s`, `m`, `h`, `d`), as in `"250ms"` or `"1.5h"`; returns seconds, >= 0.

    Raises ValueError with a phrase that completes "expected ...". Zero is legal here; who needs more says so.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError('a duration: a number and one of ms, s, m, h, d, as in "250ms", "30s" or "24h"')
    seconds = float(match[1]) * _MILLISECONDS[match[2]] / 1000
    if seconds > MAX_DURATION:
        raise ValueError("a duration of at most 3650d")
    return seconds


def parse_size(text: str) -> int:
    """Read one whole number and one unit (`B`, `KiB`, `MiB`, `GiB`), as in `"64KiB"`; returns bytes, >= 0.

    Only the binary units of IEC 80000-13 are read: `KB` means 1000 to one reader and 1024 to the next.
    Raises ValueError with a phrase that completes "expected ...".
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError('a size: a whole number and one of B, KiB, MiB, GiB, as in "512B" or "64KiB"')
    size = int(match[1]) * _BYTES[match[2]]
    if size > MAX_SIZE:
        raise ValueError("a size of at most 1024GiB")
    return size


def format_duration(seconds: float) -> str:
    """Tell `seconds` in its two largest neighbouring units: `22h 10m`, `1d`, `1s 500ms`; `-5m` for the past.

    The rest is cut off, never rounded up, so that a certificate is not said to live longer than it does.
    Raises ValueError when `seconds` is not finite.
    """
    if not math.isfinite(seconds):
        raise ValueError("a finite number of seconds")
    rest = round(abs(seconds) * 1000)
    sign = "-" if seconds < 0 and rest else ""
    parts: list[str] = []
    for unit, length in reversed(_MILLISECONDS.items()):
        count, remainder = divmod(rest, length)
        if parts:
            # Only the neighbour of the largest unit may join it: "1d 5m" would suggest a precision cut off elsewhere.
            return sign + " ".join([*parts, f"{count}{unit}"] if count else parts)
        if count:
            parts.append(f"{count}{unit}")
        rest = remainder
    return sign + "".join(parts) if parts else "0s"


def format_size(size: int) -> str:
    """Tell bytes in the largest unit that leaves a whole number, as `parse_size` reads it: `32KiB`, `500B`."""
    for unit, length in reversed(_BYTES.items()):
        if size >= length and not size % length:
            return f"{size // length}{unit}"
    return f"{size}B"
