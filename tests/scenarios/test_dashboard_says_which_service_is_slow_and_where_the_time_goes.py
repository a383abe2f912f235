"""The dashboard says which service has become slow, since when, and in which one the time is spent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest

from meshproxy.dashboard import assets
from tests.scenarios.actors import dial
from tests.scenarios.http_actors import Caller, Origin, response
from tests.scenarios.stage import ask, command, inbound, outbound, poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Stage

NODE = shutil.which("node")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(NODE is None, reason="no node is installed: apt-get install nodejs"),
]

_COLUMN = 2  # seconds; the page itself looks at minutes, for which nobody would wait here
_USUAL, _SLOW = 12.0, 8.0  # seconds
_ADDED = 0.3  # seconds to each answer
_MOST_APART = 2.5 * _COLUMN  # what is slow within a column begins with it or with the next

# What the page does with an answer of /series, in columns of our size.
_SENTENCES = """
import { readFileSync } from "node:fs";
const { insights, sentence } = await import(`${process.argv[1]}/measure/insights.js`);
const { History } = await import(`${process.argv[1]}/measure/history.js`);
const told = JSON.parse(readFileSync(0, "utf8"));
const recent = new History(told.step, 300);
recent.take(told);
const found = insights({ now: told.now, recent, past: new History(told.step * 5, 72) });
console.log(JSON.stringify(found.map((each) => ({ kind: each.kind, since: each.since, words: sentence(each) }))));
"""


@dataclass
class Shop:
    """/web asks /orders, which asks /ledger before it answers; each is as slow as it is told to be."""

    stage: Stage
    delays: dict[str, float] = field(default_factory=lambda: {"orders": 0.002, "ledger": 0.002})
    dashboard: str = ""

    def open(self) -> Self:
        """Start the services, their sidecars and the dashboard of all."""
        stage = self.stage
        stage.write("web.allow.toml", '[[allow]]\nfrom = "/web"\n')
        stage.write("ledger.allow.toml", '[[allow]]\nfrom = "/orders"\n')
        books = stage.keep(Origin(self._answer_of_ledger))
        ledger = stage.sidecar(
            "ledger", inbound("ledger", forward=books.address, protocol="http", policy="ledger.allow.toml")
        )
        desk = stage.keep(Origin(self._answer_of_orders))
        orders = stage.sidecar(
            "orders",
            inbound("orders", forward=desk.address, protocol="http")
            + outbound("to-ledger", to="/ledger", endpoints=[ledger.address("ledger")], protocol="http"),
        )
        self._to_ledger = orders.address("to-ledger")
        web = stage.sidecar("web", outbound(to="/orders", endpoints=[orders.address("orders")], protocol="http"))
        self._to_orders = web.address("to-api")
        roll = stage.write("mesh.toml", f"sidecars = {json.dumps([each.admin for each in (web, orders, ledger)])}\n")
        shown = subprocess.Popen(
            command("dashboard", "--sidecars", roll, "--listen", "127.0.0.1:0"), stdout=subprocess.PIPE, text=True
        )
        stage.on_leaving(shown.wait)
        stage.on_leaving(shown.kill)
        assert shown.stdout is not None
        stage.on_leaving(shown.stdout.close)
        said = re.search(r"http://([^/]+)/dashboard", shown.stdout.readline())
        assert said is not None
        self.dashboard = said[1]
        return self

    def _answer_of_ledger(self, talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        time.sleep(self.delays["ledger"])
        talk.say(response(200, b"charged"))

    def _answer_of_orders(self, talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        time.sleep(self.delays["orders"])
        with Caller(dial(self._to_ledger)) as clerk:
            talk.say(response(clerk.ask("POST", "/charges", body=b"1").status, b"ordered"))

    @contextmanager
    def customers(self) -> Iterator[None]:
        """Three who order again and again, meanwhile."""
        closing = threading.Event()
        refused: list[int] = []

        def order() -> None:
            with Caller(dial(self._to_orders)) as customer:
                while not closing.wait(0.02):
                    status = customer.ask("GET", "/orders").status
                    if status != 200:
                        refused.append(status)

        crowd = [threading.Thread(target=order) for _ in range(3)]
        for each in crowd:
            each.start()
        try:
            yield
        finally:
            closing.set()
            for each in crowd:
                each.join()
        assert refused == []

    def told(self, *, since: float) -> bytes:
        """The curves of all calls since then."""
        return ask(self.dashboard, f"/series?tier=1s&step={_COLUMN}&since={since}").body

    def sentences(self, *, since: float) -> list[dict[str, Any]]:
        """What stands out in what the dashboard tells, looked at from `since` on."""
        assert NODE is not None
        said = subprocess.run(
            [NODE, "--input-type=module", "-e", _SENTENCES, str(assets._STATIC)],
            input=self.told(since=since),
            capture_output=True,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(said.stdout)
        return found

    def slow_ones(self, *, since: float) -> list[dict[str, Any]]:
        """Of these, those about slowness."""
        return [each for each in self.sentences(since=since) if each["kind"] == "slow"]


@pytest.fixture
def shop(stage: Stage) -> Shop:
    return Shop(stage).open()


@pytest.mark.parametrize(
    ("culprit", "where"), [("ledger", r"ledger, which is asked by orders|ledger"), ("orders", r"orders itself")]
)
def test_the_slow_one_and_the_one_at_fault_are_named(shop: Shop, culprit: str, where: str) -> None:
    with shop.customers():
        opened = time.time() + 2
        time.sleep(_USUAL)  # its usual has to be lived through
        assert shop.slow_ones(since=opened) == []
        shop.delays[culprit], injected = _ADDED, time.time()
        time.sleep(_SLOW)
        poll(lambda: bool(shop.slow_ones(since=opened)), "a sentence about the slow service")
        [said] = shop.slow_ones(since=opened)
    assert abs(said["since"] - injected) <= _MOST_APART, (said, injected, shop.told(since=opened))
    told = re.fullmatch(
        rf"orders has been ([\d.]+)\u00d7 slower than its usual since (\d\d:\d\d); the time is spent in (?:{where})\.",
        said["words"],
    )
    assert told is not None, said["words"]
    assert float(told[1]) > 3  # 300 ms beside some ten, or fifty on a busy machine
    assert told[2] == time.strftime("%H:%M", time.localtime(said["since"]))
