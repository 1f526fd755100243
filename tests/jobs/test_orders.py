"""Orders for other instances and starts of sub-workflows are carried out once, whatever dies in between."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from pliers_workflow.interpreter.commands import (
    CancelInstance,
    FailStep,
    FireTrigger,
    Parent,
    ResolveIncident,
    SuspendInstance,
)
from pliers_workflow.interpreter.effects import SendOrder, StartChild
from pliers_workflow.runtime.answers import Accepted, EngineError
from pliers_workflow.runtime.errors import ConflictError, NotFoundError
from pliers_workflow.runtime.jobs.orders import ChildStarter, OrderDispatcher
from pliers_workflow.storage.identity import child_instance_id

from .conftest import MakeShop, Shop, waiting_room
from .families import workflow


@pytest.fixture
async def parent(shop: Shop) -> str:
    return await shop.start(await shop.publish(waiting_room()))


async def child(shop: Shop, parent: str, number: int = 1, **options: Any) -> StartChild:
    """The start of a sub-workflow that the parent owes."""
    now = await shop.now()
    options.setdefault("workflow", "errand")
    options.setdefault("version", None)
    options.setdefault("data", {})
    waits = options.pop("waits", False)
    return StartChild(
        name=f"order/{number}", instance=child_instance_id(parent, number, now),
        parent=Parent(parent, "step/1", waits=waits), **options,
    )  # fmt: skip


async def status(shop: Shop, instance_id: str) -> str | None:
    found: str | None = await shop.engine.pool.fetchval(
        "SELECT status::text FROM workflow_instances WHERE tenant_id = 'default' AND id = $1", instance_id
    )
    return found


async def test_an_order_is_carried_out(shop: Shop, parent: str) -> None:
    """It is in the target's history, as the engine's, and the job is gone."""
    other = await shop.start(await shop.publish(waiting_room("other")))
    await shop.owe(parent, [SendOrder("order/1", other, CancelInstance("the parent was cancelled"))])
    assert await shop.engine.orders.run_due() == 1
    assert await shop.history(other) == ["start", "cancel"]
    assert await shop.jobs() == {}


async def test_an_order_is_carried_out_once(shop: Shop, make_shop: MakeShop, parent: str) -> None:
    """Two dispatchers, one of which died after the target's commit and before it dropped the job: one row of history."""
    other = await shop.start(await shop.publish(waiting_room("other")))
    await shop.owe(parent, [SendOrder("order/1", other, FireTrigger("nothing"))])
    await shop.owe(parent, [SendOrder("order/2", other, SuspendInstance("once"))])
    await shop.engine.pool.execute("DELETE FROM workflow_jobs WHERE name = 'order/1'")
    again = await make_shop()

    async def claimed(dispatcher: OrderDispatcher) -> Any:
        return await dispatcher._claim(10)

    ((tenant, jobs),) = await claimed(shop.engine.orders)
    await shop.engine.orders.serve(tenant, jobs)
    await again.engine.orders.serve(tenant, jobs)
    assert await shop.history(other) == ["start", "suspend"]


async def test_a_refused_order_is_settled(shop: Shop, parent: str) -> None:
    """The instance has ended, or nobody waits for the result: there is nothing left to do."""
    other = await shop.start(await shop.publish(waiting_room("other")))
    await shop.do(other, CancelInstance())
    await shop.owe(parent, [SendOrder("order/1", other, CancelInstance())])
    await shop.engine.orders.run_due()
    assert await shop.jobs() == {}
    assert await shop.history(other) == ["start", "cancel"]


async def test_what_goes_wrong_is_tried_again(shop: Shop, parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine will not have is put back, with the reason; after the last attempt it is dead."""
    other = await shop.start(await shop.publish(waiting_room("other")))
    await shop.owe(parent, [SendOrder("order/1", other, CancelInstance())])

    async def busy(*_: Any, **__: Any) -> Any:
        raise EngineError("there is something wrong")

    monkeypatch.setattr(shop.engine.orders, "_execute", busy)
    monkeypatch.setattr(shop.engine.orders, "_attempts_max", 3)
    for attempt in range(1, 4):
        await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() - interval '1 s'")
        await shop.engine.orders.sweep()
        (job,) = (await shop.jobs()).values()
        assert job["attempt"] == attempt
        assert "something wrong" in job["last_error"]
        assert job["lease_owner"] is None
    assert job["status"] == "dead"


async def test_a_busy_engine_is_no_attempt(shop: Shop, parent: str) -> None:
    """However long it has too much to do: orders, sub-workflows and timers wait, and are carried out once."""
    other = await shop.start(await shop.publish(waiting_room("other")))
    await shop.publish(waiting_room("errand"))
    waits = workflow("waits", {"type": "wait", "durationMinutes": 1})
    sleeper = await shop.start(await shop.publish(waits))
    await shop.engine.pool.execute("UPDATE tenants SET virtual_now = now() + interval '1 hour'")
    await shop.owe(parent, [SendOrder("order/1", other, CancelInstance()), await child(shop, parent, 2)])
    services = (shop.engine.orders, shop.engine.children, shop.engine.timers)
    shop.engine.pipeline._settings.queue_length_max = 0
    for _ in range(15):
        await shop.engine.pool.execute("UPDATE workflow_jobs SET lease_until = NULL, lease_owner = NULL")
        assert [await service.sweep() for service in services] == [1, 1, 1]
    assert [(job["status"], job["attempt"]) for job in (await shop.jobs()).values()] == [("ready", 0)] * 3
    shop.engine.pipeline._settings.queue_length_max = 10_000
    await shop.engine.pool.execute("UPDATE workflow_jobs SET lease_until = NULL, lease_owner = NULL")
    for service in services:
        await service.sweep()
    assert await shop.history(other) == ["start", "cancel"]
    assert await shop.history(sleeper) == ["start", "fire_timer"]


async def test_a_sub_workflow_starts(shop: Shop, parent: str) -> None:
    """With the id its parent gave it, its data, its requester and its parent; the version is resolved when it starts."""
    await shop.publish(waiting_room("errand"))
    effect = await child(shop, parent, data={"for": "ada"}, version="^1.0", requester=shop.admin.user_id)
    await shop.owe(parent, [effect])
    assert await shop.engine.children.run_due() == 1
    row = await shop.engine.pool.fetchrow(
        "SELECT workflow_name, instance_data, requester_id::text, created_by FROM workflow_instances WHERE id = $1",
        effect.instance,
    )
    assert row is not None
    assert tuple(row) == ("errand", {"for": "ada"}, shop.admin.user_id, None)
    assert set(await shop.jobs()) == {"order/begun"}, "the parent is told"
    await shop.engine.orders.run_due()
    assert await shop.jobs() == {}
    assert await shop.history(effect.instance) == ["start"]


async def test_a_database_that_goes_away_is_no_attempt(
    shop: Shop, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went away while the start looked for its version: put back with nothing against it, and done when it is there."""
    await shop.publish(waiting_room("errand"))
    effect = await child(shop, parent)
    await shop.owe(parent, [effect])

    async def away(*_: Any, **__: Any) -> Any:
        raise asyncpg.CannotConnectNowError("the database system is starting up")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(shop.engine.catalog, "resolve", away)
        await shop.engine.children.run_due()
    assert [entry["event"] for entry in logs] == ["order_left_for_later"]
    (job,) = (await shop.jobs()).values()
    assert (job["attempt"], job["last_error"], job["status"]) == (0, None, "ready")
    await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() - interval '1 s'")
    await shop.engine.children.sweep()
    assert await shop.history(effect.instance) == ["start"]


def errand_runner(**step: Any) -> dict[str, Any]:
    """A document whose instances run an errand, and then are gone."""
    document = waiting_room("runner")
    document["stateMachine"]["states"]["waiting"] = {
        "properties": {"steps": [{"type": "sub_workflow", "id": "run", "workflowId": "errand", **step}]}
    }
    document["stateMachine"]["transitions"] = [{"from": "waiting", "to": "gone"}]
    return document


@pytest.mark.parametrize("waits", [True, False])
async def test_a_sub_workflow_that_cannot_start(shop: Shop, waits: bool) -> None:
    """Its parent's step fails, whether it waits for the end or only for the start; an incident tells why."""
    runner = await shop.start(
        await shop.publish(errand_runner(workflowId="nowhere", version=">=2", waitForCompletion=waits))
    )
    await shop.engine.children.run_due()
    assert await shop.jobs() == {}
    row = await shop.engine.pool.fetchrow("SELECT code, message, step_id FROM workflow_incidents")
    assert row is not None
    assert (row["code"], row["step_id"]) == ("SUB_WORKFLOW_NOT_STARTED", "run")
    assert "nowhere >=2" in row["message"]
    assert await status(shop, runner) == "failed"


async def _runner_with_dead_start(shop: Shop) -> tuple[str, str]:
    """An instance whose sub-workflow's start is dead, and that job's id."""
    await shop.publish(waiting_room("errand"))
    runner = await shop.start(await shop.publish(errand_runner()))
    (job,) = (await shop.jobs()).values()
    await shop.engine.pool.execute("UPDATE workflow_jobs SET status = 'dead', attempt = 12, last_error = 'no luck'")
    return runner, str(job["id"])


async def test_a_dead_start_that_nobody_needs_any_more(shop: Shop) -> None:
    """Its parent is cancelled: it is dropped, and nobody can retry it, which would start a sub-workflow of nobody."""
    runner, job = await _runner_with_dead_start(shop)
    assert isinstance(await shop.do(runner, CancelInstance()), Accepted)
    await shop.engine.orders.run_due()
    await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() - interval '1 s'")
    await shop.engine.orders.sweep()
    assert await shop.jobs() == {}
    with pytest.raises(NotFoundError):
        await shop.engine.dead_jobs.retry(shop.admin, job)


async def test_a_dead_start_that_is_retried_while_its_parent_is_cancelled(shop: Shop) -> None:
    """The order to cancel waits for it, and cancels what it has started."""
    runner, job = await _runner_with_dead_start(shop)
    assert isinstance(await shop.do(runner, CancelInstance()), Accepted)
    await shop.engine.dead_jobs.retry(shop.admin, job)
    await shop.engine.orders.run_due()
    await shop.engine.children.run_due()
    await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() - interval '1 s'")
    await shop.engine.orders.sweep()
    child = await shop.engine.pool.fetchval(
        "SELECT id::text FROM workflow_instances WHERE parent_instance_id = $1", runner
    )
    assert await shop.history(child) == ["start", "cancel"]


async def test_a_dead_start_that_is_given_up(shop: Shop) -> None:
    """The parent's step fails, and does not wait for ever; retried, it starts another one."""
    runner, job = await _runner_with_dead_start(shop)
    await shop.engine.dead_jobs.discard(shop.admin, job, "not needed")
    with pytest.raises(NotFoundError):
        await shop.engine.dead_jobs.retry(shop.admin, job)
    await shop.engine.orders.run_due()
    assert await shop.jobs() == {}
    row = await shop.engine.pool.fetchrow("SELECT incident, code, step_id FROM workflow_incidents")
    assert row is not None
    assert (row["code"], row["step_id"]) == ("SUB_WORKFLOW_NOT_STARTED", "run")
    assert await status(shop, runner) == "failed"
    assert isinstance(await shop.do(runner, ResolveIncident(row["incident"], "retry", "after all")), Accepted)
    await shop.engine.children.run_due()
    assert await shop.engine.pool.fetchval("SELECT count(*) FROM workflow_instances") == 2


async def test_how_a_step_ended_cannot_be_given_up(shop: Shop, parent: str) -> None:
    """Its instance waits for that; any other order can."""
    await shop.owe(parent, [SendOrder("order/ended", parent, FailStep("step/1", 1, "NO", "no"))])
    await shop.owe(parent, [SendOrder("order/cancel", parent, CancelInstance())])
    await shop.engine.pool.execute("UPDATE workflow_jobs SET status = 'dead'")
    jobs = await shop.jobs()
    with pytest.raises(ConflictError):
        await shop.engine.dead_jobs.discard(shop.admin, str(jobs["order/ended"]["id"]), "not needed")
    await shop.engine.dead_jobs.discard(shop.admin, str(jobs["order/cancel"]["id"]), "not needed")
    assert set(await shop.jobs()) == {"order/ended"}


async def test_a_parent_waits_for_its_sub_workflow(shop: Shop) -> None:
    """The child knows whom it runs for; when it ends, the parent's step completes with what it came to."""
    await shop.publish(waiting_room("errand"))
    document = errand_runner(inputMapping={"n": "data.n + 1"}, outputMapping={"got": "output.data.n"})
    runner = await shop.start(await shop.publish(document), data={"n": 1})
    await shop.engine.children.run_due()
    row = await shop.engine.pool.fetchrow(
        "SELECT id::text, parent_step FROM workflow_instances WHERE tenant_id = 'default' AND parent_instance_id = $1",
        runner,
    )
    assert row is not None
    assert row["parent_step"] == "step/1"
    assert await status(shop, runner) == "waiting"
    assert isinstance(await shop.do(row["id"], FireTrigger("leave")), Accepted)
    await shop.engine.orders.run_due()
    assert await status(shop, runner) == "completed"
    data = await shop.engine.pool.fetchval("SELECT instance_data FROM workflow_instances WHERE id = $1", runner)
    assert data == {"n": 1, "got": 2}
    assert await shop.history(runner) == ["start", "complete_step"]


async def test_cancelling_travels_to_the_sub_workflow(shop: Shop) -> None:
    """In a commit of its own, and the child's answer finds nobody who waits."""
    await shop.publish(waiting_room("errand"))
    runner = await shop.start(await shop.publish(errand_runner()))
    await shop.engine.children.run_due()
    assert isinstance(await shop.do(runner, CancelInstance()), Accepted)
    await shop.engine.orders.run_due()
    child = await shop.engine.pool.fetchval(
        "SELECT id::text FROM workflow_instances WHERE tenant_id = 'default' AND parent_instance_id = $1", runner
    )
    assert await status(shop, child) == "cancelled"
    await shop.engine.orders.run_due()
    assert await shop.jobs() == {}


async def test_a_cancellation_does_not_overtake_a_start(shop: Shop, parent: str) -> None:
    """
    The parent cancels a child that it has just begun: whichever job is claimed first, in the end the child is cancelled.
    """
    await shop.publish(waiting_room("errand"))
    effect = await child(shop, parent)
    await shop.owe(parent, [effect], [SendOrder("order/2", effect.instance, CancelInstance("not needed"))])
    await shop.engine.orders.run_due()
    assert set(await shop.jobs()) == {"order/1", "order/2"}, "it waits for the start"
    assert (await shop.jobs())["order/2"]["attempt"] == 0
    await shop.engine.children.run_due()
    await asyncio.sleep(0.25)
    await shop.engine.orders.sweep()
    assert await status(shop, effect.instance) == "cancelled"
    assert await shop.jobs() == {}


async def test_an_order_for_a_child_that_never_started(shop: Shop, parent: str) -> None:
    """Its start was refused: an order for it is settled, too."""
    effect = await child(shop, parent, workflow="nowhere")
    await shop.owe(parent, [effect], [SendOrder("order/2", effect.instance, CancelInstance())])
    await shop.engine.children.run_due()
    await shop.engine.orders.run_due()
    assert await shop.jobs() == {}


async def test_services_carry_out_what_is_committed(make_shop: MakeShop) -> None:
    """With services on, a committed order wakes the dispatcher: nobody has to look by chance."""
    shop = await make_shop(services=True, execution={"timer_poll": 600})
    await shop.publish(waiting_room("errand"))
    parent = await shop.start(await shop.publish(waiting_room()))
    effect = await child(shop, parent)
    await shop.owe(parent, [effect])
    async with asyncio.timeout(20):
        while await status(shop, effect.instance) is None:
            await asyncio.sleep(0.01)
    assert isinstance(shop.engine.children, ChildStarter)
