"""meshproxy itself: two sidecars with an identity each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.backend import PYTHONPATH
from bench.pair import Mode, Pair
from bench.processes import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.stage import Identity, Stage

NAME: Final = "meshproxy"
RULES: Final = 100  # of the allow-list in HTTP mode; the last of them grants
_RUN: Final = ("-m", "meshproxy")


# All callers of a benchmark come from one address, with one identity.
_LIMITS = "[limits]\nmax_connections = 20000\nmax_connections_per_peer = 20000\n"


@dataclass(frozen=True, slots=True)
class Product:
    """The product as it is installed, or in another form.

    name        as the table calls it
    launcher    arguments of the interpreter that stand for the `meshproxy` command
    runtime     further lines of `[runtime]`
    tables      further tables
    """

    name: str = NAME
    launcher: Sequence[str] = _RUN
    runtime: str = ""
    tables: str = ""

    def start(self, stage: Stage, mode: Mode, backend: int) -> Pair:
        """Start a sidecar of `api` before the backend and one of `web` that calls it."""
        entry, door = free_port(), free_port()
        policy = stage.write(f"{self._slug}.allow.toml", allow_list(mode))
        server = self._sidecar(
            stage,
            stage.api,
            f'[[inbound]]\nname = "api"\nlisten = "127.0.0.1:{door}"\nforward = "127.0.0.1:{backend}"\n'
            f'protocol = "{mode}"\npolicy = "{policy}"\n',
        )
        client = self._sidecar(
            stage,
            stage.web,
            f'[[outbound]]\nname = "api"\nlisten = "127.0.0.1:{entry}"\nto = "/api"\n'
            f'endpoints = ["127.0.0.1:{door}"]\nprotocol = "{mode}"\n',
        )
        pair = Pair(entry, door, client_side=client, server_side=server)
        pair.server_side.wait_until_listening(door)
        pair.client_side.wait_until_listening(entry)
        return pair

    @property
    def _slug(self) -> str:
        return self.name.replace(" ", "-")

    def _sidecar(self, stage: Stage, identity: Identity, listener: str) -> Process:
        file = stage.write(
            f"{self._slug}-{identity.name}.toml",
            f'[identity]\ndir = "{identity.directory}"\n[admin]\nlisten = "unix:{self._slug}-{identity.name}.admin"\n'
            f"[runtime]\n{self.runtime}\n{self.tables}\n{_LIMITS}{listener}",
        )
        return stage.processes.start(
            [sys.executable, *self.launcher, "run", file], core=stage.cores.proxies, environment=PYTHONPATH
        )


def allow_list(mode: Mode) -> str:
    """Return who may call `api`: in HTTP mode 99 rules that do not grant and one that does, in TCP mode one."""
    strangers = "".join(
        f'[[allow]]\nfrom = "/service-{number}"\nmethods = ["POST"]\npaths = ["/area-{number}/**"]\n'
        for number in range(RULES - 1 if mode is Mode.HTTP else 0)
    )
    return f'{strangers}[[allow]]\nfrom = "/web"\n'
