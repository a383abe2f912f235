"""Nothing follows from a decision before it is recorded; and while there is little room, callers may have to wait."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
import trio

from ca.spiffe_id import SpiffeId
from ca.svid import Leaf
from meshproxy.errors import Failure
from meshproxy.http.terms import Grant, Refusal
from meshproxy.inbound.audited import Witness
from meshproxy.inbound.brake import LONGEST, AuditGate, Brake, wait_for_room
from meshproxy.inbound.live import Call
from meshproxy.inbound.visit import Visit
from meshproxy.policy.decide import Mode
from meshproxy.settings.schema import Audited
from tests.inbound.test_authorize import HOME as TRUST_DOMAIN
from tests.inbound.test_authorize import LIST, UNTIL, Court, policy_of, request

if TYPE_CHECKING:
    from meshproxy.audit.journal import Journal
    from meshproxy.audit.lines import Decision
    from tests.inbound.conftest import House

GET = b"GET /docs HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Paper:
    """Stands in for a journal; says whether there is room."""

    def __init__(self) -> None:
        self.held: list[Decision] = []
        self.has_room = True
        self.crowded = False

    def put(self, decision: Decision) -> bool:
        if self.has_room:
            self.held.append(decision)
        return self.has_room

    @property
    def journal(self) -> Journal:
        return cast("Journal", self)


class AuditedCourt(Court):
    """The judge of /web's requests, and what is written down."""

    def __init__(self, audited: Audited, *, mode: Mode = Mode.ENFORCE) -> None:
        super().__init__(LIST)
        self.paper = Paper()
        self.settings = dataclasses.replace(self.settings, audit=audited, mode=mode)
        self.authorizer.mode = mode
        self.authorizer.witness = Witness(
            self.settings, self.authorizer.policy.value, self.paper.journal, self.authorizer._recorder
        )
        self.leaf = Leaf(SpiffeId(TRUST_DOMAIN, "/web"), 0xAB, "00", UNTIL - timedelta(days=1), UNTIL)
        self.visit = Visit("api", "inbound", "127.0.0.1:1", caller=str(self.leaf.id))
        self.judge = self.authorizer.judge_of(self.visit, self.leaf, home=TRUST_DOMAIN, wall=lambda: self.now)

    def recorded(self) -> list[tuple[str, str]]:
        return [(each.path, each.decision) for each in self.paper.held]


@pytest.mark.parametrize(
    ("audited", "mode", "recorded"),
    [
        (Audited.OFF, Mode.ENFORCE, []),
        (Audited.DENIALS, Mode.ENFORCE, [("/else", "deny")]),
        (Audited.DENIALS, Mode.AUDIT, [("/else", "would_deny")]),
        (Audited.ALL, Mode.ENFORCE, [("/docs", "allow"), ("/docs", "allow"), ("/else", "deny")]),
        (Audited.ALL, Mode.AUDIT, [("/docs", "allow"), ("/docs", "allow"), ("/else", "would_deny")]),
    ],
)
async def test_what_is_wanted_is_recorded_each_time(
    audited: Audited, mode: Mode, recorded: list[tuple[str, str]]
) -> None:
    court = AuditedCourt(audited, mode=mode)
    assert [court.ask("/docs"), court.ask("/docs")] == ["reads"] * 2
    court.ask("/else")
    assert court.recorded() == recorded


async def test_a_record_holds_what_the_access_line_does() -> None:
    court = AuditedCourt(Audited.ALL)
    court.judge(request("/docs/a?secret=1"), b"the-id")
    [each] = court.paper.held
    assert (each.caller, each.serial, each.peer, each.id) == (
        "spiffe://mesh.test/web",
        "ab",
        "127.0.0.1:1",
        court.visit.id,
    )
    assert (each.request_id, each.method, each.path) == ("the-id", "GET", "/docs/a")
    assert (each.rule, each.reason, each.mode, each.policy) == ("reads", "granted", "enforce", "x.allow.toml@1")


@pytest.mark.parametrize("target", ["/docs", "/else"])
async def test_what_finds_no_room_is_refused_and_told(target: str) -> None:
    court = AuditedCourt(Audited.ALL)
    court.paper.has_room = False
    answer = court.judge(request(target), b"1")
    assert isinstance(answer, Refusal)
    assert answer.failure is Failure.NOT_RECORDED
    assert answer.decided is not None
    assert [event["caller"] for event in court.heard.named("not_recorded")] == ["spiffe://mesh.test/web"]
    court.paper.has_room = True
    assert isinstance(court.judge(request("/docs"), b"1"), Grant)


async def test_what_need_not_be_recorded_needs_no_room() -> None:
    court = AuditedCourt(Audited.DENIALS)
    court.paper.has_room = False
    assert court.ask("/docs") == "reads"
    answer = court.judge(request("/else"), b"1")
    assert isinstance(answer, Refusal)
    assert answer.failure is Failure.NOT_RECORDED


async def test_a_certificate_that_ran_out_is_recorded_too() -> None:
    court = AuditedCourt(Audited.DENIALS)
    court.now = UNTIL + timedelta(seconds=1)
    court.judge(request("/docs"), b"1")
    [each] = court.paper.held
    assert (each.caller, each.decision, each.reason) == ("spiffe://mesh.test/web", "deny", "certificate_expired")


async def test_what_is_recorded_changes_with_the_settings() -> None:
    court = AuditedCourt(Audited.OFF)
    court.ask("/docs")
    everything = dataclasses.replace(court.settings, audit=Audited.ALL)
    court.authorizer.replace(everything, court.authorizer.policy.value)
    court.ask("/docs")
    assert court.recorded() == [("/docs", "allow")]


RULES = """
[[allow]]
name = "always"
from = "/web"
paths = "/pay"
audit = "all"
[[allow]]
name = "never"
from = "/web"
paths = "/health"
audit = "off"
[[allow]]
name = "else"
from = "/web"
paths = "/docs"
"""


@pytest.mark.parametrize(
    ("audited", "recorded"),
    [
        (Audited.OFF, ["/pay"]),
        (Audited.DENIALS, ["/pay", "/nowhere"]),
        (Audited.ALL, ["/pay", "/docs", "/nowhere"]),
    ],
)
async def test_a_rule_says_whether_its_grants_are_recorded_whatever_the_listener_says(
    audited: Audited, recorded: list[str]
) -> None:
    court = AuditedCourt(audited)
    court.authorizer.replace(court.settings, policy_of(RULES))
    for path in ("/pay", "/health", "/docs", "/nowhere"):
        court.ask(path)
    assert [path for path, _ in court.recorded()] == recorded
    court.paper.has_room = False
    refused = [path for path in ("/pay", "/health", "/docs") if isinstance(court.judge(request(path), b"1"), Refusal)]
    assert refused == [path for path in recorded if path != "/nowhere"]


@pytest.mark.parametrize(("audit", "recorded"), [("all", 1), ("off", 0)])
async def test_a_rule_says_so_of_connections_too(audit: str, recorded: int) -> None:
    court = AuditedCourt(Audited.OFF if recorded else Audited.ALL)
    court.authorizer.replace(court.settings, policy_of(f'[[allow]]\nfrom = "/web"\naudit = "{audit}"\n'))
    assert court.authorizer.ask(court.visit, court.leaf, home=TRUST_DOMAIN, now=court.now) is not None
    assert len(court.paper.held) == recorded


async def test_callers_wait_for_room_where_a_rule_alone_is_recorded() -> None:
    court = AuditedCourt(Audited.OFF)
    court.paper.crowded = True
    assert court.authorizer.witness is not None
    assert not court.authorizer.witness.wants_room
    court.authorizer.replace(court.settings, policy_of(RULES))
    assert court.authorizer.witness.wants_room


@pytest.mark.parametrize(("room", "granted"), [(True, True), (False, False)])
async def test_a_connection_is_let_in_only_when_that_is_recorded(room: bool, granted: bool) -> None:  # noqa: FBT001
    court = AuditedCourt(Audited.ALL)
    court.authorizer.replace(court.settings, policy_of('[[allow]]\nfrom = "/web"\n'))
    court.paper.has_room = room
    permit = court.authorizer.ask(court.visit, court.leaf, home=TRUST_DOMAIN, now=court.now)
    assert (permit is not None) == granted
    assert len(court.paper.held) == room
    assert court.visit.decision == "allow"


@pytest.mark.parametrize("room", [True, False])
async def test_a_stream_is_cut_recorded_or_not(room: bool) -> None:  # noqa: FBT001
    court = AuditedCourt(Audited.DENIALS)
    court.paper.has_room = room
    call = Call("c-1", court.leaf.id, TRUST_DOMAIN, ("GET", "/else"))
    assert "no longer granted (path)" in court.authorizer.objection(call, court.now)
    assert [(each.id, each.path, each.cut) for each in court.paper.held] == [("c-1", "/else", True)] * room
    assert bool(court.heard.named("not_recorded")) != room
    call.cut = "already"
    court.authorizer.objection(call, court.now)
    assert len(court.paper.held) == room


# Back-pressure.


async def test_a_request_lies_in_the_socket_until_there_is_room(house: House) -> None:
    court = AuditedCourt(Audited.ALL)
    paper = court.paper
    brake = Brake(paper.journal)
    witness = court.authorizer.witness
    assert witness is not None
    house.nursery.start_soon(brake.run)
    house.gate = AuditGate(brake, witness)
    caller, _ = await house.caller()
    await caller.says(GET)
    line = await house.line()
    await line.hears(b"\r\n\r\n")
    paper.crowded = True
    await line.says(OK)
    assert (await caller.hears(b"hi")).startswith(b"HTTP/1.1 200")  # what was begun goes on
    await caller.says(GET)
    await trio.sleep(0.2)
    assert "holds 1" in repr(brake)
    assert b"GET" not in line.heard
    paper.crowded = False
    await line.hears(b"\r\n\r\n")
    await line.says(OK)
    await caller.hears(b"hi")


async def test_a_caller_who_goes_away_while_waiting_is_let_go(house: House) -> None:
    court = AuditedCourt(Audited.ALL)
    brake, witness = Brake(court.paper.journal), court.authorizer.witness
    assert witness is not None
    house.nursery.start_soon(brake.run)
    house.gate = AuditGate(brake, witness)
    court.paper.crowded = True
    caller, visit = await house.caller()
    await trio.sleep(0.05)
    caller.breaks()
    await visit.ended()
    court.paper.crowded = False
    await trio.sleep(0.1)
    assert "holds 0" in repr(brake)


@pytest.mark.parametrize(("audited", "waits"), [(Audited.ALL, True), (Audited.OFF, False)])
async def test_a_connection_waits_for_room_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
    audited: Audited,
    waits: bool,  # noqa: FBT001
) -> None:
    court = AuditedCourt(audited)
    court.paper.crowded = True
    witness = court.authorizer.witness
    assert witness is not None
    began = trio.current_time()
    assert await wait_for_room(AuditGate(Brake(court.paper.journal), witness)) == waits
    assert trio.current_time() - began == pytest.approx(LONGEST if waits else 0.0)
