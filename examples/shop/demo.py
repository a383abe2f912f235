"""`make demo`: the shop as real processes on this machine, and what meshproxy promises tried on it.

Exits 0 when every promise was kept, 1 otherwise; then it says where the logs are. Ctrl-C and SIGTERM leave nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from examples.shop.live import keep
from examples.shop.performing import STOPPED, until_stopped
from examples.shop.processes import StageError
from examples.shop.promise import Evidence, Promise, Seen
from examples.shop.promises import PROMISES
from examples.shop.stage import Stage, open_stage
from examples.shop.table import Table
from meshproxy.cli.terminal import Tone, paint

_PER_PROMISE: Final = 20.0  # seconds
_NEXT: Final = (
    ("Read", "README.md for a first pair of sidecars; examples/shop/README.md to run this by hand"),
    ("Then ask", "meshproxy status orders.toml tells how a running sidecar is"),
)
_SEE_IT: Final = (
    "See it",
    "make demo ARGS=--keep goes on with live traffic, and a dashboard at http://127.0.0.1:9800/dashboard",
)


@dataclass(slots=True)
class Performance:
    """What was shown so far, and how it ended."""

    seen: list[tuple[Promise, Seen]] = field(default_factory=list)
    failure: str = ""
    stopped_by: int | None = None
    directory: str = ""
    seconds: float = 0.0

    def stop(self, number: int) -> None:
        """Note which signal ended it."""
        self.stopped_by = number

    def to_be_kept(self) -> bool:
        """Whether the directory should stay, for its logs: something failed and nobody asked to stop."""
        return self.stopped_by is None and not self.is_good

    @property
    def is_good(self) -> bool:
        """Whether every promise was tried and kept."""
        return len(self.seen) == len(PROMISES) and all(seen.kept for _, seen in self.seen)

    @property
    def evidence(self) -> list[tuple[int, Evidence]]:
        """What the sidecars said, each with the number of its row."""
        return [(number, each) for number, (_, seen) in enumerate(self.seen, 1) for each in seen.told]


async def perform(performance: Performance, table: Table | None) -> None:
    """Set the stage, try every promise, take the stage down; until a signal."""

    async def on_stage() -> None:
        with open_stage(performance.to_be_kept) as stage:
            await _play(stage, performance, table)

    await until_stopped(on_stage, performance.stop)


async def _play(stage: Stage, performance: Performance, table: Table | None) -> None:
    performance.directory = str(stage.directory)
    try:
        async with trio.open_nursery() as nursery:
            if table:
                table.announce("minting two CAs and their identities ...")
            await stage.mint()
            if table:
                table.announce("starting 4 services and 6 sidecars ...")
            await stage.start(nursery)
            if table:
                table.head()
            group = None
            for number, promise in enumerate(PROMISES, 1):
                if table and promise.group is not group:
                    table.group(promise.group.value)
                group = promise.group
                seen = await _try(stage, promise)
                performance.seen.append((promise, seen))
                if table:
                    table.row(number, promise, seen)
            nursery.cancel_scope.cancel()
    except* StageError as group:
        performance.failure = str(_first(group))
    except* BrokenPipeError:  # whoever read the table has gone, as in `demo.py | head`
        performance.stopped_by = signal.SIGPIPE


async def _try(stage: Stage, promise: Promise) -> Seen:
    stage.skip_logs()
    try:
        with trio.fail_after(_PER_PROMISE):
            return await promise.show(stage)
    except trio.TooSlowError:
        return Seen(kept=False, words=f"nothing within {_PER_PROMISE:g} s")
    except (OSError, StageError) as error:
        return Seen(kept=False, words=f"could not be tried: {error}")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _tell_end(performance: Performance, table: Table, *, goes_on: bool) -> None:
    if performance.evidence:
        table.say()
        table.say("Why, in the words of the sidecars' logs")
        table.explain(performance.evidence)
    table.say()
    if performance.failure:
        table.say(paint("The stage could not be set.", Tone.BAD))
        table.say(performance.failure)
    kept = sum(seen.kept for _, seen in performance.seen)
    verdict = f"{kept} of {len(PROMISES)} promises kept, in {performance.seconds:.1f} s."
    if performance.is_good:
        table.say(paint(verdict, Tone.GOOD))
        for title, text in _NEXT if goes_on else (*_NEXT, _SEE_IT):
            table.paragraph(text, title=f"{title:<11}")
    else:
        table.say(paint(verdict, Tone.BAD))
        table.paragraph(f"{performance.directory}/logs has what every process said.", title="Look into  ")


def _go_on(performance: Performance, table: Table) -> int:
    """Keep the shop open until somebody ends it, which is how it is meant to end."""
    table.announce("opening the shop again, for you to watch ...")
    failure = ""
    try:
        trio.run(keep, performance.stop, table.say)
    except* StageError as group:
        failure = str(_first(group))
    if failure:
        table.say(paint(f"The shop could not be opened again: {failure}", Tone.BAD))
    return 1 if failure else 0


def _as_json(performance: Performance) -> str:
    rows = [
        {
            "group": promise.group.name.lower(),
            "name": promise.name,
            "tried": promise.tried,
            "expected": promise.expected,
            "seen": seen.words,
            "kept": seen.kept,
            "explained": [{"sidecar": each.sidecar, **each.line} for each in seen.told],
        }
        for promise, seen in performance.seen
    ]
    report = {
        "kept": performance.is_good,
        "rows": rows,
        "failure": performance.failure,
        "directory": performance.directory if performance.to_be_kept() else None,
        "seconds": round(performance.seconds, 1),
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def main() -> int:
    """Play the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description="What meshproxy promises, tried on a small shop.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, at the end")
    parser.add_argument("--keep", action="store_true", help="go on with customers, and a dashboard, until Ctrl-C")
    options = parser.parse_args()
    as_json: bool = options.json
    performance = Performance()
    table = None if as_json else Table()
    started = time.monotonic()
    try:
        trio.run(perform, performance, table)
    except KeyboardInterrupt:  # it came when all was over already
        performance.stopped_by = signal.SIGINT
    performance.seconds = time.monotonic() - started
    if options.keep and table is not None and performance.is_good and performance.stopped_by is None:
        _tell_end(performance, table, goes_on=True)
        table.say()
        return _go_on(performance, table)
    if performance.stopped_by == signal.SIGPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody is there for what is still buffered
    elif performance.stopped_by is not None:
        print("\nStopped; every process is ended, the directory removed.", file=sys.stderr)
    if performance.stopped_by is not None:
        return STOPPED + performance.stopped_by
    if table is None:
        print(_as_json(performance))
    else:
        _tell_end(performance, table, goes_on=False)
    return 0 if performance.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
