"""Long files are read with a bar for whoever watches, where it disturbs nothing."""

from __future__ import annotations

import io
import sys

import pytest

from meshproxy.cli.reading import lines, progress


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("size", "prints", "stdout", "shown"),
    [
        (10, False, Terminal, True),
        (10, True, Terminal, False),  # what is found comes there as well
        (10, True, io.StringIO, True),
        (0, False, Terminal, False),  # from a pipe
    ],
)
def test_a_bar_is_shown_where_it_disturbs_nothing(
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    prints: bool,  # noqa: FBT001
    stdout: type[io.StringIO],
    shown: bool,  # noqa: FBT001
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", stdout())
    with progress(size, prints=prints) as moved:
        moved(5)
    assert bool(screen.getvalue()) == shown


def test_no_line_is_longer_than_may_be_and_all_bytes_are_told() -> None:
    moved: list[int] = []
    assert list(lines(io.BytesIO(b"a\n" + b"b" * 9 + b"\nc"), moved.append, longest=5)) == [
        b"a\n",
        b"bbbbb",
        b"bbbb\n",
        b"c",
    ]
    assert sum(moved) == 13
