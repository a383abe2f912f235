"""Base64url without padding (RFC 4648 section 5), read strictly: one text for each value, and nothing else."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]*")


def encode(content: bytes) -> str:
    """The bytes as text."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text that `encode` could have made; raises ValueError for any other."""
    if not _ALPHABET.fullmatch(text):
        raise ValueError("not base64url: only A-Z, a-z, 0-9, hyphen and underscore (RFC 4648 5), no padding")
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url: cut short") from error
    if encode(content) != text:
        raise ValueError("not base64url: unused bits that are not zero (RFC 4648 3.5)")
    return content
