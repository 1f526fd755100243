"""Replaying cases through REST: each recorded event is one call by a user with that role.

A case is submitted as a form; a binding starts its workflow. Every call has an Idempotency-Key made of run, case and
event, so it may be sent again whatever happened to the server, and each accepted one must raise the instance's revision
by exactly one: a lost or doubled decision shows at once. What is refused must be a 4xx and leave the instance as it was.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from pliers_workflow.client.api import Answer, Api
from pliers_workflow.client.setup import ensure_binding, ensure_sets, ensure_user, ensure_workflow, user_api

from .cases import Case, Refusal, Verdict
from .travel import SYSTEM, Decide, Row, deed, key, requester_role, travel_definition

#: the form that cases are submitted with
FORM = "travel_declaration"
_INSTANCES = "/api/v1/workflow-instances"


class CaseRun(Struct):
    """What became of one case."""

    #: its place in the log
    number: int
    case: Case
    instance: str | None = None
    #: states after each accepted step, by the table's names
    states: list[str] = []
    refused: Refusal | None = None
    #: what should not have happened
    faults: list[str] = []

    @property
    def outcome(self) -> Verdict:
        """As the table would tell it."""
        return Verdict(tuple(self.states), self.refused)


class Replayer:
    """Replays the cases of one log in one tenant."""

    def __init__(self, admin: Api, rows: Sequence[Row], start: str, steps: Iterable[tuple[str, str]]) -> None:
        self._admin = admin
        self._rows = rows
        self._start = start
        self._requester = requester_role(rows, start)
        self._roles = sorted(
            {self._requester, SYSTEM}
            | {deed(row.act, row.by, self._requester).role for row in rows}
            | {deed(act, by, self._requester).role for act, by in steps}
        )
        self._names = {key(name): name for row in rows for name in (row.state, row.to)} | {key(start): start}
        self._users: dict[str, Api] = {}
        self._run = uuid.uuid4().hex[:12]

    @property
    def repeated(self) -> int:
        """Calls that had to be sent again."""
        return self._admin.repeated + sum(user.repeated for user in self._users.values())

    # -- before --------------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make what the log needs: a user and a token for each role, the workflow, the form's binding."""
        await ensure_sets(self._admin, roles=self._roles)
        for role in self._roles:
            await ensure_user(self._admin, role, name=role.replace("_", " ").capitalize(), roles=[role])
            self._users[role] = await user_api(self._admin, role, f"replay {self._run}")
        await ensure_workflow(self._admin, travel_definition(self._rows, self._start))
        mapping = {"case": "submission.case", "amount": "has(submission.amount) ? submission.amount : 0"}
        await ensure_binding(self._admin, FORM, FORM, mapping)

    # -- the replay ----------------------------------------------------------------------------------------------------

    async def replay(self, cases: Sequence[Case], *, callers: int, done: Callable[[CaseRun], None]) -> list[CaseRun]:
        """Replay all cases, `callers` of them at a time. `done` is told of each when it is over."""
        runs = [CaseRun(number, case) for number, case in enumerate(cases)]
        waiting = iter(runs)

        async def caller() -> None:
            for run in waiting:
                await self._replay_case(run)
                done(run)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        return runs

    async def _replay_case(self, run: CaseRun) -> None:
        requester = self._users[self._requester]
        answer = await requester.call(
            "POST",
            "/api/v1/submissions",
            {"formId": FORM, "data": run.case.attributes | {"case": run.case.id}},
            key=self._key(run, "submission"),
        )
        if not answer.ok or not (answer.body["instances"] or answer.body["pending"]):
            run.faults.append(f"its submission started no workflow: {answer.sentence}")
            return
        run.instance = [*answer.body["instances"], *answer.body["pending"]][0]
        if answer.body["pending"]:
            await self._until_started(run.instance)
        state, revision = self._start, 1
        for index, step in enumerate(run.case.steps):
            answer = await self._do(run, index, step.act, step.by)
            if answer.ok:
                state, revision = self._accepted(run, index, answer, revision)
                continue
            if not 400 <= answer.status < 500:
                run.faults.append(f"event {index} was answered {answer.sentence}")
            run.refused = Refusal(state, index)
            now = await requester.get(f"{_INSTANCES}/{run.instance}")
            if (now["currentState"], now["revision"]) != (key(state), revision):
                run.faults.append(
                    f"event {index} was refused, but the instance went from {state}, revision {revision}, "
                    f"to {now['currentState']}, revision {now['revision']}"
                )
            break

    async def _do(self, run: CaseRun, index: int, act: str, by: str) -> Answer:
        one = deed(act, by, self._requester)
        user = self._users[one.role]
        if isinstance(one, Decide):
            body: dict[str, Any] = {} if one.final is None else {"data": {"final": one.final}}
            return await user.call("POST", f"{_INSTANCES}/{run.instance}/{one.action}", body, key=self._key(run, index))
        body = {"trigger": one.trigger}
        return await user.call("POST", f"{_INSTANCES}/{run.instance}/advance", body, key=self._key(run, index))

    def _accepted(self, run: CaseRun, index: int, answer: Answer, revision: int) -> tuple[str, int]:
        state = self._names.get(answer.body["currentState"], answer.body["currentState"])
        run.states.append(state)
        if answer.body["revision"] != revision + 1:
            run.faults.append(
                f"event {index} moved the instance from revision {revision} to {answer.body['revision']}, not by one"
            )
        return state, answer.body["revision"]

    async def _until_started(self, instance: str) -> None:
        """The start is on record and follows; the answer is 404 until then."""
        requester = self._users[self._requester]
        for _ in range(600):
            if (await requester.call("GET", f"{_INSTANCES}/{instance}")).ok:
                return
            await asyncio.sleep(0.1)

    def _key(self, run: CaseRun, part: object) -> str:
        return f"replay/{self._run}/{run.number}/{part}"

    # -- afterwards ----------------------------------------------------------------------------------------------------

    async def verify(self, runs: Sequence[CaseRun], *, callers: int, done: Callable[[CaseRun], None]) -> None:
        """Compare each case's history with what was acknowledged: no decision lost, none counted twice."""
        waiting = iter(runs)

        async def caller() -> None:
            for run in waiting:
                if run.instance is not None:
                    await self._verify_case(run)
                done(run)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())

    async def _verify_case(self, run: CaseRun) -> None:
        requester = self._users[self._requester]
        rows = await requester.pages(f"{_INSTANCES}/{run.instance}/history", limit=200)
        kept = [row["toState"] for row in rows]
        if [row["seq"] for row in rows] != list(range(1, len(rows) + 1)):
            run.faults.append(f"its history counts {[row['seq'] for row in rows]}")
        acknowledged = [key(self._start), *(key(state) for state in run.states)]
        if kept != acknowledged:
            run.faults.append(f"its history says {kept}, but {acknowledged} was acknowledged")
