"""Delayed triggers: jobs of kind `trigger`, carried out when their time has come.

A trigger that is carried out twice acts once, because what it does has ids and keys of its own. Conditions and keys count
as the event arrived; whom the event finds, when it acts. Whom it does not find then, it waits for as long as any event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pliers_workflow.storage import queries

from ..jobs.payloads import TRIGGER
from ..jobs.service import AWAY, ClaimedJob, JobService, Served
from ..jobs.service import Result as Became
from .acting import Acted, Actor, Delayed, encoded
from .matching import Candidate
from .rows import Result, Stored
from .waiting import LATER, RESULTS_MAX, Waits, stored_of

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

    from .rules import Rules

_sql: Final = queries.load("inbound")
_read: Final = msgspec.json.Decoder(Delayed).decode

_LEASE: Final = 60.0
_BATCH: Final = 100


class DelayedTriggers(JobService):
    """Claims delayed triggers that are due, and carries them out."""

    kind = TRIGGER

    def __init__(
        self, pool: asyncpg.Pool[Any], settings: Settings, rules: Rules, actor: Actor, waits: Waits, *, owner: str
    ) -> None:
        super().__init__(
            pool, settings, owner=owner, batch_size=_BATCH, lease=_LEASE, poll=settings.events.delayed_poll
        )
        self._rules = rules
        self._actor = actor
        self._waits = waits

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Became]:
        """Carry out triggers."""
        return await asyncio.gather(*(self._one(tenant_id, job) for job in jobs))

    async def _one(self, tenant_id: str, job: ClaimedJob) -> Became:
        try:
            return await self._carry_out(tenant_id, job)
        except LATER:
            return AWAY

    async def _carry_out(self, tenant_id: str, job: ClaimedJob) -> Became:
        delayed = _read(job.payload)
        found = await self._pool.fetchrow(_sql.get, tenant_id, delayed.event)
        if found is None:
            return Served.DONE
        candidate = await self._rules.alike(tenant_id, delayed.workflow, delayed.trigger, bytes.fromhex(delayed.rule))
        stored = stored_of(found)
        ttl = stored.open_until - stored.received_at
        acted = await self._act(stored, candidate, delayed)
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_sql.drop_trigger, tenant_id, job.id, job.token):
                return Served.SETTLED  # somebody else has it now, and does the same
            await self._actor.keep(connection, stored, acted, job.due_at + ttl)
            await connection.execute(
                _sql.append, tenant_id, stored.id, encoded(acted.results), RESULTS_MAX, acted.status
            )
        if acted.waiting:
            await self._waits.look_for(tenant_id, stored.id)
        return Served.SETTLED

    async def _act(self, stored: Stored, candidate: Candidate | None, job: Delayed) -> Acted:
        if candidate is None:
            message = "The version that listened has been archived, or the active one has no such trigger any more."
            gone = Result(job.workflow, job.trigger, job.action, "refused", code="not_active", message=message)
            return Acted((gone,))
        matches, wrong = await self._actor.matches(stored, [candidate])
        acted = await self._actor.act(stored, matches, at_once=True)
        return Acted((*wrong, *acted.results), acted.waiting)
