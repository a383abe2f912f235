"""Whether a file's mode keeps it ours: private keys secret, and whatever decides who gets in unwritable by others.

An allow-list, a bundle and the directory that holds them are the same authority as the key: who may write them may
decide who gets in. These functions judge numbers that `os.stat` gave; they look at no file themselves.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_WORLD: Final = stat.S_IROTH | stat.S_IWOTH
_GROUP: Final = stat.S_IRGRP | stat.S_IWGRP


def key_mode_fault(mode: int, gid: int, *, own_gids: Collection[int]) -> str | None:
    """What is wrong with the mode of a private key file, as a phrase, or None when it is safe.

    `mode` and `gid` are `st_mode` and `st_gid` of the file itself (not of a link to it), `own_gids` the groups of this
    process. Others may neither read nor write it; the group may only if it is one of ours (the way cert-manager and
    systemd hand a key to a service).
    """
    if mode & _WORLD:
        what = "readable by everyone" if mode & stat.S_IROTH else "writable by everyone"
        return f"mode {_octal(mode)}, {what}; expected 0600 (or 0640 with a group of this process)"
    if mode & _GROUP and gid not in own_gids:
        what = "readable" if mode & stat.S_IRGRP else "writable"
        return f"mode {_octal(mode)}, {what} by group {gid}, which this process is not in; expected 0600"
    return None


def authority_mode_fault(mode: int, gid: int, *, own_gids: Collection[int]) -> str | None:
    """What is wrong with the mode of an allow-list, a bundle or a directory that holds one, or None when it is safe.

    Takes what `key_mode_fault` takes. Everyone may read these; nobody but us may write them. A sticky directory such
    as /tmp (1777) is safe: others can add files there, but cannot replace ours.
    """
    sticky = mode & stat.S_ISVTX and not stat.S_ISREG(mode)  # on a regular file the bit means nothing
    if sticky:
        return None
    wanted = "0755" if stat.S_ISDIR(mode) else "0644"
    if mode & stat.S_IWOTH:
        return f"mode {_octal(mode)}, writable by everyone; expected {wanted} or stricter"
    if mode & stat.S_IWGRP and gid not in own_gids:
        return f"mode {_octal(mode)}, writable by group {gid}, which this process is not in; expected {wanted}"
    return None


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
