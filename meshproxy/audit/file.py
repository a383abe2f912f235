"""The file of an audit log: opened, taken up where it ends, appended to, put aside when it is full. Blocks on the disk.

Nothing that was recorded is ever written over, cut or removed. One process writes, and holds a lock on the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from ca.permissions import authority_mode_fault
from meshproxy import __version__
from meshproxy.audit.chain import Head, chained, hash_of, read_link
from meshproxy.audit.lines import LONGEST, Opened, Why, encode, opened_by
from meshproxy.errors import FaultyInput, Problem
from meshproxy.settings.files import file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meshproxy.audit.lines import Body

_MODE: Final = 0o640
_NEW: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TAIL: Final = 2 * LONGEST
_DIGITS: Final = 12  # of the number of a file's last line, in its name once it was put aside
_BEGINS: Final = b'{"seq":'


class AuditFile:
    """Where the lines of one process go. `append` only remembers; `flush` makes what was appended durable.

    After an OSError `flush` may be called again: it goes on where it was, and nothing is written twice.
    """

    def __init__(self, path: Path, descriptor: int, stamp: Callable[[], str]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._stamp = stamp
        self._waiting = bytearray()
        self._size = os.fstat(descriptor).st_size
        self._is_synced = True
        self.head = Head()
        self.chain = ""

    def __repr__(self) -> str:
        return f"<AuditFile {self._path} at {self.head.seq}, {self._size} bytes, {len(self._waiting)} waiting>"

    @classmethod
    def open(cls, path: Path, stamp: Callable[[], str]) -> AuditFile:
        """Open or make the file and take up its chain; `stamp` gives the time of a line.

        Raises FaultyInput when it cannot be used, with what to do about it.
        """
        problems = directory_problems(path)
        if problems:
            raise FaultyInput(problems)
        try:
            descriptor = os.open(path, _NEW, _MODE)
        except OSError as error:
            raise _faulty(
                path, f"a file that cannot be written ({error.strerror})", "Name another, or mend it"
            ) from None
        try:
            _judge(path, descriptor)
            file = cls(path, descriptor, stamp)
            file._take_up()
            file.flush()
        except OSError as error:
            os.close(descriptor)
            raise _faulty(path, f"a file that cannot be written ({error.strerror})", "Make room, or mend it") from None
        except FaultyInput:
            os.close(descriptor)
            raise
        return file

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of the file, those included that wait to be written."""
        return self._size + len(self._waiting)

    def append(self, body: Body) -> None:
        """Put the next line of the chain to what waits to be written."""
        line = chained(self.head, encode(body))
        self._waiting += line
        self.head = self.head.after(line)

    def flush(self) -> None:
        """Write what waits, and have the disk keep it. Raises OSError."""
        waiting = self._waiting
        while waiting:
            self._is_synced = False
            written = os.write(self._descriptor, waiting)
            self._size += written
            del waiting[:written]
        if not self._is_synced:
            _sync(self._descriptor)
            self._is_synced = True

    def rotate(self) -> None:
        """Put the file aside, under a name with the number of its last line, and go on in a new one.

        Everything must have been flushed. Raises OSError, and then goes on in the same file. The first line of the new
        one waits to be flushed.
        """
        fresh = self._path.with_name(f"{self._path.name}.new")
        aside = self._path.with_name(f"{self._path.name}.{self.head.seq:0{_DIGITS}}")
        if os.path.lexists(aside):
            aside = aside.with_name(f"{aside.name}.{self.chain}")
        descriptor = os.open(fresh, _NEW | os.O_TRUNC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path.rename(aside)
            try:
                fresh.rename(self._path)
                _sync_directory(self._path.parent)
            except OSError:
                with contextlib.suppress(OSError):
                    aside.rename(self._path)
                raise
        except OSError:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor, self._size = descriptor, 0
        self.append(Opened(self._stamp(), self.chain, Why.ROTATED, __version__))

    def close(self) -> None:
        """Let go of the file; what waits is lost."""
        os.close(self._descriptor)

    def _take_up(self) -> None:
        tail = os.pread(self._descriptor, min(self._size, _TAIL), max(self._size - _TAIL, 0))
        if tail:
            head, rest = _last_line(tail, whole=self._size <= _TAIL)
        else:
            head, rest = None, b""
            _sync_directory(self._path.parent)
        if head is None and rest is None:
            raise _faulty(self._path, "a file whose end is not of an audit log", "Move it away, or name another file")
        if tail and head is None:
            # Nothing but a part of its very first line: nothing was ever recorded here.
            os.ftruncate(self._descriptor, 0)
            self._size, tail, rest = 0, b"", b""
        if head is not None:
            self.head, self.chain, why = head, self._own_chain(), Why.RESTARTED
        elif (before := self._before()) is not None:
            (self.head, self.chain), why = before, Why.ROTATED
        else:
            self.chain, why = secrets.token_hex(8), Why.NEW
        cut = (rest or b"").removesuffix(b"\n")
        if tail and not tail.endswith(b"\n"):
            self._waiting += b"\n"
        self.append(
            Opened(self._stamp(), self.chain, why, __version__, len(cut), hash_of(cut))
            if cut
            else Opened(self._stamp(), self.chain, why, __version__)
        )

    def _own_chain(self) -> str:
        first, newline, _ = os.pread(self._descriptor, LONGEST, 0).partition(b"\n")
        opened = opened_by(first + newline)
        if opened is None:
            raise _faulty(
                self._path, "a file that does not begin as an audit log", "Move it away, or name another file"
            )
        return opened.chain

    def _before(self) -> tuple[Head, str] | None:
        """The head of the file that was put aside last, and its chain: a crash came before the next was begun."""
        put_aside = [
            each
            for each in self._path.parent.glob(f"{self._path.name}.*")
            if each.name.removeprefix(f"{self._path.name}.")[:_DIGITS].isdigit()
        ]
        if not put_aside:
            return None
        last = max(put_aside, key=lambda each: each.name)
        with last.open("rb") as file:
            opened = opened_by(file.readline(LONGEST))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            head, rest = _last_line(file.read(_TAIL), whole=False)
        if opened is None or head is None or rest:
            raise _faulty(self._path, f"no file, and {last.name} is not whole", "Move the files put aside elsewhere")
        return head, opened.chain


def directory_problems(path: Path) -> list[Problem]:
    """What is wrong with who may write the directory: whoever may can put another log in the place of this one."""
    try:
        status = path.parent.stat()
    except OSError as error:
        return [_problem(path, f"no directory for it ({error.strerror})", f"Run: mkdir -p {file_name(path.parent)}")]
    fault = authority_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()})
    if not fault:
        return []
    return [
        _problem(path, f"its directory with {fault.partition('; ')[0]}", f"Run: chmod go-w {file_name(path.parent)}")
    ]


def _judge(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise _faulty(path, "no file of its own (a device, or a file with several names)", "Name another file")
    fault = authority_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()})
    if fault:
        raise _faulty(path, fault.partition("; expected ")[0], f"Run: chmod 0640 {file_name(path)}")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise _faulty(path, "a file that another process writes", "Give each sidecar a file of its own") from None


def _last_line(tail: bytes, *, whole: bool) -> tuple[Head | None, bytes | None]:
    """The head after the last line that is one, and what a crash has left behind it.

    `whole`: this is all of the file. No head: it holds no line; and no rest either: it is none of ours.
    """
    lines = io.BytesIO(tail).readlines()
    rest = b""
    while lines:
        line = lines.pop()
        # What lacks nothing but its newline will be given one.
        ended = line if line.endswith(b"\n") else line + b"\n"
        link = read_link(line)
        if link is not None and (lines or whole):
            return Head(link.seq, hash_of(ended)), rest
        rest = line + rest
    return None, rest if whole and rest.startswith((_BEGINS, b"\0")) else None


def _sync(descriptor: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS
        os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _faulty(path: Path, found: str, remedy: str) -> FaultyInput:
    return FaultyInput([_problem(path, found, remedy)])


def _problem(path: Path, found: str, remedy: str) -> Problem:
    return Problem(file_name(path), found, "an audit log of this sidecar, which only its user may write", remedy)
