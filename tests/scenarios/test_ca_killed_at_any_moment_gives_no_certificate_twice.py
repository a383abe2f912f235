"""kill -9 of a CA between question and answer: no certificate without a row, and no second one by the same token."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ca import premises
from ca.audit import audit
from ca.rows import Redemption
from tests.scenarios.authority import CaServer, Client, Said, serve
from tests.scenarios.stage import PATIENCE, poll

if TYPE_CHECKING:
    from ca.tokens import JoinToken
    from tests.scenarios.stage import Stage

_AT_ONCE = 12
_DEATHS = 8


def enrol(client: Client, token: JoinToken, answers: list[Said]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):  # it died
        answers.append(client.enrol(token))


@pytest.mark.long
def test_killed_under_load(stage: Stage) -> None:
    ca = serve(stage)
    dice = random.Random(6)
    died_before = died_after = 0
    for death in range(_DEATHS):
        invited = [(ca.client(), ca.token(f"/d{death}-{number}")) for number in range(_AT_ONCE)]
        answers: list[list[Said]] = [[] for _ in invited]
        threads = [
            threading.Thread(target=enrol, args=(client, token, heard))
            for (client, token), heard in zip(invited, answers, strict=True)
        ]
        for thread in threads:
            thread.start()
        if death % 4:  # in the thick of it; else before anybody is answered, mostly
            poll(lambda: any(answers), "somebody is answered")  # noqa: B023 - asked at once
        time.sleep(dice.uniform(0.0, 0.15))  # the moment is what is varied
        ca.kill()
        for thread in threads:
            thread.join(PATIENCE)
        ca = stage.look_after(CaServer(ca.mesh))
        for (client, token), heard in zip(invited, answers, strict=True):
            client.address = ca.listens
            with premises.ledger_of(ca.directory) as ledger, ledger.reading() as view:
                row = view.get(Redemption, token.id.hex(), 1)
            if heard:
                assert row is not None, "a certificate has left without its row"
                assert f"{heard[0].leaf.serial_number:x}" == row.serial
            again = client.enrol(token)
            assert again.json["again"] is (row is not None)
            if row is not None:
                assert f"{again.leaf.serial_number:x}" == row.serial
            died_before += row is None
            died_after += row is not None and not heard
            assert ca.client().enrol(token).why == "token_used"
    print(f"\n{_DEATHS} deaths: {died_before} asked in vain, {died_after} lost an answer that was in the ledger")
    with premises.ledger_of(ca.directory) as ledger, ledger.reading() as view:
        assert list(audit(view)) == []
        given = [each.id for each in view.leaves() if "/d" in each.id]
        assert len(given) == len(set(given)) == _AT_ONCE * _DEATHS
