"""Events from outside: one starts it, others move it, and a step receives one; in any order, some of them twice.

A carrier sends them as CloudEvents before, while and after there is an instance that could take them. Whatever was
acknowledged must have its effect, once: only when all have, somebody closes the parcel.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Model, Row
from ..people import CARRIER, OPERATOR, REQUESTERS, Person, Workflow

#: seconds within which acknowledged events must have had their effect, once nothing is broken any more
_EFFECT_WITHIN: Final = 150.0

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_parcel",
    "version": "1.0.0",
    "title": "Parcel",
    "stateMachine": {
        "initialState": "transit",
        "states": {
            "transit": {
                "properties": {
                    "steps": [
                        {
                            "type": "receive",
                            "id": "paid",
                            "eventType": "torture.paid",
                            "correlationKey": "data.parcel",
                            "eventKey": "event.data.parcel",
                            "outputMapping": {"paid": "output.data.amount"},
                        }
                    ]
                }
            },
            "closed": {"type": "final"},
        },
        "transitions": [
            {
                "from": "transit",
                "trigger": "scan",
                "actions": [{"type": "assign", "field": "scans", "value": "data.scans + event.data.weight"}],
            },
            {"from": "transit", "to": "closed", "trigger": "close"},
        ],
    },
    "eventHooks": {
        "correlation": [{"name": "parcel", "key": "data.parcel"}],
        "triggers": [
            {
                "id": "placed",
                "eventType": "torture.placed",
                "action": {
                    "type": "start_workflow",
                    "requester": "event.data.requester",
                    "externalKey": "event.data.parcel",
                    "parameters": {
                        "parcel": "event.data.parcel",
                        "mark": "event.id",
                        "scans": "0",
                        "paid": "0",
                    },
                },
            },
            {
                "id": "scanned",
                "eventType": "torture.scanned",
                "correlationKey": "event.data.parcel",
                "action": {"type": "advance_state", "trigger": "scan"},
            },
        ],
    },
    "dataSchema": {
        "type": "object",
        "properties": {
            "parcel": {"type": "string"},
            "scans": {"type": "integer"},
            "paid": {"type": "integer"},
            "mark": {"type": "string"},
        },
    },
}


class Parcel(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """Wait for the payment."""
        self.data = dict(started.deed.data)
        self.state = "transit"
        self.begins.append("paid")
        #: a payment that came while it was suspended
        self.kept: int | None = None

    def allows(self, deed: Deed) -> bool:
        """Any number of scans, one payment."""
        match deed.kind, deed.data.get("type"):
            case "fire", _:
                return deed.name == "close"
            case "correlate", "torture.scanned":
                return True
            case "correlate", "torture.paid":
                return not self.data["paid"]
        return False

    def keeps(self, deed: Deed) -> bool:
        """The step that waits for the payment takes it, and says so later."""
        is_payment = (deed.kind, deed.name, deed.data.get("type")) == ("correlate", "receive", "torture.paid")
        return is_payment and not self.data["paid"] and self.kept is None

    def resumes(self, at: datetime) -> None:
        """It has been paid meanwhile."""
        if self.kept is not None:
            self.data["paid"], self.kept = self.kept, None

    def does(self, deed: Deed, at: datetime) -> None:
        """Count it."""
        if self.status == "suspended":
            self.kept = deed.data["data"]["amount"]
            return
        if deed.kind == "fire":
            self.end("completed", "closed")
        elif deed.data["type"] == "torture.paid":
            self.data["paid"] = deed.data["data"]["amount"]
        else:
            self.data["scans"] += deed.data["data"]["weight"]

    def rings(self, trigger: str, at: datetime) -> None:
        """No clock runs."""
        raise AssertionError(trigger)


async def drive(workflow: Workflow) -> None:
    """The carrier sends what happens to the parcel, the operator halts it now and then, its owner closes it at the end."""
    plan = workflow.chance("plan")
    parcel = f"{workflow.seed}-{workflow.number}"
    owner = workflow.person(plan.choice(REQUESTERS), "owner")
    weights = [plan.randint(1, 9) for _ in range(plan.randint(0, 4))]
    amount = plan.randint(1, 1000)
    happens: list[tuple[str, dict[str, Any]]] = [
        ("placed", {"requester": owner.name}),
        *(("scanned", {"weight": weight}) for weight in weights),
        ("paid", {"amount": amount}),
    ]
    plan.shuffle(happens)
    async with asyncio.TaskGroup() as group:
        for number, (what, data) in enumerate(happens):
            for copy in range(2 if plan.random() < 0.25 else 1):
                carrier = workflow.person(CARRIER, f"carrier.{number}.{copy}")
                group.create_task(_tell(carrier, f"torture.{what}", f"{parcel}.{number}", {**data, "parcel": parcel}))
    found = await owner.find(externalKey=parcel, within=_EFFECT_WITHIN)
    if found is None:
        workflow.faults.append(f"parcel {parcel} was not started by its event")
        return
    if plan.random() < 0.2:
        await _halt(workflow.person(OPERATOR))
    await owner.until(
        lambda seen: seen["instanceData"]["scans"] == sum(weights) and seen["instanceData"]["paid"] == amount,
        within=_EFFECT_WITHIN,
    )
    await owner.fire("close")


async def _tell(me: Person, event_type: str, event_id: str, data: dict[str, Any]) -> None:
    await me.wait(0.0, 1.5)
    await me.tell(event_type, event_id, data, starts=event_type == "torture.placed")


async def _halt(me: Person) -> None:
    suspended = await me.order("suspend")
    await me.wait(0.0, 1.0)
    if suspended.ok:
        await me.order("resume")
