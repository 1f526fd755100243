"""External tasks: steps that are left to workers outside, who fetch them over the API and bring what came of them.

A fetch claims as the `StepWorker` does, for one tenant and the topics asked for. It may wait: a commit on any node wakes
it. What is fetched is the caller's under a *lease token*, which names the fencing token and the fetch itself, so that it
can neither be guessed nor be mistaken for one of another attempt. Whoever has it may prolong the lease and say what came of
the task, while the lease lasts. When it has lapsed, the result is refused, and the `LeaseRescuer` lets the retry policy
decide, as for every step.

Any node that answers requests does all of this: what is known of a lease is in the job's row.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec import Struct

from pliers_workflow.interpreter.commands import CompleteStep, FailStep
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import canonical, queries

from .. import idempotency, tracing
from ..answers import ShuttingDown, TooManyWaiting
from ..failures import DATABASE_AWAY
from ..nodes.wakeups import Slumber
from . import limits
from .settling import Execute, Settled, settle

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

    from ..access.principal import Principal
    from ..answers import RequestKey
    from .claims import ClaimedStep, StepClaims
    from .settling import Result

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("external")
_steps_sql: Final = queries.load("steps")

#: Of queues: the topic follows.
EXTERNAL: Final = "external:"
#: Seconds between two looks of a fetch that waits: at most, though nobody wakes it; and at least, however often it is woken.
_LOOK_EVERY_MAX: Final = 1.0
_LOOK_EVERY_MIN: Final = 0.02
#: Seconds after which a fetch that may not wait is told to come again: some of those that wait have ended by then.
_RETRY_AFTER: Final = 5.0
#: Turns of the loop in which a connection that has broken is heard of by whoever awaits it.
_TURNS: Final = 3

#: What names a fetch, in a lease token and at the end of the lease's owner.
_NONCE_BYTES: Final = 16
_TOKEN_FORM: Final = re.compile(r"([0-9]{1,18})\.([0-9a-f]{32})")

_GONE: Final = (
    "This task is not yours any more: its lease has lapsed, it was settled or cancelled, or the lease token is of another "
    "fetch. Drop what you have of it, and fetch again."
)


class ExternalTask(Struct, frozen=True):
    """A task that was fetched."""

    step: ClaimedStep
    lease_token: str

    @property
    def topic(self) -> str:
        """What the worker had asked for."""
        return self.step.queue.removeprefix(EXTERNAL)


class _LeaseToken(Struct, frozen=True):
    fencing: int
    nonce: str


class _Held(Struct, frozen=True):
    """What a job's row says of a task whose lease lasts."""

    instance_id: str
    name: str
    queue: str
    attempt: int
    limited: bool
    #: as JSON text
    trace: str | None


class ExternalTasks:
    """See the module. One for each node."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        execute: Execute,
        claims: StepClaims,
        settings: Settings,
        *,
        draining: asyncio.Event,
        wake: Callable[[], None],
    ) -> None:
        """`wake` tells every node that a step may be due."""
        self._pool = pool
        self._wake_all = wake
        self._execute = execute
        self._claims = claims
        self._output_size_max = settings.steps.output_size_max
        self._draining = draining
        self._waiting_max = settings.steps.waiting_fetches_max
        self._waiting_per_tenant_max = settings.steps.waiting_fetches_per_tenant_max
        #: of the fetches that wait, with their tenants
        self._slumbers: dict[Slumber, str] = {}
        self._waiting: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Fetches that wait here now."""
        return len(self._slumbers)

    def wake(self, delay: float = 0.0) -> None:
        """In `delay` seconds a step is due: fetches that wait look for it."""
        for slumber in self._slumbers:
            slumber.wake(delay)

    # -- fetching ------------------------------------------------------------------------------------------------------

    async def fetch(
        self,
        tenant_id: str,
        topics: Collection[str],
        worker_id: str,
        *,
        room: int,
        lease: float,
        wait: float,
        admit: Callable[[], Awaitable[Any]],
        gone: Callable[[], Awaitable[None]],
    ) -> list[ExternalTask]:
        """
        Take at most `room` due tasks of these topics; where there is none, wait up to `wait` seconds for one.

        Ends at once, with nothing, when the node is told to stop or the caller is `gone`; what was claimed for a caller who
        has gone is given back. (What was sent to one who goes at that moment comes back when its lease has lapsed.) Before
        every look `admit` is asked whether the caller may still have something; it raises what they are to be told. Raises
        ShuttingDown, and TooManyWaiting where it would have to wait and too many do.
        """
        if self._draining.is_set():
            raise ShuttingDown
        queues = frozenset(EXTERNAL + topic for topic in topics)
        nonce = secrets.token_hex(_NONCE_BYTES)
        owner = f"{EXTERNAL}{worker_id}:{nonce}"
        until = time.monotonic() + wait

        async def look() -> list[ClaimedStep]:
            await admit()
            self._claims.wake()
            return await self._claims.claim(
                room, lambda _, queue: queue in queues, owner=owner, lease=lease, tenant_id=tenant_id
            )

        leaving = asyncio.ensure_future(gone())
        try:
            steps = await look()
            if not steps and wait > 0:
                steps = await self._wait(tenant_id, look, until, leaving, owner)
            if steps:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if leaving.done():  # nobody is there to do it: another worker may have it at once
                    await self._give_back(steps, owner)
                    steps = []
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        return [ExternalTask(step, f"{step.token}.{nonce}") for step in steps]

    def _admit(self, tenant_id: str) -> None:
        for limit, count, of_tenant in (
            (self._waiting_per_tenant_max, self._waiting[tenant_id], True),
            (self._waiting_max, len(self._slumbers), False),
        ):
            if count >= limit:
                raise TooManyWaiting(limit, _RETRY_AFTER, of_tenant=of_tenant)

    async def _wait(
        self,
        tenant_id: str,
        look: Callable[[], Awaitable[list[ClaimedStep]]],
        until: float,
        leaving: asyncio.Future[None],
        owner: str,
    ) -> list[ClaimedStep]:
        self._admit(tenant_id)
        slumber = Slumber()
        self._slumbers[slumber] = tenant_id
        self._waiting[tenant_id] += 1
        draining = asyncio.ensure_future(self._draining.wait())
        ends: list[asyncio.Future[Any]] = [draining, leaving]
        for end in ends:
            end.add_done_callback(lambda _: slumber.wake())
        try:
            while not any(end.done() for end in ends) and (left := until - time.monotonic()) > 0:
                again = self._claims.again_in()
                await slumber.sleep(min(left, _LOOK_EVERY_MAX if again is None else max(again, _LOOK_EVERY_MIN)))
                if any(end.done() for end in ends):
                    break
                if steps := await look():
                    if draining.done():  # another node gives it to whoever asks there
                        await self._give_back(steps, owner)
                        break
                    return steps
                await asyncio.sleep(_LOOK_EVERY_MIN)
            return []
        finally:
            del self._slumbers[slumber]
            self._waiting -= Counter((tenant_id,))  # what comes to nothing is left out
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)

    async def _give_back(self, steps: list[ClaimedStep], owner: str) -> None:
        tenant_id = steps[0].tenant_id
        with contextlib.suppress(*DATABASE_AWAY):
            await self._pool.execute(
                _steps_sql.give_back, tenant_id, [step.id for step in steps], [step.token for step in steps],
                [0.0] * len(steps), owner,
            )  # fmt: skip
            for step in steps:
                if step.limited:
                    await self._release(tenant_id, step.queue, step.id, step.token)
        self._claims.sweep()  # they may lie behind the marks

    # -- what workers say ----------------------------------------------------------------------------------------------

    async def heartbeat(self, tenant_id: str, task_id: str, lease_token: str, *, lease: float) -> datetime | Rejection:
        """Prolong a lease: until when it lasts now, or why it cannot be (`step_gone`)."""
        token = _read(lease_token)
        if token is None:
            return _gone()
        until: datetime | None = await self._pool.fetchval(
            _sql.renew, tenant_id, task_id, token.fencing, token.nonce, timedelta(seconds=lease)
        )
        return until or _gone()

    async def give_back(self, tenant_id: str, task_id: str, lease_token: str) -> None | Rejection:
        """Leave a task to other workers at once; it uses up no attempt. None, or why it cannot be (`step_gone`)."""
        token = _read(lease_token)
        queue = None
        if token is not None:
            queue = await self._pool.fetchval(_sql.give_back, tenant_id, task_id, token.fencing, token.nonce)
        if queue is None:
            return _gone()
        self._claims.reopen(tenant_id, queue)
        self._claims.sweep()  # it may lie behind the marks
        self._wake_all()
        return None

    async def complete(
        self, principal: Principal, task_id: str, lease_token: str, output: Any, *, request: RequestKey | None = None
    ) -> bool | Rejection:
        """
        Say what a task gave. Whether it had been said before under the same key; or why not.

        An output that is too large is refused, and the task stays the worker's. One that the instance itself cannot take
        fails the step for good (`settling`). Raises KeyReusedError, EngineError.
        """

        def result(held: _Held) -> Result:
            return CompleteStep(held.name, held.attempt, output)

        return await self._settle(principal, task_id, lease_token, result, output, request)

    async def fail(
        self,
        principal: Principal,
        task_id: str,
        lease_token: str,
        *,
        code: str,
        message: str,
        retryable: bool,
        retry_after: float | None,
        details: dict[str, Any],
        request: RequestKey | None = None,
    ) -> bool | Rejection:
        """Say why a task failed; the step's retry policy decides what comes next. As `complete`."""
        after = None if retry_after is None else round(retry_after * 1000)

        def result(held: _Held) -> Result:
            return FailStep(
                held.name, held.attempt, code, message, retryable=retryable, retry_after_ms=after, details=details
            )

        return await self._settle(principal, task_id, lease_token, result, details, request)

    async def _settle(
        self,
        principal: Principal,
        task_id: str,
        lease_token: str,
        result: Callable[[_Held], Result],
        value: Any,
        request: RequestKey | None,
    ) -> bool | Rejection:
        tenant_id = principal.tenant_id
        # The row is gone once it is settled, so a repetition is known by its key alone.
        if request is not None:
            for key in (request, _refused(request)):
                if await idempotency.known(self._pool, tenant_id, key) is not None:
                    return True
        size = len(canonical.encode_loose(value))
        if size > self._output_size_max:
            message = (
                f"This has {size:,} bytes, and at most {self._output_size_max:,} are kept; the task is still yours."
            )
            return Rejection(Reason.DATA_TOO_LARGE, message, {"bytes": size, "limit": self._output_size_max})
        token = _read(lease_token)
        row = (
            None
            if token is None
            else await self._pool.fetchrow(_sql.task, tenant_id, task_id, token.fencing, token.nonce)
        )
        if row is None or token is None:
            return _gone()
        held = _Held(**row)
        # The worker's own trace, else the one that it was given along with the task.
        trace = tracing.current() or tracing.kept(held.trace)
        with tracing.within(trace):
            settled = await settle(
                self._execute, tenant_id, held.instance_id, result(held),
                key=None if request is None else lambda suffix: _refused(request) if suffix else request,
            )  # fmt: skip
        if held.limited:
            with contextlib.suppress(*DATABASE_AWAY):
                await self._release(tenant_id, held.queue, task_id, token.fencing)
        if settled is Settled.GONE:
            with contextlib.suppress(*DATABASE_AWAY):
                await self._pool.execute(_steps_sql.drop_claimed, tenant_id, [task_id], [token.fencing])
            return _gone()
        attempt = f"{held.instance_id}:{held.name}:{held.attempt}"
        _log.info("external_task_settled", step=attempt, user=principal.user_id)
        return False

    async def _release(self, tenant_id: str, queue: str, task_id: str, token: int) -> None:
        await limits.release(self._pool, tenant_id, queue, task_id, token)
        self._claims.reopen(tenant_id, queue)


def _read(lease_token: str) -> _LeaseToken | None:
    found = _TOKEN_FORM.fullmatch(lease_token)
    return None if found is None else _LeaseToken(int(found.group(1)), found.group(2))


def _gone() -> Rejection:
    return Rejection(Reason.STEP_GONE, _GONE)


def _refused(request: RequestKey) -> RequestKey:
    """The key of what is recorded in place of a result that the instance cannot take."""
    return msgspec.structs.replace(request, route=f"{request.route}:refused")
