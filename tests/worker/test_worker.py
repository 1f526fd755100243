"""The Python worker against the engine's API: doing tasks, holding them, losing them, stopping."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from pliers_workflow.worker import Permanent, Retryable, Task, TaskLost, Worker, WorkerRefused
from tests.nodes.conftest import until

from .conftest import Office, at_work, office


@dataclass
class Sum:
    total: Decimal
    thread: str


# -- doing -------------------------------------------------------------------------------------------------------------


async def test_functions_do_tasks(world: Office) -> None:
    """In the loop or in a thread; numbers are exact on the way in and out; the task says what it is for."""
    worker = world.worker()
    seen: list[Task] = []

    @worker.task("work")
    def add(task: Task) -> Sum:
        seen.append(task)
        return Sum(task.input["data"]["a"] + Decimal("0.1"), threading.current_thread().name)

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    begun = await world.admin(
        "POST", "/workflows/office/instances", {"data": {"a": 1.1}}, status=201, headers={"traceparent": parent}
    )
    instance_id = begun.json()["id"]
    async with at_work(worker):
        result = (await world.settled(instance_id))["instanceData"]["result"]
    assert result == {"total": 1.2, "thread": "task work"}
    (task,) = seen
    assert (task.topic, task.step_id, task.workflow, task.attempt) == ("work", "do", "office", 1)
    assert (task.instance_id, task.idempotency_key) == (instance_id, f"{instance_id}:{task.step}:1")
    assert task.trace_headers == {"traceparent": parent}
    assert (worker.completed, worker.running) == (1, 0)

    worker = world.worker()

    @worker.task("work")
    async def echo(task: Task) -> Any:
        await asyncio.sleep(0)
        return [task.input["data"]["a"], threading.current_thread() is threading.main_thread()]

    instance_id = await world.begin(a=[True, None, "x"])
    async with at_work(worker):
        assert (await world.settled(instance_id))["instanceData"]["result"] == [[True, None, "x"], True]


class Panic(BaseException):
    """What libraries in Rust raise when they fall."""


def raising(how: str) -> Any:
    match how:
        case "retryable":
            raise Retryable("not now", code="BUSY", details={"queue": 3})
        case "permanent":
            raise Permanent("NO_SUCH_THING", "there is none")
        case "crude":
            raise ValueError("secret of the author")
        case "exit":
            raise SystemExit(3)
        case "exhausted":
            return next(iter(()))
        case "panic":
            raise Panic("of a library in another language")
        case "cancel":
            raise asyncio.CancelledError
        case "odd delay":
            raise Retryable("later", delay="soon")  # type: ignore[arg-type]  # that is the point
        case "odd":
            raise Permanent("no code!", "NUL \0, half a pair \ud800", details={"what": object(), "nan": float("nan")})
        case "object":
            return object()
        case "nan":
            return float("nan")
        case "large":
            return "x" * 300_000
        case "nul":
            return "a\0b"
    raise AssertionError(how)


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize(
    ("how", "code", "attempts"),
    [
        ("retryable", "BUSY", 2),
        ("permanent", "NO_SUCH_THING", 1),
        ("crude", "WORKER_FAILED", 2),
        ("exit", "WORKER_FAILED", 2),
        ("exhausted", "WORKER_FAILED", 2),
        ("panic", "WORKER_FAILED", 2),
        ("cancel", "WORKER_FAILED", 2),
        ("odd delay", "WORKER_FAILED", 2),
        ("odd", "INVALID_CODE", 1),
        ("object", "OUTPUT_INVALID", 1),
        ("nan", "OUTPUT_INVALID", 1),
        ("large", "OUTPUT_TOO_LARGE", 1),
        ("nul", "OUTPUT_INVALID", 1),
    ],
)
async def test_what_a_failure_means(world: Office, how: str, code: str, attempts: int, loop: bool) -> None:
    """What may go better is tried again, what cannot is an incident at once; the worker goes on in any case."""
    worker = world.worker()
    if loop:

        @worker.task("work")
        async def in_the_loop(task: Task) -> Any:
            return raising(how)

    else:

        @worker.task("work")
        def in_a_thread(task: Task) -> Any:
            return raising(how)

    instance_id = await world.begin()
    async with at_work(worker):
        found = await world.incident(instance_id)
    assert found["code"] == code
    assert "secret of the author" not in found["message"]
    assert await world.actions(instance_id) == ["start", *["fail_step"] * attempts]
    assert (worker.completed, worker.failed, worker.dropped) == (0, attempts, 0)


async def test_no_more_at_once_than_it_may(world: Office) -> None:
    """Three at a time of ten, and all in the end."""
    worker = world.worker(concurrency=3)
    now = most = 0
    go = asyncio.Event()

    @worker.task("work")
    async def count(task: Task) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1

    instances = [await world.begin() for _ in range(10)]
    async with at_work(worker):
        await until(lambda: now == 3)
        fetches = len(world.line.sent("fetch"))
        assert worker.running == 3
        go.set()
        for instance_id in instances:
            await world.settled(instance_id)
    assert (most, worker.completed) == (3, 10)
    assert fetches <= 3, "it asks for as many as it has room for, and not at all while it has none"


async def test_what_it_is_made_of_is_checked() -> None:
    """At once, with a sentence."""
    for options in ({"concurrency": 0}, {"worker_id": "a b"}, {"wait": 31}):
        with pytest.raises(ValueError):
            Worker("http://x", "t", **options)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="no address"):
        Worker("workflows.example.com", "t")
    worker = Worker("http://x", "t")
    with pytest.raises(ValueError, match="needs a function"):
        await worker.run()
    worker.task("work")(lambda task: None)
    for topic, lease in (("work", 60), ("A b", 60), ("other", 0), ("other", 3601)):
        with pytest.raises(ValueError):
            worker.task(topic, lease=lease)(lambda task: None)
    with pytest.raises(ValueError, match="one argument"):
        worker.task("other")(lambda: None)


async def test_a_token_that_may_not_is_told(world: Office) -> None:
    """The worker ends and says why."""
    nobody = (await world.person("clerk", ("author",))).token
    for token in (nobody, "pliers_wrong"):
        worker = world.worker(token=token)
        worker.task("work")(lambda task: None)
        with pytest.raises(WorkerRefused, match="does not let this worker fetch"):
            await worker.run()


# -- holding -----------------------------------------------------------------------------------------------------------


async def test_a_fetch_waits_for_less_than_the_lease(world: Office) -> None:
    """A task that came while the worker waited is its own, also where lease and time of the step are shorter than `wait`."""
    await world.publish(office(timeoutMinutes=0.025) | {"name": "brief"})
    worker = world.worker(wait=20)
    begun: list[float] = []

    @worker.task("work", lease=2)
    async def slow(task: Task) -> str:
        begun.append(task.timeout_seconds or 0)
        await asyncio.sleep(0.8)
        return "done"

    async with at_work(worker):
        await until(lambda: bool(world.line.sent("fetch")))
        await asyncio.sleep(0.9)
        made = await world.admin("POST", "/workflows/brief/instances", {"data": {}}, status=201)
        assert (await world.settled(made.json()["id"]))["instanceData"]["result"] == "done"
    assert (worker.completed, worker.dropped) == (1, 0)
    assert 0 < begun[0] <= 1.5


async def test_a_lease_is_prolonged_in_the_background(world: Office) -> None:
    """A task takes longer than its lease, and nobody else gets it."""
    worker = world.worker()
    go = asyncio.Event()

    @worker.task("work", lease=1)
    async def slow(task: Task) -> str:
        await go.wait()
        return "done"

    instance_id = await world.begin()
    async with at_work(worker):
        await until(lambda: len(world.line.sent("heartbeat")) >= 5)
        assert await world.engine.rescuer.rescue() == 0
        assert len(world.line.sent("fetch")) >= 1
        go.set()
        assert (await world.settled(instance_id))["status"] == "completed"
    assert await world.actions(instance_id) == ["start", "complete_step"]


@pytest.mark.parametrize("loop", [True, False])
async def test_a_lost_task_is_stopped_and_its_result_dropped(world: Office, loop: bool) -> None:
    """The instance is cancelled: the next heartbeat hears of it; a coroutine is cancelled, a thread is told."""
    worker = world.worker()
    began, stopped = threading.Event(), threading.Event()
    if loop:

        @worker.task("work", lease=1)
        async def in_the_loop(task: Task) -> None:
            began.set()
            try:
                await asyncio.sleep(600)
            finally:
                stopped.set()

    else:

        @worker.task("work", lease=1)
        def in_a_thread(task: Task) -> None:
            began.set()
            try:
                while True:
                    task.heartbeat()
                    threading.Event().wait(0.01)
            except TaskLost:
                stopped.set()
                raise

    instance_id = await world.begin()
    async with at_work(worker):
        await until(began.is_set)
        await world.admin("DELETE", f"/workflow-instances/{instance_id}", status=200)
        await until(stopped.is_set)
        await until(lambda: worker.running == 0)
        assert (worker.dropped, worker.completed) == (1, 0)
        other = await world.begin()
        began.clear()
        await until(began.is_set)  # it goes on with other tasks
        await world.admin("DELETE", f"/workflow-instances/{other}", status=200)
    assert world.line.sent("complete") == []


async def test_a_worker_that_cannot_reach_the_server_lets_go(world: Office) -> None:
    """Heartbeats fail for longer than a lease: the task is lost here, before anybody else has it."""
    worker = world.worker()
    began, stopped = asyncio.Event(), asyncio.Event()

    @worker.task("work", lease=1)
    async def slow(task: Task) -> None:
        began.set()
        try:
            await asyncio.sleep(600)
        finally:
            stopped.set()

    def cut(request: httpx.Request) -> None:
        if request.url.path.endswith("/heartbeat"):
            raise httpx.ConnectError("cut")

    world.line.before = cut
    await world.begin()
    async with at_work(worker):
        await asyncio.wait_for(stopped.wait(), 20)
        assert len(world.line.sent("heartbeat")) >= 2, "it has tried"
    assert worker.dropped == 1


async def test_the_steps_own_time_ends_a_task(world: Office) -> None:
    """It is over by the worker's clock before a heartbeat would hear of it."""
    await world.admin("PUT", "/workflows/office", {**office(timeoutMinutes=0.01), "version": "1.1.0"}, status=200)
    await world.admin("POST", "/workflows/office/publish", status=200)
    worker = world.worker()
    stopped = asyncio.Event()

    @worker.task("work", lease=600)
    async def slow(task: Task) -> None:
        assert task.timeout_seconds == 0.6
        try:
            await asyncio.sleep(600)
        finally:
            stopped.set()

    await world.begin()
    async with at_work(worker):
        await asyncio.wait_for(stopped.wait(), 20)
    assert world.line.sent("heartbeat") == []


# -- lines that are cut ------------------------------------------------------------------------------------------------


async def test_a_result_whose_answer_was_lost_counts_once(world: Office) -> None:
    """The engine has it, the worker cannot know: it says it again under the same key, and that is all right."""
    worker = world.worker()
    worker.task("work")(lambda task: {"n": 1})
    cuts = [httpx.ReadError("cut"), httpx.ReadTimeout("cut")]

    def cut(request: httpx.Request) -> None:
        if request.url.path.endswith("/complete") and cuts:
            raise cuts.pop()

    world.line.after = cut
    instance_id = await world.begin()
    async with at_work(worker):
        assert (await world.settled(instance_id))["instanceData"]["result"] == {"n": 1}
        await until(lambda: worker.completed == 1)
    requests = world.line.sent("complete")
    assert len(requests) == 3
    assert len({request.headers["Idempotency-Key"] for request in requests}) == 1
    assert await world.actions(instance_id) == ["start", "complete_step"]
    assert (worker.dropped, worker.failed) == (0, 0)


async def test_a_result_is_brought_for_longer_than_its_lease(world: Office) -> None:
    """The server is away when the work is done, and the lease lapses: the result is said until it is heard, then dropped."""
    worker = world.worker()
    worker.task("work", lease=1)(lambda task: "late")
    away = True

    def cut(request: httpx.Request) -> None:
        if away and not request.url.path.endswith("/fetch"):
            raise httpx.ConnectError("away")

    world.line.before = cut
    instance_id = await world.begin()
    async with at_work(worker):

        async def lapsed() -> bool:
            return bool(await world.engine.rescuer.rescue())

        await until(lapsed)
        assert 2 <= len(world.line.sent("heartbeat")) < 30, "it goes on trying, and not without a pause"
        assert world.line.sent("complete")
        away = False
        await until(lambda: worker.dropped == 1)
        assert (await world.settled(instance_id))["instanceData"]["result"] == "late", "of the second attempt"
    assert await world.actions(instance_id) == ["start", "fail_step", "complete_step"]


async def test_a_server_that_is_away_is_tried_again(world: Office) -> None:
    """Whatever keeps it from answering, the worker is there when it does."""
    worker = world.worker()
    worker.task("work")(lambda task: "done")
    cuts: list[Exception] = [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ConnectTimeout("slow")]

    def cut(request: httpx.Request) -> None:
        if cuts:
            raise cuts.pop()

    world.line.before = cut
    instance_id = await world.begin()
    async with at_work(worker):
        assert (await world.settled(instance_id))["status"] == "completed"
    assert cuts == []


# -- stopping ----------------------------------------------------------------------------------------------------------


async def test_stopping_finishes_what_has_begun(world: Office) -> None:
    """And fetches nothing more."""
    worker = world.worker()
    began, go = asyncio.Event(), asyncio.Event()

    @worker.task("work")
    async def slow(task: Task) -> str:
        began.set()
        await go.wait()
        return "done"

    first = await world.begin()
    running = asyncio.create_task(worker.run())
    await began.wait()
    worker.stop()
    second = await world.begin()
    await asyncio.sleep(0)
    fetches = len(world.line.sent("fetch"))
    go.set()
    await asyncio.wait_for(running, 20)
    assert (await world.look(first))["status"] == "completed"
    assert await world.actions(second) == ["start"]
    assert len(world.line.sent("fetch")) == fetches


async def test_what_is_not_done_in_time_is_given_back(world: Office) -> None:
    """A coroutine is cancelled and its task another worker's at once, as the same attempt; a thread keeps its task."""
    worker = world.worker(grace=0, concurrency=2)
    began = {"work": threading.Event(), "other": threading.Event()}
    go = threading.Event()

    @worker.task("work")
    async def slow(task: Task) -> None:
        began["work"].set()
        await asyncio.sleep(600)

    @worker.task("other")
    def stubborn(task: Task) -> None:
        began["other"].set()
        go.wait(60)

    await world.publish({**office(topic="other"), "name": "stubborn"})
    given = await world.begin()
    kept = (await world.admin("POST", "/workflows/stubborn/instances", {"data": {}}, status=201)).json()["id"]
    running = asyncio.create_task(worker.run())
    for event in began.values():
        await until(event.is_set)
    worker.stop()
    await asyncio.wait_for(running, 20)
    go.set()
    assert worker.given_back == 1
    other = world.worker(worker_id="two")
    attempts: list[int] = []
    other.task("work")(lambda task: attempts.append(task.attempt))
    other.task("other")(lambda task: pytest.fail("its thread may still act"))
    async with at_work(other):
        assert (await world.settled(given))["status"] == "completed"
    assert attempts == [1]
    assert await world.actions(given) == ["start", "complete_step"]
    assert await world.actions(kept) == ["start"]
