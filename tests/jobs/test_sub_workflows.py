"""Chains of sub-workflows over PostgreSQL: an engine with its services, which nobody helps along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import CancelInstance, FireTrigger, UpdateData
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.runtime.answers import Accepted

from .conftest import MakeShop
from .families import Family, calls, patient, sets, workflow


@pytest.fixture
async def family(make_shop: MakeShop) -> Family:
    """Nobody looks by chance: what is owed wakes who does it."""
    return Family(await make_shop(services=True, execution={"timer_poll": 600}))


def finish() -> FireTrigger:
    return FireTrigger("finish")


# -- results -----------------------------------------------------------------------------------------------------------


async def test_three_deep(family: Family) -> None:
    """What the innermost comes to is mapped up through every level; each has a start and one result in its history."""
    passed = {"inputMapping": {"n": "data.n + 1"}, "outputMapping": {"n": "output.data.n", "how": "output.status"}}
    await family.publish(
        workflow("inner", sets(n="data.n * 10")),
        workflow("middle", calls("inner", **passed)),
        workflow("outer", calls("middle", **passed)),
        workflow("whole", calls("outer", **passed)),
    )
    top = await family.becomes(await family.begin("whole", n=1), "completed")
    assert top.data == {"n": 40, "how": "completed"}
    members = await family.members()
    assert [(member.workflow, member.status) for member in members] == [
        (name, "completed") for name in ("whole", "outer", "middle", "inner")
    ]
    assert [member.parent for member in members] == [None, *(member.id for member in members[:-1])]
    assert {member.requester for member in members} == {family.shop.admin.user_id}, "they run for the same person"
    for member in members[:-1]:
        assert await family.shop.history(member.id) == ["start", "complete_step"]
    await family.quiet()


async def test_side_by_side(family: Family) -> None:
    """Branches of a `parallel`, and elements of a list: each has its own, and its own result."""
    square = {"inputMapping": {"n": "n"}, "outputMapping": {}}
    await family.publish(
        workflow("square", sets(n="data.n * data.n")),
        workflow(
            "many",
            {"type": "parallel", "id": "both", "branches": [
                {"id": "left", "steps": [calls("square", "l", inputMapping={"n": "2"})]},
                {"id": "right", "steps": [calls("square", "r", inputMapping={"n": "3"})]},
            ], "outputMapping": {"left": "output.left.data.n", "right": "output.right.data.n"}},
            {"type": "for_each", "id": "all", "items": "data.numbers", "itemName": "n", "maxConcurrency": 4,
             "steps": [calls("square", "s", **square)], "outputMapping": {"squares": "output.map(one, one.data.n)"}},
        ),
    )  # fmt: skip
    numbers = list(range(25))
    top = await family.becomes(await family.begin("many", numbers=numbers), "completed")
    assert (top.data["left"], top.data["right"]) == (4, 9)
    assert top.data["squares"] == [n * n for n in numbers]
    assert len(await family.born("square", 27)) == 27
    await family.quiet()


async def test_one_after_another(family: Family) -> None:
    """The second is given what the first came to, and begins only then."""
    await family.publish(
        patient("first"),
        workflow("second", sets(text="data.text + '!'")),
        workflow(
            "row",
            calls("first", "a", inputMapping={"text": "data.text"}, outputMapping={"text": "output.data.text"}),
            calls("second", "b", inputMapping={"text": "data.text"}, outputMapping={"text": "output.data.text"}),
        ),
    )
    top = await family.begin("row", text="a")
    (first,) = await family.born("first")
    await family.shop.do(first.id, UpdateData(patch={"text": "b"}))
    await family.quiet()
    assert await family.members("second") == []
    await family.shop.do(first.id, finish())
    assert (await family.becomes(top, "completed")).data == {"text": "b!"}


async def test_one_that_nobody_waits_for(family: Family) -> None:
    """The step is done when it has started; it goes on when its parent has ended, and cancelling does not reach it."""
    await family.publish(
        patient(),
        workflow("sender", calls("errand", waitForCompletion=False, outputMapping={"other": "output.instance"})),
        workflow("busy", calls("errand", waitForCompletion=False), {"type": "wait", "durationMinutes": 60}),
    )
    top = await family.becomes(await family.begin("sender"), "completed")
    (errand,) = await family.born("errand")
    assert top.data == {"other": errand.id}
    await family.shop.do(errand.id, finish())
    await family.becomes(errand.id, "completed")

    busy = await family.begin("busy")
    _, other = await family.born("errand", 2)
    await family.quiet()
    await family.shop.do(busy, CancelInstance())
    await family.quiet()
    assert (await family.one(other.id)).status == "waiting"


@pytest.mark.parametrize(
    ("wanted", "found"), [(None, "2.0.0"), ("1.0.0", "1.0.0"), ("^1.0", "1.1.0"), (">=1.0", "2.0.0")]
)
async def test_of_which_version(family: Family, wanted: str | None, found: str) -> None:
    """An exact version or a range finds deprecated ones, too; without one it is the active version."""
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        await family.publish(workflow("errand", sets(v=f"'{version}'"), version=version))
    version = {} if wanted is None else {"version": wanted}
    await family.publish(
        workflow("runner", calls("errand", outputMapping={"got": "output.version", "v": "output.data.v"}, **version))
    )
    top = await family.becomes(await family.begin("runner"), "completed")
    assert top.data == {"got": found, "v": found}


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["give_up", "cancel"])
async def test_fail_parent(family: Family, end: str) -> None:
    """A child that is given up, or cancelled by an operator, fails the step: an incident, or the chart's way out."""
    await family.publish(
        workflow("errand", sets(n="data.missing + 1")),
        workflow("plain", calls("errand")),
        workflow("ready", calls("errand"), transitions=[{"to": "aside", "trigger": "error.step.call"}]),
    )
    code = "SUB_WORKFLOW_FAILED" if end == "give_up" else "SUB_WORKFLOW_CANCELLED"
    for name, status, state in (("plain", "failed", "work"), ("ready", "waiting", "aside")):
        top = await family.begin(name)
        child = await family.only_child(top)
        await family.becomes(child.id, "failed")
        await family.quiet()
        assert (await family.one(top)).status == "waiting", "a child that is halted tells nothing"
        if end == "give_up":
            await family.resolve(child.id, "give_up")
        else:
            await family.shop.do(child.id, CancelInstance("not wanted"))
        await family.becomes(top, status, state)
        assert [incident["code"] for incident in await family.incidents(top)] == ([code] if status == "failed" else [])
        assert await family.incidents(child.id) == []


async def test_an_incident_of_a_child_that_is_resolved(family: Family) -> None:
    """The parent waits meanwhile and hears nothing of it; then the child ends as any does."""
    await family.publish(
        workflow("errand", sets(n="data.missing + 1")),
        workflow("runner", calls("errand", outputMapping={"n": "output.data.n"})),
    )
    top = await family.begin("runner")
    child = await family.only_child(top)
    await family.becomes(child.id, "failed")
    await family.resolve(child.id, "retry", patch={"missing": 41})
    assert (await family.becomes(top, "completed")).data == {"n": 42}
    assert await family.shop.history(top) == ["start", "complete_step"]


async def test_an_incident_of_a_parent_that_is_resolved(family: Family) -> None:
    """Its step is done again: by another child; or counts as done."""
    await family.publish(patient(), workflow("runner", calls("errand", outputMapping={"how": "output.status"})))
    top = await family.begin("runner")
    first = await family.only_child(top)
    await family.shop.do(first.id, CancelInstance())
    await family.becomes(top, "failed")
    await family.resolve(top, "retry")
    _, second = await family.born("errand", 2)
    await family.shop.do(second.id, finish())
    assert (await family.becomes(top, "completed")).data == {"how": "completed"}


@pytest.mark.parametrize("end", ["give_up", "cancel"])
async def test_continue(family: Family, end: str) -> None:
    """The step completes all the same; its output says how the child ended, and what it had come to."""
    mapping = {"how": "output.status", "code": "output.error.code", "n": "output.data.n"}
    await family.publish(
        workflow("errand", sets(n="1"), sets(n="data.missing")),
        workflow("runner", calls("errand", failureHandling="continue", outputMapping=mapping)),
    )
    top = await family.begin("runner")
    child = await family.only_child(top)
    await family.becomes(child.id, "failed")
    if end == "give_up":
        await family.resolve(child.id, "give_up")
    else:
        await family.shop.do(child.id, CancelInstance())
    data = (await family.becomes(top, "completed")).data
    expected = ("failed", "SUB_WORKFLOW_FAILED") if end == "give_up" else ("cancelled", "SUB_WORKFLOW_CANCELLED")
    assert (data["how"], data["code"], data["n"]) == (*expected, 1)


async def test_retry(family: Family) -> None:
    """Another child for each attempt, until one completes, or the attempts are used up."""
    policy = {"maxAttempts": 3, "initialDelaySeconds": 0.01, "jitter": 0}
    await family.publish(
        patient(),
        workflow(
            "runner", calls("errand", failureHandling="retry", retryPolicy=policy, outputMapping={"n": "output.data.n"})
        ),
    )
    lucky, unlucky = await family.begin("runner"), await family.begin("runner")
    for attempt in (1, 2, 3):
        await family.born("errand", 2 * attempt)
        for top in (lucky, unlucky):
            child = (await family.members("errand", top))[-1]
            if attempt == 3 and top == lucky:
                await family.shop.do(child.id, UpdateData(patch={"n": attempt}))
                await family.shop.do(child.id, finish())
            else:
                await family.shop.do(child.id, CancelInstance())
    assert (await family.becomes(lucky, "completed")).data == {"n": 3}
    await family.becomes(unlucky, "failed")
    assert [incident["code"] for incident in await family.incidents(unlucky)] == ["SUB_WORKFLOW_CANCELLED"]
    await family.quiet()
    assert len(await family.members("errand")) == 6


@pytest.mark.parametrize("begun", [True, False])
async def test_a_sub_workflow_that_takes_too_long(family: Family, begun: bool) -> None:
    """Its step fails with TIMEOUT, and it is cancelled; also where it had not been started when the time was over."""
    if not begun:
        await family.shop.engine.children.close()
    await family.publish(
        patient(),
        workflow(
            "runner", calls("errand", timeoutMinutes=0.005),
            transitions=[{"to": "aside", "trigger": "error.step.call", "condition": "event.data.code == 'TIMEOUT'"}],
        ),
    )  # fmt: skip
    top = await family.begin("runner")
    await family.becomes(top, "waiting", "aside")
    if not begun:
        await family.shop.engine.children.start()
        family.shop.engine.children.wake()
    (child,) = await family.born("errand")
    await family.becomes(child.id, "cancelled")
    await family.quiet()
    assert await family.shop.history(top) == ["start", "fire_timer"]


async def test_recursion_has_an_end(family: Family) -> None:
    """A workflow that starts itself: the twenty-first inside another is refused, with an incident in the one above."""
    await family.publish(workflow("mirror", calls("mirror", failureHandling="fail_parent")))
    await family.begin("mirror")
    members = await family.born("mirror", 21)
    await family.becomes(members[-1].id, "failed")
    assert [incident["code"] for incident in await family.incidents(members[-1].id)] == ["RECURSION_TOO_DEEP"]
    await family.quiet()
    assert len(await family.members()) == 21
    for depth in range(20, 0, -1):
        await family.resolve(members[depth].id, "give_up")
        await family.becomes(members[depth - 1].id, "failed")
    await family.quiet()
    assert {member.status for member in await family.members()} == {"failed"}


# -- giving up ---------------------------------------------------------------------------------------------------------


def tree() -> list[dict[str, Any]]:
    """A root with three branches, each with three leaves that wait."""
    three: dict[str, Any] = {"type": "for_each", "id": "three", "items": "[1, 2, 3]"}
    return [
        patient("leaf"),
        workflow("branch", {**three, "steps": [calls("leaf")]}),
        workflow("root", {**three, "steps": [calls("branch")]}),
    ]


async def test_cancelling_reaches_all_descendants(family: Family) -> None:
    """Down to the last leaf, and once: each is cancelled by its own parent."""
    await family.publish(*tree())
    top = await family.begin("root")
    await family.born("leaf", 9)
    await family.quiet()
    await family.shop.do(top, CancelInstance())
    await family.quiet()
    members = await family.members()
    assert {member.status for member in members} == {"cancelled"}
    assert len(members) == 13
    for member in members:
        assert (await family.shop.history(member.id))[-1] == "cancel"


async def test_cancelling_while_they_start(family: Family) -> None:
    """At any moment of their starting: none is left behind, whatever was started in between."""
    await family.publish(*tree())
    tops = []
    for waited in range(8):
        tops.append(await family.begin("root"))
        if waited:
            await family.born_below(tops[-1], waited)
        assert isinstance(await family.shop.do(tops[-1], CancelInstance()), Accepted)
    await family.quiet()
    assert {member.status for member in await family.members()} == {"cancelled"}


async def test_a_state_that_is_left(family: Family) -> None:
    """A child is cancelled with it; one that ends at that very moment tells nobody anything."""
    await family.publish(
        patient(), workflow("runner", calls("errand"), transitions=[{"to": "aside", "trigger": "enough"}])
    )
    tops = [await family.begin("runner") for _ in range(10)]
    children = await family.born("errand", 10)
    answers = await asyncio.gather(
        *(family.shop.do(top, FireTrigger("enough")) for top in tops[:5]),
        *(family.shop.do(child.id, finish()) for child in children[:5]),
    )
    await family.quiet()
    for top, left in zip(tops[:5], answers[:5], strict=True):
        child = await family.only_child(top)
        if isinstance(left, Rejection):
            assert (child.status, (await family.one(top)).status) == ("completed", "completed")
        else:
            assert (await family.one(top)).state == "aside"
            assert child.status in ("completed", "cancelled")
    for top in tops[5:]:
        await family.shop.do(top, FireTrigger("enough"))
    await family.quiet()
    assert {(await family.only_child(top)).status for top in tops[5:]} == {"cancelled"}
    assert {(await family.one(top)).state for top in tops[5:]} == {"aside"}
