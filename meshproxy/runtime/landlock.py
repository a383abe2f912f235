"""Landlock (landlock(7)): the kernel holds this process to the files and TCP ports it named, for good.

Python has no binding, so the three system calls are made here. It needs no privilege, is inherited by every thread and
process started afterwards, and can only ever be narrowed. It does not touch what is open already.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# The same on every architecture that Python runs on: calls since 5.1 have one number.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH, _NET_PORT = 1, 2
_SCOPE_SIGNAL: Final = 1 << 1
_PR_SET_NO_NEW_PRIVS: Final = 38


class Files(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13  # to rename or link into another directory; since version 2
    TRUNCATE = 1 << 14  # since version 3
    IOCTL_DEV = 1 << 15  # since version 5


class Ports(IntFlag):
    """LANDLOCK_ACCESS_NET_*; since version 4."""

    BIND = 1 << 0
    CONNECT = 1 << 1


READ: Final = Files.READ_FILE | Files.READ_DIR
SOCKETS: Final = Files.MAKE_SOCK | Files.REMOVE_FILE
CHANGE: Final = (
    READ
    | Files.WRITE_FILE
    | Files.TRUNCATE
    | Files.MAKE_REG
    | Files.MAKE_DIR
    | Files.MAKE_SYM
    | Files.REMOVE_FILE
    | Files.REMOVE_DIR
    | Files.REFER
)
_OF_ONE_FILE: Final = Files.EXECUTE | Files.WRITE_FILE | Files.READ_FILE | Files.TRUNCATE | Files.IOCTL_DEV
_SINCE: Final = {Files.REFER: 2, Files.TRUNCATE: 3, Files.IOCTL_DEV: 5}
PORTS_SINCE: Final = 4
_SIGNALS_SINCE: Final = 6


# struct landlock_ruleset_attr, landlock_path_beneath_attr (packed) and landlock_net_port_attr.
_RULESET: Final = struct.Struct("=QQQ")
_BENEATH: Final = struct.Struct("=Qi")
_PORT: Final = struct.Struct("=QQ")


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed: access to files and all beneath directories, and TCP ports. Everything else is not."""

    files: tuple[tuple[Path, Files], ...] = ()
    ports: tuple[tuple[int, Ports], ...] = field(default=())


def version() -> int:
    """Return the version of the kernel's interface; 0: it has none, or it is turned off."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict_self(rules: Rules, *, kernel: int) -> None:
    """Hold this thread, and whatever it starts, to `rules`, as far as version `kernel` can; also to no new privileges.

    A path that does not exist allows nothing. Other processes cannot be signalled any more. Raises OSError.
    """
    fs = Files(0)
    for right in Files:
        if _SINCE.get(right, 1) <= kernel:
            fs |= right
    net = Ports.BIND | Ports.CONNECT if kernel >= PORTS_SINCE else Ports(0)
    attributes = _RULESET.pack(fs, net, _SCOPE_SIGNAL if kernel >= _SIGNALS_SINCE else 0)
    size = 24 if kernel >= _SIGNALS_SINCE else 16 if kernel >= PORTS_SINCE else 8
    ruleset = _call(_CREATE_RULESET, attributes, size, 0)
    try:
        for path, rights in rules.files:
            _allow_beneath(ruleset, path, rights & fs)
        for port, wanted in rules.ports if net else ():
            _call(_ADD_RULE, ruleset, _NET_PORT, _PORT.pack(wanted, port), 0)
        no_new_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def no_new_privileges() -> None:
    """Have no program that is started from here gain any (PR_SET_NO_NEW_PRIVS); where there is no such call, nothing.

    Raises OSError.
    """
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - workers have it done for them, and need not load it

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error(ctypes.get_errno())


def _allow_beneath(ruleset: int, path: Path, rights: Files) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        wanted = rights if path.is_dir() else rights & _OF_ONE_FILE
        if wanted:
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, _BENEATH.pack(wanted, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes | None) -> int:
    import ctypes  # noqa: PLC0415 - as above

    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]  # bytes: a pointer to them
    result: int = library.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise _error(ctypes.get_errno())
    return result


def _error(number: int) -> OSError:
    return OSError(number or errno.EINVAL, os.strerror(number or errno.EINVAL))


def every(paths: Iterable[Path], rights: Files) -> tuple[tuple[Path, Files], ...]:
    """Return a rule for each path."""
    return tuple((path, rights) for path in paths)
