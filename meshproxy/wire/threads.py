"""Blocking work in threads, on a machine that may have none to give just now.

Out of memory, or at the limit of tasks of a control group (`TasksMax=`), no thread can be started. That is a reason to
wait, not to end: most of what is done in threads is a look at files that comes again anyway, and the sidecar's traffic
needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_ASK_AGAIN_AFTER: Final = 0.25  # seconds

# What CPython's `_thread.start_new_thread` says; it has no exception of its own for that.
_NO_THREAD: Final = "can't start new thread"


async def in_thread(
    work: Callable[[*_Arguments], _T],
    *arguments: *_Arguments,
    abandon_on_cancel: bool = False,
    limiter: trio.CapacityLimiter | None = None,
) -> _T:
    """As `trio.to_thread.run_sync`, but where no thread can be started wait until one can.

    Who may not wait for ever sets a deadline around it. Raises what `work` raises.
    """
    while True:
        try:
            return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        except RuntimeError as error:
            if str(error) != _NO_THREAD:
                raise
        await trio.sleep(_ASK_AGAIN_AFTER)
