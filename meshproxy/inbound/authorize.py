"""One caller asked about at the allow-list: a Permit, or a denial that is counted, remembered and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.errors import Failure
from meshproxy.http.exchange import Decided
from meshproxy.http.terms import Grant, Refusal
from meshproxy.policy.decide import Outcome, Permit, decide_connection, decide_request, permit
from meshproxy.policy.explain import nearest_rule, nearest_rule_of_request
from meshproxy.telemetry.access import timestamp
from meshproxy.telemetry.record import Denial, Objection

if TYPE_CHECKING:
    from datetime import datetime

    from ca import TrustDomain
    from ca.svid import Leaf
    from meshproxy.http.head import RequestHead
    from meshproxy.http.terms import Judge
    from meshproxy.inbound.accept import Visit
    from meshproxy.inbound.live import Call
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.decide import Decision
    from meshproxy.settings.schema import Inbound
    from meshproxy.snapshot import Snapshot
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.relay import Wall


class Authorizer:
    """Asks the listener's current allow-list; the policy is read once per decision."""

    def __init__(self, settings: Inbound, policy: Snapshot[Policy], recorder: Recorder) -> None:
        self._settings = settings
        self._policy = policy
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<Authorizer {self._settings.name} {self._policy!r}>"

    @property
    def policy(self) -> Snapshot[Policy]:
        """The listener's allow-list."""
        return self._policy

    def replace(self, settings: Inbound, policy: Policy) -> None:
        """Judge by these from now on: one swap, between two decisions."""
        self._settings = settings
        self._policy.replace(policy)

    def objection(self, call: Call, now: datetime) -> str:
        """Ask again about a stream that was let through: why it may not go on, or nothing."""
        policy, mode = self._policy.value, self._settings.mode
        if call.asked is None:
            decision = decide_connection(policy, call.caller, home=call.home, now=now)
        else:
            decision = decide_request(policy, call.caller, *call.asked, home=call.home, now=now)
        if permit(decision, mode) is not None:
            return ""
        return f"no longer granted ({decision.reason}) by {decision.file}, generation {decision.generation}"

    def ask(self, visit: Visit, leaf: Leaf, *, home: TrustDomain, now: datetime) -> Permit | None:
        """Return leave to forward, or None; the visit and the numbers know the decision afterwards."""
        policy, mode = self._policy.value, self._settings.mode
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
            self._explain(visit, leaf, policy, decision, home=home, now=now)
        return permit(decision, mode)

    def judge_of(self, visit: Visit, leaf: Leaf, *, home: TrustDomain, wall: Wall) -> Judge:
        """Return the judge of one caller's requests: each is asked about on the policy of its moment."""
        caller = str(leaf.id)
        client_id = caller.encode("ascii")

        def judge(head: RequestHead) -> Grant | Refusal:
            policy, mode, now = self._policy.value, self._settings.mode, wall()
            if now > leaf.not_after:
                # Deadlines run on a clock that stands still while a machine is suspended; certificates do not.
                return Refusal(Failure.DENIED)
            method, path = head.method.decode("ascii"), head.target.path.decode("ascii")
            decision = decide_request(policy, leaf.id, method, path, home=home, now=now)
            outcome = decision.outcome(mode)
            rule = decision.rule.name if decision.rule else ""
            decided = Decided(caller, outcome, rule, decision.reason, mode, f"{decision.file}@{decision.generation}")
            self._recorder.decided(visit.listener, outcome, rule=rule, mode=mode, reason=decision.reason)
            if not decision.granted:
                self._explain(visit, leaf, policy, decision, home=home, now=now, asked=(method, path))
            if permit(decision, mode) is None:
                return Refusal(Failure.DENIED, decided)
            return Grant(client_id, decided)

        return judge

    def _explain(
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
        # Finding the nearest rule costs O(rules) on a stranger's request: only for a line that will be written.
        untold = self._recorder.may_tell(visit.listener, "denied")
        told = "" if untold is None else self._nearest(leaf, policy, home=home, now=now, asked=asked)
        outcome, ts = decision.outcome(self._settings.mode), timestamp(now)
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
