"""Modes that keep a key secret and an allow-list ours, row by row."""

from __future__ import annotations

import stat

import pytest

from ca.permissions import authority_mode_fault, key_mode_fault

OURS, THEIRS = 1000, 50


@pytest.mark.parametrize(
    ("mode", "gid", "words"),
    [
        (0o600, THEIRS, None),
        (0o400, THEIRS, None),
        (0o640, OURS, None),
        (0o660, OURS, None),
        (0o700, THEIRS, None),
        (0o601, THEIRS, None),  # execute says nothing about a key
        (0o644, OURS, "0644, readable by everyone"),
        (0o604, OURS, "0604, readable by everyone"),
        (0o602, OURS, "0602, writable by everyone"),
        (0o666, OURS, "0666, readable by everyone"),
        (0o640, THEIRS, "0640, readable by group 50"),
        (0o620, THEIRS, "0620, writable by group 50"),
        (0o660, THEIRS, "0660, readable by group 50"),
    ],
)
def test_key_modes(mode: int, gid: int, words: str | None) -> None:
    fault = key_mode_fault(stat.S_IFREG | mode, gid, own_gids={OURS})
    assert (fault is None) == (words is None)
    assert words is None or words in (fault or "")
    assert fault is None or "expected 0600" in fault


@pytest.mark.parametrize(
    ("kind", "mode", "gid", "words"),
    [
        (stat.S_IFREG, 0o644, THEIRS, None),
        (stat.S_IFREG, 0o600, THEIRS, None),
        (stat.S_IFREG, 0o664, OURS, None),
        (stat.S_IFREG, 0o664, THEIRS, "0664, writable by group 50"),
        (stat.S_IFREG, 0o666, OURS, "0666, writable by everyone"),
        (stat.S_IFREG, 0o1666, OURS, "1666, writable by everyone"),  # sticky means nothing on a file
        (stat.S_IFDIR, 0o755, THEIRS, None),
        (stat.S_IFDIR, 0o777, OURS, "0777, writable by everyone"),
        (stat.S_IFDIR, 0o775, THEIRS, "0775, writable by group 50"),
        (stat.S_IFDIR, 0o1777, THEIRS, None),  # /tmp
    ],
)
def test_authority_modes(kind: int, mode: int, gid: int, words: str | None) -> None:
    fault = authority_mode_fault(kind | mode, gid, own_gids={OURS})
    assert (fault is None) == (words is None)
    assert words is None or words in (fault or "")
    wanted = "0755" if kind == stat.S_IFDIR else "0644"
    assert fault is None or f"expected {wanted}" in fault
