"""Kill -9 at every step: run an action in a forked child that dies at its first, second, third... touch of the disk.

    for step in killed_at_every_step(lambda: write(...)):
        assert what_is_on_disk_is_old_or_new()

Steps are Python's own audit events (open, mkdir, rename, symlink, remove, flock...), so every moment between two
changes of the disk is met once, and no sleeping is involved. The loop ends after a run that no longer dies.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DISK = ("open", "os.", "fcntl.", "shutil.")
_ENOUGH = 500  # no action of ours takes so many steps; a loop that never ends must not hang the tests


def killed_at_every_step(action: Callable[[], object]) -> Iterator[int]:
    """Yield after each death; the disk is then as the kill left it. AssertionError when the action itself fails."""
    for step in range(_ENOUGH):
        child = os.fork()
        if child == 0:
            _die_at(step, action)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            yield step
            continue
        assert os.WEXITSTATUS(status) == 0, f"the action failed when it was to die at step {step}"
        assert step > 0, "the action never touched the disk"
        return
    raise AssertionError(f"still dying after {_ENOUGH} steps")


def _die_at(step: int, action: Callable[[], object]) -> None:
    """In the child, which never returns: every descriptor and every lock dies with it, nothing is cleaned up."""
    left = step

    def count(event: str, _arguments: object) -> None:
        nonlocal left
        if event.startswith(_DISK):
            left -= 1
            if left == -1:  # once: the kill is such an event itself
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        action()
    except BaseException:  # noqa: BLE001 - it must not unwind into the test runner's copy
        os._exit(1)
    os._exit(0)
