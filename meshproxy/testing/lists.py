"""Allow-lists as a test names them: a file, a directory of many, or a text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from meshproxy.errors import FaultyInput
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.document import parse_allow_list
from meshproxy.settings.directory import Mirrored, mirrored
from meshproxy.settings.files import UnreadableFile, file_name, read_file
from meshproxy.settings.schema import IdentitySettings, PolicyDirectory
from meshproxy.testing.fault import MeshError

if TYPE_CHECKING:
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Document

# A path (`os.PathLike`) names a file or a directory; a `str` is the text of an allow-list.
PolicySource = str | os.PathLike[str]

_TEXT = "the allow-list of the test"


def read_list(
    source: PolicySource, *, tcp: str | None = None, identity: Path | None = None, generation: int = 1
) -> Policy:
    """Read an allow-list; `tcp` names a tcp listener that is to be judged by it, `identity` says whose it is.

    Of a directory the list of `identity` is taken, and its promises must be kept. Raises MeshError with every problem.
    """
    try:
        if isinstance(source, str):
            document = parse_allow_list(source.encode(), file=_TEXT, tcp_listener=tcp)
        else:
            document = _read_file(Path(source), tcp, identity)
    except FaultyInput as faulty:
        hint = "" if not isinstance(source, str) or set("=[\n") & set(source) else _WHAT_A_STR_IS
        raise MeshError("\n".join(map(str, faulty.problems)) + hint) from None
    return compile_policy(document, generation=generation)


def _read_file(path: Path, tcp: str | None, identity: Path | None) -> Document:
    listed, promised = path, Mirrored(None, None, ())
    if path.is_dir():
        if identity is None:
            raise MeshError(f"{path} is a directory; name the allow-list in it that is asked")
        promised = mirrored(PolicyDirectory(path), IdentitySettings(identity), read_file)
        listed = promised.list_file or path
    try:
        content, _ = read_file(listed)
    except UnreadableFile as error:
        raise MeshError(error.sentence(listed)) from None
    document = parse_allow_list(content, file=file_name(listed), tcp_listener=tcp)
    if problems := promised.broken(document):
        raise FaultyInput(problems)
    return document


_WHAT_A_STR_IS = "\n(a str is the text of an allow-list; for a file pass a pathlib.Path)"
