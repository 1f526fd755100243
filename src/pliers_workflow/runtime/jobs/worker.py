"""The step worker: claims steps that can be run here, runs so many at once, and brings their results home.

A step's lease is prolonged while it runs. When the lease is lost (its step was cancelled, or the database was away for
longer than a lease), the step is stopped and its result dropped: somebody else may be at it. A step runs at least once,
with the attempt id as idempotency key for the outside, and its result is applied exactly once.

When the node stops, nothing more is claimed, running steps have a grace period, and what is not done then is given back: it
is claimed by another node at once, and no attempt is used up.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from pliers_workflow.interpreter.commands import CompleteStep, FailStep
from pliers_workflow.storage import canonical, queries

from .. import tracing
from ..answers import EngineError, InstanceTooNew, ShuttingDown
from ..failures import DATABASE_AWAY, NOT_NOW
from ..nodes.wakeups import Slumber
from . import limits
from .breakers import Breakers
from .claims import ClaimedStep, StepClaims
from .failures import Postponed, StepFailure
from .outputs import Unkept, as_json
from .service import PAUSE
from .settling import Execute, Result, Settled, settle

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

    from .executors import Executors

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("steps")

#: Times a result is brought that the engine will not have before the step is left dead, and the seconds between: growing, for about a minute in all.
_SETTLE_ATTEMPTS: Final = 12
_SETTLE_DELAY_MIN, _SETTLE_DELAY_MAX = 0.1, 10.0
#: Heartbeats in the time of a lease.
_HEARTBEATS: Final = 3


class _Running:
    """A step that runs here."""

    __slots__ = ("held_until", "lost", "result", "step", "task")

    def __init__(self, step: ClaimedStep, held_until: float) -> None:
        self.step = step
        #: by the loop's clock: nobody else can have it before
        self.held_until = held_until
        #: somebody else may be at it: whatever comes of it is dropped
        self.lost = False
        #: it is done, and its result is being brought
        self.result: Result | None = None
        self.task: asyncio.Task[None] | None = None


class StepWorker:
    """See the module. Every worker node runs one."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        execute: Execute,
        claims: StepClaims,
        executors: Executors,
        settings: Settings,
        *,
        owner: str,
    ) -> None:
        self._pool = pool
        self._execute = execute
        self._claims = claims
        self._executors = executors
        self._settings = settings.steps
        self._time_max = settings.execution.max_step_execution_time
        self._owner = owner
        self.breakers = Breakers(failures=settings.steps.breaker_failures, open_seconds=settings.steps.breaker_open)
        self._running: dict[tuple[str, str], _Running] = {}
        self._slumber = Slumber()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        #: counted since the start
        self.completed = 0
        self.failed = 0
        self.dropped = 0
        self.given_back = 0

    @property
    def running(self) -> int:
        """Steps that run here now."""
        return len(self._running)

    async def start(self) -> None:
        """Begin to claim steps and run them."""
        self._closing = False
        self._tasks = [
            asyncio.create_task(self._run(), name="step-worker"),
            asyncio.create_task(self._beat(), name="step-heartbeat"),
        ]

    def wake(self, delay: float = 0.0) -> None:
        """In `delay` seconds a step is due."""
        self._claims.wake()
        self._slumber.wake(delay)

    async def close(self, *, grace: float | None = None) -> None:
        """Claim nothing more; let running steps end within the grace period, and give the others back."""
        if not self._tasks:
            return
        self._closing = True
        self._slumber.wake()
        claiming, beating = self._tasks
        await asyncio.gather(claiming, return_exceptions=True)
        running = [each.task for each in self._running.values() if each.task is not None]
        if running:
            await asyncio.wait(running, timeout=self._settings.drain_grace if grace is None else grace)
        left = [each for each in self._running.values() if each.task is not None and not each.task.done()]
        for each in left:
            assert each.task is not None
            each.lost = True
            each.task.cancel()
        beating.cancel()
        await asyncio.gather(beating, *(each.task for each in left if each.task), return_exceptions=True)
        with contextlib.suppress(*DATABASE_AWAY):
            await self._give_back([(each.step, 0.0) for each in left])
        self._running.clear()
        self._tasks = []

    # -- claiming ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._closing:
            pause = self._settings.poll
            try:
                room = self._settings.concurrency - len(self._running)
                if room > 0:
                    # Asked before the claim, and not after it: what becomes due between the two is claimed.
                    next_due, asked_at = await self._claims.next_due(), time.monotonic()
                    claimed = await self._claim(room)
                    if len(claimed) < room:
                        if next_due is not None:
                            pause = min(pause, max(0.0, next_due - (time.monotonic() - asked_at)))
                        again = self._claims.again_in()
                        pause = pause if again is None else min(pause, again)
            except DATABASE_AWAY as error:
                _log.warning("steps_wait_for_database", error=repr(error))
                pause = min(pause, 1.0)
            except Exception:
                _log.exception("step_worker_failed")
            if not self._closing:
                # Steps that end or come one after another are claimed for together.
                await asyncio.sleep(PAUSE)
                slept_at = time.monotonic()
                await self._slumber.sleep(max(0.0, pause - PAUSE))
                if time.monotonic() - slept_at >= pause - 2 * PAUSE:  # nobody has woken us: see for ourselves
                    self._claims.wake()

    async def run_due(self) -> int:
        """Claim what is due now and run it to the end; how many steps that were."""
        self._claims.wake()
        claimed = await self._claim(self._settings.concurrency - len(self._running))
        await asyncio.gather(*(each.task for each in claimed if each.task is not None))
        return len(claimed)

    async def _claim(self, room: int) -> list[_Running]:
        at = time.monotonic()
        steps = await self._claims.claim(room, self._serves, owner=self._owner, lease=self._settings.lease)
        begun = []
        for step in steps:
            running = _Running(step, at + self._settings.lease)
            self._running[step.tenant_id, step.id] = running
            running.task = asyncio.create_task(self._live(running), name=f"step {step.attempt_id}")
            begun.append(running)
        return begun

    def _serves(self, _: str, queue: str) -> bool:
        return self._executors.of(queue) is not None

    # -- one step ------------------------------------------------------------------------------------------------------

    async def _live(self, running: _Running) -> None:
        step = running.step
        tracing.adopt(step.payload.trace)
        try:
            outcome = await self._attempt(step)
            if isinstance(outcome, Postponed):
                _log.info("step_postponed", step=step.attempt_id, seconds=outcome.seconds, reason=str(outcome))
                await self._postpone(step, outcome.seconds)
            elif not running.lost:
                running.result = outcome
                await self._bring(running, outcome)
        except asyncio.CancelledError:
            if not running.lost:
                raise
        except Exception:
            _log.exception("step_failed", step=step.attempt_id)
        finally:
            if self._running.get((step.tenant_id, step.id)) is running:
                del self._running[step.tenant_id, step.id]
            if step.limited:
                await self._release(step)
            self._slumber.wake()

    async def _attempt(self, step: ClaimedStep) -> Result | Postponed:
        executor = self._executors.of(step.queue)
        if executor is None:  # it was served when it was claimed
            return Postponed(1.0, f"nobody here serves {step.queue}")
        target = executor.target(step)
        # A clock that is moved by hand would never let a postponed step come back.
        if target is not None and not step.virtual:
            wait = self.breakers.admit(step.tenant_id, target)
            if wait is not None:
                return Postponed(wait * random.uniform(1.0, 1.2), f"the circuit to {target} is open")
        try:
            result = await self._outcome(step, executor.run(step))
        except asyncio.CancelledError:
            if target is not None:
                self.breakers.unknown(step.tenant_id, target)
            raise
        if target is not None:
            if isinstance(result, Postponed):
                self.breakers.unknown(step.tenant_id, target)
            elif isinstance(result, FailStep) and result.retryable:
                after = None if result.retry_after_ms is None else result.retry_after_ms / 1000
                self.breakers.failed(step.tenant_id, target, retry_after=after)
            else:
                self.breakers.succeeded(step.tenant_id, target)
        return result

    async def _outcome(self, step: ClaimedStep, work: Any) -> Result | Postponed:
        payload = step.payload
        limit = self._time_max if payload.timeout_ms is None else min(self._time_max, payload.timeout_ms / 1000)
        try:
            async with asyncio.timeout(limit):
                output = await work
        except Postponed as postponed:
            return postponed
        except StepFailure as failure:
            after = failure.retry_after
            return FailStep(
                step.name, payload.attempt, failure.code, failure.message, retryable=failure.retryable,
                retry_after_ms=None if after is None else max(0, round(after * 1000)), details=failure.details,
            )  # fmt: skip
        except TimeoutError:
            return FailStep(step.name, payload.attempt, "TIMEOUT", f"The step took longer than {limit:g} s.")
        except Exception as error:
            _log.exception("executor_failed", step=step.attempt_id, queue=step.queue)
            return FailStep(
                step.name, payload.attempt, "EXECUTOR_FAILED", f"The step failed with {type(error).__name__}."
            )
        return self._completed(step, output)

    def _completed(self, step: ClaimedStep, output: Any) -> Result:
        """The output as a result, or why it cannot be kept: which no other attempt would mend."""
        try:
            output = as_json(output)
        except Unkept as error:
            message = f"The output cannot be kept: {error}"
            return FailStep(step.name, step.payload.attempt, "OUTPUT_INVALID", message, retryable=False)
        size = len(canonical.encode_loose(output))
        if size > self._settings.output_size_max:
            message = f"The output has {size} bytes, at most {self._settings.output_size_max} are kept."
            return FailStep(step.name, step.payload.attempt, "OUTPUT_TOO_LARGE", message, retryable=False)
        return CompleteStep(step.name, step.payload.attempt, output)

    # -- bringing results ----------------------------------------------------------------------------------------------

    async def _bring(self, running: _Running, result: Result) -> None:
        step, refusals, delay = running.step, 0, _SETTLE_DELAY_MIN
        while not running.lost:
            try:
                settled = await settle(self._execute, step.tenant_id, step.instance_id, result)
            except (ShuttingDown, InstanceTooNew):
                return  # not on this node: the lease lapses, and the rescuer lets the retry policy decide
            except NOT_NOW:
                pass  # the work is done: its result is brought for as long as it takes
            except EngineError as error:
                refusals += 1
                if refusals == _SETTLE_ATTEMPTS:
                    _log.error("step_left_dead", step=step.attempt_id, error=repr(error))
                    with contextlib.suppress(*DATABASE_AWAY):
                        await self._pool.execute(_sql.bury, step.tenant_id, step.id, step.token, str(error))
                    return
            else:
                if settled is Settled.GONE:
                    self.dropped += 1
                    with contextlib.suppress(*DATABASE_AWAY):
                        await self._pool.execute(_sql.drop_claimed, step.tenant_id, [step.id], [step.token])
                elif isinstance(result, CompleteStep):
                    self.completed += 1
                else:
                    self.failed += 1
                return
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(delay * 2, _SETTLE_DELAY_MAX)

    async def _postpone(self, step: ClaimedStep, seconds: float) -> None:
        """Give a step back, as often as it takes: nothing was done for it, so no attempt should be used up."""
        delay = _SETTLE_DELAY_MIN
        for _ in range(_SETTLE_ATTEMPTS):
            try:
                await self._give_back([(step, seconds)])
            except DATABASE_AWAY:
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
                delay = min(delay * 2, _SETTLE_DELAY_MAX)
            else:
                return
        # Its lease lapses, and the rescuer lets the retry policy decide.
        _log.warning("step_left_for_later", step=step.attempt_id)

    async def _give_back(self, steps: list[tuple[ClaimedStep, float]]) -> None:
        by_tenant: defaultdict[str, list[tuple[ClaimedStep, float]]] = defaultdict(list)
        for step, seconds in steps:
            by_tenant[step.tenant_id].append((step, seconds))
        for tenant_id, some in by_tenant.items():
            await self._pool.execute(
                _sql.give_back, tenant_id, [step.id for step, _ in some], [step.token for step, _ in some],
                [seconds for _, seconds in some], self._owner, timeout=5,
            )  # fmt: skip
            self.given_back += len(some)

    async def _release(self, step: ClaimedStep) -> None:
        with contextlib.suppress(*DATABASE_AWAY):
            await limits.release(self._pool, step.tenant_id, step.queue, step.id, step.token)
        self._claims.reopen(step.tenant_id, step.queue)

    # -- holding -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease / _HEARTBEATS)
            try:
                await self.beat()
            except DATABASE_AWAY as error:
                _log.warning("heartbeat_waits_for_database", error=repr(error))
            except Exception:
                _log.exception("heartbeat_failed")
            self._stop_lost()

    async def beat(self) -> None:
        """Prolong the leases of what runs, and stop what is not ours any more."""
        held = list(self._running.values())
        if not held:
            return
        at = time.monotonic()
        keys = sorted({key for each in held if each.step.limited for key in limits.keys_of(each.step.queue)})
        rows = await self._pool.fetch(
            _sql.hold, [each.step.tenant_id for each in held], [each.step.id for each in held],
            [each.step.token for each in held], self._owner, timedelta(seconds=self._settings.lease), keys,
            timeout=self._settings.lease / _HEARTBEATS,
        )  # fmt: skip
        ours = {(row["tenant_id"], row["id"]) for row in rows}
        for each in held:
            if (each.step.tenant_id, each.step.id) in ours:
                each.held_until = at + self._settings.lease
            elif each.result is None:  # a result that has just been committed has taken the row with it
                each.held_until = at

    def _stop_lost(self) -> None:
        now = time.monotonic()
        for each in list(self._running.values()):
            if each.held_until <= now and not each.lost and each.result is None:
                _log.info("step_lost", step=each.step.attempt_id)
                each.lost = True
                self.dropped += 1
                assert each.task is not None
                each.task.cancel()
