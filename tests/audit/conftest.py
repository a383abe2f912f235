"""Chains made in memory, signed by a sidecar of a throw-away mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from ca import keys
from ca.svid import read_chain
from meshproxy.audit.chain import Head, chained
from meshproxy.audit.checkpoints import Seal, Signer, sign
from meshproxy.audit.lines import Decision, Opened, Why, encode
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

    from meshproxy.audit.lines import Body
    from tests.factory import Identity, MeshCa


def signer_of(identity: Identity) -> Signer:
    return Signer(read_chain(identity.chain.read_bytes()), keys.from_pem(identity.key.read_bytes(), passphrase=None))


def decision(number: int, **more: str) -> Decision:
    ts = f"2026-11-01T12:00:{number:02d}.000Z"
    plain = Decision(ts, "api", "spiffe://mesh.test/web", "1f", "127.0.0.1:1", f"c-{number}", decision="allow")
    return msgspec.structs.replace(plain, **more)


class Chain:
    """Lines as a sidecar writes them."""

    def __init__(self, signer: Signer, at: str, *, name: str = "c0ffee") -> None:
        self.signer, self.at, self.name = signer, at, name
        self.head = Head()
        self.lines: list[bytes] = []

    def add(self, body: Body) -> None:
        line = chained(self.head, encode(body))
        self.head = self.head.after(line)
        self.lines.append(line)

    def opens(self, why: Why = Why.NEW) -> None:
        self.add(Opened(self.at, self.name, why, "0"))

    def seals(self, why: Why = Why.INTERVAL, signer: Signer | None = None) -> Seal:
        seal = Seal(self.name, self.head.seq, self.head.hash, self.at, why)
        self.add(sign(seal, signer or self.signer))
        return seal


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="session")
def api(mesh: MeshCa) -> Identity:
    return mesh.issue("/api")


@pytest.fixture(scope="session")
def signer(api: Identity) -> Signer:
    return signer_of(api)


@pytest.fixture(scope="session")
def at(api: Identity) -> str:
    """A time at which the signer's certificate is valid, and any that is issued a little later."""
    return api.certificate.not_valid_after_utc.isoformat()


@pytest.fixture(scope="session")
def bundle(api: Identity) -> bytes:
    return api.bundle.read_bytes()


@pytest.fixture
def chain(signer: Signer, at: str) -> Chain:
    return Chain(signer, at)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"
