"""Steps through a web service that cannot be relied on: reserve and pay, undone where one fails for good, then pick lines.

What a step gives is the id of the attempt that gave it, so that an answer which belongs to another attempt shows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ..model import Deed, Disagreement, Model, Row
from ..people import OPERATOR, REQUESTERS, Person, Workflow

#: stands for the service's address, which every run has another of
OUTSIDE: Final = "http://127.0.0.1:1"
ATTEMPTS: Final = 4
CONCURRENCY: Final = 2
#: seconds an attempt may take
TIMEOUT: Final = 2.5
#: codes of failures that no further attempt mends
_FINAL: Final = frozenset({"HTTP_404"})


def _call(what: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "id": what,
        "method": "POST",
        "url": f"{OUTSIDE}/{what}",
        "body": {"mark": "data.mark"},
        "timeoutMinutes": TIMEOUT / 60,
        "retryPolicy": {"maxAttempts": ATTEMPTS, "initialDelaySeconds": 0.2, "backoffMultiplier": 1.5},
        **more,
    }


DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_order",
    "version": "1.0.0",
    "title": "Order",
    "stateMachine": {
        "initialState": "work",
        "states": {
            "work": {
                "timeouts": [{"afterMinutes": "data.limit"}],
                "properties": {
                    "steps": [
                        {
                            "type": "sequential",
                            "id": "booking",
                            "rollbackOnFailure": True,
                            "steps": [
                                _call(
                                    "reserve",
                                    outputMapping={"reserved": "output.body.ticket"},
                                    compensation=_call(
                                        "release",
                                        body={"mark": "data.mark", "ticket": "output.body.ticket"},
                                        retryPolicy={
                                            "maxAttempts": 100,
                                            "initialDelaySeconds": 0.2,
                                            "maxDelaySeconds": 1,
                                        },
                                    ),
                                ),
                                _call("pay", outputMapping={"paid": "output.body.ticket"}),
                            ],
                        },
                        {
                            "type": "for_each",
                            "id": "lines",
                            "items": "data.lines",
                            "itemName": "line",
                            "maxConcurrency": CONCURRENCY,
                            "steps": [
                                _call(
                                    "pick",
                                    body={"mark": "data.mark + '/' + string(line)"},
                                    outputMapping={"picked": "data.picked + line"},
                                )
                            ],
                        },
                    ]
                },
            },
            "shipped": {"type": "final"},
            "refused": {"type": "final"},
            "late": {"type": "final"},
        },
        "transitions": [
            {"from": "work", "to": "shipped"},
            {"from": "work", "to": "refused", "trigger": "error.step"},
            {"from": "work", "to": "late", "trigger": "timeout.work"},
        ],
    },
    "dataSchema": {
        "type": "object",
        "properties": {
            "limit": {"type": "number"},
            "lines": {"type": "array", "items": {"type": "integer"}},
            "picked": {"type": "integer"},
            "reserved": {"type": "string"},
            "paid": {"type": "string"},
            "pokes": {"type": "integer"},
            "mark": {"type": "string"},
        },
    },
}


class Order(Model):
    """What must become of it."""

    def begin(self, started: Row) -> None:
        """Reserve."""
        self.data = dict(started.deed.data)
        self.state = "work"
        self.left = list(self.data["lines"])
        self.start_clock("timeout.work", started.at, self.data["limit"])
        self._call("reserve", started.at)

    @property
    def standing(self) -> str:
        """While somebody is at a step it runs."""
        return "running" if self.status == "waiting" and self.at_work else self.status

    def allows(self, deed: Deed) -> bool:
        """Nothing but what all can."""
        return False

    def rings(self, trigger: str, at: datetime) -> None:
        """It took too long, or an attempt did."""
        if trigger == "timeout.work":
            self.end("completed", "late")
        else:
            self._failed(trigger, "TIMEOUT", at)

    def completes(self, name: str, row: Row) -> None:
        """What comes next."""
        self.clocks.pop(name, None)
        ticket = f"{row.instance}:{row.step}:{row.attempt}"
        if row.output["body"] != {"ticket": ticket}:
            raise Disagreement(f"brings the output {row.output!r}, and attempt {ticket} was at work")
        self.favours.append((ticket, name.partition("/")[0], row.at))
        if name == "reserve":
            self.data["reserved"] = ticket
            self._call("pay", row.at)
        elif name == "pay":
            self.data["paid"] = ticket
            self._go_on(row.at)
        elif name == "release":
            self.end("completed", "refused")
        else:
            self.data["picked"] += int(name.partition("/")[2])
            self._go_on(row.at)

    def fails(self, name: str, row: Row) -> None:
        """An attempt has failed."""
        self._failed(name, row.code, row.at)

    def _failed(self, name: str, code: str, at: datetime) -> None:
        """Another attempt, or none: then what was reserved is released."""
        self.clocks.pop(name, None)
        attempt = self.at_work[name]
        if code not in _FINAL and attempt < (100 if name == "release" else ATTEMPTS):
            self.at_work[name] = attempt + 1
            self.start_clock(name, at, TIMEOUT / 60)
        elif name == "pay":
            del self.at_work[name]
            self._call("release", at)
        else:
            self.end("completed", "refused")

    def _call(self, name: str, at: datetime) -> None:
        self.work(name)
        self.start_clock(name, at, TIMEOUT / 60)

    def _go_on(self, at: datetime) -> None:
        while self.left and len(self.at_work) < CONCURRENCY:
            self._call(f"pick/{self.left.pop(0)}", at)
        if not self.at_work:
            self.end("completed", "shipped")


async def drive(workflow: Workflow) -> None:
    """Somebody orders; an operator may halt or cancel it."""
    plan = workflow.chance("plan")
    customer = workflow.person(plan.choice(REQUESTERS), "customer")
    lines = plan.sample(range(1, 100), plan.randint(0, 4))
    limit = plan.randint(200, 300) if plan.random() < 0.1 else 20_000
    started = await customer.start(limit=limit / 10_000, lines=lines, picked=0)
    if started.ok and plan.random() < 0.3:
        await _operate(workflow.person(OPERATOR))


async def _operate(me: Person) -> None:
    await me.wait(0.1, 2.5)
    if me.chance.random() < 0.3:
        await me.order("cancel")
        return
    suspended = await me.order("suspend")
    await me.wait(0.0, 2.0)
    if suspended.ok:
        await me.order("resume")
