"""A clerk who comes and goes is asked, and a deputy in their place: nobody waits for somebody who is not there.

The directory is changed all the while, and in the end the clerk has left for good. Nothing else moves these instances: one
whose clerk was asked, and that nobody told, would stay for ever.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Disagreement, Model, Row
from ..people import CLERK, DEPUTY, OPERATOR, REQUESTERS, Person, Workflow

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_desk",
    "version": "1.0.0",
    "title": "Desk",
    "stateMachine": {
        "initialState": "asked",
        "states": {
            "asked": {"properties": {"approvalChain": "desk"}},
            "granted": {"type": "final"},
            "refused": {"type": "final"},
        },
        "transitions": [
            {"from": "asked", "to": "granted"},
            {"from": "asked", "to": "refused", "trigger": "rejected"},
        ],
    },
    "approvalChains": [
        {
            "id": "desk",
            "steps": [
                {
                    "id": "clerk",
                    "approvers": [
                        {
                            "type": "user",
                            "identifier": CLERK,
                            "fallback": [{"type": "user", "identifier": DEPUTY}],
                        }
                    ],
                }
            ],
            "configuration": {"allowRequestChanges": False},
        }
    ],
    "dataSchema": {"type": "object", "properties": {"mark": {"type": "string"}, "pokes": {"type": "integer"}}},
}


class Desk(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """Ask one of the two."""
        self.data = dict(started.deed.data)
        self.state = "asked"
        self.asked = _the_one(started)

    def allows(self, deed: Deed) -> bool:
        """Who is asked decides; who has left, and nobody else, is replaced."""
        if deed.kind == "replace_approvers":
            return self.asked == CLERK
        return deed.kind == "decide" and deed.user == self.asked

    def may_refuse(self, deed: Deed) -> bool:
        """The clerk may have been away."""
        return deed.user == CLERK or super().may_refuse(deed)

    def does(self, deed: Deed, at: datetime) -> None:
        """End."""
        if deed.kind == "decide":
            self.end("completed", "granted" if deed.name == "approve" else "refused")

    def apply(self, row: Row) -> None:
        """Take note of who is asked from now on."""
        super().apply(row)
        if row.deed.kind == "replace_approvers" and row.asked != (DEPUTY,):
            raise Disagreement(f"asks {row.asked} instead of the deputy")
        if row.asked:
            self.asked = _the_one(row)

    def describe(self) -> str:
        """Who is asked, too."""
        return f"{super().describe()}, asking {self.asked}"


def _the_one(row: Row) -> str:
    if row.asked not in ((CLERK,), (DEPUTY,)):
        raise Disagreement(f"asks {row.asked}")
    return row.asked[0]


async def drive(workflow: Workflow) -> None:
    """Both try, again and again, until one of them was asked."""
    plan = workflow.chance("plan")
    started = await workflow.person(plan.choice(REQUESTERS), "requester").start()
    if not started.ok:
        return
    async with asyncio.TaskGroup() as group:
        if plan.random() < 0.5:
            group.create_task(_decide(workflow.person(CLERK)))
        group.create_task(_decide(workflow.person(DEPUTY)))
        if plan.random() < 0.3:
            group.create_task(_operate(workflow.person(OPERATOR)))


async def _decide(me: Person) -> None:
    for _ in range(300):
        await me.wait(0.2, 1.5)
        if (await me.decide(me.chance.choices(("approve", "reject"), (80, 20))[0])).ok:
            return
        seen = await me.look()
        if seen is None or seen["status"] in ("completed", "cancelled"):
            return


async def _operate(me: Person) -> None:
    await me.wait(0.0, 2.0)
    suspended = await me.order("suspend")
    await me.wait(0.0, 2.0)
    if suspended.ok:
        await me.order("resume")
