"""After an outage everybody comes at once: all are served in the end, who comes too often is told when to come back."""

from __future__ import annotations

import http.client
import random
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ca import keys
from ca.issuing import SvidRequest, issue_svid
from ca.profiles import Names
from meshproxy.runtime.telling import wall_clock
from tests.factory import make_mesh_ca
from tests.scenarios.authority import CaServer, Client, unhurried

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

_SIDECARS = 1000
_PER_SECOND = 50  # and as many at once, after a second of rest
_AT_ONCE = 64  # threads that ask; the test's own core is the limit
_ATTEMPTS = 60
_TICKS = 100  # of the kernel's clock in a second (USER_HZ)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@pytest.mark.long
def test_a_thousand_renewals(stage: Stage) -> None:
    mesh = make_mesh_ca(stage.workspace / "own")
    unhurried(mesh.directory, f"renew_total = {_PER_SECOND:.1f}\n")
    roots = mesh.authority.bundle_pem.decode()
    clients = []
    for number in range(_SIDECARS):
        svid = issue_svid(mesh.authority, SvidRequest(Names(mesh.id(f"/s-{number}"))), now=wall_clock())
        key = keys.from_pem(svid.key_pem, passphrase=None)
        assert isinstance(key, type(keys.generate()))
        clients.append(Client("", roots, key, svid.chain_pem.decode()))
    ca = stage.look_after(CaServer(mesh))
    statuses: Counter[str] = Counter()
    took: list[float] = []
    lock = threading.Lock()

    def renew(client: Client) -> bool:
        client.address = ca.listens
        fresh, pause = keys.generate(), random.Random(client.chain)
        for _ in range(_ATTEMPTS):
            begun = time.monotonic()
            try:
                said = client.renew(fresh)
            except (OSError, http.client.HTTPException) as error:
                with lock:
                    statuses[type(error).__name__] += 1
                time.sleep(pause.uniform(0.1, 1.0))
                continue
            with lock:
                statuses[str(said.status)] += 1
                if said.status == 200:
                    took.append(time.monotonic() - begun)
                    return True
            time.sleep(float(said.json["retry_after"]) + pause.uniform(0.0, 2.0))
        return False

    before, begun = cpu_seconds(ca.process.pid), time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        served = list(threads.map(renew, clients))
    lasted, used = time.monotonic() - begun, cpu_seconds(ca.process.pid) - before
    p50, p99 = statistics.quantiles(took, n=100)[49], statistics.quantiles(took, n=100)[98]
    print(
        f"\n{_SIDECARS} renewals in {lasted:.1f} s, answers {dict(statuses)}; p50 {p50 * 1e3:.0f} ms, "
        f"p99 {p99 * 1e3:.0f} ms; {used / _SIDECARS * 1e3:.2f} ms of CPU per certificate, handshakes included"
    )
    assert all(served)
    assert statuses["200"] == _SIDECARS
    # However fast they are asked for. A machine so busy that nobody asks faster than that has nobody told to wait.
    assert lasted >= _SIDECARS / _PER_SECOND - 1
    assert ca.metric("meshproxy_ca_grants_total", kind="renew", again="no") == _SIDECARS
    assert ca.metric("meshproxy_ca_rate_limited_total", kind="renew", by="total") == statuses["429"]
