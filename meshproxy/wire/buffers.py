"""The scratch memory every connection shares, and the budget for what waits."""

from __future__ import annotations

_KIB = 1024

# Reads start at `smallest`, grow while they come back full, and shrink for everyone while too much waits: a remainder
# is at most one read, and 256 KiB times thousands of slow peers would be gigabytes.
_FRUGAL = 16 * _KIB
SMALLEST = 64 * _KIB
LARGEST = 256 * _KIB

# A TLS record adds at most 256 bytes to 16 KiB of plaintext (RFC 8446 section 5.2), so decrypted data is never longer
# than what was fed plus one record that waited in part.
ONE_RECORD = 16 * _KIB + 256


class Buffers:
    """Scratch for the callbacks of one engine, which run one at a time.

    No view of `raw` or `clear` survives a callback; what must wait is copied. They are one memory, `raw` a record
    further on: what was read is decrypted to where it stood, so that half as much passes through the processor's cache
    (see `TlsConnection.decrypt`). `held` counts the bytes that wait in all connections together, `budget` is the amount
    (bytes) from which on reads are kept short.
    """

    def __init__(self, *, budget: int = 64 * _KIB * _KIB) -> None:
        """Allocate the memory, a little more than the longest read."""
        self.clear = memoryview(bytearray(LARGEST + 2 * ONE_RECORD))
        self.raw = self.clear[ONE_RECORD : ONE_RECORD + LARGEST]
        self.held = 0
        self.smallest = SMALLEST
        self._budget = budget

    def __repr__(self) -> str:
        return f"<Buffers held={self.held} budget={self._budget}>"

    def grown(self, chunk: int, *, crowded: bool = False) -> int:
        """Return how much to read next after a read of `chunk` bytes came back full.

        Who reads in a crowd keeps to the smallest: to move the longest takes half a millisecond, which all others wait.
        """
        if self.held > self._budget:
            return _FRUGAL
        if crowded:
            return SMALLEST
        return min(max(chunk, SMALLEST // 2) * 2, LARGEST)
