"""Timers fire: due jobs are claimed in batches and become commands like any other.

The command that fires the timer drops its job in the same commit; a node that dies between claim and commit lets the lease
lapse, and another one fires it. Whether the timer still stands is decided by the instance alone, under its revision, so a
timer claimed twice still fires once.

The dispatcher sleeps until the next timer is due, and is woken when one is scheduled that is due before (`wakeups`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec

from pliers_workflow.interpreter.commands import Actor, Command, FireTimer
from pliers_workflow.interpreter.rejections import Reason, Rejection

from .. import tracing
from ..answers import Accepted, Answer, EngineError, InstanceTooNew, NotFound, ShuttingDown
from ..failures import NOT_NOW
from .payloads import TIMER, read_timer
from .service import AWAY, TOO_NEW, ClaimedJob, Failed, JobService, Result, Served

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from pliers_workflow.settings import Settings

_ENGINE: Final = Actor()
#: Refusals that mean that there is nothing to fire any more.
_GONE: Final = frozenset({Reason.TIMER_GONE, Reason.INSTANCE_ENDED})


class TimerDispatcher(JobService):
    """Claims due timers and fires them."""

    kind = TIMER

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        execute: Callable[[str, str, Command], Awaitable[Answer]],
        settings: Settings,
        *,
        owner: str,
    ) -> None:
        super().__init__(pool, settings, owner=owner)
        self._execute = execute
        #: counted since the start
        self.fired = 0

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Result]:
        """Fire timers."""
        return await asyncio.gather(*(self._fire(tenant_id, timer) for timer in jobs))

    async def _fire(self, tenant_id: str, timer: ClaimedJob) -> Result:
        command = Command(f"timer:{timer.id}:{timer.token}:{uuid4().hex[:8]}", _ENGINE, FireTimer(timer.name))
        assert timer.instance_id is not None, "a timer belongs to an instance"
        with contextlib.suppress(msgspec.DecodeError):  # its trace is all that is kept there, and no reason not to fire
            tracing.adopt(read_timer(timer.payload).trace)
        try:
            answer = await self._execute(tenant_id, timer.instance_id, command)
        except ShuttingDown:
            return Served.KEPT
        except InstanceTooNew:
            return TOO_NEW
        except NOT_NOW:
            return AWAY
        except EngineError as error:
            return Failed(str(error))
        match answer:
            case Accepted():
                self.fired += 1
                return Served.SETTLED
            case NotFound():
                return Served.DONE
            case Rejection() if answer.reason in _GONE:
                return Served.DONE
            case Rejection(reason=Reason.SUSPENDED):
                return Served.SETTLED  # suspending has paused the job already
            case Rejection():
                return Failed(answer.message)
            case _:
                return Failed(f"the engine answered {type(answer).__name__}")
