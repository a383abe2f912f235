"""Which sidecars are meant: a directory, a list, or the settings of one; and what is told of a bad one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from meshproxy.dashboard.roll import Post, read_roll
from meshproxy.errors import FaultyInput
from meshproxy.wire.address import TcpAddress, UnixAddress

if TYPE_CHECKING:
    from pathlib import Path


def settings(path: Path, listen: str) -> Path:
    path.write_text(f'[identity]\ndir = "id"\n[admin]\nlisten = "{listen}"\n')
    return path


def test_directory_has_settings_and_sockets_and_other_files(tmp_path: Path) -> None:
    web = settings(tmp_path / "web.toml", "127.0.0.1:9901")
    (tmp_path / "web.allow.toml").write_text("allow = []\n")
    (tmp_path / "half.toml").write_text("[identity\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        assert read_roll(tmp_path) == (
            Post(UnixAddress(str(tmp_path / "api.sock"))),
            Post(TcpAddress("127.0.0.1", 9901), str(web)),
        )


def test_list_names_addresses_and_settings_each_once(tmp_path: Path) -> None:
    settings(tmp_path / "web.toml", "127.0.0.1:9901")
    roll = tmp_path / "mesh.toml"
    roll.write_text('sidecars = ["127.0.0.1:9902", "unix:run/a.sock", "web.toml", "127.0.0.1:9901"]\n')
    assert [str(post.address) for post in read_roll(roll)] == [
        "127.0.0.1:9902",
        f"unix:{tmp_path}/run/a.sock",
        "127.0.0.1:9901",
    ]


def test_settings_of_one_are_a_roll(tmp_path: Path) -> None:
    web = settings(tmp_path / "web.toml", "unix:web.sock")
    assert [str(post.address) for post in read_roll(web)] == [f"unix:{tmp_path}/web.sock"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('sidecars = ["10.0.0.1:9900"]\n', "ssh -L"),
        ('sidecars = ["nowhere"]\n', "host:port"),
        ("sidecars = []\n", "at least one"),
        ('sidecar = ["127.0.0.1:9900"]\n', "sidecars"),
        ('sidecars = ["gone.toml"]\n', "no file in gone.toml"),
    ],
)
def test_bad_list_is_told(tmp_path: Path, content: str, words: str) -> None:
    roll = tmp_path / "mesh.toml"
    roll.write_text(content)
    with pytest.raises(FaultyInput) as told:
        read_roll(roll)
    assert any(words in f"{each.found} {each.expected} {each.remedy}" for each in told.value.problems)


def test_missing_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(FaultyInput, match="no file"):
        read_roll(tmp_path / "gone")
