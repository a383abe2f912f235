"""`meshproxy renew --daemon`: an identity kept alive for a foreign program, and a command run after each new one."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from ca.identity_directory import CURRENT
from meshproxy.enroll import plan
from meshproxy.runtime.lifeline import Lifeline
from meshproxy.runtime.signals import follow_signals

if TYPE_CHECKING:
    from meshproxy.enroll.plan import Left
    from meshproxy.runtime.telling import Telling
    from meshproxy.settings.schema import IdentitySettings
    from meshproxy.telemetry.events import Logger

COMMAND_LASTS: Final = 60.0  # seconds; what takes longer hangs
_DIES_WITHIN: Final = 5.0


@dataclass(frozen=True, slots=True)
class RenewalPlan:
    """Which directory, by which CA, when; and the command to run afterwards (empty: none)."""

    identity: IdentitySettings
    left: Left
    command: tuple[str, ...] = ()


async def run_renewing(renewal: RenewalPlan, telling: Telling) -> None:
    """Keep the identity alive until a signal ends it."""
    stopping = trio.Event()
    afterwards = Afterwards(renewal.command, telling.log)
    lifeline = Lifeline(renewal.identity, telling, afterwards.ask, renewal.left)
    async with trio.open_nursery() as nursery:
        await nursery.start(follow_signals, stopping, afterwards.ask, nursery.cancel_scope.cancel, telling.log)
        telling.log.info("started", dir=str(renewal.identity.dir), command=" ".join(renewal.command))
        nursery.start_soon(lifeline.run)
        nursery.start_soon(afterwards.run)
        if (renewal.identity.dir / CURRENT).exists():
            afterwards.ask()  # whoever was here before may have been killed before he could
        await stopping.wait()
        nursery.cancel_scope.cancel()
    telling.log.info("stopped")


class Afterwards:
    """Runs a command whenever it is asked to, and again until it ends well: who does not reload serves what expires."""

    def __init__(self, command: tuple[str, ...], log: Logger) -> None:
        self._command = command
        self._log = log
        self._asked = trio.Event()

    def __repr__(self) -> str:
        return f"<Afterwards {self._command}>"

    def ask(self) -> None:
        """Have it run soon; who asks again before it does asks once."""
        self._asked.set()

    async def run(self) -> None:
        """Run it when asked, until cancelled."""
        dice, failures = random.SystemRandom(), 0
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            fault = await run_command(self._command) if self._command else ""
            if not fault:
                failures = 0
                if self._command:
                    self._log.info("command_run", command=" ".join(self._command))
                continue
            failures += 1
            pause = plan.pause(failures, None, dice)
            self._log.error(
                "command_failed",
                command=" ".join(self._command),
                error=fault,
                effect="the program may still use the certificate before",
                next_try_in=f"{pause:.0f}s",
            )
            with trio.move_on_after(pause):
                await self._asked.wait()
            self._asked.set()


async def run_command(command: tuple[str, ...], *, within: float = COMMAND_LASTS) -> str:
    """Run a command without a shell, with nothing on its standard input; why it did not end well, or an empty text.

    What it writes goes where our own log goes.
    """
    try:
        process = await trio.lowlevel.open_process(list(command), stdin=subprocess.DEVNULL, stdout=2)
    except OSError as error:
        return f"it cannot be started: {error.strerror or error}"
    try:
        with trio.move_on_after(within):
            code = await process.wait()
            if code < 0:
                return f"it was ended by signal {-code}"
            return f"it ended with {code}" if code else ""
        return f"it did not end within {within:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True), trio.move_on_after(_DIES_WITHIN):
                await process.wait()
