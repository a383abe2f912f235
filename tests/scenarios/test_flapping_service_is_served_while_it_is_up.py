"""A service that is down every other second: no request goes out twice, all are answered at once, up means served."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import reset
from tests.scenarios.http_actors import Ended, Origin, fingerprint, fingerprints, mesh_pair
from tests.scenarios.programs import free_port
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Pair, Talk
    from tests.scenarios.stage import Stage

ROUNDS = 30  # of two seconds each
CLIENTS = 4


class Flapping:
    """A service at one address that comes and goes; it counts what reached it, over all its lives."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._living: Origin | None = None
        self.come()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def come(self) -> None:
        self._living = Origin(self._respond, port=self.port)
        self._living.__enter__()

    def go(self) -> None:
        """As a killed process goes: nobody listens, and what was open ends."""
        if self._living is not None:
            self._living.__exit__(None, None, None)
            self._living = None

    def _respond(self, talk: Talk, asked: Message) -> None:
        with self._counting:
            self.seen[asked.target] += 1
        if self._living is None:
            reset(talk.sock)
            raise Ended
        fingerprints(talk, asked)


def call(pair: Pair, over: threading.Event, number: int, heard: list[tuple[int, float]], wrong: list[str]) -> None:
    """POST one thing after the other, each once."""
    for count in itertools.count():
        if over.is_set():
            return
        target, began = f"/{number}/{count}", time.monotonic()
        try:
            with pair.caller() as caller:
                answer = caller.ask("POST", target, body=b"x")
        except ConnectionError:  # the service went in the middle of its answer
            status = 0
        else:
            status = answer.status
            if status == 200 and answer.body != fingerprint("POST", target, b"x"):
                wrong.append(target)
        heard.append((status, time.monotonic() - began))
        over.wait(0.02)


@pytest.mark.long
def test_a_flapping_service(stage: Stage) -> None:
    service = Flapping()
    stage.on_leaving(service.go)
    pair = mesh_pair(stage, service)  # type: ignore[arg-type] # its address is all that is asked for
    over, wrong = threading.Event(), list[str]()
    heard: list[tuple[int, float]] = []
    clients = [threading.Thread(target=call, args=(pair, over, each, heard, wrong)) for each in range(CLIENTS)]
    for client in clients:
        client.start()
    recoveries = []
    for _ in range(ROUNDS):
        time.sleep(1)  # what flaps each second is the fault itself
        service.go()
        time.sleep(1)
        service.come()
        began, served = time.monotonic(), sum(status == 200 for status, _ in heard)
        poll(lambda served=served: sum(status == 200 for status, _ in heard) > served, "served again")  # type: ignore[misc]
        recoveries.append(time.monotonic() - began)
    over.set()
    for client in clients:
        client.join()

    statuses = Counter(status for status, _ in heard)
    refused = sorted(took for status, took in heard if status == 502)
    print(f"{dict(statuses)}; a 502 took {refused[len(refused) // 2] * 1000:.0f} ms (median); "
          f"served {max(recoveries) * 1000:.0f} ms after it came back, at worst")  # fmt: skip
    assert wrong == []
    assert max(service.seen.values()) == 1  # a POST is never sent again
    assert set(statuses) <= {200, 502, 0}
    assert statuses[200] > 50
    assert statuses[502] > 50
    assert refused[len(refused) // 2] < 0.1
    assert sorted(recoveries)[ROUNDS // 2] < 1.0
