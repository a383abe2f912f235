"""Several workers told as one sidecar: counts add up, and the worst of what is true is what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from meshproxy.admin.merge import merged, remembered, worst
from meshproxy.admin.status import (
    ConfigurationStatus,
    DenialStatus,
    IdentityStatus,
    ListenerStatus,
    ObjectionStatus,
    PolicyStatus,
    Status,
    TrustStatus,
    UnusedRules,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

NOBODY = IdentityStatus("", False, "no worker serves", "look", "/id", 0, "", "")
LOADED = IdentityStatus("spiffe://mesh.test/api", True, "", "", "/id", 2, "t2", "", "5e")
FILES = ConfigurationStatus(3, "abc", "t0", "", "")


def listener(name: str = "api", *, open_now: int = 0, direction: str = "inbound", **counts: int) -> ListenerStatus:
    decided: dict[str, int] = {word: counts[word] for word in ("allow", "deny") if word in counts}
    failed = counts.get("failed", 0)
    return ListenerStatus(name, direction, "a:1", "b:2", "tcp", open_now, 100, decided, {}, {}, failed, {}, 0)


def status(*listeners: ListenerStatus, **more: object) -> Status:
    plain = Status("1", 7, "t0", "serving", "side.toml", LOADED, FILES, listeners, (), (), 0, 0)
    return replace(plain, **more)


BASE = status(listener(), identity=NOBODY, state="refusing", pid=1, log_lines_dropped=1)


def denial(ts: str) -> DenialStatus:
    return DenialStatus(ts, "api", "spiffe://mesh.test/x", "no_rule", "none")


def objection(asked: str, count: int, last: str = "t1", nearest: str = "") -> ObjectionStatus:
    return ObjectionStatus("api", "deny", "spiffe://mesh.test/x", asked, "path", count, last, nearest)


def test_counts_of_the_living_and_the_gone_add_up() -> None:
    living = [status(listener(open_now=2, allow=5, failed=1)), status(listener(open_now=3, allow=1, deny=4))]
    gone = remembered(None, status(listener(open_now=9, allow=10), log_lines_dropped=2))
    (found,) = merged(BASE, living, gone).listeners
    assert (found.open, found.decided, found.handshake_failures) == (5, {"allow": 16, "deny": 4}, 1)
    assert merged(BASE, living, gone).log_lines_dropped == 3
    assert (merged(BASE, living).pid, merged(BASE, living).configuration) == (1, FILES)


def test_only_listeners_that_are_there_are_shown_but_none_of_their_counts_is_forgotten() -> None:
    gone = remembered(None, status(listener("ops", allow=3)))
    gone = remembered(gone, status(listener(allow=1)))
    assert [each.decided for each in merged(BASE, [], gone).listeners] == [{"allow": 1}]
    back = replace(BASE, listeners=(listener("ops"), listener("ops", direction="outbound")))
    assert [each.decided for each in merged(back, [], gone).listeners] == [{"allow": 3}, {}]


def test_the_last_denials_of_all_come_in_the_order_of_time() -> None:
    workers = [status(denials=tuple(denial(f"t{n:03}") for n in range(start, 100, 2))) for start in (0, 1)]
    assert [each.ts for each in merged(BASE, workers).denials] == [f"t{n:03}" for n in range(50, 100)]


def test_the_same_objection_is_one_and_what_is_not_shown_is_counted() -> None:
    few = [objection(f"GET /{n}", 1) for n in range(100)]
    first = status(objections=(objection("GET /a", 5, "t2"), *few), objections_beyond=7)
    second = status(objections=(objection("GET /a", 4, "t1", "rule-1"), objection("GET /b", 2)))
    found = merged(BASE, [first, second])
    assert found.objections[0] == objection("GET /a", 9, "t2", "rule-1")
    assert found.objections[1] == objection("GET /b", 2)
    assert (len(found.objections), found.objections_beyond) == (100, 7 + 2)


@pytest.mark.parametrize(
    ("of_workers", "shown"),
    [
        ([], NOBODY),
        ([LOADED, NOBODY], NOBODY),
        ([replace(LOADED, loaded_at="t9", generation=3, serial="6f"), LOADED], LOADED),  # one has yet to follow
        ([replace(LOADED, loaded_at="t9", generation=1), LOADED], LOADED),  # one was started again
        ([replace(LOADED, loaded_at="t1", generation=1), LOADED], replace(LOADED, loaded_at="t1")),
        ([LOADED, replace(LOADED, last_error="e")], replace(LOADED, last_error="e")),
    ],
    ids=["none", "one-not-ready", "one-behind", "restarted", "restarted-first", "one-failed"],
)
def test_the_identity_is_the_one_that_all_have_taken_up(
    of_workers: Sequence[IdentityStatus], shown: IdentityStatus
) -> None:
    assert merged(BASE, [status(identity=each) for each in of_workers]).identity == shown


@pytest.mark.parametrize(
    ("states", "told"),
    [((), "starting"), (("serving", "serving"), "serving"), (("serving", "refusing"), "refusing")],
)
def test_it_serves_when_all_serve_who_live(states: tuple[str, ...], told: str) -> None:
    assert worst(states, of_none="starting") == told


def test_what_is_trusted_is_that_of_the_last_to_follow() -> None:
    newer = TrustStatus(3, 8, "t8", 1.0, "t9", None, "allow", 2, 0, ("partner.test",), "")
    older = replace(newer, deny_list=7, entries=1, last_error="it is older")
    nothing = replace(newer, deny_list=None, entries=0)

    def told(*trusts: TrustStatus | None) -> TrustStatus | None:
        return merged(BASE, [status(identity=replace(LOADED, trust=trust)) for trust in trusts]).identity.trust

    assert told(newer, older, newer) == older
    assert told(newer, nothing) == nothing
    assert told(newer, replace(newer, federated=())) == newer
    assert told(None, newer) == newer
    assert told(None) is None


def judging(content: str = "abc", **unused: str) -> ListenerStatus:
    """A listener whose list has these unused rules, by time: `t1="a b"`."""
    groups = tuple(UnusedRules(since, tuple(rules.split())) for since, rules in unused.items())
    return replace(listener(), policy=PolicyStatus("api.allow.toml", content, 1, 3, unused=groups))


def test_a_rule_is_unused_when_no_worker_has_used_it_since_the_last_began() -> None:
    def told(*workers: Status, gone: Status | None = None) -> tuple[UnusedRules, ...]:
        (found,) = merged(replace(BASE, listeners=(judging(),)), workers, gone).listeners
        assert found.policy is not None
        return found.policy.unused

    first, second = status(judging(t1="a b c")), status(judging(t1="a", t3="c d"))
    assert told(first) == (UnusedRules("t1", ("a", "b", "c")),)
    assert told(first, second) == (UnusedRules("t1", ("a",)), UnusedRules("t3", ("c",)))
    assert told(first, status(judging())) == ()
    assert told(first, status(judging("other", t1="a"))) == ()  # one has yet to follow
    assert told(first, status(listener("else"))) == ()
    assert told() == ()
    assert told(first, gone=remembered(None, second)) == (UnusedRules("t1", ("a", "b", "c")),)
