"""The file a join token comes in: a secret, so nobody else may be able to read it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ca import tokens
from ca.permissions import key_mode_fault
from ca.tokens import TokenError

if TYPE_CHECKING:
    from pathlib import Path

    from ca.tokens import JoinToken

_MOST_BYTES: Final = 8192  # more than the longest token and a line end


class TokenFileError(ValueError):
    """A token that cannot be used; the text is a sentence without any of the token in it."""


class NoTokenFile(TokenFileError):
    """There is no such file yet."""


def read_token_file(path: Path) -> JoinToken:
    """Read the token in a file that nobody else can read; raises TokenFileError, and NoTokenFile when it is missing.

    Opened without waiting: a FIFO in its place must not hold up whoever renews.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())  # the open file is judged, not its name
            if fault := key_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()}):
                raise TokenFileError(
                    f"the token file {path} has {fault}; run chmod 600 {path}, and if others may have read it, revoke "
                    "the token and create a new one"
                )
            content = file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise NoTokenFile(f"there is no token file {path}") from None
    except OSError as error:
        raise TokenFileError(f"the token file {path} cannot be read: {error.strerror}") from error
    return parse_token(content, f"the token file {path}")


def parse_token(content: bytes, source: str) -> JoinToken:
    """Read the first line of `content`, which came from `source`; raises TokenFileError."""
    try:
        line = content.split(b"\n", 1)[0].strip().decode("ascii")
        if not line:
            raise TokenFileError(f"{source} holds no token: its first line is empty")
        return tokens.decode(line)
    except UnicodeDecodeError:
        raise TokenFileError(f"{source} holds no token: it is not text") from None
    except TokenError as error:
        raise TokenFileError(f"{source} holds no token that can be used: {error}; create a new one") from error
