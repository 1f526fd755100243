"""Jobs that the engine serves itself: claimed by kind in batches, oldest first, and served as they come.

A claim is a lease with a fencing token. Serving a job must stand being done twice, because a node that dies leaves its
leases to lapse and another one claims again. Tenants are claimed from in turn.

A claim begins at a watermark that stays behind the last claim by longer than a writing statement may take, so that no
late commit is missed; once a minute it begins at the beginning, for lapsed leases and back-dated jobs. While a tenant has
more due than one claim takes, its next claim begins where the last one ended.

What cannot be served now is put back with a growing delay; after `attempts_max` claims it is dead, and waits for an
operator (`dead`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog
from msgspec import Struct

from pliers_workflow.storage import queries

from ..failures import DATABASE_AWAY, NOT_NOW
from ..nodes.wakeups import Slumber

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("jobs")

#: Attempts after which a job that cannot be served is left dead, for an operator.
ATTEMPTS_MAX: Final = 12
#: Seconds between two claims from the beginning.
FULL_SWEEP_EVERY: Final = 60.0
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOWEST_ID: Final = "00000000-0000-0000-0000-000000000000"
#: Seconds between two looks, however often it is woken: jobs that are due one after another are claimed together.
PAUSE: Final = 0.005
#: Seconds that serving what is claimed may take when the node stops.
DRAIN_TIMEOUT: Final = 5.0


class ClaimedJob(Struct, frozen=True):
    """A job that is ours for a while."""

    id: str
    #: the instance that owes it; None: none does
    instance_id: str | None
    name: str
    due_at: datetime
    token: int
    #: claims so far, this one included
    attempt: int
    #: as JSON text
    payload: str


class Served(Enum):
    """What became of a claimed job."""

    #: the commit of what it led to has dropped its row, or taken it over
    SETTLED = "settled"
    #: there is nothing to do any more: its row is dropped
    DONE = "done"
    #: this node is stopping: another one will do it
    KEPT = "kept"


class Failed(Struct, frozen=True):
    """It could not be served now: it is put back, or dead after the last attempt."""

    error: str
    #: no use in trying again by itself
    for_good: bool = False


class Again(Struct, frozen=True):
    """Its hour has not come yet after all: it is put back for so many seconds, which is no failure."""

    seconds: float


Result: TypeAlias = Served | Failed | Again

#: Of an instance that a newer release has written: a node of that release will do it.
TOO_NEW: Final = Again(10.0)
#: The database went away meanwhile, or the engine has too much to do: no fault of the job's, and no attempt.
AWAY: Final = Again(1.0)


class JobService:
    """
    Claims the due jobs of one kind and serves them. Every worker runs one; they share the work by `SKIP LOCKED`.

    A subclass says `kind` and how to `serve`.
    """

    #: of the jobs, as in the table
    kind: str

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        settings: Settings,
        *,
        owner: str,
        batch_size: int | None = None,
        lease: float | None = None,
        poll: float | None = None,
        attempts_max: int = ATTEMPTS_MAX,
    ) -> None:
        execution = settings.execution
        self._pool = pool
        self._owner = owner
        self._batch_size = batch_size or execution.timer_batch_size
        self._lease = timedelta(seconds=lease or execution.timer_lease)
        self._poll = poll or execution.timer_poll
        self._attempts_max = attempts_max
        self._margin = timedelta(seconds=settings.database.query_timeout + 5)
        self._low = BEGINNING
        #: tenants that have more due than their last claim took, with the last job of it
        self._busy: dict[str, tuple[datetime, str]] = {}
        #: the database's clock when it was last asked; a node's own may be wrong
        self._looked_at = BEGINNING
        self._swept_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._slumber = Slumber()
        self._closing = False
        #: claimed and not settled yet: (tenant, job) -> fencing token
        self._held: dict[tuple[str, str], int] = {}

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Result]:
        """Serve jobs that were claimed together; what became of each, in their order. Must stand being done twice."""
        raise NotImplementedError

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for due jobs."""
        self._closing = False
        self._task = asyncio.create_task(self._run(), name=f"{self.kind}-jobs")

    async def close(self, *, grace: float = DRAIN_TIMEOUT) -> None:
        """Claim nothing more; serve what is claimed, and give back what cannot be served within `grace` seconds."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._slumber.wake()
        await asyncio.wait({task, *self._serving}, timeout=grace)
        for left in (task, *self._serving):
            left.cancel()
        await asyncio.gather(task, *self._serving, return_exceptions=True)
        held: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for (tenant_id, job_id), token in self._held.items():
            held[tenant_id].append((job_id, token))
        self._held.clear()
        with contextlib.suppress(*DATABASE_AWAY):
            for tenant_id, jobs in held.items():
                await self._pool.execute(_sql.give_back, tenant_id, *zip(*jobs, strict=True), timeout=5)

    def wake(self, delay: float = 0.0) -> None:
        """In `delay` seconds something is due: a job was scheduled, or a clock was moved."""
        self._slumber.wake(delay)

    async def _run(self) -> None:
        while not self._closing:
            pause = self._poll
            try:
                while not self._closing:
                    room = min(self._batch_size, 2 * self._batch_size - len(self._held))
                    if room < 1 and self._serving:
                        await asyncio.wait(self._serving, return_when=asyncio.FIRST_COMPLETED)
                        continue
                    # Asked before the claim, and not after it: what becomes due between the two is claimed.
                    next_due, asked_at = await self._next_due(), time.monotonic()
                    claimed = await self._claim(max(1, room))
                    if not claimed:
                        pause = min(pause, max(0.0, next_due - (time.monotonic() - asked_at)))
                        break
                    for tenant_id, jobs in claimed:
                        task = asyncio.create_task(self._serve(tenant_id, jobs))
                        self._serving.add(task)
                        task.add_done_callback(self._serving.discard)
            except DATABASE_AWAY as error:
                _log.warning("jobs_wait_for_database", kind=self.kind, error=repr(error))
            except Exception:
                _log.exception("jobs_failed", kind=self.kind)
            if not self._closing:
                await asyncio.sleep(PAUSE)
                await self._slumber.sleep(max(0.0, pause - PAUSE))

    # -- one round -----------------------------------------------------------------------------------------------------

    async def run_due(self) -> int:
        """Claim what is due now, one claim for each tenant, and serve it; how many were claimed."""
        claimed = await self._claim(self._batch_size)
        await asyncio.gather(*(self._serve(tenant_id, jobs) for tenant_id, jobs in claimed))
        return sum(len(jobs) for _, jobs in claimed)

    async def sweep(self) -> int:
        """Serve what is due, looking from the beginning."""
        self._swept_at = float("-inf")
        return await self.run_due()

    async def _claim(self, room: int) -> list[tuple[str, list[ClaimedJob]]]:
        looked_at, low = self._looked_at, self._low
        if time.monotonic() - self._swept_at >= FULL_SWEEP_EVERY:
            low, self._swept_at = BEGINNING, time.monotonic()
            self._busy.clear()
        claimed: list[tuple[str, list[ClaimedJob]]] = []
        async with self._pool.acquire() as connection:
            turns = dict(self._busy)
            for (tenant_id,) in await connection.fetch(_sql.tenants_with_due, low, self.kind, list(turns)):
                turns[tenant_id] = (low, LOWEST_ID)
            for tenant_id, (since, since_id) in turns.items():
                try:
                    rows = await connection.fetch(
                        _sql.claim_due, tenant_id, since, room, self._owner, self._lease, self.kind, since_id
                    )
                except DATABASE_AWAY as error:
                    self._swept_at = float("-inf")
                    if not claimed:
                        raise
                    # What is ours by now is served; the rest is found by the next claim, from where this one began.
                    _log.warning("claim_cut_short", kind=self.kind, error=repr(error))
                    return claimed
                jobs = sorted((ClaimedJob(*row) for row in rows), key=lambda job: (job.due_at, job.id))
                if len(jobs) < room:
                    self._busy.pop(tenant_id, None)
                else:
                    # Jobs of one instant are told apart by their ids, unless a late commit may still bring more of them.
                    last = jobs[-1]
                    safe = looked_at - self._margin
                    self._busy[tenant_id] = (
                        (last.due_at, last.id) if last.due_at < safe else (max(since, safe), LOWEST_ID)
                    )
                if jobs:
                    claimed.append((tenant_id, jobs))
                    self._held.update({(tenant_id, job.id): job.token for job in jobs})
        if not self._busy:
            self._low = looked_at - self._margin
        return claimed

    async def _serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> None:
        try:
            results: Sequence[Result] = await self.serve(tenant_id, jobs)
        except NOT_NOW as error:
            _log.warning("jobs_left_for_later", kind=self.kind, jobs=len(jobs), error=repr(error))
            results = [AWAY] * len(jobs)
        except Exception as error:  # a bug in how they are served: put back, and in the end dead
            _log.exception("jobs_failed", kind=self.kind)
            results = [Failed(repr(error))] * len(jobs)
        done: list[ClaimedJob] = []
        later: list[tuple[ClaimedJob, str | None, bool, float | None]] = []
        for job, result in zip(jobs, results, strict=True):
            match result:
                case Served.DONE:
                    done.append(job)
                case Failed():
                    later.append((job, result.error, result.for_good, None))
                case Again():
                    later.append((job, None, False, result.seconds))
        try:
            if done:
                await self._pool.execute(
                    _sql.drop_claimed, tenant_id, [job.id for job in done], [job.token for job in done]
                )
            if later:
                jobs_, errors, final, seconds = zip(*later, strict=True)
                await self._pool.execute(
                    _sql.put_back, tenant_id, [job.id for job in jobs_], [job.token for job in jobs_], errors,
                    self._attempts_max, final, seconds,
                )  # fmt: skip
        except DATABASE_AWAY as error:
            # Their leases lapse, and they are served again.
            _log.warning("jobs_not_settled", kind=self.kind, jobs=len(done) + len(later), error=repr(error))
        for job, result in zip(jobs, results, strict=True):
            if result is not Served.KEPT:  # that one is given back when the service closes
                self._held.pop((tenant_id, job.id), None)
        if later:
            self._slumber.wake(PAUSE)  # to look when the first of them is due

    async def _next_due(self) -> float:
        row = await self._pool.fetchrow(_sql.next_due, self.kind)
        assert row is not None, "an aggregate has a row"
        self._looked_at, seconds = row["now"], row["seconds"]
        return self._poll if seconds is None else float(seconds)
