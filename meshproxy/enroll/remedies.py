"""What somebody is to do about it, in a sentence with the command to type; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ca.refusals import Why
from meshproxy.enroll.faults import ClockApart, RefusedByCa, Unreachable, Untrusted, Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from meshproxy.enroll.holding import Held
    from meshproxy.wire.address import TcpAddress


def remedy_for(  # noqa: PLR0911 - one for each kind
    error: Exception, held: Held | None, addresses: Sequence[TcpAddress], token_file: Path | None
) -> str:
    """What to do about an error of `faults` or of `token_file`; it is tried again in any case."""
    token = new_token("/PATH" if held is None else held.leaf.id.path, addresses, token_file)
    match error:
        case Unreachable():
            return "see that the CA is served there (meshproxy ca serve) and can be reached from here"
        case Untrusted():
            return f"find out who answers there; if the CA was made anew, enrol again: {token}"
        case ClockApart():
            return "set the clock of this machine, and of the CA's (NTP)"
        case RefusedByCa() if error.refusal.why == Why.NOT_ALLOWED:
            return "mend the rules in ca.toml, if this identity is to be issued"
        case RefusedByCa() if error.refusal.why == Why.CA_RUNNING_OUT:
            return "replace the CA's own certificate: meshproxy ca rotate prepare --dir CA_DIR"
        case RefusedByCa() if not error.needs_token:
            return "see the log of the CA"
        case RefusedByCa() | ValueError():  # of the token file
            return token
        case Unusable():
            return f"mend it, or put the directory aside and enrol again: {token}"
        case _:
            return "make room, or mend owner and mode of the directory"


def new_token(path: str, addresses: Sequence[TcpAddress], token_file: Path | None) -> str:
    """How a new token is made, and where it is to be put."""
    at = " ".join(f"--ca {each}" for each in addresses) or "--ca HOST:PORT"
    command = (
        f"meshproxy ca token create {path} {at} --out {'TOKEN' if token_file is None else token_file} --dir CA_DIR"
    )
    put = "enrol with: meshproxy enroll --token-file TOKEN" if token_file is None else f"put it into {token_file}"
    return f"{command} (where the CA is), and {put}"
