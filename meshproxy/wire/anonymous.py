"""Files without a name, to be shared with processes that inherit or are sent their descriptor."""

from __future__ import annotations

import os
import tempfile


def anonymous_file(size: int = 0) -> int:
    """Return the descriptor of a new file of `size` zero bytes, in memory where the system can; the caller's."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("meshproxy", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor
