"""A step's `priority`, from the document to the claim."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import CompleteStep, FailStep
from pliers_workflow.interpreter.effects import ScheduleStep
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.jobs.claims import ClaimedStep
from tests.interpreter.steps.working import at_work, call

from .conftest import Shop


def printing(**priorities: int) -> dict[str, Any]:
    """A document whose instances print, by `data.kind`, each kind with its priority."""
    retry = {"maxAttempts": 2, "initialDelaySeconds": 0, "jitter": 0}
    steps = [
        {"type": "external", "id": kind, "topic": "printing", "condition": f"data.kind == '{kind}'", "retryPolicy": retry,
         "priority": priority}
        for kind, priority in priorities.items()
    ]  # fmt: skip
    return {
        "name": "printing", "version": "1.0.0", "title": "Printing",
        "stateMachine": {
            "initialState": "busy",
            "states": {"busy": {"properties": {"steps": steps}}, "done": {"type": "final"}},
            "transitions": [{"from": "busy", "to": "done"}],
        },
    }  # fmt: skip


class Printers:
    """Claims of one queue, one task at a time."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        #: what was claimed last
        self.last: list[ClaimedStep] = []

    async def fetch(self, room: int = 1) -> list[str]:
        """The kinds of the tasks that are claimed next."""
        claims = self.shop.engine.step_claims
        claims.wake()
        self.last = await claims.claim(room, lambda _, queue: queue == "external:printing", owner="printer", lease=60)
        return [step.payload.run["stepId"] for step in self.last]


async def test_what_is_urgent_is_claimed_first(shop: Shop) -> None:
    """The higher first, whatever has been due for longer; of equals the one that has; what is less than usual comes last."""
    definition = await shop.publish(printing(urgent=50, usual=0, idle=-50))
    for kind in ("idle", "usual", "usual", "urgent"):
        await shop.start(definition, data={"kind": kind})
    printers = Printers(shop)
    assert [*await printers.fetch(), *await printers.fetch()] == ["urgent", "usual"]
    await shop.start(definition, data={"kind": "urgent"})
    assert await printers.fetch(5) == ["urgent", "usual", "idle"]


async def test_another_attempt_is_as_urgent(shop: Shop) -> None:
    """A failed attempt's successor comes before what is less urgent, though it is due later."""
    definition = await shop.publish(printing(urgent=1, usual=0))
    instance = await shop.start(definition, data={"kind": "urgent"})
    printers = Printers(shop)
    assert await printers.fetch() == ["urgent"]
    await shop.start(definition, data={"kind": "usual"})
    (step,) = printers.last
    assert isinstance(await shop.do(instance, FailStep(step.name, 1, "JAM", "jammed")), Accepted)
    assert await printers.fetch() == ["urgent"]
    (step,) = printers.last
    assert step.payload.attempt == 2
    assert isinstance(await shop.do(instance, CompleteStep(step.name, 2)), Accepted)
    assert await printers.fetch() == ["usual"]


def test_what_a_worker_is_left_is_ordered_the_other_way_round() -> None:
    """Authors say the higher first; a job's row counts as its index does, and an unsaid priority is 0."""
    for given, owed in ((7, -7), (None, 0)):
        run = at_work(call("go", **({} if given is None else {"priority": given})))
        (job,) = run.jobs.values()
        assert isinstance(job, ScheduleStep)
        assert job.priority == owed


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"priority": 100}, None), ({"priority": -100}, None), ({"priority": 101}, "out_of_range"),
        ({"priority": -101}, "out_of_range"), ({"priority": 0.5}, "wrong_type"), ({"priority": "high"}, "wrong_type"),
        ({"type": "emit", "eventType": "a", "priority": 1}, "unknown_key"),
        ({"type": "sub_workflow", "workflowId": "a", "priority": 1}, "unknown_key"),
    ],
)  # fmt: skip
def test_which_priorities_there_are(step: dict[str, Any], code: str | None) -> None:
    """Integers from -100 to 100, of steps that are left to workers."""
    document = printing(a=0)
    at = document["stateMachine"]["states"]["busy"]["properties"]["steps"]
    at[0] = {**at[0], **step} if "type" not in step else step
    found = [(finding.pointer.rpartition("/")[2], finding.code) for finding in read(document).findings]
    assert found == ([] if code is None else [("priority", code)])
