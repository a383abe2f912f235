"""Identity directories: generations switched as one, under readers, crashes, full disks and other people's files."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ca import storage
from ca.identity_directory import (
    MOST_TRUST_BYTES,
    IdentityDirectoryError,
    IdentityFiles,
    read_identity,
    read_trust,
    refuse_foreign,
    write_identity,
    write_trust,
)
from tests.crashes import killed_at_every_step

if TYPE_CHECKING:
    from pathlib import Path


def write(out: Path, mark: str) -> int:
    return write_identity(out, key=f"key {mark}".encode(), chain=f"chain {mark}".encode(), bundle=b"bundle")


def marks(files: IdentityFiles) -> set[str]:
    """Which issue each of key and chain is of: one mark when they belong together."""
    assert files.key is not None
    assert files.chain is not None
    return {content.decode().split()[1] for content in (files.key, files.chain)}


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def test_the_first_identity_is_as_the_contract_says(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "identity"
    assert write(out, "a") == 1
    assert names(out) == {"gen-1", "current", "key.pem", "chain.pem", "bundle.pem"}
    links = {entry.name: str(entry.readlink()) for entry in out.iterdir() if entry.is_symlink()}
    assert links == {
        "current": "gen-1",
        "key.pem": "current/key.pem",
        "chain.pem": "current/chain.pem",
        "bundle.pem": "current/bundle.pem",
    }
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (out, *(out / "gen-1").iterdir())}
    assert modes == {"identity": 0o700, "key.pem": 0o600, "chain.pem": 0o644, "bundle.pem": 0o644}
    assert (out / "key.pem").read_bytes() == b"key a"
    assert names(out.parent) == {"identity"}


def test_each_renewal_keeps_the_one_before_and_lets_go_of_older_ones(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    assert [write(out, mark) for mark in "abcd"] == [1, 2, 3, 4]
    assert names(out) == {"gen-3", "gen-4", "current", "key.pem", "chain.pem", "bundle.pem"}
    assert read_identity(out) == IdentityFiles(out / "gen-4", 4, b"key d", b"chain d", b"bundle")


def test_an_empty_directory_is_filled_and_stays_the_same_directory(tmp_path: Path) -> None:
    """It may be a mount point, or watched by inode."""
    out = tmp_path / "identity"
    out.mkdir(mode=0o750)
    inode = out.stat().st_ino
    write(out, "a")
    assert out.stat().st_ino == inode
    assert stat.S_IMODE(out.stat().st_mode) == 0o750
    assert stat.S_IMODE((out / "gen-1").stat().st_mode) == 0o750


def test_a_key_its_group_may_read_stays_so_and_nothing_wider(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    write(out, "a")
    (out / "key.pem").chmod(0o640)
    write(out, "b")
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o640
    (out / "key.pem").chmod(0o666)
    write(out, "c")
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files to another user")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files over")
def test_root_fills_nothing_where_its_owner_could_put_a_link(tmp_path: Path) -> None:
    """Filled beside the directory, where only root can write; refused where that is somebody else's too."""
    beside = tmp_path / "theirs"
    out = beside / "identity"
    out.mkdir(parents=True)
    os.chown(out, 4321, 4322)
    os.chown(beside, 4321, 4322)
    with pytest.raises(IdentityDirectoryError, match="belongs to user 4321"):
        write(out, "a")
    assert list(out.iterdir()) == []
    os.chown(beside, 0, 0)
    write(out, "a")
    assert names(beside) == {"identity"}


def test_what_root_renews_still_belongs_to_the_service(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    out.mkdir()
    os.chown(out, 4321, 4322)
    write(out, "a")
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (out / "gen-1", *(out / "gen-1").iterdir())}
    assert owners == {(4321, 4322)}


@pytest.mark.parametrize("content", ["notes.txt", "ca.toml", ".hidden", "gen-0", "gen-01", "gen-x"])
def test_a_directory_of_something_else_is_refused_by_what_is_in_it(tmp_path: Path, content: str) -> None:
    (tmp_path / content).touch()
    with pytest.raises(IdentityDirectoryError, match=f"not an identity directory: it holds '{content}'"):
        write(tmp_path, "a")
    assert names(tmp_path) == {content}


def test_a_flat_directory_of_plain_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"precious")
    with pytest.raises(IdentityDirectoryError, match=r"'key.pem' is a plain file where we keep a link"):
        write(tmp_path, "a")
    assert (tmp_path / "key.pem").read_bytes() == b"precious"


def test_a_file_in_the_way_is_refused_and_a_dangling_link_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(IdentityDirectoryError, match="is not a directory"):
            write(tmp_path / name, "a")


def test_files_people_add_beside_a_real_identity_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    write(out, "a")
    (out / "README").write_text("renewed by cron")
    write(out, "b")
    refuse_foreign(out)
    assert (out / "README").read_text() == "renewed by cron"


def test_a_flat_directory_can_be_read_and_a_missing_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"key")
    (tmp_path / "chain.pem").write_bytes(b"chain")
    assert read_identity(tmp_path) == IdentityFiles(tmp_path, None, b"key", b"chain", None)
    with pytest.raises(NotADirectoryError):
        read_identity(tmp_path / "key.pem")
    with pytest.raises(OSError, match="Not a directory"):
        read_identity(tmp_path / "nowhere")


def test_a_current_that_points_at_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("gen-7")
    with pytest.raises(FileNotFoundError, match="current points at is gone"):
        read_identity(tmp_path)


def test_a_reader_in_a_loop_never_sees_a_mix(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    write(out, "0")
    done = threading.Event()

    def renew() -> None:
        for number in range(1, 60):
            write(out, str(number))
        done.set()

    renewing = threading.Thread(target=renew)
    renewing.start()
    seen: set[str] = set()
    while not done.is_set():
        try:
            found = marks(read_identity(out))
        except (FileNotFoundError, AssertionError):
            continue  # the generation we resolved was removed two renewals later; a reader asks again
        assert len(found) == 1
        seen |= found
    renewing.join()
    assert marks(read_identity(out)) == {"59"}
    assert len(seen) > 5


def test_a_kill_at_any_step_of_the_first_issue_leaves_nothing_or_all(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    deaths = 0
    for _ in killed_at_every_step(lambda: write(out, "a")):
        deaths += 1
        if out.exists():
            assert marks(read_identity(out)) == {"a"}
    assert deaths > 10
    write(out, "b")
    assert marks(read_identity(out)) == {"b"}
    assert names(tmp_path) == {"identity"}  # what the dead left is cleared away


def test_a_kill_at_any_step_of_a_renewal_leaves_the_old_pair_or_the_new(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    write(out, "old")
    seen: set[str] = set()
    for _ in killed_at_every_step(lambda: write(out, "new")):
        found = marks(read_identity(out))
        assert len(found) == 1
        seen |= found
    assert seen == {"old", "new"}
    write(out, "last")
    write(out, "last")
    assert marks(read_identity(out)) == {"last"}
    assert len([name for name in names(out) if name.startswith("gen-")]) == 2
    assert not any(map(storage.is_temporary, names(out)))


@pytest.mark.parametrize("fail_at", range(12))
def test_a_disk_that_fills_up_at_any_write_leaves_the_old_identity_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    out = tmp_path / "identity"
    write(out, "old")
    before = names(out)
    left = [fail_at]

    def fsync(_descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with suppress(OSError):
        write(out, "new")
    if (out / "current").readlink().name == "gen-1":
        assert marks(read_identity(out)) == {"old"}
        assert names(out) == before
    else:
        assert fail_at > 5  # three files and their directories, durable before anything points at them
        assert marks(read_identity(out)) == {"new"}


@pytest.mark.parametrize("fail_at", range(11))
def test_a_disk_that_fills_up_leaves_an_empty_directory_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    left = [fail_at]

    def fsync(_descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, "new")
    assert names(tmp_path) == set()


def test_two_writers_at_once_make_two_generations(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    numbers: list[int] = []
    writers = [threading.Thread(target=lambda mark=mark: numbers.append(write(out, mark))) for mark in "abcdef"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert len(marks(read_identity(out))) == 1
    assert names(tmp_path) == {"identity"}


def test_what_the_ca_said_of_trust_lies_beside_the_generations(tmp_path: Path) -> None:
    out = tmp_path / "identity"
    write_identity(out, key=b"k", chain=b"c", bundle=b"b")
    assert read_trust(out) is None
    for said in (b"one", b"two"):
        write_trust(out, said)
        assert read_trust(out) == said
    write_identity(out, key=b"k2", chain=b"c2", bundle=b"b2")
    assert read_trust(out) == b"two"
    (out / "trust.json").write_bytes(b"x" * (MOST_TRUST_BYTES + 1))
    with pytest.raises(OSError, match="large"):
        read_trust(out)
