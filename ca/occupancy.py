"""One server to a directory, and only on a disk of this machine.

Administration needs no such lock: its transactions are short, and the ledger keeps them apart. Two servers would each
hold the ledger's state in mind, and publish documents over one another.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOCK: Final = "serve.lock"
_MOST_TOLD: Final = 4096  # bytes
_MOUNTS: Final = Path("/proc/self/mountinfo")
# Several machines may mount these at once, and SQLite's locks and shared memory do not reach across them.
_SHARED: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "coda", "lustre", "gfs2", "ocfs2", "gpfs"}
    | {"glusterfs", "beegfs", "prl_fs", "vboxsf", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.ceph"}
    | {"fuse.glusterfs", "fuse.vmhgfs-fuse"}
)


class OccupiedError(Exception):
    """Another process serves this CA; the text is a sentence that says which one."""


@dataclass(frozen=True, slots=True)
class Sole:
    """The only server of a directory."""

    _descriptor: int

    def tell(self, addresses: Iterable[str]) -> None:
        """Note where it can be reached, as host:port: for tokens that are made on this machine. Raises OSError."""
        content = "".join(f"{each}\n" for each in (os.getpid(), *addresses)).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)


@contextmanager
def sole(directory: Path) -> Iterator[Sole]:
    """Hold the directory of a CA as its only server, until the block ends or the process dies.

    Raises OccupiedError when another process holds it, OSError when the lock cannot be made.
    """
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = _named(os.pread(descriptor, 20, 0))
            raise OccupiedError(f"another process{name} serves the CA in {directory}; stop that one first") from None
        held = Sole(descriptor)
        held.tell(())
        yield held
    finally:
        os.close(descriptor)


def occupant(directory: Path) -> str | None:
    """Who serves the CA in `directory`, as words (`process 4711`); None when nobody does."""
    with suppress(FileNotFoundError):
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"process{_named(os.pread(descriptor, 20, 0))}"
        finally:
            os.close(descriptor)
    return None


def addresses_of_server(directory: Path) -> tuple[str, ...]:
    """Where the server of the CA in `directory` said it can be reached; none when nobody serves it now."""
    if occupant(directory) is None:
        return ()
    with (directory / LOCK).open("rb") as file:
        lines = file.read(_MOST_TOLD).decode("ascii", "replace").splitlines()
    return tuple(lines[1:])


def shared_file_system(directory: Path) -> str | None:
    """The kind of file system below `directory` when several machines could mount it, else None.

    None as well where the system does not tell its mounts.
    """
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return None
    kind = file_system(mounts, str(directory.resolve()))
    return kind if kind in _SHARED else None


def file_system(mounts: str, path: str) -> str:
    """The kind of file system that holds the absolute `path`, by a text in the form of proc_pid_mountinfo(5)."""
    found, deepest = "", -1
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= deepest:  # a later mount on the same point covers the earlier
            found, deepest = after.split(" ", 1)[0], len(point)
    return found


def _named(content: bytes) -> str:
    text = content.split(b"\n", 1)[0]
    return f" {text.decode()}" if text.isdigit() else ""
