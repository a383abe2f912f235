"""The pages of the admin server, and what is on them, made of plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshproxy.admin.answers import Action, Asked, Order, Page, json_page
from meshproxy.admin.questions import BadQuestion
from meshproxy.admin.status import (
    ConfigurationStatus,
    ExpiringRule,
    ListenerStatus,
    PolicyStatus,
    Status,
    TrustStatus,
    UnusedRules,
)
from meshproxy.policy.ending import is_near
from meshproxy.runtime.reload import Result
from meshproxy.settings.limits import limits_in_words
from meshproxy.settings.schema import Inbound
from meshproxy.telemetry.access import timestamp
from meshproxy.telemetry.events import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from meshproxy.identity.store import IdentityStore
    from meshproxy.policy.compile import Policy
    from meshproxy.runtime.reload import Reloader, ReloadState
    from meshproxy.runtime.usage import Usage
    from meshproxy.settings.schema import IdentitySettings, Outbound
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.record import ListenerCounts
    from meshproxy.wire.address import Address

_STATUS_OF = {Result.FAILED: 422, Result.DRAINING: 503}  # of `POST /reload`; the others are 200


def listener_status(
    settings: Inbound | Outbound,
    address: Address,
    policy: Policy | None,
    counts: ListenerCounts,
    now: datetime,
    *,
    usage: Usage | None = None,
) -> ListenerStatus:
    """Return what is shown of one listener, which really listens at `address`; `usage` is of its rules."""
    inbound = isinstance(settings, Inbound)
    return ListenerStatus(
        name=settings.name,
        direction="inbound" if inbound else "outbound",
        listen=str(address),
        to=str(settings.forward) if isinstance(settings, Inbound) else settings.to,
        protocol=settings.protocol,
        open=counts.open,
        max_connections=settings.limits.max_connections,
        decided=counts.decided,
        ended=counts.ended,
        answered=counts.answered,
        handshake_failures=counts.handshake_failures,
        refused=counts.refused,
        failed_upstream=counts.failed_upstream,
        mode=settings.mode if isinstance(settings, Inbound) else "",
        policy=None if policy is None else _policy_status(policy, counts, usage, now),
        limits=limits_in_words(settings),
        limits_reached=counts.limits_reached,
    )


def configuration_status(state: ReloadState) -> ConfigurationStatus:
    """Return what is shown of the files."""
    return ConfigurationStatus(state.generation, state.hash, state.loaded_at, state.last_attempt_at, state.last_error)


def trust_status(store: IdentityStore, settings: IdentitySettings, now: datetime) -> TrustStatus:
    """Return what is shown of what is trusted beside the bundle."""
    trusted, late = store.trusted, store.trusted.stale_for(now)
    said = None if trusted.deny_list is None else trusted.deny_list.content
    return TrustStatus(
        bundle_sequence=trusted.sequence,
        deny_list=None if said is None else said.sequence,
        issued="" if said is None else timestamp(said.issued),
        age_seconds=0.0 if said is None else (now - said.issued).total_seconds(),
        good_until="" if said is None else timestamp(said.next_update),
        stale_seconds=None if late is None else late.total_seconds(),
        stale_policy=settings.stale_deny_list,
        entries=0 if said is None else len(said.entries),
        retired=0 if said is None else len(said.retired),
        federated=tuple(sorted(map(str, trusted.federation.roots))),
        last_error=store.trust_error,
    )


def reload_action(reloader: Reloader, look_at_identity: Callable[[], None]) -> Action:
    """Return what `POST /reload` does: all files, the identity's by themselves."""

    async def reload() -> Page:
        look_at_identity()
        result = await reloader.reload(patient=False)
        error = reloader.state.last_error
        body: dict[str, bool | str] = {"result": result, "generation": str(reloader.state.generation)}
        return json_page({**body, "error": error} if error else body, _STATUS_OF.get(result, 200))

    return reload


def drain_action(stopping: trio.Event, log: Logger) -> Order:
    """Return what `POST /drain` does: what SIGTERM does."""

    async def drain(asked: Asked) -> Page:
        asked.query.done()
        if not stopping.is_set():
            log.info("draining", reason="POST /drain")
            stopping.set()
        await trio.lowlevel.checkpoint()
        return json_page({"draining": True}, 202)

    return Order(drain)


def log_level_action(set_level: Callable[[str], None], log: Logger) -> Order:
    """Return what `POST /log-level?level=warning` does."""

    async def change(asked: Asked) -> Page:
        level = asked.query.word("level", tuple(LEVELS), "")
        asked.query.done()
        if not level:
            raise BadQuestion(f"which level? Expected level= and one of: {' '.join(LEVELS)}")
        log.warning("log_level", least=level, reason="POST /log-level")
        set_level(level)
        await trio.lowlevel.checkpoint()
        return json_page({"level": level})

    return Order(change)


def live_page() -> Page:
    """Return 200: the loop turns."""
    return json_page({"live": True})


def ready_page(state: str) -> Page:
    """Return 200 when calls are served, else 503, with the state in one word."""
    return json_page({"ready": state == "serving", "state": state}, 200 if state == "serving" else 503)


def status_page(status: Status) -> Page:
    """Return a status as JSON."""
    return json_page(status)


def _policy_status(policy: Policy, counts: ListenerCounts, usage: Usage | None, now: datetime) -> PolicyStatus:
    ending = sorted((rule.expires, rule.name) for rule in policy.rules if rule.expires and is_near(rule, now))
    granted = counts.granted
    unused = {} if usage is None or granted is None else usage.unused(policy, granted, now)
    return PolicyStatus(
        file=policy.file,
        hash=policy.content_hash,
        generation=policy.generation,
        rules=len(policy.rules),
        expired_rules=tuple(rule.name for rule in policy.expired(now)),
        expiring=tuple(ExpiringRule(name, timestamp(end), (end - now).total_seconds()) for end, name in ending),
        unused=tuple(UnusedRules(timestamp(since), tuple(rules)) for since, rules in unused.items()),
    )
