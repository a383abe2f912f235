"""An allow-list seen while it is written in place never grants what neither its old nor its new version grants."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from meshproxy.errors import FaultyInput
from meshproxy.policy.document import parse_allow_list
from tests.scenarios.actors import client_context
from tests.scenarios.changes import take_up
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    import ssl

    from tests.scenarios.stage import Sidecar, Stage

OLD = '[[allow]]\nname = "reads"\nfrom = "/web"\nmethods = ["GET"]\npaths = "/orders"\n'
NEW = (
    '[[allow]]\nname = "reads"\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/orders", "/orders/*"]\n'
    '[[allow]]\nname = "charges"\nfrom = ["/web", "/batch"]\nmethods = ["POST"]\npaths = "/charges"\n'
    "expires = 2999-01-01\n"
)
NEVER_GRANTED = [("DELETE", "/orders"), ("GET", "/charges"), ("POST", "/refunds"), ("POST", "/orders"), ("GET", "/")]
SIDECARS = 8
PREFIXES = 40


def sampled() -> list[str]:
    """Every prefix that is an allow-list by itself, and some of those that are none."""
    sound, broken = [], []
    for length in range(len(NEW)):
        try:
            parse_allow_list(NEW[:length].encode(), file="half.toml", tcp_listener=None)
            sound.append(NEW[:length])
        except FaultyInput:
            broken.append(NEW[:length])
    worth_trying = [*sound, *broken[:: max(1, len(broken) // (PREFIXES - len(sound)))]]
    assert len(sound) >= 8
    return sorted(worth_trying, key=len)


def attempts(sidecar: Sidecar) -> float:
    return sum(value for name, _, value in sidecar.samples() if name == "meshproxy_reloads_total")


def try_prefixes(stage: Stage, number: int, sidecar: Sidecar, context: ssl.SSLContext) -> list[str]:
    """Let the watch find each of this sidecar's prefixes in turn; returns those with which somebody got in."""
    wider = []
    for prefix in sampled()[number::SIDECARS]:
        before = attempts(sidecar)
        stage.write(f"half-{number}.allow.toml", prefix)
        poll(lambda before=before: attempts(sidecar) > before, f"the watch has seen {prefix!r}")  # type: ignore[misc]
        with mtls_caller(sidecar, context) as caller:
            answers = [caller.ask(method, path).status for method, path in NEVER_GRANTED]
        if answers != [403] * len(NEVER_GRANTED):
            wider.append(f"{prefix!r}: {answers}")
    return wider


@pytest.mark.long
def test_no_prefix_is_wider_than_the_old_or_the_new_version(stage: Stage) -> None:
    origin = stage.keep(Origin())
    context = client_context(stage.identity("/web"))
    identity = stage.identity("/api").directory
    sidecars = []
    for number in range(SIDECARS):
        stage.write(f"half-{number}.allow.toml", OLD)
        tables = inbound(forward=origin.address, protocol="http", policy=f"half-{number}.allow.toml")
        sidecars.append(stage.sidecar(f"api-{number}", tables, identity=identity))
    with ThreadPoolExecutor(SIDECARS) as threads:
        tries = [threads.submit(try_prefixes, stage, *each, context) for each in enumerate(sidecars)]

    assert len(sampled()) >= PREFIXES
    assert [wider for each in tries for wider in each.result()] == []
    results = {result for sidecar in sidecars for result in ("held", "failed") if attempts_of(sidecar, result)}
    assert results == {"held", "failed"}  # both were met


def attempts_of(sidecar: Sidecar, result: str) -> float:
    return sidecar.metric("meshproxy_reloads_total", result=result)


def test_what_is_held_is_told_and_taken_up_when_asked_for(stage: Stage) -> None:
    stage.write("web.allow.toml", OLD)
    api = stage.sidecar("api", inbound(forward=stage.keep(Origin()).address, protocol="http"))
    stage.write("web.allow.toml", '[[allow]]\nfrom = "/web"\n')

    held = api.log.event("reload_held")
    assert held.text("rule").endswith("web.allow.toml:1")
    assert "SIGHUP" in held.text("remedy")
    assert api.status().configuration.generation == 1

    take_up(api, 2)
