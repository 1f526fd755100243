"""People who leave while they are asked: every instance that asks them is told, and asks others in their place.

Whoever is made inactive, or loses a role or a group, can decide nothing any more that they were asked as such. The change
of the directory leaves a job in its own transaction; that looks for the instances, and gives each the order to replace who
has left (`ReplaceApprovers`). An instance where everybody who is asked can still decide refuses it, and stays as it was.

A batch that is being committed while the directory changes may still ask somebody who has just left, out of sight of the
first look. So there is a second one, later than any such commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec import Struct

from pliers_workflow.interpreter.commands import Command, ReplaceApprovers
from pliers_workflow.storage import queries

from ..answers import EngineError, InstanceTooNew, ShuttingDown
from ..failures import NOT_NOW
from .payloads import DEPARTURE
from .service import AWAY, TOO_NEW, Again, ClaimedJob, Failed, JobService, Result, Served
from .settling import ENGINE, Execute

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings
    from pliers_workflow.storage.database import AnyConnection as Connection

_log: Final = structlog.get_logger(__name__)
_sql: Final = queries.load("departures")

#: until the second look: longer than the commit of a batch may take
_SECOND_LOOK: Final = timedelta(seconds=30)
#: instances that are told at once
_PAGE: Final = 200


class DeparturePayload(Struct, frozen=True, omit_defaults=True):
    """What a job of this kind knows."""

    #: as whom they were asked: `user` and a user id, `role` or `group` and its key
    approvers: list[tuple[str, str]]
    #: the last instance that was told
    after: str | None = None


async def schedule(connection: Connection, tenant_id: str, approvers: Iterable[tuple[str, str]]) -> None:
    """In the transaction in which people leave: have the instances looked at that ask somebody as one of these."""
    payload = DeparturePayload(sorted(set(approvers)))
    if payload.approvers:
        await connection.execute(_sql.schedule, tenant_id, msgspec.json.encode(payload).decode(), _SECOND_LOOK)


class Departures(JobService):
    """Tells instances that people have left."""

    kind = DEPARTURE

    def __init__(self, pool: asyncpg.Pool[Any], execute: Execute, settings: Settings, *, owner: str) -> None:
        super().__init__(pool, settings, owner=owner, batch_size=10)
        self._execute = execute

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Result]:
        """Tell the next instances of each."""
        return [await self._guarded(tenant_id, job) for job in jobs]

    async def _guarded(self, tenant_id: str, job: ClaimedJob) -> Result:
        try:
            return await self._page(tenant_id, job)
        except ShuttingDown:
            return Served.KEPT
        except InstanceTooNew:
            return TOO_NEW
        except NOT_NOW:
            return AWAY
        except msgspec.DecodeError as error:
            return Failed(f"the job cannot be read: {error}", for_good=True)

    async def _page(self, tenant_id: str, job: ClaimedJob) -> Result:
        payload = msgspec.json.decode(job.payload, type=DeparturePayload)
        kinds, keys = zip(*payload.approvers, strict=True)
        rows = await self._pool.fetch(_sql.asking, tenant_id, kinds, keys, payload.after, _PAGE)
        told = await asyncio.gather(*(self._tell(tenant_id, job, row["id"]) for row in rows), return_exceptions=True)
        for row, error in zip(rows, told, strict=True):
            if isinstance(error, EngineError) and not isinstance(error, (ShuttingDown, InstanceTooNew, *NOT_NOW)):
                # One that cannot be told keeps nobody else from being told; the second look tries it again.
                _log.error("departure_not_told", instance=row["id"], error=str(error))
            elif error is not None:
                raise error
        if len(rows) < _PAGE:
            return Served.DONE
        further = msgspec.structs.replace(payload, after=rows[-1]["id"])
        await self._pool.execute(_sql.advance, tenant_id, job.id, job.token, msgspec.json.encode(further).decode())
        return Again(0.0)

    async def _tell(self, tenant_id: str, job: ClaimedJob, instance_id: str) -> None:
        # Another id for each claim: what an earlier one brought about may have to be done once more.
        command = Command(f"job:{job.id}:{job.token}:{instance_id}", ENGINE, ReplaceApprovers())
        await self._execute(tenant_id, instance_id, command, background=True)
