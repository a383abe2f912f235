"""The directory a service reads its identity from: generations, and one link that switches key and chain together.

    OUT/gen-7/{key.pem, chain.pem, bundle.pem}     complete before anything points at it
    OUT/current -> gen-7                           the switch: one rename
    OUT/key.pem -> current/key.pem                 and the same for chain.pem and bundle.pem
    OUT/trust.json                                 what the CA said last of whom to believe (`ca.messages.Trust`)
    OUT/enrolment.json                             where the CA is, for whoever renews
    OUT/pending/key.pem                            a key whose certificate was asked for and has not come yet

A reader that resolves `current` once and then opens the three files never sees a mix. The generation before stays for
readers that resolved it a moment ago; older ones go. A flat directory of plain files, as cert-manager or step write
it, can be read but is never written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ca import storage

if TYPE_CHECKING:
    from pathlib import Path

KEY: Final = "key.pem"
CHAIN: Final = "chain.pem"
BUNDLE: Final = "bundle.pem"
CURRENT: Final = "current"
TRUST: Final = "trust.json"
ENROLMENT: Final = "enrolment.json"
PENDING: Final = "pending"
_MOST_BYTES: Final = 1 << 20  # of one file; a bundle of a thousand roots is smaller
# Four times what a CA lets itself say (`deny_list.MOST_BYTES`, the bundles of many trust domains): who cannot read it
# can neither renew nor hear that it became shorter.
MOST_TRUST_BYTES: Final = 16 << 20
_FILES: Final = (KEY, CHAIN, BUNDLE)
_BESIDE: Final = frozenset({TRUST, ENROLMENT, PENDING})
_GENERATION: Final = re.compile(r"gen-([1-9][0-9]{0,8})")


class IdentityDirectoryError(ValueError):
    """A directory that cannot take or give an identity; the text is a sentence that says what was found in it."""


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """One consistent look at an identity directory: where the files lie, and their contents where they exist.

    `place` is the generation's directory, or the directory itself when it is flat; `generation` is then None.
    """

    place: Path
    generation: int | None
    key: bytes | None
    chain: bytes | None
    bundle: bytes | None


def refuse_foreign(out: Path) -> None:
    """Raise IdentityDirectoryError when `out` exists and is neither empty nor an identity directory we could extend."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise IdentityDirectoryError(f"{out} is not a directory; name a new or empty one")
    known = {CURRENT, *_FILES}
    for entry in sorted(out.iterdir()):
        if storage.is_temporary(entry.name) or _GENERATION.fullmatch(entry.name):
            continue
        if entry.name in _BESIDE:
            continue  # whoever enrols keeps his key here before there is an identity
        if entry.name not in known:
            if (out / CURRENT).is_symlink():
                continue  # an identity directory of ours: a file someone added is theirs to keep
            raise IdentityDirectoryError(
                f"{out} is not an identity directory: it holds {entry.name!r}; name a new or empty directory"
            )
        if not entry.is_symlink():
            raise IdentityDirectoryError(
                f"{out} was not written by meshproxy: {entry.name!r} is a plain file where we keep a link; "
                "name a new or empty directory"
            )


def write_identity(out: Path, *, key: bytes, chain: bytes, bundle: bytes) -> int:
    """Make the three PEM texts the current identity in `out`, all at once; returns the generation's number.

    A new `out` appears complete or not at all, private (0700); the key is 0600, what is public 0644. An existing `out`
    keeps its mode, and what is written into it gets its owner (when we are root), and the key the group's right to read
    if the key before had it: re-issuing does not lock out a service that runs as somebody else. Raises
    IdentityDirectoryError as `refuse_foreign` does, and OSError when the disk is full or `out` cannot be written; the
    old identity is then still the current one.
    """
    refuse_foreign(out)
    contents = {KEY: key, CHAIN: chain, BUNDLE: bundle}
    if not out.exists():
        if out.parent.is_dir():
            storage.clear_leftovers(out.parent, of=out.name)
        try:
            with storage.new_directory(out) as fresh:
                return _add_generation(fresh, contents)
        except OSError as error:
            # Another writer made it first: then ours is simply the next generation in it.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
    with storage.locked(out):
        storage.clear_leftovers(out)
        return _add_generation(out, contents)


def read_identity(directory: Path) -> IdentityFiles:
    """One look at an identity directory, ours or flat. Raises OSError when it is missing or unreadable.

    A file that does not exist reads as None. `current` is resolved once; FileNotFoundError means the generation was
    removed while we looked (two re-issues at once), and asking again is the remedy.
    """
    current = directory / CURRENT
    generation: int | None = None
    place = directory
    if current.is_symlink():
        place = directory / current.readlink()
        found = _GENERATION.fullmatch(place.name)
        generation = int(found[1]) if found else None
        if not place.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the generation that current points at is gone", str(place))
    elif not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    key, chain, bundle = (_content(place / name) for name in _FILES)
    if generation is not None and not place.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the generation was removed while it was read", str(place))
    return IdentityFiles(place, generation, key, chain, bundle)


def write_trust(out: Path, content: bytes) -> None:
    """Replace what the CA said last of whom to believe; `out` holds an identity already. Raises OSError.

    It stands beside the generations: it comes every minute, holds no secret, and changes nothing about who its owner
    is.
    """
    storage.write_file(out / TRUST, content, mode=0o644)


def read_trust(directory: Path) -> bytes | None:
    """What `write_trust` wrote last, or None. Raises OSError for what cannot be read or is absurdly large."""
    return _content(directory / TRUST, most=MOST_TRUST_BYTES)


def _add_generation(out: Path, contents: dict[str, bytes]) -> int:
    """Write the next generation, switch to it, and let go of all but the one before."""
    previous = _current(out)
    numbers = [int(match[1]) for entry in out.iterdir() if (match := _GENERATION.fullmatch(entry.name))]
    number = max(numbers, default=0) + 1
    place = out / f"gen-{number}"
    key_mode = 0o600 | (_group_may_read(out / previous / KEY) if previous else 0)
    missing = [out / name for name in _FILES if not (out / name).is_symlink()]
    try:
        filled = _place_to_fill(out, place)
        with storage.new_directory(filled) as fresh:
            for name, content in contents.items():
                storage.write_file(fresh / name, content, mode=key_mode if name == KEY else 0o644)
            fresh.chmod(stat.S_IMODE(out.stat().st_mode) & 0o755)
            _give_to_owner_of(out, fresh)
        if filled != place:
            filled.rename(place)
        for link in missing:
            storage.replace_link(link, f"{CURRENT}/{link.name}")
        storage.replace_link(out / CURRENT, place.name)  # the switch
    except BaseException:
        if _current(out) == previous:  # not switched: take back what nobody points at
            for link in missing:
                link.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        raise
    for other in numbers:
        if f"gen-{other}" != previous:
            shutil.rmtree(out / f"gen-{other}", ignore_errors=True)
    return number


def _current(out: Path) -> str | None:
    return (out / CURRENT).readlink().name if (out / CURRENT).is_symlink() else None


def _place_to_fill(out: Path, place: Path) -> Path:
    """Where root may write and hand over files that end up in somebody else's directory: beside it, not in it.

    Its owner could put a link in the place of what is being filled, and have root give him the files behind it.
    """
    owner, beside = out.stat(), out.resolve().parent
    if os.geteuid() != 0 or owner.st_uid == 0:
        return place
    above = beside.stat()
    if above.st_uid != 0 or (above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not above.st_mode & stat.S_ISVTX):
        raise IdentityDirectoryError(
            f"{out} belongs to user {owner.st_uid}, and {beside} is not root's alone: issue as that user, or into a "
            "directory of root's and hand over a copy"
        )
    storage.clear_leftovers(beside, of=out.name)
    return beside / storage.temporary_name(out.name)


def _give_to_owner_of(out: Path, fresh: Path) -> None:
    """Hand what root wrote to whoever owns the directory; anybody else cannot, and need not."""
    if os.geteuid() != 0:
        return
    owner = out.stat()
    for path in (*fresh.iterdir(), fresh):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _group_may_read(key: Path) -> int:
    try:
        return key.stat().st_mode & stat.S_IRGRP
    except OSError:
        return 0


def _content(path: Path, *, most: int = _MOST_BYTES) -> bytes | None:
    """Read a file, or None when there is none; raises OSError for what is no regular file or absurdly large.

    Opened without waiting: a FIFO in the place of a certificate must not hold up whoever renews it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content
