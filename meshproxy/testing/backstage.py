"""A thread with a trio loop of its own, for tests that have none, or another."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

import trio

from meshproxy.testing.fault import MeshError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_PATIENCE = 30.0  # seconds for anything that a test asks for
_LOOK_EVERY = 0.2


class Backstage:
    """Runs until `close`; what is given to `call` runs in its loop, and may start what stays in `nursery`.

    A test may be in a loop of its own, trio's too: so no `trio.from_thread`, which refuses to be called from there.
    """

    nursery: trio.Nursery
    _token: trio.lowlevel.TrioToken

    def __init__(self) -> None:
        """Start the thread; returns when its loop runs. Raises MeshError when it does not."""
        self._failure: BaseException | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meshproxy-testing", daemon=True)
        self._thread.start()
        self._begun.wait()
        if self._failure is not None:
            raise self._ended() from self._failure

    def __repr__(self) -> str:
        return f"<Backstage running={self._thread.is_alive()}>"

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` in the loop and return what it returns, or raise what it raises; MeshError when all has ended."""
        answer: Future[T] = Future()

        async def give() -> None:
            try:
                answer.set_result(await work())
            except trio.Cancelled:
                answer.set_exception(MeshError("the mesh ended meanwhile"))
                raise
            except Exception as error:  # noqa: BLE001 - it is the caller's
                answer.set_exception(error)

        def begin() -> None:
            self.nursery.start_soon(give)

        try:
            self._token.run_sync_soon(begin)
        except trio.RunFinishedError:
            raise self._ended() from self._failure
        waited = 0.0
        while not answer.done():
            try:
                return answer.result(_LOOK_EVERY)
            except TimeoutError:
                waited += _LOOK_EVERY
                if not answer.done() and not self._thread.is_alive():
                    raise self._ended() from self._failure
                if not answer.done() and waited > _PATIENCE:
                    raise MeshError(f"the mesh has not answered for {_PATIENCE:g} s") from None
        return answer.result()

    def close(self) -> None:
        """End all that runs; idempotent. Raises MeshError when something had failed by itself, or does not end."""
        if self._thread.is_alive():

            def end() -> None:
                self.nursery.cancel_scope.cancel()

            self._token.run_sync_soon(end)
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                raise MeshError(f"the mesh has not ended within {_PATIENCE:g} s")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise MeshError(f"a sidecar of the mesh failed: {failure!r}") from failure

    def _ended(self) -> MeshError:
        return MeshError("the mesh has ended" if self._failure is None else f"the mesh failed: {self._failure!r}")

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as failure:  # noqa: BLE001 - told to whoever calls or closes
            self._failure = failure
        finally:
            self._begun.set()

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._begun.set()
            await trio.sleep_forever()
