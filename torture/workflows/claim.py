"""Approvals: a manager, then two of a board of five, with rounds of changes, and a clock on every state.

The manager's stage grants itself after a while, the board's votes arrive at once, the review runs out of time while they
do: whoever comes first must win, and the others must be told so.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from ..model import Deed, Model, Row
from ..people import BOARD, MANAGERS, OPERATOR, REQUESTERS, Person, Workflow

#: minutes until the manager's stage grants itself
PATIENCE: Final = 0.03
QUORUM: Final = 2

DOCUMENT: Final[dict[str, Any]] = {
    "name": "torture_claim",
    "version": "1.0.0",
    "title": "Claim",
    "stateMachine": {
        "initialState": "open",
        "states": {
            "open": {
                "substates": [
                    {"id": "draft", "type": "initial", "timeouts": [{"afterMinutes": "data.draft"}]},
                    {
                        "id": "review",
                        "properties": {"approvalChain": "claim"},
                        "timeouts": [{"afterMinutes": "data.review"}],
                    },
                    {"id": "changes", "timeouts": [{"afterMinutes": "data.changes"}]},
                ]
            },
            "paid": {"type": "final"},
            "rejected": {"type": "final"},
            "withdrawn": {"type": "final"},
            "expired": {"type": "final"},
        },
        "transitions": [
            {"from": "draft", "to": "review", "trigger": "submit"},
            {"from": "changes", "to": "review", "trigger": "submit"},
            {"from": "review", "to": "paid"},
            {"from": "review", "to": "rejected", "trigger": "rejected"},
            {"from": "review", "to": "changes", "trigger": "changes_requested"},
            {"from": "open", "to": "withdrawn", "trigger": "withdraw"},
            {
                "from": "open",
                "trigger": "poke",
                "actions": [{"type": "assign", "field": "pokes", "value": "data.pokes + 1"}],
            },
            {"from": "draft", "to": "expired", "trigger": "timeout.draft"},
            {"from": "review", "to": "expired", "trigger": "timeout.review"},
            {"from": "changes", "to": "expired", "trigger": "timeout.changes"},
        ],
    },
    "approvalChains": [
        {
            "id": "claim",
            "steps": [
                {
                    "id": "manager",
                    "approvers": [{"type": "dynamic", "identifier": "requester.manager"}],
                    "requirements": {"timeoutMinutes": PATIENCE},
                    "onTimeout": "grant",
                    "watchedFields": ["amount"],
                },
                {
                    "id": "board",
                    "approvers": [{"type": "role", "identifier": "board"}],
                    "requirements": {"minimumApprovals": QUORUM},
                    "parallel": True,
                    "onRejection": "count",
                },
            ],
        }
    ],
    "dataSchema": {
        "type": "object",
        "properties": {
            "amount": {"type": "integer"},
            "pokes": {"type": "integer"},
            "draft": {"type": "number"},
            "review": {"type": "number"},
            "changes": {"type": "number"},
            "mark": {"type": "string"},
            "last": {"type": "string"},
        },
    },
}


class Claim(Model):
    """What must become of a claim."""

    def begin(self, started: Row) -> None:
        """Stand in `draft`."""
        self.requester = started.deed.user
        self.manager = MANAGERS[self.requester]
        self.data = dict(started.deed.data)
        #: the stage that asks now, and who has decided in it
        self.stage = ""
        self.votes: dict[str, str] = {}
        #: the amount that the manager's grant of an earlier round was for
        self.granted: int | None = None
        self._enter("draft", started.at)

    @property
    def configuration(self) -> list[str]:
        """The open states lie inside `open`."""
        return ["open", self.state] if self.state in ("draft", "review", "changes") else [self.state]

    def allows(self, deed: Deed) -> bool:
        """Who may do what, where."""
        match deed.kind, deed.name:
            case "fire", "submit":
                return self.state in ("draft", "changes")
            case "fire", "withdraw" | "poke":
                return True
            case "update_data", _:
                return self.state in ("draft", "changes")
            case "decide", _:
                asked = (self.manager,) if self.stage == "manager" else BOARD
                return self.state == "review" and deed.user in asked and deed.user not in self.votes
        return False

    def does(self, deed: Deed, at: datetime) -> None:
        """Move on."""
        match deed.kind, deed.name:
            case "fire", "submit":
                self._enter("review", at)
            case "fire", "withdraw":
                self.end("completed", "withdrawn")
            case "fire", "poke":
                self.data["pokes"] += 1
            case "update_data", _:
                self.data |= deed.data
            case "decide", "request_changes":
                if self.stage == "manager":
                    self.granted = None
                self._enter("changes", at)
            case "decide", _:
                self.votes[deed.user] = deed.name
                self._count(at)

    def rings(self, trigger: str, at: datetime) -> None:
        """The manager's patience or a state's clock has run out."""
        if trigger == "timeout.claim.manager":
            self._grant_manager(at)
        else:
            self.end("completed", "expired")

    def _enter(self, state: str, at: datetime) -> None:
        self.clocks.clear()
        self.state = state
        self.start_clock(f"timeout.{state}", at, self.data[state])
        if state == "review":
            if self.granted == self.data["amount"]:
                self._ask("board")
            else:
                self._ask("manager")
                self.start_clock("timeout.claim.manager", at, PATIENCE)

    def _ask(self, stage: str) -> None:
        self.stage, self.votes = stage, {}

    def _grant_manager(self, at: datetime) -> None:
        self.granted = self.data["amount"]
        self.clocks.pop("timeout.claim.manager", None)
        self._ask("board")

    def _count(self, at: datetime) -> None:
        approved = sum(action == "approve" for action in self.votes.values())
        rejected = len(self.votes) - approved
        if self.stage == "manager":
            if approved:
                self._grant_manager(at)
            else:
                self.end("completed", "rejected")
        elif approved >= QUORUM:
            self.end("completed", "paid")
        elif len(BOARD) - rejected < QUORUM:
            self.end("completed", "rejected")


async def drive(workflow: Workflow) -> None:
    """A requester, the manager and the board, and sometimes an operator, all at once."""
    plan = workflow.chance("plan")
    requester = workflow.person(plan.choice(REQUESTERS), "requester")
    clocks = {"draft": plan.randint(300, 600), "review": plan.randint(300, 2000), "changes": plan.randint(150, 600)}
    started = await requester.start(
        amount=plan.randrange(1000), **{state: tenths / 10_000 for state, tenths in clocks.items()}
    )
    if not started.ok:
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(_request(requester))
        group.create_task(_vote(workflow.person(MANAGERS[requester.name])))
        for name in BOARD:
            group.create_task(_vote(workflow.person(name)))
        if plan.random() < 0.3:
            group.create_task(_poke(workflow.person(requester.name, "poking")))
        if plan.random() < 0.3:
            group.create_task(_operate(workflow.person(OPERATOR)))


async def _request(me: Person) -> None:
    chance = me.chance
    if chance.random() < 0.3:
        await me.patch(amount=chance.randrange(1000))
    if chance.random() < 0.05:
        return  # forgotten: the draft expires
    await me.wait(0, 0.5)
    # Now and then it is sent twice, by somebody impatient: under two keys, so one of them must be refused.
    copies = 2 if chance.random() < 0.2 else 1
    await asyncio.gather(*(me.workflow.person(me.name, f"submitting.{n}").fire("submit") for n in range(copies)))
    for _ in range(4):
        await me.wait(0.3, 1.5)
        if chance.random() < 0.06:
            await me.fire("withdraw")
        seen = await me.look()
        if seen is None or seen["status"] in ("completed", "cancelled"):
            return
        if seen["currentState"] == "changes":
            if chance.random() < 0.5:
                await me.patch(amount=chance.randrange(3))
            await me.fire("submit")


async def _vote(me: Person) -> None:
    chance = me.chance
    for _ in range(chance.choice((0, 1, 1, 1, 2))):
        await me.wait(0.1, 2.5)
        action = chance.choices(("approve", "reject", "request_changes"), (70, 22, 8))[0]
        await me.decide(action)


async def _poke(me: Person) -> None:
    for _ in range(me.chance.randint(1, 6)):
        await me.wait(0, 0.4)
        await me.fire("poke")


async def _operate(me: Person) -> None:
    await me.wait(0.2, 2.0)
    if me.chance.random() < 0.2:
        await me.order("cancel")
        return
    suspended = await me.order("suspend")
    await me.wait(0.0, 2.0)
    if suspended.ok:
        await me.order("resume")
