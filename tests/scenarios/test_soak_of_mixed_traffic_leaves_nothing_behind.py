"""Everything at once for a long time: honest callers are served, hostile ones refused, and nothing is left behind.

Keep-alive, close, bulk both ways, WebSocket, TCP streams with half-close; among them aborts of both sides at random
bytes, garbage, half handshakes, slow heads, wrong certificates, denied and unsound requests, and a service that talks
nonsense. Meanwhile allow-lists and settings are reloaded, and both sidecars renew themselves at a CA, without a pause.

`MESHPROXY_SOAK` is how many seconds it lasts (60; `make soak MINUTES=30`). It ends in a report; the deadlines are such
that a starved machine is slow, and does not fail.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.authority import serve as serve_ca
from tests.scenarios.changes import reload, unix_admin
from tests.scenarios.enrolled import configure, invite, leaves_of, put
from tests.scenarios.soak_actors import LATE, REFUSED, SERVED, Book, Crowd, Forgetful, again_and_again, echo, serve
from tests.scenarios.soak_attackers import Attackers
from tests.scenarios.soak_report import MIB, Sample, outcomes, sizes, slope, unexpected
from tests.scenarios.stage import Sidecar, inbound, outbound, poll

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from pathlib import Path

    from tests.factory import MeshCa
    from tests.scenarios.stage import Stage

SOAK = float(os.environ.get("MESHPROXY_SOAK", "60"))
CROWD = 2  # of each kind of honest ones
PAUSE = 0.05  # seconds at most between two deeds: load, and no race for the last core
RELOADS_EVERY = 2.0
LIFE = 120 if SOAK >= 600 else 40  # of a certificate, in seconds; renewed at half
# From the end of the first third: an allocator breathes, a leak adds up; a short run has hardly met every size by then.
MOST_GROWTH = (6 if SOAK >= 600 else 12) * MIB
# Generous, and nobody is refused because the machine is busy: that is the subject of another scenario.
LIMITS = """[runtime]
max_lag = "0s"
[limits]
handshake_timeout = "60s"
connect_timeout = "60s"
head_timeout = "20s"
response_timeout = "120s"
"""
QUICK = 'pool_idle = "1s"'
PATHS = '["/length/**", "/chunked/**", "/download/**", "/upload", "/socket/**", "/abort/**", "/nonsense/**"]'
CHANGES = "reload"


def allow_list(turn: int) -> str:
    """The list of this turn: it always grants the same to /web."""
    return f'[[allow]]\nname = "turn-{turn % 7}"\nfrom = "/nobody"\n[[allow]]\nfrom = "/web"\npaths = {PATHS}\n'


def swap(path: Path, text: str) -> None:
    """Put a file in place at once, as careful tools do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


class Changing:
    """Reloads of both sidecars, again and again: a new allow-list each time, other settings now and then."""

    def __init__(self, stage: Stage, api: Sidecar, web: Sidecar, book: Book) -> None:
        self._stage, self._api, self._web, self._book = stage, api, web, book
        self.turns = 0

    def go_on(self, over: threading.Event) -> None:
        while not over.wait(RELOADS_EVERY):
            self.turns += 1
            swap(self._stage.workspace / "web.allow.toml", allow_list(self.turns))
            if self.turns % 10 == 0:
                for sidecar in (self._api, self._web):
                    text, (old, new) = sidecar.file.read_text(), ("20s", "21s")
                    if f'head_timeout = "{new}"' in text:
                        old, new = new, old
                    swap(sidecar.file, text.replace(f'head_timeout = "{old}"', f'head_timeout = "{new}"'))
            for sidecar in (self._api, self._web):
                self._ask(sidecar)

    def _ask(self, sidecar: Sidecar) -> None:
        try:
            answer = reload(sidecar)
        except TimeoutError:
            self._book.tell(CHANGES, LATE)
        except (OSError, http.client.HTTPException) as error:
            self._book.tell(CHANGES, type(error).__name__, str(error))
        else:
            self._book.tell(CHANGES, SERVED if answer.status == 200 else str(answer.status), str(answer.body))


class Watch:
    """Looks at the sidecars while it goes on."""

    def __init__(self, *sidecars: Sidecar) -> None:
        self._began = time.monotonic()
        self.seen: dict[Sidecar, list[Sample]] = {sidecar: [] for sidecar in sidecars}

    def look(self) -> None:
        for sidecar, samples in self.seen.items():
            found = list(sidecar.samples())
            requests = sum(value for name, _, value in found if name == "meshproxy_requests_total")
            tasks = sum(value for name, _, value in found if name == "meshproxy_tasks")
            at = time.monotonic() - self._began
            samples.append(Sample(at, sidecar.resident, sidecar.descriptors, tasks, requests))


def state(sidecar: Sidecar) -> dict[str, float]:
    """What must be as before when all is over."""
    return {
        "tasks": sidecar.metric("meshproxy_tasks"),
        "descriptors": sidecar.descriptors,
        "connections": sum(listener.open for listener in sidecar.status().listeners),
    }


def renewals(sidecar: Sidecar) -> int:
    return int(sidecar.metric("meshproxy_renewals_total", result="renewed"))


def wrong_contexts(stage: Stage, mesh: MeshCa, foreign: MeshCa) -> dict[str, ssl.SSLContext]:
    """What no sound certificate is."""
    good = mesh.issue("/good", into=stage.workspace / "good")
    return {
        "of another CA": client_context(foreign.issue("/web", into=stage.workspace / "foreign"), trusting=good),
        "expired": client_context(mesh.issue("/web", into=stage.workspace / "old", expired=True), trusting=good),
        "two names": client_context(
            mesh.forge(into=stage.workspace / "two", uris=["spiffe://mesh.test/web", "spiffe://mesh.test/a"]),
            trusting=good,
        ),
        "none": client_context(None, trusting=good),
    }


@pytest.mark.long
def test_a_soak_of_mixed_traffic(stage: Stage, foreign: MeshCa) -> None:
    ca = serve_ca(stage, configure=leaves_of(seconds=LIFE))
    origin, tunnelled = stage.keep(Forgetful(serve)), stage.keep(Forgetful(echo))
    stage.write("web.allow.toml", allow_list(0))
    stage.write("tunnel.allow.toml", '[[allow]]\nfrom = "/web"\n')
    api_tables = inbound(forward=origin.address, protocol="http", more=QUICK) + inbound(
        "tunnel", forward=tunnelled.address, policy="tunnel.allow.toml"
    )

    def enrol(name: str, tables: str) -> Sidecar:
        token_file = put(stage.workspace / f"{name}.token", invite(ca, f"/{name}"))
        tables = unix_admin(name) + LIMITS + tables
        sidecar = stage.run(configure(stage, ca.listens, name, tables, token_file=token_file))
        sidecar.log.keep_none_of("request", "connection", "denied", "handshake_failed", "reloaded")
        sidecar.everywhere("identity_ready")
        return sidecar

    api = enrol("api", api_tables)
    web_tables = outbound(endpoints=[api.address("api")], protocol="http", more=QUICK)
    web = enrol("web", web_tables + outbound("to-tunnel", endpoints=[api.address("tunnel")]))

    book, over = Book(), threading.Event()
    granted = client_context(ca.mesh.issue("/web", into=stage.workspace / "granted"))
    crowd = Crowd(web, api, granted, book)
    attackers = Attackers(
        web,
        api,
        book,
        granted=granted,
        unlisted=client_context(ca.mesh.issue("/mallory", into=stage.workspace / "mallory")),
        wrong=wrong_contexts(stage, ca.mesh, foreign),
    )
    changing, watch = Changing(stage, api, web, book), Watch(api, web)
    before = {sidecar: state(sidecar) for sidecar in (api, web)}
    deeds = [*crowd.deeds() * CROWD, *attackers.deeds()]
    actors = [
        threading.Thread(target=again_and_again, args=(deed, number, over, book, PAUSE), daemon=True)
        for number, deed in enumerate(deeds)
    ]
    actors.append(threading.Thread(target=changing.go_on, args=(over,), daemon=True))
    for actor in actors:
        actor.start()
    until = time.monotonic() + SOAK
    while time.monotonic() < until:
        watch.look()
        origin.forget()
        tunnelled.forget()
        time.sleep(max(0.5, SOAK / 360))  # a steady rhythm is the thing itself here
    over.set()
    for actor in actors:
        actor.join()

    told = book.told()
    honest = ["keep-alive", "closing", "download", "upload", "web socket", "tunnel", CHANGES]
    hostile = [deed.__name__.replace("_", " ") for deed in attackers.deeds()]
    lines = [f"soak of {SOAK:g} s, load average {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores", "honest:"]
    lines += [*outcomes(told, SERVED, honest), "hostile:", *outcomes(told, REFUSED, hostile)]
    renewed = {sidecar.file.stem: renewals(sidecar) for sidecar in (api, web)}
    lines += [f"reloads {changing.turns} of each sidecar, renewals {renewed}", "sizes:"]
    for sidecar, samples in watch.seen.items():
        lines += sizes(sidecar.file.stem, samples)
        lines.append(f"    slope of memory behind the first third: {slope(samples, after=SOAK / 3) / MIB:+.2f} MiB/h")
    print("\n" + "\n".join(lines + [f"  ! {oddity}" for oddity in book.oddities]))

    assert unexpected(told, SERVED, honest) == 0, book.oddities
    assert unexpected(told, REFUSED, hostile) == 0, book.oddities
    assert {who for who, _ in told} == {*honest, *hostile}
    assert min(renewed.values()) >= int(SOAK / LIFE)
    for sidecar, samples in watch.seen.items():
        poll(lambda sidecar=sidecar: _is_as_before(state(sidecar), before[sidecar]), f"all is as before: {before}")  # type: ignore[misc]
        assert sidecar.resident - _after_a_third(samples) <= MOST_GROWTH


def _after_a_third(samples: Sequence[Sample]) -> int:
    return samples[len(samples) // 3].resident


def _is_as_before(now: dict[str, float], before: dict[str, float]) -> bool:
    return all(now[what] <= before[what] for what in before)
