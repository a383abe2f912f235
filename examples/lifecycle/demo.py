"""`make demo-lifecycle`: certificates that live thirty seconds, and nobody notices that they end.

A CA and three sidecars under constant load: each renews itself at least four times, the root is replaced in three
steps, and one sidecar is revoked. No request fails but those of the revoked one. Exits 0 when that is what happened.
"""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from examples.lifecycle.stage import CALLERS, SIDECARS, Stage, open_stage
from examples.lifecycle.timeline import Timeline
from examples.shop.load import steady_load
from examples.shop.performing import STOPPED, until_stopped
from examples.shop.processes import StageError
from meshproxy.cli.terminal import Tone, paint

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.lifecycle.stage import Rotation
    from examples.shop.load import Load

_STOCK: Final = {"teapot": 12}
_CLIENTS: Final = 4
_PAUSE: Final = 0.02  # seconds between two requests of a client: certificates are shown here, not speed
_RENEWALS: Final = 4
_WITHIN: Final = 240.0  # seconds for all of it
_LOOK_EVERY: Final = 0.25
_ASK_EVERY: Final = 1.0  # each time a process
_POLLED: Final = 10.0  # refresh_hint_seconds of ca.toml


@dataclass(slots=True)
class Show:
    """What is known so far. `verdicts`: what was promised, and whether it was kept."""

    timeline: Timeline
    renewals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDECARS, -1))  # the first is an enrolment
    verdicts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    failure: str = ""
    stopped_by: int | None = None
    directory: str = ""

    @property
    def is_good(self) -> bool:
        """Whether all of it was shown, and kept."""
        return len(self.verdicts) == len(_PROMISES) and all(kept for kept, _ in self.verdicts.values())

    def stop(self, number: int) -> None:
        """Note which signal ended it."""
        self.stopped_by = number

    def is_to_be_kept(self) -> bool:
        """Whether the directory should stay, for its logs."""
        return self.stopped_by is None and not self.is_good

    def judge(self, promise: str, words: str, *, kept: bool) -> None:
        """Note what came of a promise."""
        self.verdicts[promise] = (kept, words)


_PROMISES: Final = {
    "renewed": f"each certificate was replaced at least {_RENEWALS} times",
    "rotated": "the root was replaced while all of it ran",
    "nothing_failed": "no request failed, but of the revoked one",
    "revoked": "the revoked one was cut off within a polling interval, its open stream too",
}


async def play(stage: Stage, show: Show) -> None:
    """All of it, from the first token to the last verdict. Raises StageError."""
    timeline = show.timeline
    show.directory = str(stage.directory)
    timeline.head("meshproxy: a CA whose certificates live 30 s, and three sidecars under constant load")
    await stage.found()
    timeline.tell("CA", "serves")
    await stage.invite()
    timeline.tell("CA", "has made a token for each sidecar: good once, for ten minutes")
    async with trio.open_nursery() as nursery:
        for name in SIDECARS:
            nursery.start_soon(_follow_identity, stage, show, name, nursery.cancel_scope)
        await stage.start()
        async with AsyncExitStack() as loads:
            load: dict[str, Load] = {}
            for name in CALLERS:
                come = steady_load(stage.socket(name, "api"), "/stock", _STOCK, clients=_CLIENTS, pause=_PAUSE)
                load[name] = await loads.enter_async_context(come)
            timeline.tell("load", f"{' and '.join(CALLERS)} call api, {_CLIENTS} clients each, from now on")
            await _until(lambda: min(show.renewals.values()) >= 1)
            await _rotate(stage, show)
            await _until(lambda: min(show.renewals.values()) >= _RENEWALS)
            await _revoke(stage, show, load["lab"])
            await load["web"].grow(100)
            words = f"web: {load['web'].words}"
            before = show.verdicts.pop("lab_before", (False, ""))
            kept = before[0] and not load["web"].failures and load["web"].served > 0
            show.judge("nothing_failed", f"{words}; lab until it was revoked: {before[1]}", kept=kept)
        least = min(show.renewals.values())
        show.judge("renewed", ", ".join(f"{name} {n}" for name, n in show.renewals.items()), kept=least >= _RENEWALS)
        nursery.cancel_scope.cancel()


async def _follow_identity(stage: Stage, show: Show, name: str, scope: trio.CancelScope) -> None:
    """Tell of each certificate a sidecar takes up, until all is over."""
    serial = ""
    while not scope.cancel_called:
        if name not in stage.processes.logs:
            await trio.sleep(_LOOK_EVERY)
            continue
        line = await stage.log(name).line(event="identity_loaded")
        if not line or line["serial"] == serial:
            continue  # the same certificate with other roots beside it
        serial = line["serial"]
        show.renewals[name] += 1
        ends = line["expires"][11:19]
        if show.renewals[name]:
            show.timeline.tell(name, f"renewed itself, {_ordinal(show.renewals[name])} time, until {ends}")
        else:
            show.timeline.tell(name, f"enrolled with its token as {line['id']}, until {ends}", Tone.GOOD)


async def _rotate(stage: Stage, show: Show) -> None:
    """Replace the root: prepare, wait until all trust it, activate, wait until nobody needs the old one, retire."""
    old = (await stage.rotation()).root("active")
    await stage.ca("rotate", "prepare", "--what", "root")
    new = (await stage.rotation()).root("prepared")
    show.timeline.tell("CA", f"root {new} is prepared: in everybody's bundle from now on, signing nothing yet")
    found = await _rotation_once(stage, lambda found: not found.laggards)
    show.timeline.tell("CA", f"all have loaded bundle {found.bundle_sequence}, so nobody will be cut off")
    await stage.ca("rotate", "activate", "--what", "root")
    show.timeline.tell("CA", f"root {new} is active: whoever renews is certified below it", Tone.GOOD)
    await _rotation_once(stage, lambda found: not found.is_needed(old))
    await stage.ca("rotate", "retire", "--what", "root")
    done = (await stage.rotation()).root("retired") == old
    show.timeline.tell("CA", f"nothing signed below {old} lives any more: it is retired", Tone.GOOD)
    show.judge("rotated", f"{old} -> {new}", kept=done)


async def _revoke(stage: Stage, show: Show, load: Load) -> None:
    """Take back lab's certificates, with a stream of it open, and see it end."""
    timeline = show.timeline
    now_renewed = show.renewals["lab"] + 1
    await _until(lambda: show.renewals["lab"] >= now_renewed)  # else the stream could end with its certificate
    stream = await trio.open_unix_socket(stage.socket("lab", "feed"))
    async with stream:
        await _heard(stream)
        timeline.tell("lab", "has a stream open on the feed of api")
        show.judge("lab_before", load.words, kept=not load.failures and load.served > 0)
        began = timeline.now
        await stage.ca("revoke", "--id", "/lab", "--reason", "keyCompromise")
        timeline.tell("CA", "/lab is revoked: somebody has a copy of its key", Tone.WARNING)
        with trio.move_on_after(2 * _POLLED):
            await _end_of(stream)
    cut_after = timeline.now - began
    timeline.tell("lab", f"its open stream ended {cut_after:.1f} s after that", Tone.WARNING)
    await _until(lambda: bool(load.failures))
    failures = len(load.failures)
    await _until(lambda: len(load.failures) > failures + 3)
    served = load.served
    await trio.sleep(1.0)
    timeline.tell("lab", f"is let in nowhere any more: its sidecar answers {_short(load.failures[-1])}", Tone.WARNING)
    within = cut_after < _POLLED * 1.5 + 2
    show.judge("revoked", f"after {cut_after:.1f} s", kept=within and load.served == served)


def _short(failure: str) -> str:
    """A status and the title of its problem, of what a load remembers of an answer."""
    title = re.search(r'"title":"([^"]*)', failure)
    return failure if title is None else f"{failure[:3]}, {title[1]}"


async def _heard(stream: trio.SocketStream) -> bool:
    """Whether the feed still says back what is said to it."""
    try:
        await stream.send_all(b"?")
        return await stream.receive_some(1) == b"?"
    except trio.BrokenResourceError:
        return False


async def _end_of(stream: trio.SocketStream) -> None:
    while await _heard(stream):  # noqa: ASYNC110 - each look is a word to the other end
        await trio.sleep(_PAUSE)


async def _rotation_once(stage: Stage, is_so: Callable[[Rotation], bool]) -> Rotation:
    """Ask how far the rotation is until it is so."""
    while not is_so(found := await stage.rotation()):  # noqa: ASYNC110 - as in _until
        await trio.sleep(_ASK_EVERY)
    return found


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in other processes
        await trio.sleep(_LOOK_EVERY)


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"


async def perform(show: Show) -> None:
    """Set the stage, play, take the stage down; until a signal."""

    async def on_stage() -> None:
        with open_stage(show.is_to_be_kept) as stage:
            try:
                with trio.fail_after(_WITHIN):
                    await play(stage, show)
            except* StageError as group:
                show.failure = "\n".join(map(str, group.exceptions))
            except* trio.TooSlowError:
                show.failure = f"it did not come to its end within {_WITHIN:g} s"

    await until_stopped(on_stage, show.stop)


def _tell_end(show: Show) -> None:
    print()
    if show.failure:
        print(paint(show.failure, Tone.BAD))
    for promise, words in _PROMISES.items():
        kept, seen = show.verdicts.get(promise, (False, "not shown"))
        mark = paint("kept  ", Tone.GOOD) if kept else paint("BROKEN", Tone.BAD)
        print(f"{mark}  {words}\n        {paint(seen, Tone.FAINT)}")
    if not show.is_good:
        print(f"\n{show.directory}/logs has what every process said.")


async def _start(*, quiet: bool) -> Show:
    show = Show(Timeline(quiet=quiet))
    await perform(show)
    return show


def main() -> int:
    """Play the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description="A certificate's life, from token to revocation, under load.")
    parser.add_argument("--json", action="store_true", help="print what happened as JSON, at the end")
    as_json: bool = parser.parse_args().json
    show = trio.run(partial(_start, quiet=as_json))
    if show.stopped_by is not None:
        print("\nStopped; every process is ended, the directory removed.", file=sys.stderr)
        return STOPPED + show.stopped_by
    if as_json:
        report = {
            "kept": show.is_good,
            "verdicts": {name: {"kept": kept, "seen": seen} for name, (kept, seen) in show.verdicts.items()},
            "renewals": show.renewals,
            "timeline": show.timeline.lines,
            "failure": show.failure,
            "directory": show.directory if show.is_to_be_kept() else None,
        }
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _tell_end(show)
    return 0 if show.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
