"""The worker: fetches what it has room for, does so many tasks at once, and stops in good order.

- A task's lease is prolonged in the background, three times in its length. When it is lost, an asynchronous function is
  cancelled, another is told by `Task.heartbeat`, and its result is dropped.
- When the server is away the worker tries again, later each time and spread, and goes on with what it holds.
- On SIGTERM it fetches no more and has `grace` seconds to finish. What an asynchronous function has not done then is given
  back, and another worker has it at once. A thread cannot be stopped: what is left of those lapses with its lease, because
  giving it back while it may still act would let two work on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import httpx

from pliers_workflow.signals import stopped_by_signals

from .api import Away, Gone, Refused, TaskApi
from .calling import CANCELLED_ITSELF, Function, Handler, Outcome, call
from .errors import TaskLost, WorkerRefused
from .holding import Backoff, Held
from .task import Task

_log: Final = logging.getLogger("pliers.worker")

#: As the API takes them.
_TOPIC: Final = re.compile(r"[a-z][a-z0-9_.-]{0,254}")
_WORKER_ID: Final = re.compile(r"[!-~]{1,200}")
_TOPICS_MAX, _ROOM_MAX, _WAIT_MAX, _LEASE_MAX = 50, 100, 30.0, 3600
#: Seconds in which tasks that are given back must have arrived.
_GIVE_BACK: Final = 5.0
#: An empty answer that came sooner is not asked again at once, in seconds.
_PAUSE: Final = 0.25

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class Worker:
    """See the module."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        worker_id: str = "",
        concurrency: int = 8,
        wait: float = 20.0,
        grace: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        `url`: the server's address, without `/api/v1`. `token`: one with the permission `worker`. `worker_id`: for people who
        look for who holds a task; default: host and process. `concurrency`: tasks at once. `wait`: seconds that a fetch waits
        for work, half of the shortest lease at most. `grace`: seconds that running tasks have when the worker stops. `transport`: of httpx, for tests.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no address of a server; give one such as https://workflows.example.com")
        worker_id = worker_id or f"{socket.gethostname()}:{os.getpid()}"
        if not _WORKER_ID.fullmatch(worker_id):
            raise ValueError("a worker's id is 1 to 200 printable ASCII characters without blanks")
        if not 1 <= concurrency <= 1000:
            raise ValueError("concurrency is a number from 1 to 1000")
        if not 0 <= wait <= _WAIT_MAX:
            raise ValueError(f"a fetch waits {_WAIT_MAX:g} seconds at most")
        self.worker_id = worker_id
        self._url = url
        self._token = token
        self._concurrency = concurrency
        self._wait = wait
        self._grace = grace
        self._transport = transport
        self._handlers: dict[str, Handler] = {}
        self._living: dict[asyncio.Task[None], Held] = {}
        #: functions that have not come to their end, those whose tasks are lost included
        self._busy = 0
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: counted since the start: what counts, what the server would not have any more, what others got
        self.completed = 0
        self.failed = 0
        self.dropped = 0
        self.given_back = 0

    @property
    def running(self) -> int:
        """Functions that have not come to their end."""
        return self._busy

    def task(self, topic: str, *, lease: int = 60) -> Callable[[AnyFunction], AnyFunction]:
        """
        Have a function do the tasks of a topic: it is given the `Task`, and what it returns is the step's output.

        It may be asynchronous; another runs in a thread. `lease`, in seconds, is how long nobody else gets the task when this
        worker falls silent. Raises ValueError.
        """
        if not _TOPIC.fullmatch(topic):
            raise ValueError(
                f"{topic!r} is no topic; it begins with a small letter, and goes on with those, digits and `_.-`"
            )
        if not 1 <= lease <= _LEASE_MAX:
            raise ValueError(f"a lease is a number of seconds from 1 to {_LEASE_MAX}")
        if topic in self._handlers:
            raise ValueError(f"there is a function for {topic} already")
        if len(self._handlers) == _TOPICS_MAX:
            raise ValueError(f"one worker serves {_TOPICS_MAX} topics at most")

        def register(function: AnyFunction) -> AnyFunction:
            if not callable(function):
                raise ValueError(f"{function!r} is no function")
            self._handlers[topic] = Handler(topic, _given_a_task(function), lease)
            return function

        return register

    # -- running -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Work until SIGTERM or SIGINT, then stop in good order; a second signal ends the process at once.

        Raises `WorkerRefused` where the server does not let this worker work.
        """
        asyncio.run(self._until_told())

    def stop(self) -> None:
        """Fetch no more; `run` ends when what runs has ended. From any thread."""
        if self._loop is None:
            self._stopping.set()
        else:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def run(self) -> None:
        """Work until `stop`. Raises ValueError without a function, and `WorkerRefused`."""
        if not self._handlers:
            raise ValueError('a worker needs a function for some topic: @worker.task("topic")')
        self._loop = asyncio.get_running_loop()
        async with TaskApi(
            self._url, self._token, connections=2 * self._concurrency + 1, transport=self._transport
        ) as api:
            try:
                await self._fetch(api)
            finally:
                await self._finish(api)

    async def _until_told(self) -> None:
        def told(number: int) -> None:
            _log.info("told to stop by signal %d", number)
            self._stopping.set()

        with stopped_by_signals(told):
            await self.run()

    # -- fetching ------------------------------------------------------------------------------------------------------

    async def _fetch(self, api: TaskApi) -> None:
        backoff = Backoff()
        # One fetch is for all topics, and so for the shortest lease; the first heartbeat asks for each one's own.
        lease = min(handler.lease for handler in self._handlers.values())
        # A lease is counted from the question on, because nobody knows when the answer was made: it must outlast the wait.
        wait = min(self._wait, lease / 2)
        while not self._stopping.is_set():
            room = min(self._concurrency - self._busy, _ROOM_MAX)
            if room < 1:
                self._room.clear()
                await self._or_stop(self._room.wait())
                continue
            at = time.monotonic()
            asking = asyncio.ensure_future(
                api.fetch(sorted(self._handlers), self.worker_id, room=room, lease=lease, wait=wait)
            )
            await self._or_stop(asking)
            try:
                tasks = await asking
            except asyncio.CancelledError:
                return  # stopped while it waited; the server gives back what it had claimed for a caller who has gone
            except Away as away:
                _log.warning("the server is away: %s", away)
                await self._or_stop(asyncio.sleep(backoff.next(away.retry_after)))
                continue
            except Refused as refused:
                raise WorkerRefused(f"{self._url} does not let this worker fetch: {refused}") from None
            backoff.reset()
            for task in tasks:
                self._begin(api, task, lease, at)
            if not tasks and time.monotonic() - at < min(_PAUSE, wait):
                await self._or_stop(asyncio.sleep(_PAUSE))

    async def _or_stop(self, work: Any) -> None:
        """Wait for something, and no longer than until the worker is told to stop: then it is cancelled."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})

    # -- one task ------------------------------------------------------------------------------------------------------

    def _begin(self, api: TaskApi, task: Task, lease: int, at: float) -> None:
        handler = self._handlers[task.topic]
        held = Held(task, lease=handler.lease, fetched_lease=lease, fetched_at=at)
        self._busy += 1
        living = asyncio.create_task(self._live(api, handler, held), name=f"task {task.idempotency_key}")
        self._living[living] = held
        living.add_done_callback(self._forget)

    def _forget(self, living: asyncio.Task[None]) -> None:
        del self._living[living]
        if not living.cancelled() and (error := living.exception()) is not None:
            _log.error("a task failed in the worker itself", exc_info=error)

    def _ended(self) -> None:
        self._busy -= 1
        self._room.set()

    async def _live(self, api: TaskApi, handler: Handler, held: Held) -> None:
        holding = asyncio.create_task(held.hold(api))
        working = asyncio.create_task(call(handler, held.task, self._ended))
        losing = asyncio.create_task(held.lost.wait())
        try:
            await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self.dropped += 1
                await _cancelled(working)
                return
            with contextlib.suppress(TaskLost):
                # One that cancels itself has failed; to give it back would have it begun again for ever.
                outcome = CANCELLED_ITSELF if working.cancelled() else working.result()
                if not held.lost.is_set():
                    self._count(await held.bring(api, outcome))
                    return
            self.dropped += 1
        except asyncio.CancelledError:  # the worker stops, and its grace is over
            held.task.lose()
            await _cancelled(working)
            if handler.is_async and working.done() and not held.bringing:
                with contextlib.suppress(Away, Gone, Refused, TimeoutError):
                    async with asyncio.timeout(_GIVE_BACK):
                        await api.give_back(held.task)
                        self.given_back += 1
            raise
        finally:
            for each in (holding, losing):
                each.cancel()
            await asyncio.gather(holding, losing, return_exceptions=True)

    def _count(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self.dropped += 1
        elif outcome.what == "complete":
            self.completed += 1
        else:
            self.failed += 1

    # -- stopping ------------------------------------------------------------------------------------------------------

    async def _finish(self, api: TaskApi) -> None:
        """Let running tasks end within the grace period, and give the others back."""
        if self._living:
            _log.info("finishing %d tasks", len(self._living))
            await asyncio.wait(list(self._living), timeout=self._grace)
        await asyncio.sleep(0)  # whatever was begun last has its turn, and can be given back
        left = list(self._living)
        for living in left:
            living.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _cancelled(working: asyncio.Task[Any]) -> None:
    """Cancel, and wait until that has been heard; one that does not hear it is left behind."""
    working.cancel()
    await asyncio.wait({working}, timeout=_GIVE_BACK)
    if working.done() and not working.cancelled():
        working.exception()  # whatever it says now, nobody asks


def _given_a_task(function: Function) -> Function:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise ValueError(f"{function!r} must take one argument, the task") from None
    return function
