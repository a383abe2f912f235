"""Whether files have changed, by their stat signatures: follows links that are swapped, needs no kernel interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Look = tuple[int, int, int, int, int, int, int]
Signature = tuple[Look | None, ...]


def signature_of(paths: Iterable[Path]) -> Signature:
    """Return what tells one state of these files from another; blocking. A file that is not there is None.

    Device, inode, modification time and size tell the content; mode, owner and group decide whether it may be used.
    """
    return tuple(_look_at(path) for path in paths)


def standing_of(directory: Path) -> Signature:
    """As `signature_of`, of a directory and whom it belongs to, whatever is written into it; blocking."""
    found = _look_at(directory)
    return (None if found is None else (*found[:2], 0, 0, *found[4:]),)


def _look_at(path: Path) -> Look | None:
    # Followed through links: renaming what a link points at changes what the same path means.
    try:
        found = path.stat()
    except OSError:
        return None
    return (
        found.st_dev,
        found.st_ino,
        found.st_mtime_ns,
        found.st_size,
        found.st_mode,
        found.st_uid,
        found.st_gid,
    )
