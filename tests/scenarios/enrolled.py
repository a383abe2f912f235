"""Sidecars that get their identity from a served CA: by a token in a file, and by themselves from then on.

ca = serve(stage, configure=leaves_of(seconds=20))
api = enrolled(stage, ca, "api", inbound(forward=service.address))
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ca import invitations, premises, tokens
from ca.invitations import Invitation
from ca.profiles import Names
from meshproxy.runtime.telling import wall_clock
from tests.scenarios.stage import ADMIN, WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ca.tokens import JoinToken
    from tests.scenarios.authority import CaServer
    from tests.scenarios.stage import Sidecar, Stage


def leaves_of(*, seconds: int, hint: int = 10, rules: str = "") -> Callable[[Path], None]:
    """What makes a CA give certificates of so many seconds, and want to be asked for news every `hint` seconds."""

    def configure(directory: Path) -> None:
        file = directory / "ca.toml"
        text = re.sub(r"(?m)^(default|minimum)_seconds = .*$", rf"\1_seconds = {seconds}", file.read_text())
        text = text.replace("[leaf]", "[leaf]\nunsafe_short_leaves = true\n#", 1)
        file.write_text(f"{text}\n{rules}\n[trust]\nrefresh_hint_seconds = {hint}\n")

    return configure


def invite(ca: CaServer, path: str) -> JoinToken:
    """A token that says where this CA is."""
    invitation = Invitation(Names(ca.mesh.id(path)), addresses=(ca.listens,))
    configured = premises.read_configuration(ca.directory)
    with premises.ledger_of(ca.directory) as ledger:
        return invitations.create(configured, ledger, invitation, now=wall_clock())


def put(file: Path, token: JoinToken) -> Path:
    """A token into its file, for nobody else to read."""
    file.touch(mode=0o600)
    file.write_text(tokens.encode(token) + "\n")
    return file


def configure(stage: Stage, ca: str, name: str, tables: str, *, token_file: Path) -> Path:
    """Write the file of a sidecar that enrols as `/name`."""
    head = f'[identity]\ndir = "enrolled-{name}"\nca = "{ca}"\ntoken_file = "{token_file}"\n'
    if "[admin]" not in tables:
        head += f'[admin]\nlisten = "{ADMIN}"\n'
    if WORKERS > 1:
        runtime = f"[runtime]\nworkers = {WORKERS}\n"
        tables = tables.replace("[runtime]\n", runtime) if "[runtime]" in tables else f"{runtime}{tables}"
    return stage.write(f"{name}.toml", f"{head}{tables}")


def enrolled(stage: Stage, ca: CaServer, name: str, tables: str) -> Sidecar:
    """Start a sidecar that enrols as `/name`, and wait until it has its identity."""
    token_file = put(stage.workspace / f"{name}.token", invite(ca, f"/{name}"))
    sidecar = stage.run(configure(stage, ca.listens, name, tables, token_file=token_file))
    sidecar.log.event("identity_enrolled")
    sidecar.everywhere("identity_ready")
    return sidecar
