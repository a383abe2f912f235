"""The stage of the demo: a CA that serves, and three sidecars with a service, started with what a person types."""

from __future__ import annotations

import contextlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from examples.shop.caller import ask_unix, request
from examples.shop.places import lay_out, workspace
from examples.shop.processes import Log, Processes, StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE: Final = Path(__file__).parent
SIDECARS: Final = ("api", "web", "lab")
CALLERS: Final = ("web", "lab")
_FILES: Final = (*(f"{name}.toml" for name in SIDECARS), "api.allow.toml", "feed.allow.toml")
_CA_PORT: Final = 8440
_PATIENCE: Final = 30.0
_LOOK_EVERY: Final = 0.05


class Slot(msgspec.Struct):
    """What `ca rotate status --json` says of one authority."""

    what: str
    slot: str
    state: str
    last_leaf_ends: str | None = None


class Rotation(msgspec.Struct):
    """What `ca rotate status --json` says."""

    bundle_sequence: int
    authorities: list[Slot]
    laggards: list[dict[str, object]]

    def root(self, state: str) -> str:
        """The slot of the root in this state, or nothing."""
        return next((each.slot for each in self.authorities if (each.what, each.state) == ("root", state)), "")

    def is_needed(self, slot: str) -> bool:
        """Whether a certificate below the root of this slot lives."""
        return any(each.slot == slot and each.last_leaf_ends for each in self.authorities)


class Stage:
    """The example, set up in `directory`. Use `open_stage`, which also takes it down."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("run", "logs"):
            (directory / name).mkdir()
        self.processes = Processes(directory / "logs")
        self._ca_port = lay_out(_FILES, of=HERE, into=directory)[_CA_PORT]

    def __repr__(self) -> str:
        return f"<Stage {self.directory} {self.processes!r}>"

    def log(self, name: str) -> Log:
        """Return the log of a sidecar, or of the CA."""
        return self.processes.logs[name]

    def socket(self, caller: str, listener: str) -> Path:
        """Return where `caller` finds a listener of its sidecar."""
        return self.directory / f"run/{caller}-to-{listener}.sock"

    async def found(self) -> None:
        """Make the CA and let it serve. Raises StageError."""
        await self.ca("init", "--trust-domain", "shop.example", "--no-passphrase")
        (self.directory / "ca/ca.toml").write_text((HERE / "ca.toml").read_text())
        where = ("--listen", f"127.0.0.1:{self._ca_port}", "--admin", "unix:run/ca.admin.sock")
        self._start("ca", "-m", "meshproxy", "ca", "serve", "--dir", "ca", *where, "--no-passphrase")
        await self._until_ready("ca", "ca")

    async def invite(self) -> None:
        """Make a token for each sidecar. Raises StageError."""
        where = ("--ca", f"127.0.0.1:{self._ca_port}")
        for name in SIDECARS:
            await self.ca("token", "create", f"/{name}", *where, "--out", f"run/{name}.token")

    async def start(self) -> None:
        """Start the service and the sidecars, and return when all are ready. Raises StageError."""
        self._start("api.service", str(HERE / "api.py"), "run")
        for name in SIDECARS:
            self._start(name, "-m", "meshproxy", "run", f"{name}.toml")
        for name in SIDECARS:
            await self._until_ready(name, name)

    async def ca(self, *words: str) -> None:
        """Administer the CA as a person does, in its directory, while it serves. Raises StageError."""
        command = [sys.executable, "-m", "meshproxy", "ca", *words, "--dir", "ca"]
        await self.processes.run("admin", command, cwd=self.directory)

    async def rotation(self) -> Rotation:
        """Ask how far the rotation is. Raises StageError."""
        command = [sys.executable, "-m", "meshproxy", "ca", "rotate", "status", "--json", "--dir", "ca"]
        said = await trio.run_process(
            command, cwd=self.directory, capture_stdout=True, capture_stderr=True, check=False
        )
        if said.returncode:
            raise StageError(said.stderr.decode())
        return msgspec.json.decode(said.stdout, type=Rotation)

    def _start(self, name: str, *arguments: str) -> None:
        self.processes.start(name, [sys.executable, *arguments], cwd=self.directory)

    async def _until_ready(self, name: str, admin: str) -> None:
        with trio.move_on_after(_PATIENCE):
            while True:
                self.processes.require(name)
                with contextlib.suppress(OSError):  # it does not listen yet
                    answer = await ask_unix(self.directory / f"run/{admin}.admin.sock", request("GET", "/ready"))
                    if answer.data.startswith(b"HTTP/1.1 200"):
                        return
                await trio.sleep(_LOOK_EVERY)
        raise StageError(f"{name} was not ready within {_PATIENCE:g} s: {self.processes.logs[name].tail()}")


@contextmanager
def open_stage(to_be_kept: Callable[[], bool] = lambda: False) -> Iterator[Stage]:
    """Make a stage; on leaving end all that runs there, and remove its directory unless it is `to_be_kept`."""
    with workspace("meshproxy-life-", to_be_kept) as directory:
        stage = Stage(directory)
        try:
            yield stage
        finally:
            stage.processes.close()
