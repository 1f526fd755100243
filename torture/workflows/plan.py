"""Steps that need nobody outside: somebody's consent or the first of two waits, then a loop of waits, two at a time.

Each element of the loop adds its value to one sum, so a wait that ends twice or never shows in a number.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Model, Row
from ..people import LEGAL, OPERATOR, REQUESTERS, Person, Workflow

CONCURRENCY: Final = 2

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_plan",
    "version": "1.0.0",
    "title": "Plan",
    "stateMachine": {
        "initialState": "work",
        "states": {
            "work": {
                "timeouts": [{"afterMinutes": "data.limit"}],
                "properties": {
                    "steps": [
                        {
                            "type": "parallel",
                            "id": "race",
                            "waitStrategy": "any",
                            "failureStrategy": "continue",
                            "branches": [
                                {"id": "person", "steps": [{"type": "approval", "id": "ask", "chainId": "consent"}]},
                                *(
                                    {
                                        "id": branch,
                                        "steps": [{"type": "wait", "id": branch, "durationMinutes": f"data.{branch}"}],
                                    }
                                    for branch in ("hare", "tortoise")
                                ),
                            ],
                        },
                        {
                            "type": "for_each",
                            "id": "lines",
                            "items": "data.lines",
                            "itemName": "line",
                            "maxConcurrency": CONCURRENCY,
                            "steps": [
                                {"type": "wait", "id": "pause", "durationMinutes": "line.minutes"},
                                {"type": "assign", "assignments": {"sum": "data.sum + line.value"}},
                            ],
                        },
                    ]
                },
            },
            "done": {"type": "final"},
            "expired": {"type": "final"},
        },
        "transitions": [
            {"from": "work", "to": "done"},
            {"from": "work", "to": "expired", "trigger": "timeout.work"},
            {
                "from": "work",
                "trigger": "poke",
                "actions": [{"type": "assign", "field": "pokes", "value": "data.pokes + 1"}],
            },
        ],
    },
    "approvalChains": [
        {
            "id": "consent",
            "steps": [{"id": "legal", "approvers": [{"type": "role", "identifier": "legal"}]}],
            "configuration": {"allowRequestChanges": False},
        }
    ],
    "dataSchema": {
        "type": "object",
        "properties": {
            "limit": {"type": "number"},
            "hare": {"type": "number"},
            "tortoise": {"type": "number"},
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"minutes": {"type": "number"}, "value": {"type": "integer"}},
                },
            },
            "sum": {"type": "integer"},
            "pokes": {"type": "integer"},
            "mark": {"type": "string"},
            "last": {"type": "string"},
        },
    },
}


class Plan(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """Somebody is asked, and both waits begin."""
        self.data = dict(started.deed.data)
        self.state = "work"
        #: somebody may still consent
        self.asked = True
        #: positions of lines that have not begun
        self.left = list(range(len(self.data["lines"])))
        self.running = 0
        self.begins.append("ask")
        self.start_clock("timeout.work", started.at, self.data["limit"])
        for name in ("hare", "tortoise"):
            self.start_clock(name, started.at, self.data[name])
            self.begins.append(name)

    def allows(self, deed: Deed) -> bool:
        """It can be poked, and decided once."""
        match deed.kind, deed.name:
            case "fire", "poke":
                return True
            case "decide", "approve" | "reject":
                return self.asked and deed.user in LEGAL
        return False

    def does(self, deed: Deed, at: datetime) -> None:
        """Consent ends the race; a refusal leaves it to the others."""
        if deed.name == "poke":
            self.data["pokes"] += 1
            return
        self.asked = False
        if deed.name == "approve":
            del self.clocks["hare"], self.clocks["tortoise"]
            self._go_on(at)

    def rings(self, trigger: str, at: datetime) -> None:
        """The race, a line's wait, or the whole work is over."""
        if trigger == "timeout.work":
            self.end("completed", "expired")
            return
        if trigger in ("hare", "tortoise"):
            del self.clocks["hare" if trigger == "tortoise" else "tortoise"]
            self.asked = False
        else:
            self.data["sum"] += self.data["lines"][int(trigger.removeprefix("pause/"))]["value"]
            self.running -= 1
        self._go_on(at)

    def _go_on(self, at: datetime) -> None:
        while self.left and self.running < CONCURRENCY:
            number = self.left.pop(0)
            self.running += 1
            self.start_clock(f"pause/{number}", at, self.data["lines"][number]["minutes"])
            self.begins.append(f"pause/{number}")
        if not self.running:
            self.end("completed", "done")


async def drive(workflow: Workflow) -> None:
    """Somebody starts it, others poke it or stop it for a while."""
    plan = workflow.chance("plan")
    starter = workflow.person(plan.choice(REQUESTERS), "starter")
    lines = [
        {"minutes": plan.randint(5, 100) / 10_000, "value": plan.randrange(100)} for _ in range(plan.randint(0, 6))
    ]
    hare, tortoise = plan.randint(10, 300), plan.randint(10, 300)
    started = await starter.start(
        limit=plan.randint(300, 1500) / 10_000, hare=hare / 10_000, tortoise=tortoise / 10_000, lines=lines, sum=0
    )
    if not started.ok:
        return
    async with asyncio.TaskGroup() as group:
        for name in plan.sample(LEGAL, plan.randint(0, 2)):
            group.create_task(_decide(workflow.person(name)))
        for number in range(plan.randint(0, 2)):
            group.create_task(_poke(workflow.person(starter.name, f"poking.{number}")))
        if plan.random() < 0.4:
            group.create_task(_operate(workflow.person(OPERATOR)))


async def _decide(me: Person) -> None:
    await me.wait(0.0, 2.0)
    await me.decide(me.chance.choices(("approve", "reject"), (60, 40))[0])


async def _poke(me: Person) -> None:
    for _ in range(me.chance.randint(1, 3)):
        await me.wait(0.0, 1.0)
        await me.fire("poke")


async def _operate(me: Person) -> None:
    await me.wait(0.0, 2.5)
    if me.chance.random() < 0.2:
        await me.order("cancel")
        return
    suspended = await me.order("suspend")
    await me.wait(0.0, 1.5)
    if suspended.ok:
        await me.order("resume")
