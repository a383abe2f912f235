"""What has to be done to get from one configuration to the next while everything runs; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from meshproxy.policy.decide import Mode
from meshproxy.settings.schema import Audited, Inbound
from meshproxy.wire.address import UnixAddress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from meshproxy.settings.schema import Outbound, Settings

Key = tuple[str, str]  # direction and name

_NOWHERE = Path()


class Step(Enum):
    """What happens to one listener."""

    KEEP = auto()  # nothing of its own has changed; its allow-list may have
    EQUIP = auto()  # it stays where it listens, new connections are treated differently
    MOVE = auto()  # it listens elsewhere
    ADD = auto()
    REMOVE = auto()


@dataclass(frozen=True, slots=True)
class Plan:
    """The step for each listener, old and new; and what a running sidecar cannot change."""

    steps: Mapping[Key, Step]
    needs_restart: tuple[str, ...]


def plan_reload(old: Settings, new: Settings) -> Plan:
    """Compare two settings of one sidecar."""
    before, after = dict(_listeners(old)), dict(_listeners(new))
    steps = {key: _step(before.get(key), after.get(key)) for key in {**before, **after}}
    fixed = {
        "identity": (old.identity, new.identity),
        "admin": (old.admin, new.admin),
        "audit": (old.audit, new.audit),
        "tracing": (old.tracing, new.tracing),
        "telemetry": (old.telemetry, new.telemetry),
        "runtime.workers": (old.runtime.workers, new.runtime.workers),
        "runtime.sandbox": (old.runtime.sandbox, new.runtime.sandbox),
    }
    return Plan(steps, tuple(what for what, (was, will_be) in fixed.items() if was != will_be))


def newly_unchecked(old: Settings, new: Settings) -> Outbound | None:
    """Return an outbound unix listener that asks nobody who he is and was not so before, or None.

    Settings cut off before `allow_uids` look like that.
    """
    known = {(each.name, each.listen) for each in old.outbound if each.allow_uids is None}
    for each in new.outbound:
        if isinstance(each.listen, UnixAddress) and each.allow_uids is None and (each.name, each.listen) not in known:
            return each
    return None


def _listeners(settings: Settings) -> Iterator[tuple[Key, Inbound | Outbound]]:
    yield from ((("inbound", each.name), each) for each in settings.inbound)
    yield from ((("outbound", each.name), each) for each in settings.outbound)


def _step(old: Inbound | Outbound | None, new: Inbound | Outbound | None) -> Step:
    if old is None:
        return Step.ADD
    if new is None:
        return Step.REMOVE
    if old.listen != new.listen:
        return Step.MOVE
    return Step.KEEP if _without_rules(old) == _without_rules(new) else Step.EQUIP


def _without_rules(listener: Inbound | Outbound) -> Inbound | Outbound:
    """The listener but for what is swapped with its allow-list: the file, the mode, and what is recorded."""
    if isinstance(listener, Inbound):
        return replace(listener, policy=_NOWHERE, mode=Mode.ENFORCE, audit=Audited.OFF)
    return listener
