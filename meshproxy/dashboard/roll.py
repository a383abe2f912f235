"""Which sidecars to ask: the settings of one, a list of them, or a directory that holds settings and sockets."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshproxy.errors import FaultyInput, Problem
from meshproxy.settings.files import UnreadableFile, read_file
from meshproxy.settings.load import load_admin
from meshproxy.toml import Judge, parse_toml, string
from meshproxy.wire.address import UnixAddress, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from meshproxy.wire.address import Address

MOST_SIDECARS: Final = 512
_SETTINGS: Final = frozenset({"identity", "inbound", "outbound"})  # a TOML file with one of these is a sidecar's
_EXAMPLE: Final = '["127.0.0.1:9901", "unix:/run/web.sock", "orders/sidecar.toml"]'


@dataclass(frozen=True, slots=True)
class Post:
    """Where one sidecar is asked; `file` are its settings, where those were read, else empty."""

    address: Address
    file: str = ""


def read_roll(place: Path) -> tuple[Post, ...]:
    """Return the sidecars that `place` names, each address once, in order; reads files, so it blocks.

    A directory: every `*.toml` in it that is a sidecar's settings, and every unix socket. A file: a sidecar's settings,
    or `sidecars = [...]`, each an address or the settings of one (paths are relative to the file). Raises FaultyInput.
    """
    found = list(_in_directory(place)) if place.is_dir() else list(_in_file(place))
    posts = tuple({post.address: post for post in reversed(found)}.values())[::-1]
    if len(posts) > MOST_SIDECARS:
        raise FaultyInput([Problem(str(place), f"{len(posts)} sidecars", f"at most {MOST_SIDECARS}", "Name fewer")])
    return posts


def _in_directory(place: Path) -> Iterator[Post]:
    for path in sorted(place.iterdir()):
        try:
            if path.suffix == ".toml" and _is_settings(path):
                yield _of_settings(path)
            elif stat.S_ISSOCK(path.stat().st_mode):
                yield Post(UnixAddress(str(path)))
        except (FaultyInput, OSError):
            continue  # half written, or gone by now: it is looked at again


def _in_file(place: Path) -> Iterator[Post]:
    document = parse_toml(_content(place), file=str(place))
    if _SETTINGS & document.data.keys():
        yield _of_settings(place)
        return
    judge = Judge(document)
    yield from judge.root.require_each("sidecars", _post(place.absolute().parent), like=_EXAMPLE)
    judge.verdict()


def _post(base: Path) -> Callable[[object], Post]:
    def read(value: object) -> Post:
        text = string(value)
        if text.endswith(".toml") and not text.startswith("unix:"):
            try:
                return _of_settings(base / text)
            except FaultyInput as faulty:
                raise ValueError(f"the settings of a sidecar: {faulty.problems[0].found} in {text}") from None
        return Post(_near(parse_address(text), base))

    return read


def _near(address: Address, base: Path) -> Address:
    """Return an address that can be asked: of this machine, a socket's path relative to the file."""
    if isinstance(address, UnixAddress):
        return UnixAddress(str(base / address.path))
    if not address.is_local:
        raise ValueError(
            "a loopback address or a unix socket; bring a far one here with: ssh -L 9901:127.0.0.1:9900 HOST"
        )
    return address


def _of_settings(path: Path) -> Post:
    address = load_admin(path).listen
    return Post(address, str(path))


def _is_settings(path: Path) -> bool:
    return bool(_SETTINGS & parse_toml(_content(path), file=str(path)).data.keys())


def _content(path: Path) -> bytes:
    try:
        return read_file(path)[0]
    except UnreadableFile as error:
        expected = "a file that names sidecars, or a directory of them"
        raise FaultyInput([Problem(str(path), error.found, expected, error.remedy)]) from None
