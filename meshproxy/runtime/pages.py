"""The pages of the admin server, and what is on them, made of plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from meshproxy.admin.server import Action, Page
from meshproxy.admin.status import ConfigurationStatus, ListenerStatus, PolicyStatus, Status
from meshproxy.runtime.reload import Result
from meshproxy.settings.schema import Inbound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from meshproxy.policy.compile import Policy
    from meshproxy.runtime.reload import Reloader, ReloadState
    from meshproxy.settings.schema import Outbound
    from meshproxy.telemetry.record import ListenerCounts
    from meshproxy.wire.address import Address

_STATUS_OF = {Result.FAILED: 422, Result.DRAINING: 503}  # of `POST /reload`; the others are 200


def listener_status(
    settings: Inbound | Outbound, address: Address, policy: Policy | None, counts: ListenerCounts, now: datetime
) -> ListenerStatus:
    """Return what is shown of one listener, which really listens at `address`."""
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
        policy=None if policy is None else _policy_status(policy, now),
    )


def configuration_status(state: ReloadState) -> ConfigurationStatus:
    """Return what is shown of the files."""
    return ConfigurationStatus(state.generation, state.hash, state.loaded_at, state.last_attempt_at, state.last_error)


def reload_action(reloader: Reloader, look_at_identity: Callable[[], None]) -> Action:
    """Return what `POST /reload` does: all files, the identity's by themselves."""

    async def reload() -> Page:
        look_at_identity()
        result = await reloader.reload(patient=False)
        error = reloader.state.last_error
        body: dict[str, bool | str] = {"result": result, "generation": str(reloader.state.generation)}
        return _json(_STATUS_OF.get(result, 200), {**body, "error": error} if error else body)

    return reload


def live_page() -> Page:
    """Return 200: the loop turns."""
    return _json(200, {"live": True})


def ready_page(state: str) -> Page:
    """Return 200 when calls are served, else 503, with the state in one word."""
    return _json(200 if state == "serving" else 503, {"ready": state == "serving", "state": state})


def status_page(status: Status) -> Page:
    """Return a status as JSON."""
    return Page(200, "application/json", msgspec.json.encode(status) + b"\n")


def _policy_status(policy: Policy, now: datetime) -> PolicyStatus:
    return PolicyStatus(
        file=policy.file,
        hash=policy.content_hash,
        generation=policy.generation,
        rules=len(policy.rules),
        expired_rules=tuple(rule.name for rule in policy.expired(now)),
    )


def _json(status: int, value: Mapping[str, bool | str]) -> Page:
    return Page(status, "application/json", msgspec.json.encode(value) + b"\n")
