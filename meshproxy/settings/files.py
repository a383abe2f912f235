"""Opening a file that decides something: bounded, never hanging on what is no file, and knowing who may write it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final

from ca.permissions import authority_mode_fault
from meshproxy.errors import Problem
from meshproxy.toml import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_PORTION: Final = 64 * 1024
_NO_FILE: Final = "no file"
_NO_CONTENT: Final = "no content"
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FAULTS: Final = {
    errno.ENOENT: (_NO_FILE, "Create it or correct the name"),
    errno.ENOTDIR: ("no directory on the way to the file", "Correct the name"),
    errno.EACCES: ("a file this user may not read", "Give the user of the sidecar leave to read it: chmod, chown"),
    errno.ELOOP: ("links that lead in a circle", "Correct the links"),
}


class UnreadableFile(Exception):
    """A file that cannot be read; `found` and `remedy` are as in a `Problem`."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy

    @classmethod
    def not_handed_on(cls) -> UnreadableFile:
        """A file of which another process has sent no content: there was none, or it was forgotten."""
        return cls(_NO_CONTENT, "Report it: a file was not handed on")

    def sentence(self, name: object) -> str:
        """What there is to say of the file that the user knows as `name`, without a full stop."""
        return f"{name} is {self.found}; {self.remedy[:1].lower()}{self.remedy[1:]}"

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing by this name."""
        return self.found in {_NO_FILE, _NO_CONTENT}


def read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the first `MAX_BYTES + 1` bytes of a regular file and its status; raises UnreadableFile.

    A longer file is thus cut, and seen to be too long by whoever parses it.
    """
    try:
        _refuse_what_is_no_file(path.stat())
        # A FIFO could take the name after that look: without O_NONBLOCK the open would wait for its writer forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _refuse_what_is_no_file(status)
            return _at_most(MAX_BYTES + 1, file), status
    except OSError as error:
        raise _unreadable(error) from None


def _at_most(most: int, file: BinaryIO) -> bytes:
    """Read so many bytes in portions: one read of them asks for all that memory, of which there may be little."""
    portions = []
    while most and (portion := file.read(min(most, _PORTION))):
        portions.append(portion)
        most -= len(portion)
    return b"".join(portions)


def authority_problems(path: Path, status: os.stat_result) -> list[Problem]:
    """Return what is wrong with who may write the file at `path`, or the directories that hold it and its target.

    Whoever may write one of them decides who gets in. `status` is of the opened file, so it is the one that was read.
    Raises UnreadableFile when a directory is gone by now, as behind a link that was just swapped.
    """
    own_gids = {os.getegid(), *os.getgroups()}
    places = {path: status}
    try:
        for directory in (path.parent, path.resolve().parent):
            places[directory] = directory.stat()
    except OSError as error:
        raise _unreadable(error) from None
    problems = []
    for place, its_status in places.items():
        if fault := authority_mode_fault(its_status.st_mode, its_status.st_gid, own_gids=own_gids):
            found, _, expected = fault.partition("; expected ")
            remedy = f"Run: chmod go-w {file_name(place)}"
            problems.append(Problem(file_name(place), found, expected, remedy))
    return problems


def file_name(path: Path) -> str:
    """Return `path` as its user would type it: relative to the current directory if that is shorter, else absolute."""
    try:
        absolute = os.path.abspath(path)  # noqa: PTH100 - resolve() would show the target of a link, not its name
        return min(os.path.relpath(absolute), absolute, key=len)
    except OSError:  # the current directory is gone
        return str(path)


def _unreadable(error: OSError) -> UnreadableFile:
    reason = os.strerror(error.errno or 0)
    return UnreadableFile(
        *_FAULTS.get(error.errno or 0, (f"a file that cannot be read ({reason})", "Make it readable"))
    )


def _refuse_what_is_no_file(status: os.stat_result) -> None:
    if kind := _KINDS.get(stat.S_IFMT(status.st_mode)):
        raise UnreadableFile(kind, "Name a regular file")
