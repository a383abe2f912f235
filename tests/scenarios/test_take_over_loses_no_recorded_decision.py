"""A take-over while decisions are recorded: each of the two processes has a chain of its own, none of them a gap."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.audit_logs import verify
from tests.scenarios.changes import Load, unix_admin
from tests.scenarios.http_actors import Origin, fingerprints, mtls_caller
from tests.scenarios.stage import Sidecar, inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

CLIENTS = 4


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_two_audit_logs_hold_every_decision(stage: Stage, workers: int) -> None:
    origin = stage.keep(Origin(fingerprints))
    tables = (
        f'[runtime]\nworkers = {workers}\n[audit]\nfile = "audit.jsonl"\n'
        + unix_admin("api")
        + inbound(forward=origin.address, protocol="http", more='audit = "all"\n')
    )
    old = stage.sidecar("api", tables)
    context = client_context(stage.identity("/web"))
    address = old.address("api")
    with Load(lambda: mtls_caller(old, context), clients=CLIENTS, pause=0.02) as load:
        for _ in range(2):  # the second goes back to the first file
            load.wait_for(10 * CLIENTS)
            new = stage.look_after(Sidecar(old.file, "run", "--take-over", old.file))
            assert new.address("api") == address
            old.expect_end()
            assert old.exit_code() == 0
            old = new
            load.wait_for(10 * CLIENTS)
    load.judge(at_least=40 * CLIENTS)
    old.signal(signal.SIGTERM)
    assert old.exit_code() == 0

    files = sorted(stage.workspace.glob("audit.*jsonl"))
    numbers = [""] if workers == 1 else [".1", ".2"]
    assert [file.name for file in files] == sorted(f"audit{b}{n}.jsonl" for b in ("", ".b") for n in numbers)
    told = verify(stage, "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    assert sum(each["decisions"] for each in json.loads(told.stdout)) == load.served
