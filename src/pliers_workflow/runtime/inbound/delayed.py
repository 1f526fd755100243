"""Delayed triggers: jobs of kind `trigger`, carried out when their time has come.

Every node looks for them; a claim is a lease with a fencing token. A trigger that is carried out twice acts once, because
what it does has ids and keys of its own. Conditions and keys count as the event arrived; whom the event finds, when it
acts. Whom it does not find then, it waits for as long as any event.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from pliers_workflow.storage import queries

from ..wakeups import Slumber
from .acting import Acted, Actor, Delayed, encoded
from .matching import Candidate
from .rows import Result, Stored
from .waiting import LATER, RESULTS_MAX, Waits, stored_of

if TYPE_CHECKING:
    import asyncpg

    from .rules import Rules

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("inbound")
_read: Final = msgspec.json.Decoder(Delayed).decode

_LEASE: Final = timedelta(seconds=60)
_BATCH: Final = 100


class DelayedTriggers:
    """Claims delayed triggers that are due, and carries them out."""

    def __init__(
        self, pool: asyncpg.Pool[Any], rules: Rules, actor: Actor, waits: Waits, *, poll: float, owner: str
    ) -> None:
        self._pool = pool
        self._rules = rules
        self._actor = actor
        self._waits = waits
        self._poll = poll
        self._owner = owner
        self._slumber = Slumber()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for what is due."""
        self._task = asyncio.create_task(self._run(), name="delayed-triggers")

    async def close(self) -> None:
        """Stop; what is claimed and not carried out lapses, and another node does it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def wake(self, delay: float = 0.0) -> None:
        """Something is due in `delay` seconds, or a clock was moved."""
        self._slumber.wake(delay)

    async def _run(self) -> None:
        while True:
            try:
                while await self.run_due():
                    pass
            except LATER as error:
                _log.warning("delayed_triggers_wait", error=repr(error))
            except Exception:
                _log.exception("delayed_triggers_failed")
            await self._slumber.sleep(self._poll)

    async def run_due(self) -> int:
        """Carry out what is due now, in all tenants; how many were claimed."""
        count = 0
        for (tenant_id,) in await self._pool.fetch(_sql.tenants_with_triggers_due):
            rows = await self._pool.fetch(_sql.claim_triggers, tenant_id, _BATCH, self._owner, _LEASE)
            count += len(rows)
            for answer in await asyncio.gather(*(self._one(tenant_id, row) for row in rows), return_exceptions=True):
                if isinstance(answer, LATER):
                    _log.warning("delayed_trigger_left_for_later", tenant=tenant_id, error=repr(answer))
                elif isinstance(answer, BaseException):
                    raise answer
        return count

    async def _one(self, tenant_id: str, row: asyncpg.Record) -> None:
        job = _read(row["payload"])
        found = await self._pool.fetchrow(_sql.get, tenant_id, job.event)
        candidate = await self._rules.alike(tenant_id, job.workflow, job.trigger, bytes.fromhex(job.rule))
        if found is None:
            await self._pool.execute(_sql.drop_trigger, tenant_id, row["id"], row["fencing_token"])
            return
        stored = stored_of(found)
        ttl = stored.open_until - stored.received_at
        acted = await self._act(stored, candidate, job)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_sql.drop_trigger, tenant_id, row["id"], row["fencing_token"]):
                return  # somebody else has it now, and does the same
            await self._actor.keep(connection, stored, acted, row["due_at"] + ttl)
            await connection.execute(
                _sql.append, tenant_id, stored.id, encoded(acted.results), RESULTS_MAX, acted.status
            )
        if acted.waiting:
            await self._waits.look_for(tenant_id, stored.id)

    async def _act(self, stored: Stored, candidate: Candidate | None, job: Delayed) -> Acted:
        if candidate is None:
            message = "The version that listened has been archived, or the active one has no such trigger any more."
            gone = Result(job.workflow, job.trigger, job.action, "refused", code="not_active", message=message)
            return Acted((gone,))
        matches, wrong = await self._actor.matches(stored, [candidate])
        acted = await self._actor.act(stored, matches, at_once=True)
        return Acted((*wrong, *acted.results), acted.waiting)
