"""What a batch owes beyond its instances is written with it: jobs and incidents, netted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import CancelInstance, CompleteStep, Parent
from pliers_workflow.interpreter.effects import (
    CancelStep,
    CloseIncident,
    OpenIncident,
    SendOrder,
    StartChild,
)
from pliers_workflow.interpreter.instance import Incident
from pliers_workflow.runtime.jobs.payloads import read_child, read_order, read_step
from pliers_workflow.storage.identity import job_id

from .conftest import Shop, step, waiting_room

OTHER = "019ca3b5-1000-7000-8000-000000000001"


@pytest.fixture
async def instance_id(shop: Shop) -> str:
    return await shop.start(await shop.publish(waiting_room()))


async def test_a_step_becomes_a_job(shop: Shop, instance_id: str) -> None:
    """Queue, priority, time, definition, attempt and payload are in the row, under an id that follows from the name."""
    due = await shop.now() + timedelta(hours=1)
    payload = {"type": "http", "stepId": "call", "configuration": {"url": "x"}, "input": {"n": 1}}
    await shop.owe(instance_id, [step("step/1", due, attempt=3, priority=-2, payload=payload, timeout_ms=500)])
    (row,) = (await shop.jobs()).values()
    assert str(row["id"]) == job_id(instance_id, "step/1")
    assert (row["kind"], row["queue"], row["priority"], row["due_at"]) == ("step", "http", -2, due)
    assert row["definition_name"] == "waiting_room"
    told = read_step(row["payload_text"])
    assert (told.attempt, told.run, told.version, told.timeout_ms) == (3, payload, "1.0.0", 500)


async def test_orders_and_children_become_jobs(shop: Shop, instance_id: str) -> None:
    """An order for another instance, and a sub-workflow's start, with all that is needed to carry them out."""
    order = CompleteStep("step/2", 1, {"total": 7})
    child = StartChild("order/2", OTHER, "other", "^1.0", {"a": 1}, Parent(instance_id, "step/3"))
    await shop.owe(instance_id, [SendOrder("order/1", OTHER, order), child])
    rows = await shop.jobs(instance_id)
    assert rows["order/1"]["kind"] == "command"
    told = read_order(rows["order/1"]["payload_text"])
    assert (told.to, told.order) == (OTHER, order)
    assert rows["order/2"]["kind"] == "child"
    read = read_child(rows["order/2"]["payload_text"])
    assert (read.to, read.workflow, read.version, read.data, read.parent) == (
        OTHER, "other", "^1.0", {"a": 1}, Parent(instance_id, "step/3"),
    )  # fmt: skip


@pytest.mark.parametrize("folded", [True, False], ids=["in one fold", "one after the other"])
async def test_scheduled_and_cancelled_is_nothing(shop: Shop, instance_id: str, folded: bool) -> None:
    """A step that is not needed any more leaves no job, whether somebody could have claimed it or not."""
    effects: list[list[Any]] = [[step("step/1", await shop.now())], [CancelStep("step/1")]]
    if folded:
        await shop.owe(instance_id, *effects)
    else:
        for one in effects:
            await shop.owe(instance_id, one)
    assert await shop.jobs() == {}


async def test_a_claimed_job_goes_with_the_commit_that_settles_it(shop: Shop, instance_id: str) -> None:
    """Cancelling a step takes the job away from whoever holds it."""
    await shop.owe(instance_id, [step("step/1", await shop.now())])
    await shop.engine.pool.execute("UPDATE workflow_jobs SET lease_owner = 'x', lease_until = now() + interval '1 day'")
    await shop.owe(instance_id, [CancelStep("step/1")])
    assert await shop.jobs() == {}


@pytest.mark.parametrize("cancelled", [True, False])
async def test_scheduling_again_frees_the_job(shop: Shop, instance_id: str, cancelled: bool) -> None:
    """The next attempt is one row under the same name: no lease, no attempts, and a token no former holder has."""
    await shop.owe(instance_id, [step("step/1", await shop.now())])
    await shop.engine.pool.execute(
        "UPDATE workflow_jobs SET lease_owner = 'x', lease_until = now() + interval '1 day', fencing_token = 5, attempt = 4, "
        "last_error = 'no', status = 'dead'"
    )
    again = [step("step/1", await shop.now(), attempt=2, queue="script", priority=3)]
    await shop.owe(instance_id, [CancelStep("step/1"), *again] if cancelled else again)
    (row,) = (await shop.jobs()).values()
    assert (row["lease_owner"], row["lease_until"], row["attempt"], row["last_error"]) == (None, None, 0, None)
    assert (row["fencing_token"], row["status"], row["queue"], row["priority"]) == (6, "ready", "script", 3)
    assert read_step(row["payload_text"]).attempt == 2


async def test_a_timer_of_the_same_number_is_another_job(shop: Shop, instance_id: str) -> None:
    """timer/1, step/1 and order/1 of an instance are three jobs."""
    ids = {job_id(instance_id, name) for name in ("timer/1", "step/1", "order/1")}
    assert len(ids) == 3


INCIDENT = Incident(
    "incident/1", "HTTP_500", "The server said\x1f no.", state="waiting", step="step/1", step_id="call",
    fingerprint="abc", attempts=3, details={"status": 500},
)  # fmt: skip


async def incidents(shop: Shop) -> list[Any]:
    return list(await shop.engine.pool.fetch("SELECT * FROM workflow_incidents WHERE tenant_id = 'default'"))


async def test_an_incident_is_raised_and_resolved_in_commits(shop: Shop, instance_id: str) -> None:
    """It is a row while it is open, and the same row says who resolved it, how and why."""
    user = shop.admin.user_id
    await shop.owe(instance_id, [OpenIncident(INCIDENT)])
    (row,) = await incidents(shop)
    assert (row["incident"], row["code"], row["message"], row["fingerprint"]) == (
        "incident/1", "HTTP_500", INCIDENT.message, "abc",
    )  # fmt: skip
    assert (row["workflow_name"], row["step_id"], row["attempts"], row["details"]) == (
        "waiting_room", "call", 3, {"status": 500},
    )  # fmt: skip
    assert row["resolved_at"] is None
    await shop.owe(instance_id, [CloseIncident("incident/1", "retry", "it is up again", user)])
    (row,) = await incidents(shop)
    assert (row["action"], row["reason"], str(row["resolved_by"])) == ("retry", "it is up again", user)
    assert row["resolved_at"] is not None


async def test_raised_and_resolved_in_one_fold_is_one_row(shop: Shop, instance_id: str) -> None:
    """What came and went within a batch is on record all the same."""
    await shop.owe(instance_id, [OpenIncident(INCIDENT)], [CloseIncident("incident/1")])
    (row,) = await incidents(shop)
    assert row["resolved_at"] is not None
    assert row["action"] is None


async def test_an_overtaken_batch_writes_no_job(shop: Shop, instance_id: str) -> None:
    """Jobs are written for instances of this batch only: what was overtaken owes nothing."""
    from pliers_workflow.interpreter.commands import Actor, Command
    from pliers_workflow.runtime.jobs.payloads import step_job
    from pliers_workflow.storage import instances
    from pliers_workflow.storage.batch_writes import BatchWrites, save

    async with shop.engine.pool.acquire() as connection:
        loaded, _ = await instances.load(connection, [("default", instance_id)], [])
        read = loaded["default", instance_id]
        assert read.instance is not None
        await shop.do(instance_id, CancelInstance())
        writes = BatchWrites(timedelta(days=1))
        command = Command("late", Actor(), CancelInstance())
        writes.instance("default", read.instance, read.instance, read.history_hash, None)
        writes.history(
            "default", instance_id, 99, command.id, "cancel", None, "x", b"{}", read.now, None, bytes(32), bytes(32)
        )
        writes.job("default", instance_id, step_job(step("step/1", read.now), read.instance), read.now)
        assert await save(connection, writes) == frozenset()
    assert await shop.jobs() == {}
