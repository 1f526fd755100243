"""Wake-ups: who waits for work is told that there is some, on this node at once and on the others within milliseconds.

A service that waits sleeps in a `Slumber` and subscribes to a topic of `Wakeups`. What has been committed here wakes the
services of this process directly, without the database; the `Messenger` carries the same word to the other nodes, many in
one. A wake-up is a hint and never the truth: it may be lost or come twice, and whoever is woken looks into the database.
So each service also looks by itself from time to time, and finds by its own query when the next thing is due.

A wake-up says in how many seconds there is something to do, not at which instant: so it does not matter whose clock is
right, nor whether a tenant's clock is the ordinary one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from pliers_workflow.interpreter.instance import Status

if TYPE_CHECKING:
    from ..commit.fold import Fold

_log = structlog.get_logger(__name__)

#: The log has grown: for whoever moves its horizon.
HISTORY: Final = "history"
#: The log's horizon has moved: for the log's readers.
HORIZON: Final = "horizon"
#: A reader of the log came, went, or was set to another position.
READERS: Final = "readers"
#: A message from outside has come in: for whoever finds out whom it concerns.
INBOUND: Final = "inbound"
#: An instance has ended or waits for its turn: for whoever lets the next ones begin.
ADMISSION: Final = "admission"
#: A node has come or gone.
NODES: Final = "nodes"

Wake = Callable[[float], None]
"""Called with the seconds after which there is something to do; returns at once and raises nothing."""


def job(kind: str) -> str:
    """
    The topic of jobs of a kind: one is due soon.

    >>> job("timer")
    'job.timer'
    """
    return f"job.{kind}"


TIMER: Final = job("timer")
TRIGGER: Final = job("trigger")

_UNDER_WAY: Final = frozenset({Status.RUNNING, Status.WAITING, Status.SUSPENDED, Status.ESCALATED})


class Wakeups:
    """What happens on this node and on the others, and who wants to know. Used from one event loop."""

    def __init__(self, *, due_within: float, limited: bool = False) -> None:
        """`limited`: only so many instances may be under way, and somebody wants to know when one ends."""
        self._limited = limited
        #: jobs due later than that are no news: whoever claims them looks that often by itself
        self._due_within = due_within
        self._subscribers: defaultdict[str, list[Wake]] = defaultdict(list)
        #: carries a wake-up to the other nodes; set by the messenger while there are any
        self.carry: Callable[[str, float], None] | None = None

    def subscribe(self, topic: str, wake: Wake) -> None:
        """Have `wake` called for every wake-up of a topic, from this node or another."""
        self._subscribers[topic].append(wake)

    def wake(self, topic: str, delay: float = 0.0) -> None:
        """Wake who waits for this topic, here and on the other nodes: in `delay` seconds there is something to do."""
        self.deliver(topic, delay)
        if self.carry is not None:
            self.carry(topic, delay)

    def deliver(self, topic: str, delay: float = 0.0) -> None:
        """Wake who waits for this topic on this node."""
        for wake in self._subscribers.get(topic, ()):
            wake(delay)

    def deliver_all(self) -> None:
        """Wake everybody on this node: nobody knows what was missed."""
        for topic in list(self._subscribers):
            self.deliver(topic)

    def committed(self, folds: Sequence[Fold]) -> None:
        """A batch was committed: tell of the log, and of jobs that are due soon, by kind. On the hot path."""
        grown = room = False
        soonest: dict[str, float] = {}
        for fold in folds:
            if fold.rows:
                grown = True
                if self._limited and fold.instance is not None and fold.instance.status not in _UNDER_WAY:
                    room = True
                for owed, _ in fold.jobs.values():
                    if owed.due_at is not None:
                        delay = (owed.due_at - fold.now).total_seconds()
                        if delay < soonest.get(owed.kind, self._due_within):
                            soonest[owed.kind] = delay
        if grown:
            self.wake(HISTORY)
            for kind, delay in soonest.items():
                self.wake(job(kind), max(0.0, delay))
            if room:
                self.wake(ADMISSION)


class Slumber:
    """
    The sleep of one service: until a time that it chose, or an earlier one that a wake-up names.

    A wake-up that comes while the service works is kept for its next sleep, which then ends at once or early. One that
    names a later time than the sleep has anyway is forgotten: a service knows by its own query what is due next.
    """

    def __init__(self) -> None:
        self._wake_at = float("inf")
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, delay: float = 0.0) -> None:
        """There is something to do in `delay` seconds."""
        loop = asyncio.get_running_loop()
        wake_at = loop.time() + delay
        if wake_at >= self._wake_at:
            return
        self._wake_at = wake_at
        if self._sleeper is not None:
            assert self._timer is not None, "a sleeper has set its clock"
            self._timer.cancel()
            self._timer = loop.call_at(wake_at, self._rouse)

    async def sleep(self, seconds: float) -> None:
        """Sleep for so long, or until woken."""
        assert self._sleeper is None, "one service, one sleep"
        loop = asyncio.get_running_loop()
        self._wake_at = min(self._wake_at, loop.time() + seconds)
        self._sleeper = loop.create_future()
        self._timer = loop.call_at(self._wake_at, self._rouse)
        try:
            await self._sleeper
        finally:
            self._timer.cancel()
            self._sleeper = self._timer = None
            self._wake_at = float("inf")

    def _rouse(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
