"""What has to be done to get from one file to the next, step by step."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from meshproxy.policy.decide import Mode
from meshproxy.settings.plan import Step, newly_unchecked, plan_reload
from meshproxy.settings.schema import (
    AdminSettings,
    Audited,
    AuditSettings,
    IdentitySettings,
    Inbound,
    Limits,
    Outbound,
    Protocol,
    RuntimeSettings,
    Sandboxing,
    Settings,
)
from meshproxy.wire.address import TcpAddress, UnixAddress, parse_address

API = Inbound("api", TcpAddress("0.0.0.0", 8443), TcpAddress("127.0.0.1", 80), Protocol.TCP, Path("/etc/api.toml"))
LEDGER = Outbound("ledger", UnixAddress("/run/l"), "/ledger", (TcpAddress("l", 8443),), Protocol.TCP)
BASE = Settings(IdentitySettings(Path("/id")), (API,), (LEDGER,))

INBOUND, OUTBOUND = ("inbound", "api"), ("outbound", "ledger")


def inbound(**changes: object) -> Settings:
    return replace(BASE, inbound=(replace(API, **changes),))  # type: ignore[arg-type]  # a row of the table


def outbound(**changes: object) -> Settings:
    return replace(BASE, outbound=(replace(LEDGER, **changes),))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("new", "changed"),
    [
        (BASE, {}),
        (inbound(policy=Path("/etc/other.toml")), {}),  # swapped with the allow-list itself
        (inbound(mode=Mode.AUDIT), {}),
        (inbound(audit=Audited.ALL), {}),
        (replace(BASE, runtime=RuntimeSettings(drain_timeout=1, drain_delay=2)), {}),
        (replace(BASE, limits=Limits(idle_timeout=1)), {}),  # the defaults alone: each listener has its own
        (inbound(forward=UnixAddress("/run/app")), {INBOUND: Step.EQUIP}),
        (inbound(limits=Limits(max_connections=7)), {INBOUND: Step.EQUIP}),
        (inbound(protocol=Protocol.HTTP), {INBOUND: Step.EQUIP}),
        (inbound(listen=TcpAddress("0.0.0.0", 9443)), {INBOUND: Step.MOVE}),
        (inbound(listen=TcpAddress("0.0.0.0", 9443), forward=UnixAddress("/run/app")), {INBOUND: Step.MOVE}),
        (inbound(name="new"), {INBOUND: Step.REMOVE, ("inbound", "new"): Step.ADD}),
        (replace(BASE, inbound=()), {INBOUND: Step.REMOVE}),
        (replace(BASE, outbound=()), {OUTBOUND: Step.REMOVE}),
        (replace(BASE, outbound=(LEDGER, replace(LEDGER, name="api"))), {("outbound", "api"): Step.ADD}),
        (inbound(accept_proxy=(ip_network("10.0.0.0/8"),)), {INBOUND: Step.EQUIP}),
        (inbound(send_proxy=True), {INBOUND: Step.EQUIP}),
        (outbound(allow_uids=frozenset({7})), {OUTBOUND: Step.EQUIP}),
        (outbound(to="/other"), {OUTBOUND: Step.EQUIP}),
        (outbound(endpoints=()), {OUTBOUND: Step.EQUIP}),
        (outbound(listen=UnixAddress("/run/m")), {OUTBOUND: Step.MOVE}),
    ],
)
def test_each_change_has_its_step_and_leaves_the_others_alone(new: Settings, changed: dict[object, Step]) -> None:
    plan = plan_reload(BASE, new)
    assert {key: step for key, step in plan.steps.items() if step is not Step.KEEP} == changed
    assert set(plan.steps) == {INBOUND, OUTBOUND, *changed}
    assert plan.needs_restart == ()


@pytest.mark.parametrize(
    ("new", "needs"),
    [
        (replace(BASE, identity=IdentitySettings(Path("/id"), unsafe_key_mode=True)), ("identity",)),
        (replace(BASE, admin=AdminSettings(public_listen=TcpAddress("0.0.0.0", 9901))), ("admin",)),
        (replace(BASE, runtime=RuntimeSettings(workers=2)), ("runtime.workers",)),
        (replace(BASE, runtime=RuntimeSettings(sandbox=Sandboxing.OFF)), ("runtime.sandbox",)),
        (replace(BASE, audit=AuditSettings(Path("/a"))), ("audit",)),
        (
            Settings(IdentitySettings(Path("/x")), (), (), AdminSettings(UnixAddress("/a"))),
            ("identity", "admin"),
        ),
    ],
)
def test_what_cannot_change_while_running_is_named(new: Settings, needs: tuple[str, ...]) -> None:
    assert plan_reload(BASE, new).needs_restart == needs


CHECKED, UNCHECKED = frozenset({1000}), None


@pytest.mark.parametrize(
    ("before", "now", "listen", "suspicious"),
    [
        (CHECKED, UNCHECKED, "unix:/run/l", True),
        (CHECKED, CHECKED, "unix:/run/l", False),
        (UNCHECKED, UNCHECKED, "unix:/run/l", False),
        (UNCHECKED, CHECKED, "unix:/run/l", False),
        (UNCHECKED, UNCHECKED, "unix:/run/other", True),  # another socket that nobody guards
        (CHECKED, UNCHECKED, "127.0.0.1:7001", False),  # whoever is on this machine may, there was never a check
    ],
)
def test_a_listener_that_lost_its_check_is_noticed(
    before: frozenset[int] | None,
    now: frozenset[int] | None,
    listen: str,
    suspicious: bool,  # noqa: FBT001 - a row of the table
) -> None:
    found = newly_unchecked(outbound(allow_uids=before), outbound(allow_uids=now, listen=parse_address(listen)))
    assert (found is not None) is suspicious


def test_a_new_listener_without_a_check_is_noticed() -> None:
    assert newly_unchecked(replace(BASE, outbound=()), BASE) is LEDGER
