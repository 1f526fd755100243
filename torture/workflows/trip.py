"""A workflow of workflows: a trip of several legs, each an instance of its own, three at a time.

A leg ends by its clock, or an operator cancels it, which ends the trip; a trip that ends, however it does, cancels the legs
that are under way. A leg that never ends by itself shows whether it is told.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Model, Row
from ..people import OPERATOR, REQUESTERS, Person, Workflow

CONCURRENCY: Final = 3
#: minutes that no run waits for
NEVER: Final = 60

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_trip",
    "version": "1.0.0",
    "title": "Trip",
    "stateMachine": {
        "initialState": "away",
        "states": {
            "away": {
                "timeouts": [{"afterMinutes": "data.limit"}],
                "properties": {
                    "steps": [
                        {
                            "type": "for_each",
                            "id": "legs",
                            "items": "data.legs",
                            "itemName": "leg",
                            "indexName": "number",
                            "maxConcurrency": CONCURRENCY,
                            "steps": [
                                {
                                    "type": "sub_workflow",
                                    "id": "leg",
                                    "workflowId": "torture_leg",
                                    "inputMapping": {
                                        "mark": "data.mark + '/leg/' + string(number)",
                                        "minutes": "leg.minutes",
                                        "cost": "leg.cost",
                                    },
                                    "outputMapping": {"spent": "data.spent + output.data.cost"},
                                }
                            ],
                        }
                    ]
                },
            },
            "home": {"type": "final"},
            "stranded": {"type": "final"},
            "missing": {"type": "final"},
        },
        "transitions": [
            {"from": "away", "to": "home"},
            {"from": "away", "to": "stranded", "trigger": "error.step.leg"},
            {"from": "away", "to": "missing", "trigger": "timeout.away"},
        ],
    },
    "dataSchema": {
        "type": "object",
        "properties": {
            "limit": {"type": "number"},
            "legs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"minutes": {"type": "number"}, "cost": {"type": "integer"}},
                },
            },
            "spent": {"type": "integer"},
            "pokes": {"type": "integer"},
            "mark": {"type": "string"},
        },
    },
}

LEG: Final[dict[str, Any]] = {
    "name": "torture_leg",
    "version": "1.0.0",
    "title": "Leg",
    "stateMachine": {
        "initialState": "under_way",
        "states": {"under_way": {"timeouts": [{"afterMinutes": "data.minutes"}]}, "arrived": {"type": "final"}},
        "transitions": [{"from": "under_way", "to": "arrived", "trigger": "timeout.under_way"}],
    },
    "dataSchema": {
        "type": "object",
        "properties": {"minutes": {"type": "number"}, "cost": {"type": "integer"}, "mark": {"type": "string"}},
    },
}


class Trip(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """The first legs begin."""
        self.data = dict(started.deed.data)
        self.state = "away"
        #: positions of legs that have not begun, and marks of those that have
        self.left = list(range(len(self.data["legs"])))
        self.start_clock("timeout.away", started.at, self.data["limit"])
        self._go_on()

    def allows(self, deed: Deed) -> bool:
        """Nothing but what all can."""
        return False

    def rings(self, trigger: str, at: datetime) -> None:
        """It took too long."""
        self.end("completed", "missing")

    def completes(self, name: str, row: Row) -> None:
        """A leg has arrived: what it says is what its instance says."""
        self.data["spent"] += self.data["legs"][int(name.partition("/")[2])]["cost"]
        self._go_on()

    def fails(self, name: str, row: Row) -> None:
        """A leg was cancelled."""
        assert row.code == "SUB_WORKFLOW_CANCELLED", row.code
        self.end("completed", "stranded")

    def _go_on(self) -> None:
        while self.left and len(self.at_work) < CONCURRENCY:
            name = f"leg/{self.left.pop(0)}"
            self.work(name)
            self.children.append(f"{self.data['mark']}/{name}")
        if not self.at_work:
            self.end("completed", "home")


class Leg(Model):
    """What must become of a leg."""

    def begin(self, started: Row) -> None:
        """On the way."""
        self.data = dict(started.deed.data)
        self.state = "under_way"
        self.start_clock("timeout.under_way", started.at, self.data["minutes"])

    def allows(self, deed: Deed) -> bool:
        """Nothing but what all can."""
        return False

    def rings(self, trigger: str, at: datetime) -> None:
        """It has arrived."""
        self.end("completed", "arrived")


async def drive(workflow: Workflow) -> None:
    """Somebody travels; an operator may halt or cancel the trip, or a leg of it."""
    plan = workflow.chance("plan")
    traveller = workflow.person(plan.choice(REQUESTERS), "traveller")
    legs = [{"minutes": plan.randint(5, 200) / 10_000, "cost": plan.randrange(100)} for _ in range(plan.randint(0, 6))]
    if legs and plan.random() < 0.2:
        plan.choice(legs)["minutes"] = NEVER
    started = await traveller.start(limit=plan.randint(300, 1000) / 10_000, legs=legs, spent=0)
    if not started.ok:
        return
    what = plan.choices(("nothing", "halt", "cancel", "cancel leg"), (50, 20, 15, 15))[0]
    await _operate(workflow.person(OPERATOR), what)


async def _operate(me: Person, what: str) -> None:
    if what == "nothing":
        return
    await me.wait(0.1, 2.5)
    if what == "cancel":
        await me.order("cancel")
    elif what == "halt":
        suspended = await me.order("suspend")
        await me.wait(0.0, 2.0)
        if suspended.ok:
            await me.order("resume")
    else:
        await asyncio.sleep(0)
        children = await me.children()
        if children:
            await me.order("cancel", instance=me.chance.choice(children))
