"""The stage of the demo: the shop in a temporary directory, minted and started with the commands a person types."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import authority, identity_directory, keys, profiles
from ca.lifetime import Validity
from ca.spiffe_id import complete
from examples.shop import orders, wire_faults
from examples.shop.caller import ask_unix, request
from examples.shop.collector import Collector
from examples.shop.places import lay_out, workspace
from examples.shop.processes import Log, Processes, StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from examples.shop.caller import Answer

SHOP: Final = Path(__file__).parent
TRUST_DOMAIN: Final = "shop.example"

# Directory below identity/ -> the identity in it. Two replicas share a name, never a certificate.
IDENTITIES: Final = {
    "web": "/web",
    "orders": "/orders",
    "orders-2": "/orders",
    "ledger": "/ledger",
    "orders-qa": "/orders-qa",
}
EXPIRED: Final = "orders-expired"
FOREIGN: Final = "orders-foreign"

SERVICES: Final = {
    "ledger": ("--listen", "unix:run/ledger.sock", "--database", "data/ledger.db"),
    "orders": (
        *("--listen", "unix:run/orders.sock", "--ledger", "unix:run/orders-to-ledger.sock"),
        *("--database", "data/orders.db"),
    ),
    "orders-2": (
        *("--listen", "unix:run/orders-2.sock", "--ledger", "unix:run/orders-2-to-ledger.sock"),
        *("--database", "data/orders.db"),
    ),
    "web": ("--listen", "unix:run/web.sock", "--orders", "unix:run/web-to-orders.sock"),
}
SIDECARS: Final = {
    "ledger": "ledger.toml",
    "orders": "orders.toml",
    "orders-2": "orders-2.toml",
    "web": "web.toml",
    "stranger": "trouble/stranger.toml",
    "faults": "trouble/faults.toml",
}
_WIRES: Final = {8491: wire_faults.Fault.FLIP, 8492: wire_faults.Fault.CUT}  # both lead to orders-2
_UNHARMED: Final = 150_000  # bytes a bad wire lets pass: well beyond any handshake
_ORDERS_OF_YESTERDAY: Final = 4_000  # so that there is something long to fetch

_PATIENCE: Final = 60.0  # seconds for a process to be ready: much, for ten start at once
_LOOK_EVERY: Final = 0.02


class Stage:
    """The shop, set up in `directory`. Use `open_stage`, which also takes it down."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("run", "data", "logs"):
            (directory / name).mkdir()
        self.processes = Processes(directory / "logs")
        self.collector = Collector()
        files = [*SIDECARS.values(), *(file.name for file in SHOP.glob("*.allow.toml"))]
        self._ports = lay_out(files, of=SHOP, into=directory)

    def __repr__(self) -> str:
        return f"<Stage {self.directory} {self.processes!r}>"

    def port(self, written: int) -> int:
        """Return the port that was put in the place of the one `written` in the shop's files."""
        return self._ports[written]

    def log(self, sidecar: str) -> Log:
        """Return the log of a sidecar."""
        return self.processes.logs[f"{sidecar}.sidecar"]

    def skip_logs(self) -> None:
        """Pass over all that was logged so far."""
        for log in self.processes.logs.values():
            log.skip()

    @property
    def roots(self) -> Path:
        """The roots of this mesh, as PEM."""
        return self.identity("web") / identity_directory.BUNDLE

    def identity(self, name: str) -> Path:
        """Return an identity directory by its name."""
        return self.directory / "identity" / name

    async def mint(self) -> None:
        """Make the CA and every identity with the command line, and beside them a foreign CA and an expired identity.

        Raises StageError.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mint_own)
            nursery.start_soon(self._mint_foreign)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start services, sidecars and bad wires, and return when all of them are ready. Raises StageError."""
        with closing(orders.open_database(str(self.directory / "data/orders.db"))) as database, database:
            database.executemany(
                "INSERT INTO orders (customer, item, quantity, cents, state) VALUES (?, 'teapot', 1, 2350, 'charged')",
                ((f"customer {number}",) for number in range(_ORDERS_OF_YESTERDAY)),
            )
        for port, fault in _WIRES.items():
            here, there = self.port(port), self.port(8442)
            await nursery.start(partial(wire_faults.serve, fault, port=here, to_port=there, after=_UNHARMED))
        await nursery.start(self.collector.serve, self.port(4318))
        for name, settings in SERVICES.items():
            self._start(f"{name}.service", "-m", f"examples.shop.{name.partition('-')[0]}", *settings)
        for name, file in SIDECARS.items():
            self._start(f"{name}.sidecar", "-m", "meshproxy", "run", file)
        for name in SERVICES:
            await self._until_ready(f"{name}.service", f"run/{name}.sock", b"HTTP")
        for name in SIDECARS:
            await self._until_ready(f"{name}.sidecar", f"run/{name}.admin.sock", b"HTTP/1.1 200")

    @property
    def web_to_orders(self) -> Path:
        """The socket where web finds orders."""
        return self.directory / "run/web-to-orders.sock"

    async def buy(self, item: str, quantity: int) -> Answer:
        """Order as a customer does."""
        fields = {"customer": "ada", "item": item, "quantity": quantity}
        return await ask_unix(self.directory / "run/web.sock", request("POST", "/buy", fields))

    def kill_service(self, name: str) -> None:
        """Kill a service, and leave its sidecar."""
        self.processes.kill(f"{name}.service")

    def kill(self, name: str) -> None:
        """Kill whatever runs of a service and its sidecar, as when their machine fails."""
        self.kill_service(name)
        self.processes.kill(f"{name}.sidecar")

    def admin(self, name: str) -> Path:
        """Return the socket where a sidecar's admin server listens."""
        return self.directory / f"run/{name}.admin.sock"

    async def renew(self, name: str) -> None:
        """Issue an identity again, as a person does before it expires."""
        await self._issue(IDENTITIES[name], ca="ca", into=name)

    async def end(self, name: str) -> int:
        """End a sidecar with SIGTERM; returns its exit code when it has gone."""
        return await self.processes.end(f"{name}.sidecar")

    def service_log(self, name: str) -> str:
        """Return everything a service has logged."""
        return self.processes.logs[f"{name}.service"].path.read_text()

    def has_reached(self, name: str, text: str) -> bool:
        """Whether a service has logged a request with `text` in it: it logs each request line."""
        return text in self.service_log(name)

    def sidecars_that_logged(self, text: str) -> list[str]:
        """Return the sidecars that have logged `text` anywhere."""
        return [name for name in SIDECARS if text in self.log(name).path.read_text()]

    def watch_memory(self, *sidecars: str) -> Callable[[], list[int]]:
        """Return what tells by how many bytes each sidecar's peak memory has grown since; nothing without /proc."""
        names = [f"{name}.sidecar" for name in sidecars]
        for name in names:
            self.processes.forget_peak_memory(name)
        before = [self.processes.peak_memory(name) for name in names]

        def grown() -> list[int]:
            after = [self.processes.peak_memory(name) for name in names]
            return [then - now for now, then in zip(before, after, strict=True) if now is not None and then is not None]

        return grown

    def look_up(self, database: str, query: str, *values: object) -> tuple[object, ...] | None:
        """Return the first row that `query` finds in data/`database`.db, or None; reads only."""
        path = self.directory / "data" / f"{database}.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as opened:
            row: tuple[object, ...] | None = opened.execute(query, values).fetchone()
            return row

    async def _mint_own(self) -> None:
        await self._make_ca("ca")
        for name, identity in IDENTITIES.items():
            await self._issue(identity, ca="ca", into=name)
        self._issue_expired("/orders", into=EXPIRED)

    async def _mint_foreign(self) -> None:
        await self._make_ca("foreign-ca")
        await self._issue("/orders", ca="foreign-ca", into=FOREIGN)

    async def _make_ca(self, directory: str) -> None:
        await self._meshproxy("ca", "init", "--dir", directory, "--trust-domain", TRUST_DOMAIN, "--no-passphrase")

    async def _issue(self, identity: str, *, ca: str, into: str) -> None:
        await self._meshproxy("ca", "issue", identity, "--dir", ca, "--out", f"identity/{into}")

    async def _meshproxy(self, *words: str) -> None:
        name = f"mint.{words[words.index('--dir') + 1]}"
        await self.processes.run(name, [sys.executable, "-m", "meshproxy", *words], cwd=self.directory)

    def _issue_expired(self, identity: str, *, into: str) -> None:
        """Sign what no CA signs: a certificate whose time is over. It differs from a good one in nothing else."""
        opened = authority.open_authority(self.directory / "ca", passphrase=None)
        now = datetime.now(UTC).replace(microsecond=0)
        key = keys.generate()
        certificate = profiles.leaf(
            profiles.Names(complete(identity, opened.trust_domain)),
            key.public_key(),
            issuer=opened.intermediate,
            serial=x509.random_serial_number(),
            validity=Validity(now - timedelta(days=1), now - timedelta(minutes=5)),
        ).sign(opened.key, hashes.SHA256())
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, opened.intermediate))
        identity_directory.write_identity(
            self.identity(into), key=keys.to_pem(key, passphrase=None), chain=chain, bundle=opened.bundle_pem
        )

    def _start(self, name: str, *arguments: str) -> None:
        self.processes.start(name, [sys.executable, *arguments], cwd=self.directory)

    async def _until_ready(self, name: str, path: str, proof: bytes) -> None:
        """Ask for /ready at a unix socket until the answer begins with `proof`."""
        with trio.move_on_after(_PATIENCE):
            while True:
                self.processes.require(name)
                with contextlib.suppress(OSError):  # it does not listen yet
                    answer = await ask_unix(self.directory / path, request("GET", "/ready"))
                    if answer.data.startswith(proof):
                        return
                await trio.sleep(_LOOK_EVERY)
        raise StageError(f"{name} was not ready within {_PATIENCE:g} s: {self.processes.logs[name].tail()}")


@contextmanager
def open_stage(to_be_kept: Callable[[], bool] = lambda: False) -> Iterator[Stage]:
    """Make a stage; on leaving end all that runs there, and remove its directory unless it is `to_be_kept`."""
    with workspace("meshproxy-shop-", to_be_kept) as directory:
        stage = Stage(directory)
        try:
            yield stage
        finally:
            stage.processes.close()
