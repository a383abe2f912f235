"""The file `trust.json` of an identity directory: read whole, and only if nobody else could have written it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ca import json_text
from ca.identity_directory import TRUST, read_trust
from ca.messages import Trust
from ca.permissions import authority_mode_fault

if TYPE_CHECKING:
    from meshproxy.settings.schema import IdentitySettings


class FaultyTrust(Exception):
    """A trust.json that cannot be used at all; the text is a phrase about it."""


def read_document(settings: IdentitySettings) -> Trust | None:
    """Read what the CA said last (blocking), or None when there is no such file. Raises FaultyTrust."""
    try:
        content = read_trust(settings.dir)
        if content is None:
            return None
        if not settings.unsafe_key_mode and (fault := _mode_fault(settings)):
            raise FaultyTrust(fault)
        return json_text.read(content, Trust)
    except OSError as error:
        raise FaultyTrust(f"it cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise FaultyTrust(f"it is not what a CA says: {error}") from error


def _mode_fault(settings: IdentitySettings) -> str:
    """Whoever may write it may let in another trust domain: the rule is the bundle's."""
    found = (settings.dir / TRUST).stat()
    fault = authority_mode_fault(found.st_mode, found.st_gid, own_gids={os.getegid(), *os.getgroups()})
    return f"{fault}; chmod go-w {settings.dir / TRUST}" if fault else ""
