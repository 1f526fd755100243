"""The step worker: so many at once, held while they run, brought home once, given back when the node stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import Command, CompleteStep, FailStep
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.answers import Accepted, Answer, EngineError, OutcomeUnknown, Overloaded, RequestKey
from pliers_workflow.runtime.jobs.claims import ClaimedStep, StepClaims
from pliers_workflow.runtime.jobs.executors import Executors
from pliers_workflow.runtime.jobs.failures import Postponed, StepFailure
from pliers_workflow.runtime.jobs.rescuer import LEASE_LAPSED, LeaseRescuer
from pliers_workflow.runtime.jobs.worker import StepWorker
from pliers_workflow.settings import Settings

from .test_claims import fill

#: one of the jobs there are
ONE = "WHERE id = (SELECT id FROM workflow_jobs ORDER BY id LIMIT 1)"


class Ledger:
    """
    What instances make of results, in short: a result of the attempt at hand is kept and its job dropped in one
    transaction, any other is refused. Retries are left to the interpreter's own tests.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.results: list[CompleteStep | FailStep] = []
        self.refused: list[CompleteStep | FailStep] = []
        #: raised instead of answering, one after another
        self.troubles: list[Exception] = []

    async def execute(
        self, tenant_id: str, instance_id: str, command: Command, *, request: RequestKey | None = None,
        background: bool = False,
    ) -> Answer:  # fmt: skip
        order = command.order
        assert isinstance(order, CompleteStep | FailStep)
        if self.troubles:
            raise self.troubles.pop(0)
        if isinstance(order, CompleteStep) and order.output == "too much":
            return Rejection(Reason.DATA_TOO_LARGE, "too much")
        dropped = await self.pool.fetchval(
            "DELETE FROM workflow_jobs WHERE tenant_id = $1 AND workflow_instance_id = $2 AND name = $3 "
            "AND (payload ->> 'attempt')::int = $4 RETURNING id",
            tenant_id, instance_id, order.step, order.attempt,
        )  # fmt: skip
        if dropped is None:
            self.refused.append(order)
            return Rejection(Reason.STEP_GONE, "gone")
        self.results.append(order)
        return Accepted(None, 1, (), None)  # type: ignore[arg-type]  # nobody looks


class Plain:
    """An executor that does what the test says."""

    def __init__(self, work: Callable[[ClaimedStep], Any], target: str | None = None) -> None:
        self.work = work
        self.at = target
        self.begun: list[str] = []

    def serves(self, queue: str) -> bool:
        return True

    def target(self, _: ClaimedStep) -> str | None:
        return self.at

    async def run(self, step: ClaimedStep) -> Any:
        self.begun.append(step.attempt_id)
        answer = self.work(step)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def close(self) -> None:
        pass


class Shift:
    """A worker, its ledger and its executor."""

    def __init__(self, pool: Any, work: Callable[[ClaimedStep], Any], *, target: str | None = None, name: str = "one", **steps: Any) -> None:  # fmt: skip
        settings = Settings.model_validate({"steps": {"lease": 30, "poll": 0.2, **steps}})
        self.pool = pool
        self.ledger = Ledger(pool)
        self.executor = Plain(work, target)
        self.worker = StepWorker(
            pool, self.ledger.execute, StepClaims(pool, settings), Executors({"http": self.executor}), settings,
            owner=name,
        )  # fmt: skip
        self.rescuer = LeaseRescuer(pool, self.ledger.execute, settings, owner=name)

    async def jobs(self) -> list[Any]:
        return list(await self.pool.fetch("SELECT * FROM workflow_jobs ORDER BY id"))


async def until(true: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def shifts(pool: Any) -> AsyncIterator[Callable[..., Shift]]:
    made: list[Shift] = []

    def make(work: Callable[[ClaimedStep], Any], **options: Any) -> Shift:
        made.append(Shift(pool, work, **options))
        return made[-1]

    yield make
    for shift in made:
        await shift.worker.close(grace=0)


MakeShift = Callable[..., Shift]


async def test_steps_are_run_and_their_results_kept(pool: Any, shifts: MakeShift) -> None:
    """The output becomes a `CompleteStep`, a failure a `FailStep`, with all the retry policy needs to know."""

    def work(step: ClaimedStep) -> Any:
        if step.definition == "bad":
            raise StepFailure("HTTP_503", "busy", retry_after=1.5, details={"status": 503})
        return {"echo": step.payload.run["type"]}

    shift = shifts(work)
    await fill(pool, 3)
    await fill(pool, 1, definition="bad")
    assert await shift.worker.run_due() == 4
    assert sorted(map(repr, shift.ledger.results)) == sorted(
        map(
            repr,
            [CompleteStep("step/1", 1, {"echo": "http"})] * 3
            + [FailStep("step/1", 1, "HTTP_503", "busy", True, 1500, {"status": 503})],
        )
    )
    assert await shift.jobs() == []


@pytest.mark.parametrize(
    ("work", "code", "retryable"),
    [
        (lambda _: asyncio.sleep(60), "TIMEOUT", True),
        (lambda _: 1 / 0, "EXECUTOR_FAILED", True),
        (lambda _: {"bad": "a\0b"}, "OUTPUT_INVALID", False),
        (lambda _: object(), "OUTPUT_INVALID", False),
        (lambda _: "x" * 5000, "OUTPUT_TOO_LARGE", False),
        (lambda _: "too much", "OUTPUT_REFUSED", False),
    ],
)
async def test_what_goes_wrong_is_the_steps_failure(
    pool: Any, shifts: MakeShift, work: Any, code: str, retryable: bool
) -> None:
    """Nothing that an executor does reaches further than its own step."""
    shift = shifts(work, output_size_max=4096)
    await fill(pool, 1)
    await pool.execute("UPDATE workflow_jobs SET payload = payload || '{\"timeout_ms\": 100}'")
    await shift.worker.run_due()
    (result,) = shift.ledger.results
    assert isinstance(result, FailStep)
    assert (result.code, result.retryable) == (code, retryable)
    assert "ZeroDivision" not in result.message or "Error" in result.message


async def test_no_more_than_the_concurrency_run_at_once(pool: Any, shifts: MakeShift) -> None:
    """A slot that is free again is claimed for at once; nothing is claimed that would have to wait."""
    running = peak = 0

    async def work(_: ClaimedStep) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1

    shift = shifts(work, concurrency=4)
    await fill(pool, 40)
    await shift.worker.start()
    await until(lambda: len(shift.ledger.results) == 40)
    assert peak == 4


async def test_a_result_is_brought_again_until_it_is_known(pool: Any, shifts: MakeShift) -> None:
    """The database went away in the middle: the result is brought again, and is applied once."""
    shift = shifts(lambda _: 7)
    shift.ledger.troubles = [OutcomeUnknown("x"), EngineError("busy"), OSError("gone")]
    await fill(pool, 1)
    await shift.worker.run_due()
    assert shift.ledger.results == [CompleteStep("step/1", 1, 7)]


async def test_a_result_is_brought_for_as_long_as_the_engine_is_busy(
    pool: Any, shifts: MakeShift, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is done, and nobody can do anything about that: it is not given up, and not done again."""
    monkeypatch.setattr("pliers_workflow.runtime.jobs.worker._SETTLE_DELAY_MAX", 0.001)
    monkeypatch.setattr("pliers_workflow.runtime.jobs.worker._SETTLE_DELAY_MIN", 0.001)
    shift = shifts(lambda _: 7)
    shift.ledger.troubles = [*[Overloaded(1.0)] * 20, *[OutcomeUnknown("x")] * 20, *[OSError("gone")] * 20]
    await fill(pool, 1)
    await shift.worker.run_due()
    assert shift.ledger.results == [CompleteStep("step/1", 1, 7)]
    assert await shift.jobs() == []


async def test_what_the_engine_cannot_settle_is_left_dead(
    pool: Any, shifts: MakeShift, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many attempts the job waits for an operator, with the reason."""
    monkeypatch.setattr("pliers_workflow.runtime.jobs.worker._SETTLE_DELAY_MAX", 0.001)
    monkeypatch.setattr("pliers_workflow.runtime.jobs.worker._SETTLE_DELAY_MIN", 0.001)
    shift = shifts(lambda _: 7)
    shift.ledger.troubles = [EngineError("cannot be")] * 12
    await fill(pool, 1)
    await shift.worker.run_due()
    (job,) = await shift.jobs()
    assert (job["status"], job["last_error"], job["lease_owner"]) == ("dead", "cannot be", None)


async def test_a_lease_is_held_while_the_step_runs(pool: Any, shifts: MakeShift) -> None:
    """Heartbeats prolong it, so that a step may run for longer than a lease, and nobody else gets it."""
    done = asyncio.Event()
    shift = shifts(lambda _: done.wait(), lease=1.2)
    other = shifts(lambda _: "twice", name="two", lease=1.2)
    await fill(pool, 1)
    await shift.worker.start()
    await until(lambda: shift.worker.running == 1)
    await asyncio.sleep(1.6)
    assert await other.rescuer.rescue() == 0
    assert await other.worker.run_due() == 0
    done.set()
    await until(lambda: shift.ledger.results)
    assert shift.ledger.results == [CompleteStep("step/1", 1, True)]


async def test_a_cancelled_step_stops(pool: Any, shifts: MakeShift) -> None:
    """The commit that cancels a step drops its job; its worker learns so at its heartbeat, and stops."""
    stopped = asyncio.Event()

    async def work(_: ClaimedStep) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    shift = shifts(work)
    await fill(pool, 1)
    await shift.worker.start()
    await until(lambda: shift.worker.running == 1)
    await pool.execute("DELETE FROM workflow_jobs")
    await shift.worker.beat()
    shift.worker._stop_lost()
    await asyncio.wait_for(stopped.wait(), 5)
    await until(lambda: shift.worker.running == 0)
    assert shift.ledger.results == shift.ledger.refused == []


async def test_a_slow_step_cannot_overwrite_its_successor(pool: Any, shifts: MakeShift) -> None:
    """
    A worker is frozen for longer than its lease. The rescuer fails the attempt, the next one is claimed by another worker
    and completes; what the first brings when it wakes changes nothing.
    """
    wake = asyncio.Event()

    async def slowly(_: ClaimedStep) -> str:
        await wake.wait()
        return "late"

    slow, quick = shifts(slowly, lease=1.1), shifts(lambda _: "in time", name="two")
    await fill(pool, 1)
    first = asyncio.create_task(slow.worker.run_due())  # no heartbeat, as when the process is stopped
    await until(lambda: slow.worker.running == 1)
    await asyncio.sleep(1.2)
    job = await pool.fetchrow("SELECT * FROM workflow_jobs")
    assert await quick.rescuer.rescue() == 1
    (lost,) = quick.ledger.results
    assert isinstance(lost, FailStep)
    assert (lost.code, lost.attempt, lost.retryable) == (LEASE_LAPSED, 1, True)
    # what the retry policy does: the next attempt under the same id
    await pool.execute(
        "INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, queue, definition_name, payload, "
        "fencing_token) VALUES ('default', $1, 'step', $2, 'step/1', now(), 'http', 'orders', "
        "'{\"attempt\": 2, \"run\": {}}', $3)",
        job["id"], job["workflow_instance_id"], job["fencing_token"] + 1,
    )  # fmt: skip
    wake.set()
    await first
    assert slow.ledger.refused == [CompleteStep("step/1", 1, "late")]
    assert len(await quick.jobs()) == 1, "the successor's job is still there"
    await asyncio.sleep(0.6)
    quick.worker._claims.sweep()
    assert await quick.worker.run_due() == 1
    assert quick.ledger.results[1:] == [CompleteStep("step/1", 2, "in time")]


async def test_two_rescuers_fail_an_attempt_once(pool: Any, shifts: MakeShift) -> None:
    """Whoever comes second finds it failed already. Pages of a lane are read as far as there are leases."""
    one, two = shifts(lambda _: 1), shifts(lambda _: 2, name="two")
    await fill(pool, 1200)
    await pool.execute("UPDATE workflow_jobs SET lease_owner = 'gone', lease_until = now() - interval '1 s'")
    await fill(pool, 300)
    counts = await asyncio.gather(one.rescuer.rescue(), two.rescuer.rescue())
    assert sum(counts) == 1200
    assert len(one.ledger.results) + len(two.ledger.results) == 1200
    assert len(await one.jobs()) == 300


async def test_a_step_that_cannot_be_read_is_in_the_way_of_no_other(pool: Any, shifts: MakeShift) -> None:
    """Somebody has written into its row: it is left dead with the reason, and the others run, in the same claim."""
    shift = shifts(lambda _: 7)
    await fill(pool, 5)
    await pool.execute(f"UPDATE workflow_jobs SET payload = '{{}}' {ONE}")
    assert await shift.worker.run_due() == 4
    assert len(shift.ledger.results) == 4
    (job,) = await shift.jobs()
    assert (job["status"], job["lease_owner"]) == ("dead", None)
    assert "cannot be read" in job["last_error"]


async def test_an_attempt_that_cannot_be_rescued_is_in_the_way_of_no_other(pool: Any, shifts: MakeShift) -> None:
    """What is wrong with one lapsed lease keeps no other from being looked at."""
    shift = shifts(lambda _: 1)
    await fill(pool, 5)
    await pool.execute("UPDATE workflow_jobs SET lease_owner = 'gone', lease_until = now() - interval '1 s'")
    await pool.execute(f"UPDATE workflow_jobs SET payload = payload || '{{\"trace\": 1}}' {ONE}")
    assert await shift.rescuer.rescue() == 4


async def test_a_node_that_stops_lets_steps_end(pool: Any, shifts: MakeShift) -> None:
    """Within the grace period running steps end, and their results are kept; nothing more is claimed."""

    async def work(_: ClaimedStep) -> str:
        await asyncio.sleep(0.3)
        return "done"

    shift = shifts(work, concurrency=2)
    await fill(pool, 5)
    await shift.worker.start()
    await until(lambda: shift.worker.running == 2)
    await shift.worker.close(grace=5)
    assert len(shift.ledger.results) == 2
    assert [job["lease_owner"] for job in await shift.jobs()] == [None] * 3


async def test_what_is_not_done_is_given_back(pool: Any, shifts: MakeShift) -> None:
    """After the grace period a step is stopped; another node claims it at once, and no attempt has been used up."""
    shift, other = shifts(lambda _: asyncio.sleep(60)), shifts(lambda _: "done", name="two")
    await fill(pool, 3)
    await shift.worker.start()
    await until(lambda: shift.worker.running == 3)
    await shift.worker.close(grace=0.05)
    assert shift.ledger.results == []
    assert [(job["lease_owner"], job["attempt"]) for job in await shift.jobs()] == [(None, 0)] * 3
    assert await other.worker.run_due() == 3
    assert other.ledger.results == [CompleteStep("step/1", 1, "done")] * 3


async def test_a_postponed_step_is_given_back_though_the_database_was_away(
    pool: Any, shifts: MakeShift, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is used up by a connection that broke while it was given back."""
    await fill(pool, count=1)

    def not_now(_: ClaimedStep) -> Any:
        raise Postponed(600, "not now")

    shift = shifts(not_now)
    give_back = shift.worker._give_back
    broken = 2

    async def breaking(steps: Any) -> None:
        nonlocal broken
        if broken:
            broken -= 1
            raise ConnectionResetError("the connection broke")
        await give_back(steps)

    monkeypatch.setattr(shift.worker, "_give_back", breaking)
    await shift.worker.run_due()
    (job,) = await shift.jobs()
    assert (job["lease_owner"], job["attempt"], shift.worker.given_back) == (None, 0, 1)
    assert shift.ledger.results == []


async def test_an_open_circuit_postpones(pool: Any, shifts: MakeShift) -> None:
    """
    After failures in a row the target is left alone: its steps are postponed and no attempt is used up. Then one is let
    through; it closes the circuit, and all the others follow.
    """
    up = False

    def work(_: ClaimedStep) -> str:
        if not up:
            raise StepFailure("HTTP_CONNECT", "nobody there")
        return "there"

    shift = shifts(work, target="erp.corp:443", breaker_failures=3, breaker_open=0.5, concurrency=1, poll=0.1)
    await fill(pool, 8)
    await shift.worker.start()
    await until(lambda: shift.worker.given_back >= 5)
    assert len(shift.ledger.results) == 3
    (state,) = shift.worker.breakers.states()
    assert (state.target, state.state, state.failures) == ("erp.corp:443", "open", 3)
    assert {(job["lease_owner"], job["attempt"]) for job in await shift.jobs()} == {(None, 0)}
    up = True
    await until(lambda: len(shift.ledger.results) == 8)
    assert shift.worker.breakers.states() == []
    assert sum(isinstance(result, CompleteStep) for result in shift.ledger.results) == 5
