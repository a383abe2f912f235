"""Whatever changes what a file says, or whether it may be believed, changes its signature."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from meshproxy.watching import signature_of, standing_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_in_place(path: Path) -> None:
    path.write_text("longer than before")


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def rename_over(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text())
    os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
    other.rename(path)


def delete(path: Path) -> None:
    path.unlink()


def mend_mode(path: Path) -> None:
    path.chmod(0o600)


def directory_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "change", [write_in_place, touch, rename_over, delete, mend_mode, directory_in_its_place, broken_link]
)
def test_every_change_is_seen(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "a.toml"
    path.write_text("as it was")
    path.chmod(0o644)
    other = tmp_path / "b.toml"
    other.write_text("unchanged")
    before = signature_of([path, other])
    assert signature_of([path, other]) == before
    change(path)
    after = signature_of([path, other])
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_links_are_followed_when_a_directory_is_swapped(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is a link that is renamed over."""
    for generation in ("..1", "..2"):
        (tmp_path / generation).mkdir()
        (tmp_path / generation / "a.toml").write_text("same size")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.toml").symlink_to("..data/a.toml")
    before = signature_of([tmp_path / "a.toml"])
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert signature_of([tmp_path / "a.toml"]) != before


def test_what_is_not_there_has_a_signature_too(tmp_path: Path) -> None:
    assert signature_of([tmp_path / "none", tmp_path / "none/below"]) == (None, None)
    assert signature_of([]) == ()


def test_where_a_directory_stands_is_not_what_is_written_into_it(tmp_path: Path) -> None:
    before = standing_of(tmp_path)
    (tmp_path / "new").write_text("new")
    assert standing_of(tmp_path) == before
    tmp_path.chmod(0o711)
    assert standing_of(tmp_path) != before
    assert standing_of(tmp_path / "nowhere") == (None,)
