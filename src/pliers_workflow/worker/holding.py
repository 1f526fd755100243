"""Holding one task: its lease is prolonged while it is worked on, and what came of it is brought until it has arrived."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from typing import Final

from .api import Away, Gone, Refused, TaskApi
from .calling import Outcome, failed
from .errors import Permanent
from .task import Task

_log: Final = logging.getLogger("pliers.worker")

#: Heartbeats in the time of a lease.
_HEARTBEATS: Final = 3
#: Seconds between two tries to reach a server that is away: growing, and spread.
_DELAY_MIN, _DELAY_MAX = 0.25, 30.0
#: Seconds for which a result is brought after its lease has lapsed: the server may have taken it before its answer was lost.
_BRING_MAX: Final = 120.0


class Backoff:
    """How long to wait before trying again."""

    def __init__(self, delay_max: float = _DELAY_MAX) -> None:
        self._delay = _DELAY_MIN
        self._delay_max = delay_max

    def next(self, asked: float | None = None) -> float:
        """Seconds: growing, spread, and no fewer than the server asked for."""
        delay, self._delay = self._delay, min(self._delay * 2, self._delay_max)
        return max(delay * random.uniform(0.5, 1.5), asked or 0.0)

    def reset(self) -> None:
        """It went well."""
        self._delay = _DELAY_MIN


class Held:
    """A task that is ours, by this machine's steady clock."""

    def __init__(self, task: Task, *, lease: int, fetched_lease: int, fetched_at: float) -> None:
        self.task = task
        #: asked for with each heartbeat
        self._lease = lease
        #: nobody else can have it before
        self.until = fetched_at + fetched_lease
        self._next = fetched_at + fetched_lease / _HEARTBEATS
        #: the step's own time is over then, if it has one: it began when the task was given, and not when it was asked for
        self._over_at = math.inf if task.timeout_seconds is None else time.monotonic() + task.timeout_seconds
        #: set when it is not ours any more
        self.lost = asyncio.Event()
        #: it is done, and its result is on its way: nothing is lost any more by what a heartbeat hears
        self.bringing = False

    async def hold(self, api: TaskApi) -> None:
        """Prolong the lease for as long as this runs; ends when the task is lost."""
        backoff = Backoff(self._lease / _HEARTBEATS)
        while True:
            ends = math.inf if self.bringing else min(self.until, self._over_at)
            await asyncio.sleep(max(0.0, min(self._next, ends) - time.monotonic()))
            if time.monotonic() >= ends and not self.bringing:
                self._lose("its time is up" if ends == self._over_at else "the server was away for longer than a lease")
                return
            sent_at = time.monotonic()
            try:
                await api.heartbeat(self.task, self._lease)
            except Gone as gone:
                if not self.bringing:
                    self._lose(str(gone))
                return
            except (Away, Refused) as away:
                _log.warning("no heartbeat for the task %s: %s", self.task.idempotency_key, away)
                self._next = time.monotonic() + backoff.next(away.retry_after if isinstance(away, Away) else None)
            else:
                backoff.reset()
                self.until = sent_at + self._lease
                self._next = sent_at + self._lease / _HEARTBEATS

    def _lose(self, why: str) -> None:
        _log.warning("lost the task %s of %s: %s", self.task.idempotency_key, self.task.topic, why)
        self.task.lose()
        self.lost.set()

    async def bring(self, api: TaskApi, outcome: Outcome) -> Outcome | None:
        """
        Say what came of the task until the server has heard it; what counts in the end, if anything does.

        What is sent again counts once. What the server cannot take fails the step for good instead.
        """
        self.bringing = True
        backoff = Backoff()
        while True:
            try:
                await api.settle(self.task, outcome.what, outcome.body)
                return outcome
            except Gone as gone:
                _log.warning("dropped what came of the task %s: %s", self.task.idempotency_key, gone)
                return None
            except Refused as refused:
                if outcome.what == "fail" or refused.status in (401, 403):
                    _log.error("the server does not take what came of %s: %s", self.task.idempotency_key, refused)
                    return None
                code = "OUTPUT_TOO_LARGE" if refused.status == 413 else "OUTPUT_INVALID"
                outcome = failed(Permanent(code, f"The engine does not take the output: {refused.detail}"))
            except Away as away:
                if time.monotonic() > self.until + _BRING_MAX:
                    _log.error("could not bring what came of %s: %s", self.task.idempotency_key, away)
                    return None
                await asyncio.sleep(backoff.next(away.retry_after))
