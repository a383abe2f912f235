"""Files and directories that are either old or new, never half: write beside, fsync, rename, fsync the directory.

Everything is made for its owner alone from its first byte (explicit modes; the process umask can only take away), and
under a temporary name in the same directory, so that a full disk or a kill at any moment leaves the old state plus at
most a temporary entry that the next writer clears away.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFTOVER: Final = re.compile(r"\..+\.tmp-[0-9a-f]{16}")


def temporary_name(name: str) -> str:
    """A fresh hidden name for something that will be renamed to `name` in the same directory."""
    return f".{name}.tmp-{secrets.token_hex(8)}"


def is_temporary(name: str) -> bool:
    """Whether `name` was made by `temporary_name`: unfinished work that no reader looks at."""
    return _LEFTOVER.fullmatch(name) is not None


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Make or replace `path` with `content`, atomically and durably, with exactly `mode`.

    Raises OSError, after removing what it had begun, when the disk is full or the directory cannot be written.
    """
    beside = path.with_name(temporary_name(path.name))
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    try:
        try:
            write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.rename(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_directory(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Point the symbolic link `link` at `target`, atomically: a reader sees the old target or the new one."""
    beside = link.with_name(temporary_name(link.name))
    beside.symlink_to(target)
    try:
        beside.rename(link)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_directory(link.parent)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Give a private directory (0700) to fill, which becomes `path` when the block ends well and vanishes otherwise.

    `path` may be an empty directory, which is replaced. Missing parents are made. Raises OSError when it cannot be
    made, or when `path` has got content in the meantime. While it is being filled it is locked, so that
    `clear_leftovers` of another process leaves it alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, lock = _fresh_and_locked(path)
    try:
        yield beside
        for directory, _, _ in os.walk(beside):
            sync_directory(Path(directory))
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    finally:
        os.close(lock)
    sync_directory(path.parent)


def _fresh_and_locked(path: Path) -> tuple[Path, int]:
    """A new temporary directory for `path`, and the descriptor that holds its lock."""
    while True:
        beside = path.with_name(temporary_name(path.name))
        beside.mkdir(mode=0o700)
        try:
            lock = _open_directory(beside)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Between mkdir and lock it looked abandoned, and a clearing process may have taken it away: then once more.
        if beside.is_dir():
            return beside, lock
        os.close(lock)


def clear_leftovers(directory: Path, *, of: str | None = None) -> None:
    """Remove what killed writers left in `directory` (for the entry `of` only, when given); live ones are skipped."""
    for entry in directory.iterdir():
        if not is_temporary(entry.name) or (of is not None and not entry.name.startswith(f".{of}.tmp-")):
            continue
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink(missing_ok=True)
            continue
        with suppress(OSError), locked(entry, wait=False):  # a directory someone still fills is locked
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def locked(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the exclusive lock of `directory` among cooperating processes; it dies with the process.

    Raises BlockingIOError when another holds it and `wait` is false.
    """
    descriptor = _open_directory(directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a rename alone may be undone by a power loss."""
    descriptor = _open_directory(directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_directory(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`: one `os.write` may stop short, at a full disk in particular."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
