"""Timers: two states that throw the instance back and forth, each by its clock, with a delayed trigger in between.

Nobody needs to do anything; a few callers poke it meanwhile, so that timers and people meet in one batch.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Model, Row
from ..people import OPERATOR, REQUESTERS, Person, Workflow

_COUNT: Final = {"type": "assign", "field": "count", "value": "data.count + 1"}

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_clock",
    "version": "1.0.0",
    "title": "Clock",
    "stateMachine": {
        "initialState": "tick",
        "states": {
            "tick": {
                "timeouts": [{"afterMinutes": "data.tick"}],
                "entryActions": [{"type": "send", "trigger": "nudge", "delayMinutes": "data.nudge", "sendId": "nudge"}],
                "exitActions": [{"type": "cancel", "sendId": "nudge"}],
            },
            "tock": {"timeouts": [{"afterMinutes": "data.tock"}]},
            "done": {"type": "final"},
        },
        "transitions": [
            {"from": "tick", "to": "tock", "trigger": "timeout.tick", "actions": [_COUNT]},
            {
                "from": "tock",
                "to": "tick",
                "trigger": "timeout.tock",
                "condition": "data.count < data.rounds",
                "priority": 1,
            },
            {"from": "tock", "to": "done", "trigger": "timeout.tock"},
            {
                "from": "tick",
                "trigger": "nudge",
                "actions": [{"type": "assign", "field": "nudges", "value": "data.nudges + 1"}],
            },
            *(
                {
                    "from": state,
                    "trigger": "poke",
                    "actions": [{"type": "assign", "field": "pokes", "value": "data.pokes + 1"}],
                }
                for state in ("tick", "tock")
            ),
        ],
    },
    "dataSchema": {
        "type": "object",
        "properties": {
            **{name: {"type": "integer"} for name in ("count", "rounds", "nudges", "pokes")},
            **{name: {"type": "number"} for name in ("tick", "tock", "nudge")},
            "mark": {"type": "string"},
            "last": {"type": "string"},
        },
    },
}


class Clockwork(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """Stand in `tick`."""
        self.data = dict(started.deed.data)
        self._enter("tick", started.at)

    def allows(self, deed: Deed) -> bool:
        """It can be poked."""
        return (deed.kind, deed.name) == ("fire", "poke")

    def does(self, deed: Deed, at: datetime) -> None:
        """Count it."""
        self.data["pokes"] += 1

    def rings(self, trigger: str, at: datetime) -> None:
        """To and fro, until it has been round often enough."""
        if trigger == "nudge":
            self.data["nudges"] += 1
        elif trigger == "timeout.tick":
            self.data["count"] += 1
            self._enter("tock", at)
        elif self.data["count"] < self.data["rounds"]:
            self._enter("tick", at)
        else:
            self.end("completed", "done")

    def _enter(self, state: str, at: datetime) -> None:
        self.clocks.clear()
        self.state = state
        self.start_clock(f"timeout.{state}", at, self.data[state])
        if state == "tick":
            self.start_clock("nudge", at, self.data["nudge"])


async def drive(workflow: Workflow) -> None:
    """Start it, poke it, sometimes stop its clocks for a while."""
    plan = workflow.chance("plan")
    starter = workflow.person(plan.choice(REQUESTERS), "starter")
    started = await starter.start(
        rounds=plan.randint(1, 4), count=0, nudges=0,
        tick=plan.randint(5, 200) / 10_000, tock=plan.randint(5, 100) / 10_000, nudge=plan.randint(5, 200) / 10_000,
    )  # fmt: skip
    if not started.ok:
        return
    async with asyncio.TaskGroup() as group:
        for number in range(plan.randint(0, 3)):
            group.create_task(_poke(workflow.person(starter.name, f"poking.{number}")))
        if plan.random() < 0.4:
            group.create_task(_pause(workflow.person(OPERATOR)))


async def _poke(me: Person) -> None:
    for _ in range(me.chance.randint(1, 4)):
        await me.wait(0.0, 1.0)
        await me.fire("poke")


async def _pause(me: Person) -> None:
    await me.wait(0.0, 1.5)
    suspended = await me.order("suspend")
    await me.wait(0.0, 1.5)
    if suspended.ok:
        await me.order("resume")
