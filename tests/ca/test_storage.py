"""Old or new, never half: writes that fail in the middle, leftovers, locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ca import storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def modes(directory: Path) -> dict[str, int]:
    return {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in directory.iterdir()}


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    """No file may grow beyond 100 bytes: the kernel refuses the write in the middle, as a full disk does.

    Around the write alone, and not a fixture: pytest reports meanwhile, perhaps into a file of its own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield 100
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o600), (0o000, 0o600), (0o077, 0o644), (0o000, 0o644)])
def test_a_file_has_exactly_the_mode_asked_for_whatever_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        storage.write_file(tmp_path / "file", b"content", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert modes(tmp_path) == {"file": mode}


def test_a_file_is_replaced_as_a_whole_and_an_open_reader_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_file(path, b"old")
    with path.open("rb") as reader:
        storage.write_file(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_file(path, b"old")
    with pytest.raises(OSError, match="File too large"), full_disk() as most:
        storage.write_file(path, b"x" * (most + 1))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_space_reported_only_by_fsync_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems report a full disk as late as fsync."""
    path = tmp_path / "file"
    storage.write_file(path, b"old")

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        storage.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, bytes(content)[:3]))
    storage.write_file(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_link_is_switched_without_a_moment_of_absence(tmp_path: Path) -> None:
    storage.replace_link(tmp_path / "current", "gen-1")
    storage.replace_link(tmp_path / "current", "gen-2")
    assert (tmp_path / "current").readlink().name == "gen-2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_a_new_directory_appears_complete_and_private(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "ca"
    with storage.new_directory(target) as fresh:
        storage.write_file(fresh / "file", b"content")
        assert not target.exists()
        assert modes(fresh.parent) == {fresh.name: 0o700}
    assert (target / "file").read_bytes() == b"content"
    assert modes(target.parent) == {"ca": 0o700}


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_new_directory_that_fails_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def fill_and_fail() -> None:
        with storage.new_directory(tmp_path / "ca") as fresh:
            storage.write_file(fresh / "file", b"content")
            raise failure

    with pytest.raises(failure):
        fill_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_a_new_directory_takes_the_place_of_an_empty_one_but_never_of_content(tmp_path: Path) -> None:
    target = tmp_path / "ca"
    target.mkdir()
    with storage.new_directory(target) as fresh:
        storage.write_file(fresh / "mine", b"")
    with pytest.raises(OSError, match="not empty"), storage.new_directory(target) as fresh:
        storage.write_file(fresh / "other", b"")
    assert [entry.name for entry in target.iterdir()] == ["mine"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["ca"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, file, other = (tmp_path / storage.temporary_name(name) for name in ("ca", "ca", "web"))
    (dead / "deep").mkdir(parents=True)
    file.write_bytes(b"half")
    other.mkdir()
    (tmp_path / ".caution").touch()  # somebody's hidden file is not ours
    with storage.new_directory(tmp_path / "ca") as living:
        storage.clear_leftovers(tmp_path, of="ca")
        assert {entry.name for entry in tmp_path.iterdir()} == {living.name, other.name, ".caution"}
    storage.clear_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"ca", ".caution"}


def test_a_directory_cleared_away_before_its_lock_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take a just made directory for abandoned: before it is opened, or before it is locked."""
    real = fcntl.flock
    stolen: list[Path] = []

    def clear_first(descriptor: int, operation: int) -> None:
        if not stolen:
            stolen.extend(tmp_path.iterdir())
            stolen[0].rmdir()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", clear_first)
    with storage.new_directory(tmp_path / "ca") as fresh:
        storage.write_file(fresh / "file", b"content")
    assert len(stolen) == 1
    assert (tmp_path / "ca/file").read_bytes() == b"content"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ca"]


def test_a_lock_is_exclusive_among_processes_and_dies_with_its_holder(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from ca import storage\n"
        "with storage.locked(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BlockingIOError), storage.locked(tmp_path, wait=False):
            pass
        holder.kill()
    with storage.locked(tmp_path, wait=False):
        pass
