"""Connections that break and nodes that stop with commands under way: what is unknown is said to be, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from pliers_workflow.interpreter.commands import FireTrigger, UpdateData
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.answers import Accepted, EngineError, OutcomeUnknown
from pliers_workflow.runtime.commit import pipeline as pipeline_module
from pliers_workflow.runtime.commit.queue import Pending

from .conftest import World, example, people_of_expenses

MakeWorld = Callable[..., Awaitable[World]]


@asynccontextmanager
async def history_locked(database: str) -> AsyncIterator[None]:
    """Meanwhile whoever writes history waits."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("BEGIN; LOCK TABLE workflow_execution_history IN SHARE MODE")
        yield
    finally:
        await connection.close()


async def busy(make_world: MakeWorld, options: dict[str, int]) -> tuple[World, str, int]:
    """An engine, an instance, and how many commands it has had: enough for every connection to know the statement."""
    world = await make_world(**options)
    await people_of_expenses(world)
    instance_id = (await world.start(await world.publish(example("expense_report")))).instance.id
    edits = world.engine.settings.execution.connections_max + 1
    for amount in range(edits):  # the statement is prepared: its locks are waited for when it is executed
        assert isinstance(await world.do(instance_id, "ada", UpdateData(patch={"amount": 100 + amount})), Accepted)
    return world, instance_id, 1 + edits


def cut(world: World) -> None:
    """Break the connections that are in use; nobody tells their backends."""
    for holder in world.engine.pool._holders:
        if holder._con is not None and holder._in_use is not None:
            holder._con.terminate()


async def waiting_for_a_lock(world: World, count: int) -> None:
    """Wait until so many backends wait for a lock."""
    async with asyncio.timeout(10):
        while count > await world.engine.readers.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def test_draining_ends_though_the_database_is_away(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is told to stop while PostgreSQL is away gives up after a while, and says to every caller what is known."""
    world = await make_world()
    await people_of_expenses(world)
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    monkeypatch.setattr(pipeline_module, "_DRAIN_TIMEOUT", 0.5)

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError("the database is away")

    monkeypatch.setattr(pipeline_module.storage, "load", away)
    waiting = asyncio.create_task(world.do(started.instance.id, "ada", FireTrigger("submit")))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await world.engine.pipeline.close()
    with pytest.raises(EngineError):
        await waiting


@pytest.mark.parametrize("options", [{}, {"chart_weight_max": 0}], ids=["in a batch", "alone"])
async def test_draining_ends_though_a_statement_does_not(
    make_world: MakeWorld, database: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    """Whose command is under way then is told that its outcome is unknown, and not left without an answer."""
    world = await make_world(**options)
    await people_of_expenses(world)
    started = await world.start(await world.publish(example("expense_report")))
    monkeypatch.setattr(pipeline_module, "_DRAIN_TIMEOUT", 0.5)
    async with history_locked(database):
        asked = asyncio.create_task(world.do(started.instance.id, "ada", FireTrigger("submit")))
        await waiting_for_a_lock(world, 1)
        async with asyncio.timeout(5):
            await world.engine.pipeline.close()
            with pytest.raises(OutcomeUnknown):
                await asked


async def test_a_connection_that_breaks_while_a_statement_is_prepared(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg says `InternalClientError` then. Services take it for a database that is away, and tell no failure of ours."""
    world = await make_world(timer_poll=0.01)
    timers = world.engine.timers
    looked = asyncio.Event()

    async def breaks(_: int) -> Any:
        looked.set()
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    monkeypatch.setattr(timers, "_claim", breaks)
    with capture_logs() as logs:
        await timers.start()
        await asyncio.wait_for(looked.wait(), 5)
        await asyncio.sleep(0)
        await timers.close()
    assert {entry["event"] for entry in logs} == {"jobs_wait_for_database"}


@pytest.mark.parametrize("options", [{}, {"chart_weight_max": 0}], ids=["in a batch", "alone"])
async def test_a_backend_that_commits_long_after_its_connection_broke(
    make_world: MakeWorld, database: str, options: dict[str, int]
) -> None:
    """The command is not done a second time, though it was not in the history yet when it was looked for first."""
    world, instance_id, commands = await busy(make_world, options)
    async with history_locked(database):
        asked = asyncio.create_task(world.do(instance_id, "ada", UpdateData(patch={"amount": 1900})))
        await waiting_for_a_lock(world, 1)
        cut(world)
        await waiting_for_a_lock(world, 2)
    answer = await asyncio.wait_for(asked, 20)
    assert isinstance(answer, Accepted)
    assert answer.replayed
    ids = [row["command_id"] for row in await world.check(instance_id)]
    assert len(ids) == len(set(ids)) == commands + 1


@pytest.mark.parametrize("options", [{}, {"chart_weight_max": 0}], ids=["in a batch", "alone"])
async def test_what_is_refused_while_its_old_backend_may_commit_it(
    make_world: MakeWorld, database: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    """Its caller is told that the outcome is unknown."""
    world, instance_id, commands = await busy(make_world, options)
    refusal = Rejection(Reason.NOT_ALLOWED, "no")  # time has moved on, or a right has been taken away

    async def refused(*_: Any, **__: Any) -> Rejection:
        return refusal

    async with history_locked(database):
        asked = asyncio.create_task(world.do(instance_id, "ada", UpdateData(patch={"amount": 1900})))
        await waiting_for_a_lock(world, 1)
        monkeypatch.setattr(pipeline_module, "interpret", lambda *_, **__: refusal)
        monkeypatch.setattr(world.engine.pipeline._aside._solo, "interpret", refused)
        cut(world)
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(asked, 20)
        assert await world.do(instance_id, "ada", UpdateData(patch={"amount": 5})) is refusal, "it was not under way"
    async with asyncio.timeout(10):
        while len(await world.rows(instance_id)) < commands + 1:
            await asyncio.sleep(0.01)
    await world.check(instance_id)


async def test_until_when_an_old_backend_may_commit(world: World) -> None:
    """It may while the instance is where it was when the command was sent last; nothing can be committed at an older one."""
    pending = Pending("default", "x", world.command(None, UpdateData(patch={})), None, background=False)
    pending.sent_at(3)
    assert not pending.may_be_committed(3), "its connection has not broken"
    pending.uncertain = True
    pending.sent_at(5)
    assert [pending.may_be_committed(revision) for revision in (3, 5, 6)] == [True, True, False]
    assert pending.base_revision == 3, "it is looked for from where it was sent first"
