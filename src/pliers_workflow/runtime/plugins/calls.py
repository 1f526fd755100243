"""Calls of plugins inside the node: in its event loop, or in threads, of which there are so many.

Neither can be stopped by force. A call whose step is over and that does not end is *left behind*: it is counted until it ends,
and a thread keeps its place so long.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from pliers_workflow.plugins.errors import FAILED

from ..jobs.failures import Postponed, StepFailure

_log: Final = structlog.get_logger(__name__)

#: Seconds that a coroutine has to end when it is cancelled, before it is left behind.
GOODBYE: Final = 5.0
#: Seconds after which a step is tried again for which no thread was free.
_NO_THREAD: Final = 1.0


class Calls:
    """See the module. One for each node; used from its event loop."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        #: threads that work, those that are left behind included
        self.busy = 0
        #: calls that are left behind, by plugin
        self.left_behind: dict[str, int] = {}

    @property
    def free(self) -> bool:
        """Whether there is a thread for another call."""
        return self.busy < self._threads

    async def in_loop(self, id: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for a coroutine. Cancelled, it cancels that, and leaves it behind where it does not end."""
        task = asyncio.ensure_future(work())
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task}, timeout=GOODBYE)
            if task.done():
                _hear(task)
            else:
                self._leave(id)
                task.add_done_callback(_hear)
                task.add_done_callback(lambda _: self._ended_late(id))
            raise
        if task.cancelled():
            raise StepFailure(FAILED, f"{id} cancelled itself.")
        return task.result()

    async def in_thread(self, id: str, work: Callable[[], Any]) -> Any:
        """Wait for a call in a thread. Cancelled, it leaves that behind. Raises `Postponed` where no thread is free."""
        if not self.free:
            raise Postponed(_NO_THREAD, "all threads for plugins are at work")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        abandoned = False

        def ended(value: Any, error: BaseException | None) -> None:
            self.busy -= 1
            if abandoned:
                self._ended_late(id)
            elif error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        self.busy += 1
        if not start_thread(f"plugin {id}", work, ended):
            self.busy -= 1
            raise Postponed(_NO_THREAD, "the machine gives no more threads")
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if answer.done():
                _hear(answer)
            else:
                abandoned = True
                self._leave(id)
            raise

    def _leave(self, id: str) -> None:
        self.left_behind[id] = self.left_behind.get(id, 0) + 1
        _log.warning("plugin_left_behind", plugin=id, calls=self.left_behind[id])

    def _ended_late(self, id: str) -> None:
        left = self.left_behind.get(id, 0) - 1
        if left > 0:
            self.left_behind[id] = left
        else:
            self.left_behind.pop(id, None)


def start_thread(name: str, work: Callable[[], Any], ended: Callable[[Any, BaseException | None], None]) -> bool:
    """
    Run something in a thread that does not keep the process from ending; `ended` is called in the loop with what came of it.

    Whether there was a thread for it.
    """
    loop = asyncio.get_running_loop()

    def run() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = work()
        except BaseException as raised:  # whatever ends the thread ends no more than that
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there any more
            loop.call_soon_threadsafe(ended, value, error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name=name)
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def _hear(ended: asyncio.Future[Any]) -> None:
    """Nobody asks what came of it any more."""
    if not ended.cancelled():
        ended.exception()
