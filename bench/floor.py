"""The physical floor: what the kernel and the cryptography alone take, a minimum for a proxy in any language.

Kernel: the system time of two bare pumps (bench.pump) that carry the same load in the same rounds, without TLS.
Cryptography: `openssl speed` on the proxies' core, by what TLS 1.3 must do: each record is encrypted once and decrypted
once; in a handshake with certificates on both ends each end makes one key, derives one secret, signs once and verifies
three signatures (leaf, intermediate, and the other end's proof).
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from bench.backend import PYTHONPATH
from bench.pair import Pair
from bench.processes import BenchError, free_port, need_program

if TYPE_CHECKING:
    from bench.stage import Stage

NAME: Final = "floor"
RECORD: Final = 16 << 10  # the longest TLS record, RFC 8446 section 5.1


def start_pumps(stage: Stage, backend: int) -> Pair:
    """Start two pumps in a row before a backend."""
    entry, door = free_port(), free_port()
    client_side, server_side = (
        stage.processes.start(
            [sys.executable, "-m", "bench.pump", str(listen), str(target)],
            core=stage.cores.proxies,
            environment=PYTHONPATH,
        )
        for listen, target in ((entry, door), (door, backend))
    )
    server_side.wait_until_listening(door)
    client_side.wait_until_listening(entry)
    return Pair(entry, door, client_side=client_side, server_side=server_side)


@dataclass(frozen=True, slots=True)
class Cryptography:
    """What OpenSSL takes on one core, in microseconds."""

    small_record: float  # AES-256-GCM of 64 bytes, what a request is
    reply_record: float  # of 1,280 bytes, what a reply of 1 KiB is with its head
    full_record: float  # of 16 KiB
    sign: float  # ECDSA P-256
    verify: float
    derive: float  # X25519; making a key takes as long

    @property
    def exchange(self) -> float:
        """One small request and its reply through a pair."""
        return 2 * (self.small_record + self.reply_record)

    @property
    def handshake(self) -> float:
        """Both ends of one handshake."""
        return 2 * (self.sign + 3 * self.verify + 2 * self.derive)

    def bulk(self, amount: float) -> float:
        """So many bytes through a pair."""
        return 2 * self.full_record * amount / RECORD


@cache
def measure_cryptography(core: int) -> Cryptography:
    """Ask `openssl speed`, once per run of the benchmark."""
    small, reply, full = (_seconds_per_record(core, size) for size in (64, 1280, RECORD))
    signing = re.search(r"^\+F4:.*:256:([\d.]+):([\d.]+)$", _speed(core, "ecdsap256"), re.MULTILINE)
    deriving = re.search(r"^\+F5:.*:253:([\d.]+):", _speed(core, "ecdhx25519"), re.MULTILINE)
    if signing is None or deriving is None:
        raise BenchError("`openssl speed -mr` does not say how fast ECDSA P-256 and X25519 are")
    sign, verify, derive = (1 / float(each) for each in (signing[1], signing[2], deriving[1]))
    return Cryptography(*(1e6 * seconds for seconds in (small, reply, full, sign, verify, derive)))


def _seconds_per_record(core: int, size: int) -> float:
    said = _speed(core, "-bytes", str(size), "-aead", "-evp", "aes-256-gcm")
    found = re.search(r"^\+F:.*:([\d.]+)$", said, re.MULTILINE)
    if found is None:
        raise BenchError("`openssl speed -mr` does not say how fast AES-256-GCM is")
    return size / float(found[1])


def _speed(core: int, *what: str) -> str:
    openssl = need_program("openssl", "openssl")
    command = ["taskset", "-c", str(core), openssl, "speed", "-mr", "-seconds", "1", *what]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
