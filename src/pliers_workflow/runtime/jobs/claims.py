"""Claiming steps: a node's one place that knows which lanes have something due, and takes it.

Lanes are learnt in three ways. What this node commits names its lanes (`committed`). What others commit wakes this node,
and the lanes of jobs that have become due lately are read (`fresh_lanes`), no oftener than a twentieth of the time allows.
Once a minute all lanes are read and asked from the beginning, for whatever was missed.

Whoever serves queues (the `StepWorker`, a request for external tasks) says which, and how much it can take now. Queues
with a limit are claimed one by one in a transaction that holds the limit (`limits`).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec import Struct

from pliers_workflow.storage import queries

from ..failures import DATABASE_AWAY
from . import limits
from .lanes import Ask, LaneKey, Lanes, Mark, Serves
from .payloads import STEP, StepPayload, read_step
from .service import BEGINNING, FULL_SWEEP_EVERY

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

    from pliers_workflow.settings import Settings
    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..commit.fold import Fold

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("steps")

#: Seconds between two looks for fresh lanes: at least, while nothing else is known to be due; and at most, while there is.
_LOOK_EVERY_MIN: Final = 0.02
_LOOK_EVERY_MAX: Final = 1.0
#: A look may take this part of the time.
_LOOK_SHARE: Final = 20
#: How far back a look goes beyond the one before it; and seconds between two that go back by the whole margin.
_LOOK_BACK: Final = timedelta(seconds=2)
_LOOK_BACK_FAR_EVERY: Final = 5.0
#: Seconds a queue is left alone whose limit is reached.
_FULL_PAUSE: Final = 0.25


class ClaimedStep(Struct, frozen=True):
    """A step that is ours for a while."""

    tenant_id: str
    id: str
    instance_id: str
    #: of the step run: `step/7`
    name: str
    queue: str
    definition: str
    due_at: datetime
    token: int
    payload: StepPayload
    #: its tenant's clock is moved by hand
    virtual: bool = False
    #: it is on a limit's account
    limited: bool = False
    #: as it was claimed; a heartbeat prolongs it
    lease_until: datetime | None = None

    @property
    def attempt_id(self) -> str:
        """What the outside is given as idempotency key."""
        return f"{self.instance_id}:{self.name}:{self.payload.attempt}"


class StepClaims:
    """See the module. One for each node."""

    def __init__(self, pool: asyncpg.Pool[Any], settings: Settings) -> None:
        self._pool = pool
        self._margin = timedelta(seconds=settings.database.query_timeout + 5)
        self._lanes = Lanes(margin=self._margin)
        self._looking = asyncio.Lock()
        #: somebody has said that there is something new
        self._stale = True
        self._now = BEGINNING
        self._looked_at = float("-inf")
        self._look_took = 0.0
        self._looked_far_at = float("-inf")
        self._swept_at = float("-inf")
        self._limits: dict[str, frozenset[str]] = {}
        #: queues whose limit is reached, and until when they are left alone
        self._full: dict[tuple[str, str], float] = {}

    # -- what there is -------------------------------------------------------------------------------------------------

    def committed(self, folds: Sequence[Fold]) -> None:
        """A batch of this node was committed: its steps that are due at once are in lanes that are known now."""
        for fold in folds:
            for job, _ in fold.jobs.values():
                if job.kind == STEP and fold.rows and job.due_at is not None and job.due_at <= fold.now:
                    assert job.queue is not None and job.definition_name is not None, "the table has a check"
                    self._lanes.add(LaneKey(fold.key[0], job.queue, job.definition_name, job.priority))

    def wake(self, _: float = 0.0) -> None:
        """There is something new that this node has not written, or a clock was moved."""
        self._stale = True

    def sweep(self) -> None:
        """Look at everything from the beginning next time."""
        self._swept_at = float("-inf")

    async def next_due(self) -> float | None:
        """Seconds until the next step that waits for its time; None: there is none."""
        seconds: float | None = await self._pool.fetchval(_sql.next_due)
        return seconds

    async def claim(
        self,
        room: int,
        serves: Serves,
        *,
        owner: str,
        lease: float,
        tenant_id: str | None = None,
    ) -> list[ClaimedStep]:
        """
        Take at most `room` due steps of the queues that are served, for `lease` seconds, in turns.

        Fewer than `room`: there is no more of them now (or, at worst for a second, none that this node knows of).
        """
        claimed: list[ClaimedStep] = []
        try:
            await self._claim(claimed, room, serves, owner, timedelta(seconds=lease), tenant_id)
        except DATABASE_AWAY as error:
            if not claimed:
                raise
            # They are ours by now; nobody else would run them before their leases have lapsed, as attempts that were lost.
            _log.warning("claim_cut_short", claimed=len(claimed), error=repr(error))
            self.sweep()
        return claimed

    async def _claim(
        self,
        claimed: list[ClaimedStep],
        room: int,
        serves: Serves,
        owner: str,
        lease: timedelta,
        tenant_id: str | None,
    ) -> None:
        """As `claim`; `claimed` grows with each statement that is committed."""
        await self._look(wanted=False)
        while len(claimed) < room:
            at = time.monotonic()
            turns = self._lanes.turn(room - len(claimed), self._open(serves, at), at=at, tenant_id=tenant_id)
            if not turns:
                if not await self._look(wanted=True):
                    break
                continue
            async with self._pool.acquire() as connection:
                for tenant, asks in turns:
                    await self._claim_from(claimed, connection, tenant, asks, owner, lease)

    def limits_of(self, tenant_id: str) -> frozenset[str]:
        """The keys of a tenant's limits, as far as this node knows."""
        return self._limits.get(tenant_id, frozenset())

    def _open(self, serves: Serves, at: float) -> Serves:
        """The queues that are served and may be claimed from: their limit is not known to be reached."""
        self._full = {queue: until for queue, until in self._full.items() if until > at}
        full = self._full
        return serves if not full else lambda tenant, queue: (tenant, queue) not in full and serves(tenant, queue)

    def reopen(self, tenant_id: str, queue: str) -> None:
        """A step of this queue has ended: there may be room for another."""
        self._full.pop((tenant_id, queue), None)

    def again_in(self) -> float | None:
        """Seconds after which another claim may find more although nothing wakes; None: it will not."""
        now = time.monotonic()
        moments = list(self._full.values())
        if self._stale:  # there is something new, and it was too early to look
            moments.append(self._looked_at + self._pause())
        return max(0.0, min(moments) - now) if moments else None

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _look(self, *, wanted: bool) -> bool:
        """Learn of lanes, if it is time to; whether lanes were read. `wanted`: nothing is known to be due."""
        pause = self._pause() if wanted else _LOOK_EVERY_MAX
        async with self._looking:
            at = time.monotonic()
            if at - self._swept_at >= FULL_SWEEP_EVERY:
                await self._read_lanes(at, sweep=True)
                return True
            if not self._stale and (wanted or at - self._looked_at < _LOOK_EVERY_MAX):
                return False
            if at - self._looked_at < pause:
                return False
            await self._read_lanes(at, sweep=False)
            return True

    def _pause(self) -> float:
        return min(max(_LOOK_EVERY_MIN, _LOOK_SHARE * self._look_took), _LOOK_EVERY_MAX / 2)

    async def _read_lanes(self, at: float, *, sweep: bool) -> None:
        self._stale = False
        async with self._pool.acquire() as connection:
            now = await connection.fetchval(_sql.now)
            if sweep:
                rows = await connection.fetch(_sql.all_lanes)
            else:
                far = at - self._looked_far_at >= _LOOK_BACK_FAR_EVERY
                since = (now if far else self._now) - (self._margin if far else _LOOK_BACK)
                rows = await connection.fetch(_sql.fresh_lanes, min(since, self._now))
                if far:
                    self._looked_far_at = at
            self._limits = await limits.known(connection)
        self._now, self._looked_at = now, at
        lanes = [LaneKey(*row) for row in rows]
        if sweep:
            self._swept_at = at
            self._lanes.sweep(lanes)
        else:
            for lane in lanes:
                self._lanes.add(lane)
        self._look_took = time.monotonic() - at

    # -- claiming ------------------------------------------------------------------------------------------------------

    async def _claim_from(
        self,
        claimed: list[ClaimedStep],
        connection: Connection,
        tenant_id: str,
        asks: Sequence[Ask],
        owner: str,
        lease: timedelta,
    ) -> None:
        keys = self._limits.get(tenant_id, frozenset())
        free = [ask for ask in asks if not limits.limited(keys, ask.lane.queue)]
        if free:
            claimed += await self._take(connection, tenant_id, free, owner, lease)
        bound: defaultdict[str, list[Ask]] = defaultdict(list)
        # Of those that share a limit, whoever was left out before comes first.
        for ask in sorted(asks, key=self._lanes.served):
            if limits.limited(keys, ask.lane.queue):
                bound[ask.lane.queue].append(ask)
        for queue, some in bound.items():
            try:
                claimed += await self._take_limited(connection, tenant_id, queue, some, owner, lease)
            except BaseException:
                self.sweep()  # what was claimed is free again, and may lie behind the marks
                raise

    async def _take_limited(
        self, connection: Connection, tenant_id: str, queue: str, asks: Sequence[Ask], owner: str, lease: timedelta
    ) -> list[ClaimedStep]:
        async with connection.transaction():
            free = await limits.hold(connection, tenant_id, queue)
            if free is None:  # lifted meanwhile
                return await self._take(connection, tenant_id, asks, owner, lease)
            left = free.count
            fitting: list[Ask] = []
            for place, ask in enumerate(asks):
                share = min(ask.share, left, max(1, left // (len(asks) - place)))
                if share > 0:
                    fitting.append(Ask(ask.lane, share, ask.mark, ask.far))
                    left -= share
            if len(fitting) < len(asks) or left == 0:
                pause = _FULL_PAUSE if free.wait is None else free.wait
                self._full[tenant_id, queue] = time.monotonic() + pause
            if not fitting:
                return []
            claimed = await self._take(connection, tenant_id, fitting, owner, lease, limited=True)
            await limits.take(connection, tenant_id, free, [(step.id, step.token) for step in claimed], lease)
        return claimed

    async def _take(
        self,
        connection: Connection,
        tenant_id: str,
        asks: Sequence[Ask],
        owner: str,
        lease: timedelta,
        *,
        limited: bool = False,
    ) -> list[ClaimedStep]:
        rows = await connection.fetch(
            _sql.claim, tenant_id, [ask.lane.queue for ask in asks], [ask.lane.definition for ask in asks],
            [ask.lane.priority for ask in asks], [ask.mark[0] for ask in asks], [ask.mark[1] for ask in asks],
            [ask.share for ask in asks], owner, lease,
        )  # fmt: skip
        counts: defaultdict[LaneKey, int] = defaultdict(int)
        last: dict[LaneKey, Mark] = {}
        claimed: list[ClaimedStep] = []
        for row in rows:
            lane = LaneKey(tenant_id, row["queue"], row["definition_name"], row["priority"])
            counts[lane] += 1
            last[lane] = max(last.get(lane, (BEGINNING, "")), (row["due_at"], row["id"]))
            try:
                payload = read_step(row["payload"])
            except msgspec.DecodeError as error:  # somebody has written into it: in the way of no other
                _log.error("step_left_dead", job=row["id"], error=str(error))
                await connection.execute(
                    _sql.bury, tenant_id, row["id"], row["token"], f"the job cannot be read: {error}"
                )
                continue
            claimed.append(
                ClaimedStep(
                    tenant_id=tenant_id,
                    id=row["id"],
                    instance_id=row["instance_id"],
                    name=row["name"],
                    queue=row["queue"],
                    definition=row["definition_name"],
                    due_at=row["due_at"],
                    token=row["token"],
                    payload=payload,
                    virtual=row["virtual"],
                    limited=limited,
                    lease_until=row["lease_until"],
                )
            )
        claimed.sort(key=lambda step: (step.due_at, step.id))
        now = rows[0]["now"] if rows else self._now
        for ask in asks:
            self._lanes.claimed(ask, last.get(ask.lane), counts[ask.lane], now)
        return claimed
