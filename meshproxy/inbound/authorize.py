"""One caller asked about at the allow-list: a Permit, or a denial that is counted, remembered and explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshproxy.errors import Failure
from meshproxy.http.exchange import Decided
from meshproxy.http.terms import Grant, Refusal
from meshproxy.inbound.audited import AuditedJudge
from meshproxy.policy.decide import (
    Outcome,
    Permit,
    decide_connection,
    decide_request,
    decision_of,
    permit,
    seek,
)
from meshproxy.policy.explain import nearest_rule, nearest_rule_of_request
from meshproxy.telemetry.access import timestamp
from meshproxy.telemetry.record import Denial, Objection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ca import TrustDomain
    from ca.svid import Leaf
    from meshproxy.http.head import RequestHead
    from meshproxy.http.terms import Judge
    from meshproxy.inbound.audited import Witness
    from meshproxy.inbound.live import Call
    from meshproxy.inbound.visit import Visit
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.decide import Decision, Mode, Reason
    from meshproxy.policy.document import Rule
    from meshproxy.policy.requests import RequestIndex
    from meshproxy.settings.schema import Inbound
    from meshproxy.snapshot import Snapshot
    from meshproxy.telemetry.families import Number
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.relay import Wall


class Authorizer:
    """Asks the listener's current allow-list; the policy is read once per decision."""

    def __init__(
        self, settings: Inbound, policy: Snapshot[Policy], recorder: Recorder, witness: Witness | None = None
    ) -> None:
        """Judge by `policy`; `witness` has what it decides recorded, and may have leave refused for want of room."""
        self.witness = witness
        self.mode = settings.mode  # what the listener does with a denial now
        self._name = settings.name
        self._policy = policy
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<Authorizer {self._name} {self._policy!r}>"

    @property
    def policy(self) -> Snapshot[Policy]:
        """The listener's allow-list."""
        return self._policy

    def replace(self, settings: Inbound, policy: Policy) -> None:
        """Judge by these from now on: one swap, between two decisions."""
        self.mode = settings.mode
        if self.witness is not None:
            self.witness.follow(settings, policy)
        self._policy.replace(policy)

    def objection(self, call: Call, now: datetime) -> str:
        """Ask again about a stream that was let through: why it may not go on, or nothing."""
        policy, mode = self._policy.value, self.mode
        if call.asked is None:
            decision = decide_connection(policy, call.caller, home=call.home, now=now)
        else:
            decision = decide_request(policy, call.caller, *call.asked, home=call.home, now=now)
        if permit(decision, mode) is not None:
            return ""
        if self.witness is not None and not call.cut:
            self._record_cut(self.witness, call, decision)
        return f"no longer granted ({decision.reason}) by {decision.file}, generation {decision.generation}"

    def ask(self, visit: Visit, leaf: Leaf, *, home: TrustDomain, now: datetime) -> Permit | None:
        """Return leave to forward, or None; the visit and the numbers know the decision afterwards."""
        policy, mode = self._policy.value, self.mode
        decision = decide_connection(policy, leaf.id, home=home, now=now)
        outcome = decision.outcome(mode)
        visit.caller = str(leaf.id)
        visit.decision = outcome
        visit.rule = decision.rule.name if decision.rule else ""
        visit.reason = decision.reason
        visit.mode = mode
        visit.policy = f"{decision.file}@{decision.generation}"
        self._recorder.decided(visit.listener, outcome, rule=visit.rule, mode=mode, reason=decision.reason)
        if not decision.granted:
            self.explain(visit, leaf, policy, decision, home=home, now=now)
        if self.witness is not None:
            recorded = decision.rule.recorded if decision.rule else None
            decided = Decided(visit.caller, outcome.value, visit.rule, visit.reason, mode.value, visit.policy, recorded)
            if self.witness.wants(decided) and not self.witness.record(visit, decided, f"{leaf.serial:x}"):
                return None
        return permit(decision, mode)

    def _record_cut(self, witness: Witness, call: Call, decision: Decision) -> None:
        """Record that a stream which was let through is cut; it is, recorded or not."""
        outcome, mode = decision.outcome(self.mode), self.mode
        policy = f"{decision.file}@{decision.generation}"
        decided = Decided(str(call.caller), outcome.value, "", decision.reason.value, mode.value, policy)
        if witness.wants(decided):
            witness.record_cut(self._name, call, decided)

    def judge_of(
        self,
        visit: Visit,
        leaf: Leaf,
        *,
        home: TrustDomain,
        wall: Wall,
        seconds: Callable[[], float] | None = None,
    ) -> Judge:
        """Return the judge of one caller's requests: each is asked about on the policy of its moment.

        `seconds` tells the time of `wall` in seconds since 1970, if there is such a clock.
        """
        told = seconds or (lambda: wall().timestamp())
        judge = _CallersJudge(self, visit, leaf, home, wall, seconds=told).judge
        return judge if self.witness is None else AuditedJudge(judge, self.witness, visit, leaf).judge

    def verdict(self, policy: Policy, mode: Mode, sought: Rule | Reason, *, listener: str, caller: str) -> Verdict:
        """Return what a finding of `seek` means for a request of `caller` (its identity) under `mode`."""
        decision = decision_of(policy, sought)
        outcome = decision.outcome(mode)
        rule = decision.rule.name if decision.rule else ""
        decided = Decided(
            caller,
            outcome.value,
            rule,
            decision.reason.value,
            mode.value,
            f"{decision.file}@{decision.generation}",
            decision.rule.recorded if decision.rule else None,
        )
        count = self._recorder.decisions(listener, outcome, rule=rule, mode=mode, reason=decision.reason)
        if permit(decision, mode) is None:
            return Verdict(decision, Refusal(Failure.DENIED, decided), count)
        return Verdict(decision, Grant(caller.encode("ascii"), decided), count)

    def explain(
        self,
        visit: Visit,
        leaf: Leaf,
        policy: Policy,
        decision: Decision,
        *,
        home: TrustDomain,
        now: datetime,
        asked: tuple[str, str] | None = None,
    ) -> None:
        """Remember a denial, and tell of it at a bounded pace with the rule that came nearest; `asked`: HTTP."""
        # Finding the nearest rule costs O(rules) on a stranger's request: only for a line that will be written.
        untold = self._recorder.may_tell(visit.listener, "denied")
        told = "" if untold is None else self._nearest(leaf, policy, home=home, now=now, asked=asked)
        outcome, ts = decision.outcome(self.mode), timestamp(now)
        objection = Objection(visit.listener, outcome, visit.caller, " ".join(asked or ()), decision.reason)
        self._recorder.objected(objection, ts, told)
        if untold is None:
            return
        self._recorder.denied(Denial(ts, visit.listener, visit.caller, decision.reason, told))
        refused = outcome is Outcome.DENY
        tell = self._recorder.log.warning if refused else self._recorder.log.info
        tell(
            "denied" if refused else "would_deny",
            listener=visit.listener,
            id=visit.id,
            caller=visit.caller,
            serial=f"{leaf.serial:x}",
            peer=visit.peer,
            **({} if asked is None else {"method": asked[0], "path": asked[1]}),
            reason=decision.reason,
            policy=decision.file,
            generation=decision.generation,
            nearest_rule=told,
            untold=untold,
        )

    def _nearest(
        self, leaf: Leaf, policy: Policy, *, home: TrustDomain, now: datetime, asked: tuple[str, str] | None
    ) -> str:
        if asked is None:
            nearest = nearest_rule(policy, leaf.id, home=home, now=now)
        else:
            nearest = nearest_rule_of_request(policy, leaf.id, *asked, home=home, now=now)
        return str(nearest) if nearest else "no rule comes near"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one finding means for the requests it is the same for, and where they are counted."""

    decision: Decision
    answer: Grant | Refusal
    count: Number


# A caller may be granted by thousands of rules in turn, and there may be thousands of callers.
_MOST_VERDICTS = 64


class _CallersJudge:
    """Judges the requests of one caller on one connection, each on the policy of its moment.

    What does not change while policy and mode stay is found once: the part of the policy that speaks of the caller, and
    what each finding there means. Who asks for the same again is told the same, until a rule or the leaf expires.
    """

    __slots__ = (
        "_asked",
        "_authorizer",
        "_home",
        "_indexes",
        "_leaf",
        "_mode",
        "_policy",
        "_seconds",
        "_since",
        "_snapshot",
        "_told",
        "_until",
        "_verdicts",
        "_visit",
        "_wall",
    )

    def __init__(
        self,
        authorizer: Authorizer,
        visit: Visit,
        leaf: Leaf,
        home: TrustDomain,
        wall: Wall,
        *,
        seconds: Callable[[], float],
    ) -> None:
        self._authorizer = authorizer
        self._visit = visit
        self._leaf = leaf
        self._home = home
        self._wall = wall
        self._seconds = seconds
        self._snapshot = authorizer.policy
        self._policy: Policy | None = None
        self._mode: Mode | None = None
        self._indexes: Sequence[RequestIndex] = ()
        self._verdicts: dict[int, Verdict] = {}  # by the id of what was sought, which the policy keeps alive
        self._asked: tuple[bytes, bytes] | None = None  # the method and path that were granted last,
        self._told: Verdict | None = None  # and how, from `_since` on and before `_until`
        self._since = self._until = 0.0  # by `_seconds`

    def __repr__(self) -> str:
        return f"<_CallersJudge of {self._leaf.id} by {self._policy!r}>"

    def judge(self, head: RequestHead, _request_id: bytes) -> Grant | Refusal:
        """See `meshproxy.http.terms.Judge`."""
        authorizer = self._authorizer
        policy, mode, seconds = self._snapshot.value, authorizer.mode, self._seconds
        asked = head.method, head.target.path
        if (
            asked == self._asked
            and policy is self._policy
            and mode is self._mode
            and self._since <= seconds() < self._until
            and self._told is not None
        ):
            self._told.count.value += 1.0
            return self._told.answer
        now = self._wall()
        if now > self._leaf.not_after:
            # Deadlines run on a clock that stands still while a machine is suspended; certificates do not.
            return Refusal(Failure.DENIED)
        if policy is not self._policy or mode is not self._mode:
            self._policy, self._mode, self._verdicts = policy, mode, {}
            self._indexes = policy.request_indexes(self._leaf.id, home=self._home)
        method, path = asked[0].decode("ascii"), asked[1].decode("ascii")
        sought = seek(self._indexes, method, path, now=now)
        verdict = self._verdicts.get(id(sought))
        if verdict is None:
            verdict = self._learn(policy, mode, sought)
        verdict.count.value += 1.0
        if not verdict.decision.granted:
            self._asked = self._told = None
            authorizer.explain(
                self._visit, self._leaf, policy, verdict.decision, home=self._home, now=now, asked=(method, path)
            )
        else:
            self._asked, self._told = asked, verdict
            self._since = now.timestamp()
            self._until = min(policy.unchanged_until(now), self._leaf.not_after).timestamp()
        return verdict.answer

    def _learn(self, policy: Policy, mode: Mode, sought: Rule | Reason) -> Verdict:
        if len(self._verdicts) >= _MOST_VERDICTS:
            self._verdicts.clear()
        verdict = self._authorizer.verdict(
            policy, mode, sought, listener=self._visit.listener, caller=str(self._leaf.id)
        )
        self._verdicts[id(sought)] = verdict
        return verdict
