"""SIGTERM at any moment of a reload: nothing hangs, nobody is cut, exit 0."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.changes import Load, allow, unix_admin
from tests.scenarios.http_actors import Origin, fingerprints, mtls_caller
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

RUNS = 30
AT_MOST = 0.25  # seconds of reloads before the end


def change_without_a_pause(stage: Stage, api: Sidecar, tables: str, over: threading.Event) -> None:
    """Allow-lists, settings and listeners, as fast as files can be written."""
    identity = stage.workspace / "identity-api"
    number = 0
    while not over.is_set():
        number += 1
        allow(stage, *("/web", "/batch")[: 1 + number % 2], more='paths = "/orders"')
        guest = inbound("guest", forward="127.0.0.1:9") if number % 3 == 0 else ""
        stage.configure("api", f"{tables}max_connections = {1000 + number}\n{guest}", identity=identity)
        with contextlib.suppress(ProcessLookupError):
            api.process.send_signal(signal.SIGHUP)
        time.sleep(0.002)


@pytest.mark.parametrize("runs", [2, pytest.param(RUNS, marks=pytest.mark.long)])
def test_at_random_moments(stage: Stage, runs: int) -> None:
    origin = stage.keep(Origin(fingerprints))
    context = client_context(stage.identity("/web"))
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    tables = unix_admin("api") + inbound(forward=origin.address, protocol="http")
    for _ in range(runs):
        allow(stage, "/web", more='paths = "/orders"')
        api = stage.sidecar("api", tables)
        over = threading.Event()
        changing = threading.Thread(target=change_without_a_pause, args=(stage, api, tables, over))
        with Load(lambda api=api: mtls_caller(api, context), clients=4) as load:  # type: ignore[misc]
            load.wait_for(4)
            load.let_go()
            changing.start()
            try:
                time.sleep(moments.uniform(0, AT_MOST))
                api.signal(signal.SIGTERM)
                load.join()
                assert api.exit_code(within=10) == 0, api.log.lines[-3:]
            finally:
                over.set()
                changing.join()
        load.judge(at_least=4)
        assert load.told_to_close >= 4
