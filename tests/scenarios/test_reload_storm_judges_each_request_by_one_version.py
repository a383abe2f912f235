"""50 reloads a second for 10 s: no request is dropped, and each is judged by exactly one version of the allow-list."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.changes import Load, allow_list, reload, unix_admin
from tests.scenarios.http_actors import Origin, fingerprints, mtls_caller
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Caller
    from tests.scenarios.stage import Log, Stage

pytestmark = pytest.mark.long

PER_SECOND, SECONDS = 50, 10
PATHS = ("/even", "/odd")


def version(number: int) -> str:
    """What is asked all the time is always granted; beside it one of two paths, in turn."""
    return allow_list("/web", more='paths = "/orders"') + (
        f'[[allow]]\nname = "version-{number}"\nfrom = "/web"\npaths = "{PATHS[number % 2]}"\n'
    )


def decisions(log: Log) -> dict[str, dict[str, set[object]]]:
    """For each generation what was decided about the two paths."""
    found: dict[str, dict[str, set[object]]] = defaultdict(lambda: defaultdict(set))
    for line in log.seen("request"):
        if line["path"] in PATHS:
            rule = line.text("rule") if line["decision"] == "allow" else ""
            found[line.text("policy").rpartition("@")[2]][line.text("path")].add((line["decision"], rule))
    return found


def test_a_storm_drops_nothing_and_mixes_nothing(stage: Stage) -> None:
    origin = stage.keep(Origin(fingerprints))
    stage.write("web.allow.toml", version(0))
    api = stage.sidecar("api", unix_admin("api") + inbound(forward=origin.address, protocol="http"))
    context = client_context(stage.identity("/web"))

    def probe(caller: Caller) -> tuple[int, ...]:
        return tuple(caller.ask("GET", path).status for path in PATHS)

    with (
        Load(lambda: mtls_caller(api, context), clients=20, pause=0.05) as load,
        Load(lambda: mtls_caller(api, context), clients=2, per_connection=1, pause=0.05) as newcomers,
        mtls_caller(api, context) as prober,
    ):
        begun, number = time.monotonic(), 0
        while number < PER_SECOND * SECONDS:
            number += 1
            if number % 2:
                stage.write("web.allow.toml", version(number))
            else:
                stage.write("web.allow.toml.new", version(number)).rename(stage.workspace / "web.allow.toml")
            assert reload(api).json["result"] in {"loaded", "unchanged"}
            assert sorted(probe(prober)) == [200, 403]
            time.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
        took = time.monotonic() - begun

        stage.write("web.allow.toml", version(number + 1))  # the last, by the watch or asked for, is in force
        reload(api)
        assert probe(prober) == ((200, 403) if number % 2 else (403, 200))
    print(f"{number} reloads in {took:.1f} s, {load.served + newcomers.served} requests, 0 failed")

    load.judge(at_least=500)
    newcomers.judge(at_least=20)
    by_generation = decisions(api.log)
    assert len(by_generation) > number / 2
    for generation, by_path in by_generation.items():
        assert {len(decided) for decided in by_path.values()} == {1}, (generation, by_path)
        granted = [path for path, decided in by_path.items() if ("deny", "") not in decided]
        assert len(granted) <= 1, (generation, by_path)
    assert api.status().log_lines_dropped == 0
