"""Admission: how many instances of a tenant are under way at once, and who is next.

Where `execution.max_concurrent_instances` sets a limit, every start is committed as `pending`, with its history row and its
data checked: the caller's request is done, and the instance has its place in the queue. One node at a time, under a lease,
looks how much room there is and gives the oldest their `BeginInstance`, a command like any other. So the limit holds
exactly, whoever starts and on however many nodes; nothing is counted while commits are made; and the price, a second
commit for each instance, is paid only where there is a limit.

Under way is what has begun and neither ended nor failed: an instance that waits for a person for weeks counts. One that
has failed and is retried goes on without asking again. Sub-workflows begin at once, as part of what has begun: a parent
that waits for a child which waits for the parent's place would wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
from msgspec import structs

from pliers_workflow.interpreter.commands import Actor, BeginInstance, CancelInstance, Command, StartInstance
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import leases, queries

from . import tracing
from .answers import Accepted, EngineError
from .failures import DATABASE_AWAY
from .health import Reading
from .nodes.wakeups import ADMISSION, Slumber

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from pliers_workflow.interpreter.commands import Trace
    from pliers_workflow.storage.database import AnyConnection

    from .answers import Answer
    from .nodes.wakeups import Wakeups

_log: Final = structlog.get_logger(__name__)
_sql: Final = queries.load("admission")

_LEASE: Final = "admission"
_LEASE_SECONDS: Final = 15.0
#: Seconds between two looks when nobody wakes it; and without a limit, when only what was left from before may wait.
_POLL: Final = 5.0
_POLL_UNLIMITED: Final = 60.0
#: Seconds between two looks, however often it is woken.
_PAUSE: Final = 0.01
#: Refusals by which somebody else was first.
_OVERTAKEN: Final = frozenset({Reason.INSTANCE_EXISTS, Reason.INSTANCE_ENDED})
#: Instances begun at once.
_TAKEN_MAX: Final = 200


def queued(command: Command) -> Command:
    """
    The command, and a start told to wait for its turn; sub-workflows are not.

    >>> start = Command("c", Actor(), StartInstance(instance_id="i", definition_id="d", data={}))
    >>> queued(start).order.queued
    True
    """
    order = command.order
    if type(order) is StartInstance and order.parent is None:
        return structs.replace(command, order=structs.replace(order, queued=True))
    return command


class Admission:
    """See the module. Every worker has one; the one that holds the lease works."""

    name = "admission"

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        execute: Callable[[str, str, Command], Awaitable[Answer]],
        wakeups: Wakeups,
        *,
        limit: int,
        owner: str,
    ) -> None:
        self._pool = pool
        self._execute = execute
        self._limit = limit
        self._owner = owner
        self._slumber = Slumber()
        self._task: asyncio.Task[None] | None = None
        wakeups.subscribe(ADMISSION, self._slumber.wake)

    async def start(self) -> None:
        """Begin to look who is next."""
        self._task = asyncio.create_task(self._run(), name="admission")

    async def close(self) -> None:
        """Stop, and give the lease back."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(*DATABASE_AWAY):
            async with self._pool.acquire() as connection:
                await leases.release(connection, _LEASE, self._owner)

    async def _run(self) -> None:
        while True:
            try:
                while await self.admit():
                    pass
            except DATABASE_AWAY as error:
                _log.warning("admission_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("admission_failed")
            await asyncio.sleep(_PAUSE)
            await self._slumber.sleep(_POLL if self._limit else _POLL_UNLIMITED)

    async def admit(self) -> int:
        """Let those begin for whom there is room, if the lease is ours; how many did."""
        turns: list[tuple[str, str, Trace | None]] = []
        async with self._pool.acquire() as connection:
            tenants = [row["id"] for row in await connection.fetch(_sql.tenants_with_pending)]
            if not tenants or await leases.acquire(connection, _LEASE, self._owner, seconds=_LEASE_SECONDS) is None:
                return 0
            for tenant_id in tenants:
                rows = await connection.fetch(_sql.admissible, tenant_id, self._limit, _TAKEN_MAX)
                turns.extend((tenant_id, row["id"], tracing.kept(row["trace"])) for row in rows)
        answers = await asyncio.gather(*(self._begin(*turn) for turn in turns), return_exceptions=True)
        begun = 0
        for (_, instance_id, _), answer in zip(turns, answers, strict=True):
            begun += isinstance(answer, Accepted)
            if isinstance(answer, BaseException) and not isinstance(answer, EngineError):
                raise answer
            if isinstance(answer, EngineError):
                _log.warning("instance_not_begun", instance=instance_id, error=str(answer))
        return begun

    async def _begin(self, tenant_id: str, instance_id: str, trace: Trace | None) -> Answer:
        tracing.adopt(trace)
        answer = await self._execute(tenant_id, instance_id, Command(str(uuid4()), Actor(), BeginInstance()))
        if isinstance(answer, Rejection) and answer.reason not in _OVERTAKEN:
            # It would be first in the queue for ever, and all others behind it.
            order = CancelInstance(f"It could not begin: {answer.message}")
            answer = await self._execute(tenant_id, instance_id, Command(str(uuid4()), Actor(), order))
        return answer

    # -- health --------------------------------------------------------------------------------------------------------

    async def read(self, connection: AnyConnection) -> Reading:
        """How many wait for their turn. However many they are, that is what the limit is for, and no alarm."""
        row = await connection.fetchrow(_sql.queue)
        assert row is not None, "an aggregate has a row"
        details = {
            "limit": self._limit or None,
            "waiting": row["waiting"],
            "longestWaitSeconds": row["oldest_seconds"],
        }
        return Reading(details)
