"""Where one row plays: a temporary directory, a CA made by the product's own command, identities, running programs."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.processes import BenchError, Processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options
    from bench.processes import Cores

TRUST_DOMAIN: Final = "bench.test"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate of the product's CA, in the shapes that proxies want; its key is ECDSA P-256."""

    name: str  # its path is /name, its DNS name is name: some peers know no SPIFFE
    directory: Path

    @property
    def uri(self) -> str:
        """Its SPIFFE ID."""
        return f"spiffe://{TRUST_DOMAIN}/{self.name}"

    @property
    def chain(self) -> Path:
        """Leaf and intermediate."""
        return self.directory / "chain.pem"

    @property
    def key(self) -> Path:
        """The private key."""
        return self.directory / "key.pem"

    @property
    def bundle(self) -> Path:
        """The root."""
        return self.directory / "bundle.pem"

    @property
    def both(self) -> Path:
        """Chain and key in one file, for HAProxy and stunnel."""
        return self.directory / "both.pem"

    @property
    def fingerprint(self) -> str:
        """SHA-1 of the leaf in lower-case hex, as HAProxy and nginx tell it."""
        end = "-----END CERTIFICATE-----"
        leaf = self.chain.read_text().partition(end)[0] + end
        return hashlib.sha1(ssl.PEM_cert_to_DER_cert(leaf)).hexdigest()


class Stage:
    """One row's directory with three identities: `web` calls `api`; `mallory` has a sound certificate and no grant."""

    def __init__(self, directory: Path, processes: Processes, cores: Cores, options: Options) -> None:
        self.directory = directory
        self.processes = processes
        self.cores = cores
        self.options = options
        _meshproxy("ca", "init", "--dir", directory / "ca", "--trust-domain", TRUST_DOMAIN, "--no-passphrase")
        self.web, self.api, self.mallory = map(self._issue, ("web", "api", "mallory"))

    def _issue(self, name: str) -> Identity:
        identity = Identity(name, self.directory / name)
        _meshproxy(
            "ca", "issue", f"/{name}", "--dns", name, "--dir", self.directory / "ca", "--out", self.directory / name
        )
        identity.both.write_text(identity.chain.read_text() + identity.key.read_text())
        return identity

    def write(self, name: str, text: str) -> Path:
        """Write a file of the row's directory."""
        path = self.directory / name
        path.write_text(text)
        return path

    def empty_logs(self) -> None:
        """Cut every log to nothing, so that hours of access lines fill no disk; all are open for appending."""
        for log in self.directory.glob("*.log"):
            with log.open("r+b") as file:
                file.truncate()


@contextmanager
def open_stage(cores: Cores, options: Options) -> Iterator[Stage]:
    """Make a stage; on leaving nothing of it runs and nothing of it is on disk."""
    directory = Path(tempfile.mkdtemp(prefix="meshproxy-bench-"))
    directory.chmod(0o755)  # nginx started by root reads pages as another user
    try:
        with Processes(directory) as processes:
            yield Stage(directory, processes, cores, options)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _meshproxy(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "meshproxy", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"meshproxy {' '.join(command[3:])} failed: {done.stderr.strip()}")
