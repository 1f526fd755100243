"""External workers over the real API: fetching, holding, completing, failing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pliers_workflow.app import create_app
from pliers_workflow.runtime.answers import ShuttingDown
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.settings import Settings
from pliers_workflow.storage import paging, queries
from tests.api.world import Caller, World


def printing(**step: Any) -> dict[str, Any]:
    """A document that has something printed and keeps the number of pages."""
    return {
        "name": "printing", "version": "1.0.0", "title": "Printing",
        "stateMachine": {
            "initialState": "busy",
            "states": {
                "busy": {"properties": {"steps": [{
                    "type": "external", "id": "print", "topic": "printing", "inputMapping": {"text": "data.text"},
                    "outputMapping": {"pages": "output.pages"}, **step,
                }]}},
                "done": {"type": "final"},
            },
            "transitions": [{"from": "busy", "to": "done"}],
        },
    }  # fmt: skip


class Print(World):
    """A world in which things are printed by external workers."""

    worker: Caller

    async def begin(self, text: str = "hello") -> str:
        """The id of an instance that waits to be printed."""
        made = await self.admin("POST", "/workflows/printing/instances", {"data": {"text": text}}, status=201)
        return str(made.json()["id"])

    async def fetch(self, **body: Any) -> list[dict[str, Any]]:
        body = {"topics": ["printing"], "workerId": "one", **body}
        return list((await self.worker("POST", "/external-tasks/fetch", body, status=200)).json()["tasks"])

    async def say(self, task: dict[str, Any], what: str, status: int, **body: Any) -> httpx.Response:
        """Heartbeat, complete or fail."""
        headers = body.pop("headers", {})
        return await self.worker(
            "POST", f"/external-tasks/{task['id']}/{what}", {"leaseToken": task["leaseToken"], **body}, status=status,
            headers=headers,
        )  # fmt: skip

    async def look(self, instance_id: str) -> dict[str, Any]:
        return dict((await self.admin("GET", f"/workflow-instances/{instance_id}", status=200)).json())


async def open_world(database: str, **settings: Any) -> tuple[Print, Engine]:
    engine = await open_engine(Settings.model_validate({"database": {"url": database}, **settings}))
    await engine.start(services=False)
    secret = await engine.tokens.bootstrap()
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=create_app(engine, owns_engine=False)), base_url="http://e"
    )
    return Print(engine, http, secret or ""), engine


@pytest.fixture
async def world(database: str) -> AsyncIterator[Print]:
    """An engine whose steps are moved by the test alone, and a worker with a token for that and nothing else."""
    world, engine = await open_world(database)
    async with world.http:
        await world.admin("POST", "/users", {"username": "printer"}, status=201)
        world.worker = await world.person("printer", ("worker",))
        yield world
    await engine.close()


@pytest.fixture
async def shop(world: Print) -> Print:
    """The same with the workflow published."""
    await world.publish(printing(retryPolicy={"maxAttempts": 3, "initialDelaySeconds": 0, "jitter": 0}))
    return world


async def test_a_task_is_fetched_and_completed(shop: Print) -> None:
    """What the definition asked is in the task, what the worker gives is in the data, and the instance ends."""
    instance = await shop.begin("a letter")
    (task,) = await shop.fetch()
    assert task["input"] == {"text": "a letter"}
    assert (task["topic"], task["stepId"], task["workflow"], task["attempt"]) == ("printing", "print", "printing", 1)
    assert task["workflowInstanceId"] == instance
    assert task["idempotencyKey"] == f"{instance}:{task['step']}:1"
    assert await shop.fetch() == []
    await shop.say(task, "complete", 204, output={"pages": 3})
    seen = await shop.look(instance)
    assert (seen["status"], seen["instanceData"]["pages"]) == ("completed", 3)
    refused = await shop.say(task, "complete", 409, output={"pages": 4})
    assert refused.json()["code"] == "step_gone"


async def test_a_task_that_is_given_back_is_another_workers_at_once(shop: Print) -> None:
    """With the same key, as the same attempt, off the limit's account; who gave it back has nothing more to say of it."""
    await shop.admin("PUT", "/step-limits/external:printing", {"maxRunning": 1}, status=200)
    shop.engine.step_claims.sweep()
    instance = await shop.begin()
    (task,) = await shop.fetch(workerId="one")
    assert await shop.fetch(workerId="two") == []
    await shop.say(task, "give-back", 204)
    for what, body in (("give-back", {}), ("heartbeat", {}), ("complete", {"output": {"pages": 1}})):
        assert (await shop.say(task, what, 409, **body)).json()["code"] == "step_gone"
    (again,) = await shop.fetch(workerId="two")
    assert (again["attempt"], again["idempotencyKey"]) == (1, task["idempotencyKey"])
    assert again["leaseToken"] != task["leaseToken"]
    await shop.say(again, "complete", 204, output={"pages": 3})
    assert (await shop.look(instance))["instanceData"]["pages"] == 3


async def test_a_fetch_that_waits_gets_what_is_given_back(shop: Print) -> None:
    """It is woken, and does not find it by chance."""
    await shop.begin()
    (task,) = await shop.fetch()
    waiting = asyncio.create_task(shop.fetch(workerId="two", waitSeconds=20))
    while not shop.engine.external_tasks.waiting:
        await asyncio.sleep(0)
    await shop.say(task, "give-back", 204)
    (again,) = await waiting
    assert again["id"] == task["id"]


async def test_an_answer_that_was_lost_is_given_again(shop: Print) -> None:
    """Under the same Idempotency-Key a result counts once; with another body it is refused."""
    await shop.begin()
    (task,) = await shop.fetch()
    key = {"Idempotency-Key": "print-1"}
    first = await shop.say(task, "complete", 204, output={"pages": 3}, headers=key)
    again = await shop.say(task, "complete", 204, output={"pages": 3}, headers=key)
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    other = await shop.say(task, "complete", 422, output={"pages": 4}, headers=key)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_no_task_is_given_twice(shop: Print) -> None:
    """Ten workers at once share twenty tasks."""
    for _ in range(20):
        await shop.begin()
    fetched = await asyncio.gather(*(shop.fetch(workerId=f"w{n}", maxTasks=4) for n in range(10)))
    ids = [task["id"] for tasks in fetched for task in tasks]
    assert len(ids) == len(set(ids))
    while tasks := await shop.fetch(maxTasks=100):
        ids += [task["id"] for task in tasks]
    assert len(ids) == len(set(ids)) == 20


async def test_a_heartbeat_keeps_a_task_and_silence_loses_it(shop: Print) -> None:
    """A lease lasts as long as it is prolonged. What comes after it has lapsed is refused, and another attempt is made."""
    instance = await shop.begin()
    (task,) = await shop.fetch(leaseSeconds=1)
    held = (await shop.say(task, "heartbeat", 200, leaseSeconds=60)).json()
    assert held["leaseUntil"] > task["leaseUntil"]
    await asyncio.sleep(1.1)
    assert await shop.engine.rescuer.rescue() == 0
    await shop.say(task, "heartbeat", 200, leaseSeconds=1)
    await asyncio.sleep(1.1)
    for what, body in (("heartbeat", {}), ("complete", {"output": {"pages": 1}})):
        refused = await shop.say(task, what, 409, **body)
        assert refused.json()["code"] == "step_gone"
        assert "fetch again" in refused.json()["detail"]
    assert await shop.engine.rescuer.rescue() == 1
    (second,) = await shop.fetch(waitSeconds=5)
    assert (second["id"], second["attempt"]) == (task["id"], 2)
    await shop.say(task, "complete", 409, output={"pages": 1})
    await shop.say(second, "complete", 204, output={"pages": 2})
    assert (await shop.look(instance))["instanceData"]["pages"] == 2


async def test_a_failure_is_retried(shop: Print) -> None:
    """As the retry policy has it; what no attempt can mend is an incident at once."""
    instance = await shop.begin()
    (task,) = await shop.fetch()
    await shop.say(task, "fail", 204, code="PAPER_JAM", message="jammed", details={"tray": 2})
    (task,) = await shop.fetch(waitSeconds=5)
    assert task["attempt"] == 2
    await shop.say(task, "fail", 204, code="BROKEN", message="it smokes", retryable=False)
    assert (await shop.look(instance))["status"] == "failed"
    incidents = (await shop.admin("GET", f"/workflow-instances/{instance}/incidents", status=200)).json()["items"]
    assert [incident["code"] for incident in incidents] == ["BROKEN"]


async def test_a_retry_can_be_put_off(shop: Print) -> None:
    """`retryAfterSeconds` holds the next attempt back."""
    await shop.begin()
    (task,) = await shop.fetch()
    await shop.say(task, "fail", 204, code="BUSY", retryAfterSeconds=3600)
    assert await shop.fetch(waitSeconds=0.2) == []


async def test_others_are_refused(shop: Print) -> None:
    """A token without `worker`, another tenant's, a token that was guessed: none of them gets at a task."""
    instance = await shop.begin()
    nobody = await shop.person("printer")
    body = {"topics": ["printing"], "workerId": "x"}
    refused = await nobody("POST", "/external-tasks/fetch", body, status=403)
    assert refused.json()["details"]["anyOf"] == ["worker", "operator", "admin"]
    await shop.worker("GET", "/dead-jobs", status=403)
    made = await shop.admin("POST", "/tenants", {"id": "acme", "name": "Acme"}, status=201)
    acme = Caller(shop.http, made.json()["adminToken"])
    assert (await acme("POST", "/external-tasks/fetch", body, status=200)).json()["tasks"] == []
    (task,) = await shop.fetch()
    at = f"/external-tasks/{task['id']}"
    for caller, token in (
        (acme, task["leaseToken"]), (shop.worker, "1"), (shop.worker, f"1.{'0' * 32}"),
        (shop.worker, task["leaseToken"].replace("1.", "2.", 1)),
    ):  # fmt: skip
        for what in ("heartbeat", "complete"):
            refused = await caller("POST", f"{at}/{what}", {"leaseToken": token}, status=409)
            assert refused.json()["code"] == "step_gone"
        await caller("POST", f"{at}/fail", {"leaseToken": token, "code": "X"}, status=409)
    await shop.say(task, "complete", 204, output={"pages": 1})
    assert (await shop.look(instance))["status"] == "completed"


async def test_what_cannot_be_kept_is_refused_and_the_task_stays(shop: Print) -> None:
    """Too large an output, a NUL: the worker is told, and may send another."""
    await shop.begin()
    (task,) = await shop.fetch()
    large = await shop.say(task, "complete", 413, output="x" * 300_000)
    assert large.json()["code"] == "data_too_large"
    bad = await shop.say(task, "complete", 422, output={"text": "a\0b"})
    assert bad.json()["code"] == "unstorable_value"
    await shop.say(task, "complete", 204, output={"pages": 1})


async def test_a_fetch_waits_for_work(shop: Print) -> None:
    """It is answered as soon as there is something to do, and empty when its time is up."""
    assert await shop.fetch(waitSeconds=0.1) == []
    waiting = asyncio.create_task(shop.fetch(waitSeconds=20))
    while shop.engine.external_tasks.waiting == 0:
        await asyncio.sleep(0.01)
    instance = await shop.begin()
    (task,) = await asyncio.wait_for(waiting, 5)
    assert task["workflowInstanceId"] == instance
    assert shop.engine.external_tasks.waiting == 0


async def test_a_fetch_that_waits_ends_with_its_caller_and_with_the_node(shop: Print) -> None:
    """A caller that has gone takes no task along; a node that stops answers at once, and takes no new fetch."""
    tasks, gone = shop.engine.external_tasks, asyncio.Event()

    async def fetch() -> Any:
        return await tasks.fetch("default", ["printing"], "w", room=1, lease=60, wait=20, admit=anybody, gone=gone.wait)  # type: ignore[arg-type]  # what it gives does not matter

    first = asyncio.create_task(fetch())
    while tasks.waiting == 0:
        await asyncio.sleep(0.01)
    gone.set()
    assert await asyncio.wait_for(first, 2) == []
    gone.clear()
    second = asyncio.create_task(fetch())
    while tasks.waiting == 0:
        await asyncio.sleep(0.01)
    shop.engine.draining.set()
    assert await asyncio.wait_for(second, 2) == []
    with pytest.raises(ShuttingDown):
        await fetch()
    shop.engine.draining.clear()


@pytest.mark.parametrize("waits", [True, False])
async def test_what_was_claimed_for_a_caller_who_has_gone(
    shop: Print, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """The caller hangs up while the task is being claimed: it is the next caller's at once, and no attempt is used up."""
    tasks, gone, claim = shop.engine.external_tasks, asyncio.Event(), shop.engine.step_claims.claim

    async def hang_up(*arguments: Any, **options: Any) -> Any:
        steps = await claim(*arguments, **options)
        if steps:
            gone.set()
        return steps

    async def fetch() -> Any:
        return await tasks.fetch("default", ["printing"], "w", room=9, lease=60, wait=20, admit=anybody, gone=gone.wait)  # type: ignore[arg-type]  # what it gives does not matter

    if not waits:
        await shop.begin()
    with monkeypatch.context() as patched:
        patched.setattr(shop.engine.step_claims, "claim", hang_up)
        fetching = asyncio.create_task(fetch())
        if waits:
            while tasks.waiting == 0:
                await asyncio.sleep(0.01)
            await shop.begin()
        assert await asyncio.wait_for(fetching, 5) == []
    assert gone.is_set()
    (task,) = await shop.fetch(waitSeconds=2)
    assert task["attempt"] == 1
    await shop.say(task, "complete", 204, output={"pages": 1})


@pytest.mark.parametrize("how", ["token", "user"])
async def test_who_is_put_out_while_waiting_gets_nothing(shop: Print, how: str) -> None:
    """A token that is revoked, a person who is made inactive: the fetch that waits is refused, the task another's at once."""
    leaver = await shop.person("printer", ("worker",))
    body = {"topics": ["printing"], "workerId": "leaver", "waitSeconds": 20}
    fetching = asyncio.create_task(leaver("POST", "/external-tasks/fetch", body))
    await waiting(shop, 1)
    if how == "token":
        token_id = (await leaver("GET", "/me", status=200)).json()["tokenId"]
        await shop.admin("DELETE", f"/tokens/{token_id}", status=200)
    else:
        await shop.admin("DELETE", "/users/printer", status=200)
    instance = await shop.begin()
    refused = await asyncio.wait_for(fetching, 5)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")
    answer = await shop.admin("POST", "/external-tasks/fetch", {**body, "waitSeconds": 0}, status=200)
    (task,) = answer.json()["tasks"]
    assert (task["workflowInstanceId"], task["attempt"]) == (instance, 1)


async def test_a_task_outlasts_the_token_it_was_fetched_with(shop: Print) -> None:
    """Whoever is put out holds and settles no task; with another token the same worker goes on where it was."""
    instance = await shop.begin()
    (task,) = await shop.fetch()
    token_id = (await shop.worker("GET", "/me", status=200)).json()["tokenId"]
    await shop.admin("DELETE", f"/tokens/{token_id}", status=200)
    for what in "heartbeat", "give-back", "complete", "fail":
        await shop.say(task, what, 401)
    shop.worker = await shop.person("printer")
    await shop.say(task, "complete", 403)
    shop.worker = await shop.person("printer", ("worker",))
    await shop.say(task, "heartbeat", 200)
    await shop.say(task, "complete", 204, output={"pages": 1})
    assert (await shop.look(instance))["status"] == "completed"


async def anybody() -> None:
    """Let everybody in."""


async def waiting(shop: Print, count: int) -> None:
    async with asyncio.timeout(10):
        while shop.engine.external_tasks.waiting != count:
            await asyncio.sleep(0.01)


async def test_only_so_many_fetches_wait(database: str) -> None:
    """More are told to come again, a tenant's own before all; whoever finds something to do need not wait, and gets it."""
    world, engine = await open_world(
        database, steps={"waiting_fetches_max": 3, "waiting_fetches_per_tenant_max": 2}
    )  # fmt: skip
    async with world.http:
        world.worker = world.admin
        await world.publish(printing())
        made = await world.admin("POST", "/tenants", {"id": "acme", "name": "Acme"}, status=201)
        acme = Caller(world.http, made.json()["adminToken"])
        body = {"topics": ["other"], "workerId": "one", "waitSeconds": 20}

        async def fetch(who: Caller) -> httpx.Response:
            return await who("POST", "/external-tasks/fetch", body)

        first = [asyncio.create_task(fetch(world.admin)) for _ in range(2)]
        await waiting(world, 2)
        refused = await fetch(world.admin)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        problem = refused.json()
        assert (problem["code"], problem["errorCode"]) == ("too_many_waiting", "RESOURCE_EXHAUSTED")
        assert problem["details"] == {"limit": 2}
        assert problem["detail"].startswith("2 fetches of your tenant wait on this node already")
        third = asyncio.create_task(fetch(acme))
        await waiting(world, 3)
        refused = await fetch(acme)
        assert (refused.status_code, refused.json()["details"]) == (429, {"limit": 3})
        assert refused.json()["detail"].startswith("3 fetches wait on this node already")

        assert await world.fetch() == [], "one that would not wait is no burden"
        await world.begin()
        (task,) = await world.fetch(waitSeconds=20)
        assert task["topic"] == "printing"

        engine.draining.set()
        assert [answer.status_code for answer in await asyncio.gather(*first, third)] == [200] * 3
        engine.draining.clear()
        await waiting(world, 0)
        again = asyncio.create_task(fetch(world.admin))
        await waiting(world, 1)
        engine.draining.set()
        assert (await again).status_code == 200
    await engine.close()


async def test_the_nodes_own_worker_leaves_external_tasks_alone(shop: Print) -> None:
    """They are for workers outside."""
    await shop.begin()
    assert await shop.engine.step_worker.run_due() == 0
    assert len(await shop.fetch()) == 1


async def test_an_api_node_hands_out_what_another_node_owes(shop: Print, database: str) -> None:
    """A node of the role `api` finds the step by itself; its lease is known to every node."""
    instance = await shop.begin()
    other, engine = await open_world(database, node={"role": "api"})
    async with other.http:
        other.worker = Caller(other.http, shop.worker.token)
        (task,) = await other.fetch(waitSeconds=5)
    await engine.close()
    await shop.say(task, "heartbeat", 200)
    await shop.say(task, "complete", 204, output={"pages": 1})
    assert (await shop.look(instance))["status"] == "completed"


async def test_a_limit_bounds_external_tasks(shop: Print) -> None:
    """`maxRunning` counts what is fetched and not settled."""
    await shop.admin("PUT", "/step-limits/external:printing", {"maxRunning": 1}, status=200)
    for _ in range(2):
        await shop.begin()
    shop.engine.step_claims.sweep()
    (task,) = await shop.fetch(maxTasks=10)
    assert await shop.fetch() == []
    await shop.say(task, "heartbeat", 200)
    await shop.say(task, "complete", 204, output={"pages": 1})
    assert len(await shop.fetch(waitSeconds=5)) == 1


async def test_a_task_of_a_cancelled_instance_is_gone(shop: Print) -> None:
    """Its worker learns it by the next heartbeat."""
    instance = await shop.begin()
    (task,) = await shop.fetch()
    await shop.admin("DELETE", f"/workflow-instances/{instance}", {"reason": "not needed"}, status=200)
    await shop.say(task, "heartbeat", 409)


# -- what takes long ---------------------------------------------------------------------------------------------------


async def test_operators_find_what_is_at_work_and_what_waits(shop: Print) -> None:
    """Held or not, the longest first, on pages; with the worker's name, and nothing that only the worker may know."""
    for text in ("one", "two", "three"):
        await shop.begin(text)
    (task,) = await shop.fetch(maxTasks=1)
    page = (await shop.admin("GET", "/steps?limit=2", status=200)).json()
    rest = (await shop.admin("GET", f"/steps?limit=2&cursor={page['nextCursor']}", status=200)).json()
    rows = [*page["items"], *rest["items"]]
    assert rest["nextCursor"] is None
    assert [row["worker"] for row in rows] == ["one", None, None]
    assert [row["dueAt"] for row in rows] == sorted(row["dueAt"] for row in rows)
    first = rows[0]
    assert first["leaseUntil"] is not None
    assert {name: first[name] for name in ("id", "step", "stepId", "queue", "workflow", "version", "attempt")} == {
        "id": task["id"], "step": "step/1", "stepId": "print", "queue": "external:printing", "workflow": "printing",
        "version": "1.0.0", "attempt": 1,
    }  # fmt: skip
    for query, count in (
        ("minAgeSeconds=3600", 0), ("workflow=printing", 3), ("workflow=other", 0), ("queue=external:printing", 3),
        ("queue=http", 0),
    ):  # fmt: skip
        assert len((await shop.admin("GET", f"/steps?{query}", status=200)).json()["items"]) == count, query
    await shop.worker("GET", "/steps", status=403)
    for cursor in ("WzEsMl0", paging.encode_cursor(2**57, task["id"]), paging.encode_cursor(1, "none")):
        await shop.admin("GET", f"/steps?cursor={cursor}", status=422)


async def test_what_is_retried_is_at_work_since_its_first_attempt(shop: Print) -> None:
    """Each attempt is due anew; when the first one was, is told beside it."""
    await shop.begin()
    (task,) = await shop.fetch()
    await shop.say(task, "fail", 204, code="PAPER_JAM", message="jammed")
    (row,) = (await shop.admin("GET", "/steps", status=200)).json()["items"]
    assert (row["attempt"], row["worker"]) == (2, None)
    assert row["createdAt"] < row["dueAt"]


async def test_a_step_without_a_time_limit_that_never_ends_raises_an_alarm(database: str) -> None:
    """A worker that prolongs its lease for ever is at it for ever; so is one that undoes, for which nobody waits openly."""
    world, engine = await open_world(database, monitoring={"running_step_age_max": 0.01})
    async with world.http:
        await world.admin("POST", "/users", {"username": "printer"}, status=201)
        world.worker = await world.person("printer", ("worker",))
        undone = printing(retryPolicy={"maxAttempts": 1})
        (step,) = undone["stateMachine"]["states"]["busy"]["properties"]["steps"]
        undone["stateMachine"]["states"]["busy"]["properties"]["steps"] = [{
            "type": "sequential", "id": "all", "rollbackOnFailure": True, "steps": [
                {"type": "assign", "id": "note", "assignments": {"x": "1"}, "compensation": step},
                {"type": "assign", "id": "fail", "assignments": {"x": "1 / data.zero"}},
            ],
        }]  # fmt: skip
        await world.publish(undone)
        await world.admin("POST", "/workflows/printing/instances", {"data": {"text": "t", "zero": 0}}, status=201)
        report = await engine.health.report()
        assert "steps_take_long" not in {alarm.alarm for alarm in report.alarms}
        (task,) = await world.fetch()
        await world.say(task, "heartbeat", 200)
        report = await engine.health.report()
        (alarm,) = (each for each in report.alarms if each.alarm == "steps_take_long")
        assert (alarm.subject, alarm.threshold) == ("external", 0.01)
        assert report.details["steps"]["oldestSeconds"]["external"] > 0.01
        (row,) = (await world.admin("GET", "/steps", status=200)).json()["items"]
        assert row["stepId"] == "print"
        # The worker is stopped: its lease lapses, and an operator is told.
        await engine.pool.execute("UPDATE workflow_jobs SET lease_until = now() - interval '1 s' WHERE kind = 'step'")
        assert await engine.rescuer.rescue() == 1
        (incident,) = (await world.admin("GET", "/incidents", status=200)).json()["items"]
        assert (incident["code"], incident["stepId"]) == ("LEASE_LAPSED", "print")
    await engine.close()


async def test_finding_what_takes_long_reads_by_the_index(shop: Print) -> None:
    """Among a hundred thousand timers that are due some day, and steps that are not due yet."""
    await shop.begin()
    await shop.engine.pool.execute(
        "INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, queue, definition_name, payload) "
        "SELECT 'default', gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'timer' ELSE 'step' END, gen_random_uuid(), 'step/1', "
        "now() + CASE WHEN n % 2 = 0 THEN interval '-1 day' ELSE interval '1 day' END, 'http', 'other', '{}' "
        "FROM generate_series(1, 100000) n"
    )
    statement = queries.load("read_steps", visible_to="true").at_work
    beginning = datetime(1000, 1, 1, tzinfo=UTC)
    async with shop.engine.pool.acquire() as connection:
        plan = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {statement}", "default", 0, beginning,
            "00000000-0000-0000-0000-000000000000", None, None, 51,
        )  # fmt: skip
    told = str(plan)
    assert "workflow_jobs_kind_idx" in told
    assert (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Shared Hit Blocks"] < 50
