"""A submitted form starts a workflow whose two regions run at once: one of the legal people, and a payment.

The submission is answered when it is on disk; its workflow must start once, whichever node does it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Model, Row
from ..people import LEGAL, OPERATOR, REQUESTERS, Person, Workflow

FORM: Final = "torture"
#: CEL over `submission`
MAPPING: Final = {name: f"submission.{name}" for name in ("mark", "wait", "remind")} | {"pokes": "0", "reminders": "0"}

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_form",
    "version": "1.0.0",
    "title": "Form",
    "stateMachine": {
        "initialState": "work",
        "states": {
            "work": {
                "type": "parallel",
                "timeouts": [{"afterMinutes": "data.wait"}],
                "substates": [
                    {
                        "id": "legal",
                        "substates": [
                            {"id": "asked", "type": "initial", "properties": {"approvalChain": "legal"}},
                            {"id": "cleared", "type": "final"},
                        ],
                    },
                    {
                        "id": "payment",
                        "substates": [
                            {"id": "due", "type": "initial", "timeouts": [{"afterMinutes": "data.remind"}]},
                            {"id": "made", "type": "final"},
                        ],
                    },
                ],
            },
            "done": {"type": "final"},
            "rejected": {"type": "final"},
            "expired": {"type": "final"},
        },
        "transitions": [
            {"from": "asked", "to": "cleared"},
            {"from": "due", "to": "made", "trigger": "pay"},
            {
                "from": "due",
                "to": "due",
                "trigger": "timeout.due",
                "actions": [{"type": "assign", "field": "reminders", "value": "data.reminders + 1"}],
            },
            {"from": "work", "to": "done", "trigger": "done.state.work"},
            {"from": "work", "to": "rejected", "trigger": "rejected"},
            {"from": "work", "to": "expired", "trigger": "timeout.work"},
        ],
    },
    "approvalChains": [
        {
            "id": "legal",
            "steps": [{"id": "legal", "approvers": [{"type": "role", "identifier": "legal"}]}],
            "configuration": {"allowRequestChanges": False},
        }
    ],
    "dataSchema": {
        "type": "object",
        "properties": {
            "mark": {"type": "string"},
            "wait": {"type": "number"},
            "remind": {"type": "number"},
            "pokes": {"type": "integer"},
            "reminders": {"type": "integer"},
        },
    },
}


class Form(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """Both regions at work."""
        self.data = dict(started.deed.data)
        self.state = "work"
        self.cleared = self.paid = False
        self.start_clock("timeout.work", started.at, self.data["wait"])
        self.start_clock("timeout.due", started.at, self.data["remind"])

    @property
    def configuration(self) -> list[str]:
        """Regions with what is active in them."""
        if self.state != "work":
            return [self.state]
        return ["work", "legal", "cleared" if self.cleared else "asked", "payment", "made" if self.paid else "due"]

    def allows(self, deed: Deed) -> bool:
        """One decision, one payment."""
        match deed.kind, deed.name:
            case "fire", "pay":
                return not self.paid
            case "decide", "approve" | "reject":
                return not self.cleared and deed.user in LEGAL
        return False

    def does(self, deed: Deed, at: datetime) -> None:
        """Move a region."""
        if deed.name == "pay":
            self.paid = True
            del self.clocks["timeout.due"]
        elif deed.name == "approve":
            self.cleared = True
        else:
            self.end("completed", "rejected")
            return
        if self.paid and self.cleared:
            self.end("completed", "done")

    def rings(self, trigger: str, at: datetime) -> None:
        """A reminder, or the end."""
        if trigger == "timeout.due":
            self.data["reminders"] += 1
            self.start_clock("timeout.due", at, self.data["remind"])
        else:
            self.end("completed", "expired")


async def drive(workflow: Workflow) -> None:
    """A submitter who pays, and legal people of whom the first to decide counts."""
    plan = workflow.chance("plan")
    submitter = workflow.person(plan.choice(REQUESTERS), "submitter")
    submitted = await submitter.submit(
        FORM, wait=plan.randint(200, 1000) / 10_000, remind=plan.randint(50, 400) / 10_000
    )
    if not submitted.ok or workflow.instance is None:
        return
    async with asyncio.TaskGroup() as group:
        for number in range(plan.choice((0, 1, 1, 1, 2))):
            group.create_task(_pay(workflow.person(submitter.name, f"paying.{number}")))
        for name in plan.sample(LEGAL, plan.randint(0, 3)):
            group.create_task(_decide(workflow.person(name)))
        if plan.random() < 0.1:
            group.create_task(_cancel(workflow.person(OPERATOR)))


async def _pay(me: Person) -> None:
    await me.wait(0.0, 3.0)
    await me.fire("pay")


async def _decide(me: Person) -> None:
    await me.wait(0.0, 3.0)
    await me.decide(me.chance.choices(("approve", "reject"), (85, 15))[0])


async def _cancel(me: Person) -> None:
    await me.wait(0.5, 3.0)
    await me.order("cancel")
