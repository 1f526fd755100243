"""The commit of batches on a real PostgreSQL: what is acknowledged is there once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from pliers_workflow.interpreter.commands import (
    CancelInstance,
    CompleteStep,
    FailStep,
    FireTimer,
    FireTrigger,
    RecordDecision,
    ResolveIncident,
    ResumeInstance,
    SuspendInstance,
    UpdateData,
)
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted, EngineError, KeyReused, NotFound, Overloaded
from pliers_workflow.runtime.commit import aside as aside_module
from pliers_workflow.runtime.rows import DefinitionRow

from .conftest import EXPENSE, World, example, people_of_expenses, request_key, terminate_backends

MakeWorld = Callable[..., Awaitable[World]]


def vote_chart(name: str = "ballot", **requirements: Any) -> dict[str, Any]:
    """One stage in which members of `board` vote."""
    return {
        "name": name,
        "version": "1.0.0",
        "title": "Ballot",
        "stateMachine": {
            "initialState": "voting",
            "states": {
                "voting": {"properties": {"approvalChain": "board"}},
                "carried": {"type": "final"},
                "lost": {"type": "final"},
            },
            "transitions": [
                {"from": "voting", "to": "carried"},
                {"from": "voting", "to": "lost", "trigger": "rejected"},
            ],
        },
        "approvalChains": [
            {
                "id": "board",
                "steps": [
                    {
                        "id": "vote",
                        "type": "role",
                        "approvers": [{"type": "role", "identifier": "board"}],
                        "parallel": True,
                        "requirements": requirements or {"unanimousRequired": True},
                    }
                ],
            }
        ],
    }


async def test_an_expense_goes_from_draft_to_paid(world: World) -> None:
    """Every transition is a history row, the work items are rows in between, and folding the history gives the instance."""
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    instance_id = started.instance.id
    assert started.instance.current_state == "draft"
    submitted = await world.do(instance_id, "ada", FireTrigger("submit"))
    assert isinstance(submitted, Accepted)
    assert submitted.instance.assigned_to == world.users["grace"]
    open_items = await world.engine.pool.fetch(
        "SELECT step_id, approver_id::text FROM workflow_approvals "
        "WHERE tenant_id = 'default' AND workflow_instance_id = $1 AND action IS NULL",
        instance_id,
    )
    assert [tuple(row) for row in open_items] == [("manager", world.users["grace"])]
    assert isinstance(await world.do(instance_id, "grace", RecordDecision("approve")), Accepted)
    paid = await world.do(instance_id, "edsger", RecordDecision("approve"))
    assert isinstance(paid, Accepted)
    assert paid.instance.status == "completed"
    assert len(await world.check(instance_id)) == 4
    left = await world.engine.pool.fetchval("SELECT count(*) FROM workflow_jobs WHERE tenant_id = 'default'")
    assert left == 0, "an ended instance leaves no timers behind"


async def test_two_hundred_voters_at_once_all_get_an_answer(world: World) -> None:
    """Votes of one instant fold into few writes; each is counted once and has its own history row."""
    await world.people(**{f"voter{n}": {"roles": ("board",)} for n in range(200)})
    definition = await world.publish(vote_chart())
    started = await world.start(definition, data={})
    batches = world.engine.pipeline.batches
    answers = await asyncio.gather(
        *(world.do(started.instance.id, f"voter{n}", RecordDecision("approve")) for n in range(200))
    )
    assert all(isinstance(answer, Accepted) for answer in answers), Counter(map(str, answers)).most_common(2)
    assert world.engine.pipeline.batches - batches < 50
    rows = await world.check(started.instance.id)
    assert len(rows) == 201
    decided = await world.engine.pool.fetchval(
        "SELECT count(DISTINCT decided_by) FROM workflow_approvals WHERE tenant_id = 'default' AND action = 'approve'"
    )
    assert decided == 200
    final = await world.do(started.instance.id, "voter3", RecordDecision("approve"))
    assert isinstance(final, Rejection)
    assert final.reason is Reason.INSTANCE_ENDED


async def test_a_double_click_counts_once(world: World) -> None:
    """The same vote twice at the same instant: one is counted, the other is told that it was decided already."""
    await world.people(one={"roles": ("board",)}, two={"roles": ("board",)})
    definition = await world.publish(vote_chart())
    started = await world.start(definition, data={})
    answers = await asyncio.gather(*(world.do(started.instance.id, "one", RecordDecision("approve")) for _ in range(2)))
    accepted = [answer for answer in answers if isinstance(answer, Accepted)]
    refused = [answer for answer in answers if isinstance(answer, Rejection)]
    assert len(accepted) == 1
    assert [r.reason for r in refused] == [Reason.ALREADY_DECIDED]


async def test_the_same_key_gives_the_same_answer(world: World) -> None:
    """A request repeated with its Idempotency-Key is applied once, at the same instant too; another body is refused."""
    definition = await world.publish(example("expense_report"))
    key = request_key(key="k1")
    answers = await asyncio.gather(*(world.start(definition, request=key) for _ in range(5)))
    assert len({answer.instance.id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False, True, True, True, True]
    instance_id = answers[0].instance.id
    submit = request_key(key="k2")
    first = await world.do(instance_id, "ada", FireTrigger("submit"), request=submit)
    await world.do(instance_id, "grace", RecordDecision("approve"))
    again = await world.do(instance_id, "ada", FireTrigger("submit"), request=submit)
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert again.replayed
    assert again.seq == first.seq == 2
    assert again.instance.status == first.instance.status and again.instance.revision == 2, "as it was, not as it is"
    other = await world.do(instance_id, "ada", FireTrigger("submit"), request=request_key(key="k2", body=b"1" * 32))
    assert isinstance(other, KeyReused)
    assert await world.engine.pool.fetchval("SELECT count(*) FROM workflow_instances WHERE tenant_id = 'default'") == 1


async def test_what_the_database_refuses_hurts_nobody_else(world: World) -> None:
    """One of a hundred starts has an external key that is taken: it is refused alone, the others are committed."""
    definition = await world.publish(example("expense_report"))
    await world.start(definition, external_key="taken")
    answers = await asyncio.gather(
        *(
            world.engine.start_instance(
                world.principal("ada"), definition, data=EXPENSE, external_key="taken" if n == 37 else None
            )
            for n in range(100)
        )
    )
    refused = [n for n, answer in enumerate(answers) if not isinstance(answer, Accepted)]
    assert refused == [37]
    assert isinstance(answers[37], Rejection)
    assert answers[37].reason is Reason.INSTANCE_EXISTS


async def test_a_revision_that_has_moved_is_refused(world: World) -> None:
    """If-Match is checked inside the commit, against what the commands folded before have left."""
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    edits = [
        world.engine.execute(
            "default", started.instance.id,
            world.command("ada", UpdateData(patch={"purpose": f"Trip number {n}"}), expected_revision=1),
        )
        for n in range(3)
    ]  # fmt: skip
    answers = await asyncio.gather(*edits)
    assert [isinstance(answer, Accepted) for answer in answers] == [True, False, False]
    assert all(isinstance(a, Rejection) and a.reason is Reason.REVISION_CONFLICT for a in answers[1:])
    await world.check(started.instance.id)


async def test_two_nodes_decide_the_same_instances(make_world: MakeWorld) -> None:
    """Two nodes on one database, voters of the same instances on both: no error, no deadlock, every vote once."""
    first = await make_world()
    second = await make_world()
    await first.people(ada={}, **{f"voter{n}": {"roles": ("board",)} for n in range(12)})
    definition = await first.publish(vote_chart())
    instances = [(await first.start(definition, data={})).instance.id for _ in range(20)]
    answers = await asyncio.gather(
        *(
            (first if (n + k) % 2 else second).do(instance_id, f"voter{n}", RecordDecision("approve"))
            for k, instance_id in enumerate(instances)
            for n in range(12)
        )
    )
    assert all(isinstance(answer, Accepted) for answer in answers)
    for instance_id in instances:
        assert len(await first.check(instance_id)) == 13


async def test_connections_cut_in_the_middle_lose_nothing(make_world: MakeWorld, database: str) -> None:
    """Backends are terminated again and again under load; every acknowledged command is in the history once."""
    world = await make_world()
    await world.people(ada={}, **{f"voter{n}": {"roles": ("board",)} for n in range(10)})
    definition = await world.publish(vote_chart())
    instances = [(await world.start(definition, data={})).instance.id for _ in range(30)]
    done = asyncio.Event()

    async def cut() -> int:
        cuts = 0
        while not done.is_set() and cuts < 20:  # not for ever: each new connection plans its statements anew
            cuts += await terminate_backends(database)
            await asyncio.sleep(0.3)
        return cuts

    cutter = asyncio.create_task(cut())
    commands = [
        (instance_id, world.command(f"voter{n}", RecordDecision("approve")))
        for n in range(10)
        for instance_id in instances
    ]

    async def vote(delay: float, instance_id: str, command: Any) -> Any:
        await asyncio.sleep(delay)
        return await world.engine.execute("default", instance_id, command)

    answers = await asyncio.gather(*(vote(place * 0.003, *pair) for place, pair in enumerate(commands)))
    done.set()
    assert await cutter > 0
    assert all(isinstance(answer, Accepted) for answer in answers), [a for a in answers if not isinstance(a, Accepted)][
        :3
    ]
    for instance_id in instances:
        rows = await world.check(instance_id)
        ids = [row["command_id"] for row in rows]
        assert len(ids) == len(set(ids)) == 11


async def test_a_vote_rests_on_the_directory_as_it_is_at_the_commit(world: World) -> None:
    """Who leaves the role before the decision is committed may not decide any more."""
    await world.people(one={"roles": ("board",)}, two={"roles": ("board",)}, three={"roles": ("board",)})
    definition = await world.publish(vote_chart())
    started = await world.start(definition, data={})
    assert isinstance(await world.do(started.instance.id, "one", RecordDecision("approve")), Accepted)
    await world.engine.directory.update_user(world.admin, "two", {"roles": []})
    answer = await world.do(started.instance.id, "two", RecordDecision("approve"))
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.NOT_AN_APPROVER


async def test_a_directory_that_changes_all_the_while_is_no_fault_of_a_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is overtaken, and asks for the same facts again: it was given up as one that asks without an end."""
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    load, changes = world.engine.directory.load_facts, 0

    async def changing(*arguments: Any) -> Any:
        nonlocal changes
        if changes < 40:
            changes += 1
            await world.engine.pool.execute("UPDATE tenants SET directory_revision = directory_revision + 1")
        return await load(*arguments)

    monkeypatch.setattr(world.engine.directory, "load_facts", changing)
    answer = await world.do(started.instance.id, "ada", FireTrigger("submit"))
    assert isinstance(answer, Accepted), answer
    assert changes == 40


async def test_a_full_queue_says_so(make_world: MakeWorld) -> None:
    """Beyond its bound the queue takes no more; what it has taken is answered."""
    world = await make_world(queue_length_max=50)
    await people_of_expenses(world)
    definition = await world.publish(example("expense_report"))
    results = await asyncio.gather(
        *(world.engine.start_instance(world.principal("ada"), definition, data=EXPENSE) for _ in range(200)),
        return_exceptions=True,
    )
    accepted = sum(isinstance(result, Accepted) for result in results)
    assert accepted >= 50
    assert all(isinstance(result, Accepted | Overloaded) for result in results)
    count = await world.engine.pool.fetchval("SELECT count(*) FROM workflow_instances WHERE tenant_id = 'default'")
    assert count == accepted
    assert world.engine.overloaded() is None


async def test_unknown_instances_and_other_tenants(world: World) -> None:
    """What does not exist, or lives in another tenant, is not found; nothing tells the two apart."""
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    await world.engine.tenants.create(None, "other", "Other")
    for tenant_id, instance_id in (
        ("other", started.instance.id),
        ("nowhere", started.instance.id),
        ("default", "0190aaaa-0000-7000-8000-000000000000"),
        ("default", "no-uuid"),
    ):
        answer = await world.engine.execute(tenant_id, instance_id, world.command(None, CancelInstance()))
        assert isinstance(answer, NotFound)


async def test_a_due_timer_fires_once_on_two_nodes(make_world: MakeWorld) -> None:
    """Two dispatchers claim the same due timers; each fires once, and the lease protects what one has claimed."""
    first, second = await make_world(), await make_world()
    await first.people(ada={})
    document = {
        "name": "reminder", "version": "1.0.0", "title": "Reminder",
        "stateMachine": {
            "initialState": "waiting",
            "states": {
                "waiting": {"timeouts": [{"afterMinutes": 0.0001}]},
                "done": {"type": "final"},
            },
            "transitions": [{"from": "waiting", "to": "done", "trigger": "timeout"}],
        },
    }  # fmt: skip
    definition = await first.publish(document)
    instances = [(await first.start(definition, data={})).instance.id for _ in range(40)]
    async with asyncio.timeout(20):
        while await first.engine.pool.fetchval("SELECT count(*) FROM workflow_jobs WHERE tenant_id = 'default'"):
            await asyncio.gather(first.engine.timers.sweep(), second.engine.timers.sweep())
    assert first.engine.timers.fired + second.engine.timers.fired == 40
    for instance_id in instances:
        assert len(await first.check(instance_id)) == 2


async def test_a_suspended_clock_keeps_its_remaining_time(world: World) -> None:
    """Suspending pauses the job, resuming lets it go on with what was left; firing by hand meanwhile is refused."""
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    instance_id = started.instance.id
    (timer,) = started.instance.machine.timers.values()
    assert isinstance(await world.do(instance_id, None, SuspendInstance("audit")), Accepted)
    paused = await world.engine.pool.fetchval(
        "SELECT due_at = 'infinity' FROM workflow_jobs WHERE tenant_id = 'default' AND name = $1", timer.id
    )
    assert paused
    refused = await world.do(instance_id, None, FireTimer(timer.id))
    assert isinstance(refused, Rejection)
    resumed = await world.do(instance_id, None, ResumeInstance())
    assert isinstance(resumed, Accepted)
    after = resumed.instance.machine.timers[timer.id]
    assert after.due_at is not None
    assert timer.due_at is not None
    assert abs(after.due_at - timer.due_at) < timedelta(seconds=5)
    await world.check(instance_id)


async def test_a_script_is_fetched_beside_the_batch(world: World) -> None:
    """A script condition is answered by the sandbox; commands behind it keep their order."""
    document = {
        "name": "scripted", "version": "1.0.0", "title": "Scripted",
        "dataSchema": {"type": "object", "properties": {"amount": {"type": "number"}, "note": {"type": "string"}}},
        "stateMachine": {
            "initialState": "draft",
            "states": {"draft": {}, "small": {"type": "final"}, "large": {"type": "final"}},
            "transitions": [
                {"from": "draft", "to": "large", "trigger": "go", "priority": 1,
                 "condition": {"type": "script", "script": "data['amount'] > 1000"}},
                {"from": "draft", "to": "small", "trigger": "go"},
            ],
        },
    }  # fmt: skip
    definition = await world.publish(document)
    started = await world.start(definition, data={"amount": 1800, "note": "x"})
    first, second = await asyncio.gather(
        world.do(started.instance.id, "ada", FireTrigger("go")),
        world.do(started.instance.id, "ada", UpdateData(patch={"note": "too late"})),
    )
    assert isinstance(first, Accepted)
    assert first.instance.current_state == "large"
    assert isinstance(second, Rejection)
    assert second.reason is Reason.INSTANCE_ENDED
    record = (await world.check(started.instance.id))[-1]["record"]
    assert '"script:' in record, "the answer is kept with the row that rests on it"


async def test_much_work_is_done_alone_and_endless_work_is_refused(make_world: MakeWorld) -> None:
    """What exceeds the batch's budget is interpreted in a process of its own; beyond the larger budget it is refused."""
    world = await make_world(budget_steps=2_000, budget_steps_alone=300_000)
    await world.people(ada={})

    def sums(name: str, depth: int) -> dict[str, Any]:
        inner = "1"
        for level in range(depth):
            inner = f"data.xs.map(x{level}, {inner}).size()"
        return {
            "name": name, "version": "1.0.0", "title": "Sums",
            "dataSchema": {"type": "object", "properties": {"xs": {"type": "array"}, "n": {"type": "integer"}}},
            "stateMachine": {
                "initialState": "draft",
                "states": {"draft": {}, "done": {"type": "final"}},
                "transitions": [{"from": "draft", "to": "done", "trigger": "go",
                                 "actions": [{"type": "assign", "field": "n", "value": inner}]}],
            },
        }  # fmt: skip

    data = {"xs": list(range(60)), "n": 0}
    heavy = await world.start(await world.publish(sums("heavy", 2)), data=data)
    answer = await world.do(heavy.instance.id, "ada", FireTrigger("go"))
    assert isinstance(answer, Accepted)
    assert answer.instance.status == "completed"
    endless = await world.start(await world.publish(sums("endless", 5)), data=data)
    answer = await world.do(endless.instance.id, "ada", FireTrigger("go"))
    assert isinstance(answer, Rejection)
    assert answer.reason is Reason.BUDGET_EXCEEDED
    await world.check(heavy.instance.id)
    await world.check(endless.instance.id)


async def test_a_result_that_is_endless_work_is_an_incident(make_world: MakeWorld) -> None:
    """Whoever brings it could only bring it again."""
    world = await make_world(budget_steps=2_000, budget_steps_alone=30_000)
    await world.people(ada={})
    inner = "1"
    for level in range(5):
        inner = f"data.xs.map(x{level}, {inner}).size()"
    step = {"type": "external", "id": "call", "topic": "calls", "outputMapping": {"n": inner}}
    document = {
        "name": "endless_step", "version": "1.0.0", "title": "Endless step",
        "dataSchema": {"type": "object", "properties": {"xs": {"type": "array"}, "n": {"type": "integer"}}},
        "stateMachine": {"initialState": "work",
                         "states": {"work": {"properties": {"steps": [step]}}, "done": {"type": "final"}},
                         "transitions": [{"from": "work", "to": "done"}]},
    }  # fmt: skip
    started = await world.start(await world.publish(document), data={"xs": list(range(60)), "n": 0})
    (run,) = started.instance.machine.steps
    answer = await world.engine.execute(
        "default", started.instance.id, world.command(None, CompleteStep(run, 1, "done"))
    )
    assert isinstance(answer, Accepted), answer
    (incident,) = answer.instance.machine.incidents.values()
    assert (incident.code, incident.details) == ("budget_exceeded", {"result": "kept"})
    await world.check(started.instance.id)


async def test_what_happens_instead_may_be_much_work_too(make_world: MakeWorld) -> None:
    """It has the larger budget where it needs it: an instance that could never be resumed would be lost."""
    world = await make_world(budget_steps=2_000, budget_steps_alone=30_000)
    await world.people(ada={})
    endless = "1"
    for level in range(5):
        endless = f"data.xs.map(x{level}, {endless}).size()"
    step = {
        "type": "external", "id": "call", "topic": "calls", "inputMapping": {"n": "data.xs.map(x, x).size()"},
        "outputMapping": {"n": endless}, "retryPolicy": {"maxAttempts": 3, "initialDelaySeconds": 3600},
    }  # fmt: skip
    document = {
        "name": "much_instead", "version": "1.0.0", "title": "Much instead",
        "dataSchema": {"type": "object", "properties": {"xs": {"type": "array"}, "n": {"type": "integer"}}},
        "stateMachine": {"initialState": "work",
                         "states": {"work": {"properties": {"steps": [
                             {"type": "for_each", "items": "data.xs", "maxConcurrency": 100, "steps": [step]}]}},
                             "done": {"type": "final"}},
                         "transitions": [{"from": "work", "to": "done"}]},
    }  # fmt: skip
    started = await world.start(await world.publish(document), data={"xs": list(range(60)), "n": 0})
    first, *others = [run.id for run in started.instance.machine.steps.values() if run.type == "external"]
    for run in others:
        await world.do(started.instance.id, None, FailStep(run, 1, "BUSY", "later"))
    await world.do(started.instance.id, None, SuspendInstance("wait"))
    await world.do(started.instance.id, None, CompleteStep(first, 1, "done"))
    answer = await world.do(started.instance.id, None, ResumeInstance("go on"))
    assert isinstance(answer, Accepted), answer
    (incident,) = answer.instance.machine.incidents.values()
    assert (incident.step, incident.code, incident.details) == (first, "budget_exceeded", {"result": "kept"})
    assert answer.instance.status != "suspended"
    await world.check(started.instance.id)


@pytest.mark.parametrize("gone", ["caller", "nobody"])
async def test_a_caller_that_goes_away_does_not_take_its_command_along(world: World, gone: str) -> None:
    """A cancelled request is committed all the same: its batch is not its own."""
    definition = await world.publish(example("expense_report"))
    started = await world.start(definition)
    task = asyncio.create_task(world.do(started.instance.id, "ada", FireTrigger("submit")))
    await asyncio.sleep(0)
    if gone == "caller":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(5):
        while len(await world.rows(started.instance.id)) < 2:
            await asyncio.sleep(0.01)
    await world.check(started.instance.id)


async def test_a_virtual_clock_fires_the_timers_it_passes(make_world: MakeWorld) -> None:
    """Moving a tenant's clock over a timeout fires it, though the dispatcher has looked since; other tenants do not notice."""
    world = await make_world(services=True)
    await people_of_expenses(world)
    definition = await world.publish(example("expense_report"))
    real = await world.start(definition)
    began_at = datetime(2020, 1, 1, tzinfo=UTC)
    await world.engine.tenants.create(None, "lab", "Laboratory", virtual_now=began_at)
    row = await world.engine.directory.user_by_name("lab", "admin")
    assert row is not None
    admin = Principal("lab", row.id, "admin", frozenset({"admin"}))
    created = await world.engine.catalog.create(admin, example("expense_report"))
    assert isinstance(created, DefinitionRow)
    published = await world.engine.catalog.publish(admin, created.id)
    assert isinstance(published, DefinitionRow)
    started = await world.engine.start_instance(admin, published, data=EXPENSE)
    assert isinstance(started, Accepted)
    assert started.executed_at == began_at
    for days, status in ((89, "waiting"), (91, "completed")):
        await world.engine.timers.run_due()
        await world.engine.tenants.set_clock(admin, began_at + timedelta(days=days))
        await world.engine.timers.run_due()
        async with asyncio.timeout(10):
            while (
                await world.engine.pool.fetchval("SELECT status::text FROM workflow_instances WHERE tenant_id = 'lab'")
                != status
            ):
                await asyncio.sleep(0.02)
    state = await world.engine.pool.fetchval("SELECT current_state FROM workflow_instances WHERE tenant_id = 'lab'")
    assert state == "expired"
    untouched = await world.engine.pool.fetchval(
        "SELECT status::text FROM workflow_instances WHERE tenant_id = 'default' AND id = $1", real.instance.id
    )
    assert untouched == "waiting"


async def test_what_is_interpreted_alone_obeys_the_same_rules(make_world: MakeWorld) -> None:
    """With no budget for batches every command leaves its batch: keys count once, and what the database refuses is refused."""
    world = await make_world(budget_steps=1)
    await people_of_expenses(world)
    definition = await world.publish(example("expense_report"))
    key = request_key(key="alone")
    started = await world.start(definition, external_key="taken", request=key)
    again = await world.start(definition, external_key="taken", request=key)
    assert again.replayed
    assert again.instance.id == started.instance.id
    refused = await world.engine.start_instance(
        world.principal("ada"), definition, data=EXPENSE, external_key="taken", request=request_key()
    )
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.INSTANCE_EXISTS
    answers = await asyncio.gather(
        *(world.do(started.instance.id, name, order) for name, order in (
            ("ada", FireTrigger("submit")), ("grace", RecordDecision("approve")), ("edsger", RecordDecision("approve")),
        ))
    )  # fmt: skip
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    assert len(await world.check(started.instance.id)) == 4


async def test_when_an_instance_failed_is_kept_as_its_history_tells_it(world: World) -> None:
    """Halted by an incident, changed meanwhile, by one command or several at once, and given up: each time the row is the fold."""
    definition = await world.publish({
        "name": "errand", "version": "1.0.0", "title": "Errand", "dataSchema": {"type": "object"},
        "stateMachine": {
            "initialState": "busy",
            "states": {
                "busy": {"properties": {"steps": [{"type": "external", "id": "run", "topic": "t"}]}},
                "done": {"type": "final"},
            },
            "transitions": [{"from": "busy", "to": "done"}],
        },
    })  # fmt: skip
    instance_id = (await world.start(definition, data={})).instance.id
    failure = FailStep("step/1", 1, "GONE", "It is gone.", retryable=False)
    orders = [failure, UpdateData(patch={"n": 1}), UpdateData(patch={"n": 2})]
    answers = await asyncio.gather(*(world.do(instance_id, None, order) for order in orders))
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    await world.check(instance_id)
    answer = await world.do(instance_id, None, ResolveIncident("incident/1", "give_up", "no use"))
    assert isinstance(answer, Accepted)
    await world.check(instance_id)
    failed_at = await world.engine.pool.fetchval("SELECT failed_at FROM workflow_instances WHERE id = $1", instance_id)
    assert failed_at == answer.executed_at


@pytest.mark.parametrize("error", [asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError])
async def test_what_is_interpreted_alone_is_done_again_after_a_passing_error(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """As in a batch: the statement was rolled back, so nobody is told that the engine failed."""
    world = await make_world(chart_weight_max=0)
    await people_of_expenses(world)
    started = await world.start(await world.publish(example("expense_report")))
    save, errors = aside_module.save, [error("it passes")]

    async def passing(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return await save(*arguments)

    monkeypatch.setattr(aside_module, "save", passing)
    answer = await world.do(started.instance.id, "ada", FireTrigger("submit"))
    assert isinstance(answer, Accepted)
    assert len(await world.check(started.instance.id)) == 2


async def test_a_start_repeated_at_another_node_at_once(make_world: MakeWorld) -> None:
    """The same start with the same key under way at two nodes: both are given the one instance, none is told "it exists"."""
    first, second = await make_world(), await make_world()
    await people_of_expenses(first)
    second.users = first.users
    definition = await first.publish(example("expense_report"))

    async def start(world: World, number: int) -> Accepted:
        return await world.start(
            definition, external_key=f"claim {number}", request=request_key("POST start", f"key {number}")
        )

    for number in range(30):  # each alone in its batch, where nothing is read a second time by the way
        one, other = await asyncio.gather(start(first, number), start(second, number))
        assert one.instance.id == other.instance.id


async def test_a_definition_that_cannot_be_read_any_more(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer release, say, refuses what an older one has published: its own instances stand still, nobody else's do."""
    world = await make_world()
    await people_of_expenses(world)
    definition = await world.publish(example("expense_report"))
    other = await world.publish({**example("expense_report"), "name": "other"})
    ours, theirs = (await world.start(definition)).instance.id, (await world.start(other)).instance.id
    charts = world.engine.pipeline._charts
    chart, cached = charts.chart, charts.cached

    async def broken(tenant_id: str, definition_id: str) -> Any:
        assert definition_id != other.id, "a published definition makes sense"
        return await chart(tenant_id, definition_id)

    monkeypatch.setattr(charts, "chart", broken)
    monkeypatch.setattr(charts, "cached", lambda *key: None if key[1] == other.id else cached(*key))
    orders = [UpdateData(patch={"amount": 5})] * 2
    good, bad = await asyncio.gather(
        *(world.do(instance_id, "ada", order) for instance_id, order in zip((ours, theirs), orders, strict=True)),
        return_exceptions=True,
    )
    assert isinstance(good, Accepted)
    assert isinstance(bad, EngineError)
    assert "definition" in str(bad)


async def test_a_key_that_another_node_uses_while_its_command_is_put_aside(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are given the one answer; none is told that there is nothing left to do."""
    first, second = await make_world(), await make_world(chart_weight_max=0)
    await people_of_expenses(first)
    second.users = first.users
    instance_id = (await first.start(await first.publish(example("expense_report")))).instance.id
    aside = second.engine.pipeline._aside
    commit, here, done = aside._commit_alone, asyncio.Event(), asyncio.Event()

    async def later(*arguments: Any) -> None:
        here.set()
        await done.wait()
        await commit(*arguments)

    monkeypatch.setattr(aside, "_commit_alone", later)
    key = request_key()
    asked = asyncio.create_task(second.do(instance_id, "ada", FireTrigger("submit"), request=key))
    await asyncio.wait_for(here.wait(), 5)
    answer = await first.do(instance_id, "ada", FireTrigger("submit"), request=key)
    done.set()
    again = await asyncio.wait_for(asked, 20)
    assert isinstance(answer, Accepted)
    assert isinstance(again, Accepted), again
    assert again.replayed
    assert again.seq == answer.seq
    await first.check(instance_id)


REFUSE = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.workflow_instance_id = '{}' THEN "
    "RAISE EXCEPTION 'no' USING ERRCODE = '{}'; END IF; RETURN NEW; END $$; "
    "CREATE TRIGGER refuse BEFORE INSERT ON workflow_execution_history FOR EACH ROW EXECUTE FUNCTION refuse()"
)


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "55P03", "57014", "53200"])
async def test_who_cannot_be_written_for_long_is_in_nobodys_way(make_world: MakeWorld, sqlstate: str) -> None:
    """Whatever of one command takes too much time or memory: the others of its batch are done, and its caller is told."""
    world = await make_world(default_timeout=1)
    await world.people(ada={})
    definition = await world.publish(patient_chart())
    culprit, *others = [(await world.start(definition, data={})).instance.id for _ in range(6)]
    await world.engine.pool.execute(REFUSE.format(culprit, sqlstate))
    asked = asyncio.create_task(world.do(culprit, "ada", UpdateData(patch={"a": 1})))
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(world.do(other, "ada", UpdateData(patch={"a": 1})) for other in others))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert not asked.done(), "it is tried for as long as callers wait"
    with pytest.raises(Overloaded):
        await asyncio.wait_for(asked, 10)
    await world.engine.pool.execute("DROP TRIGGER refuse ON workflow_execution_history")
    assert isinstance(await world.do(culprit, "ada", UpdateData(patch={"a": 1})), Accepted)
    assert len(await world.check(culprit)) == 2, "nothing was done behind the caller's back"


async def test_a_row_that_somebody_holds_keeps_nobody_else_waiting(make_world: MakeWorld, database: str) -> None:
    """An administrator's open transaction: commands to that instance end in good time, contested ones of others go on."""
    world = await make_world(default_timeout=1)
    await world.people(ada={})
    definition = await world.publish(patient_chart())
    held, other = [(await world.start(definition, data={})).instance.id for _ in range(2)]
    holder = await asyncpg.connect(database)
    await holder.execute(f"BEGIN; SELECT FROM workflow_instances WHERE id = '{held}' FOR UPDATE")
    asked = asyncio.create_task(world.do(held, "ada", UpdateData(patch={"a": 1})))
    assert isinstance(await world.do(other, "ada", UpdateData(patch={"a": 1})), Accepted)
    with pytest.raises(Overloaded):
        await asyncio.wait_for(asked, 30)
    await holder.close()
    assert isinstance(await world.do(held, "ada", UpdateData(patch={"a": 1})), Accepted)


def patient_chart() -> dict[str, Any]:
    """Instances that wait."""
    return {
        "name": "patient", "version": "1.0.0", "title": "Patient",
        "stateMachine": {"initialState": "waiting", "states": {"waiting": {}, "done": {"type": "final"}},
                         "transitions": [{"from": "waiting", "to": "done", "trigger": "go"}]},
    }  # fmt: skip
