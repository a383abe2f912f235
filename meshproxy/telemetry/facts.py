"""What a sidecar is at a moment, as far as it may explain a curve, and what was news between two moments; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy import __version__
from meshproxy.telemetry.series import Marker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_STARTING: Final = "starting"  # several workers, none of which serves yet


class Facts(msgspec.Struct, frozen=True):
    """One process, or the sidecar they make up together. Empty or None: not known, or there is none."""

    state: str  # serving | refusing | draining | starting
    reason: str = ""  # why it does not serve
    id: str = ""
    identity: int = 0  # how many identities were loaded
    serial: str = ""
    expires: str = ""
    generation: int = 0  # of settings and allow-lists
    hash: str = ""
    reload_error: str = ""
    deny_list: int | None = None
    bundle: int | None = None
    restarts: int = 0  # of workers
    open_connections: int = 0


def news(before: Facts | None, after: Facts, now: float) -> Iterator[Marker]:
    """Yield what happened between two looks at one sidecar, as of `now`; None: it has just been started."""
    if before is None or before.state == _STARTING:
        if after.state == _STARTING:
            return
        who = f"as {after.id}" if after.id else "without an identity"
        # What was started stands behind the colon: whoever remembers the start before sees whether this is a deploy.
        yield Marker(now, "start", f"started {who}: meshproxy {__version__}, settings {after.hash}")
        return
    yield from _of_files(before, after, now)
    yield from _of_trust(before, after, now)
    if after.restarts > before.restarts:
        yield Marker(now, "worker", "a worker had ended and was started again")
    if after.state != before.state:
        if after.state == "draining":
            yield Marker(now, "drain", "draining: no new connections")
        elif after.state != _STARTING:
            why = f": {after.reason}" if after.reason else ""
            yield Marker(now, after.state, f"{after.state}{why}")


def _of_files(before: Facts, after: Facts, now: float) -> Iterator[Marker]:
    if after.generation > before.generation:
        yield Marker(now, "reload", f"settings and allow-lists of generation {after.generation} ({after.hash})")
    if after.reload_error and after.reload_error != before.reload_error:
        yield Marker(now, "reload_failed", f"a reload failed: {after.reload_error}")


def _of_trust(before: Facts, after: Facts, now: float) -> Iterator[Marker]:
    if after.serial and after.serial != before.serial:
        yield Marker(now, "identity", f"certificate {after.serial} of {after.id}, good until {after.expires}")
    if after.deny_list is not None and after.deny_list != before.deny_list:
        yield Marker(now, "deny_list", f"deny-list number {after.deny_list}")
    if after.bundle is not None and after.bundle != before.bundle:
        yield Marker(now, "bundle", f"trust bundle number {after.bundle}")


def together(own: Facts, workers: Sequence[Facts]) -> Facts:
    """Return the facts of a sidecar of several workers: `own` are the supervisor's.

    What workers follow by themselves is told as the last of them has it.
    """
    if not workers:
        return own
    last = min(workers, key=lambda each: (each.expires, each.identity))
    numbers = [each.deny_list for each in workers if each.deny_list is not None]
    bundles = [each.bundle for each in workers if each.bundle is not None]
    return msgspec.structs.replace(
        own,
        reason=own.reason or next((each.reason for each in workers if each.reason), ""),
        id=last.id,
        identity=last.identity,
        serial=last.serial,
        expires=last.expires,
        deny_list=min(numbers) if len(numbers) == len(workers) else None,
        bundle=min(bundles) if len(bundles) == len(workers) else None,
        open_connections=sum(each.open_connections for each in workers),
    )
