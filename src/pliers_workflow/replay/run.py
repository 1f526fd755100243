"""Replaying cases through REST: each recorded event is one call by a user with that role.

A case is submitted as a form; a binding starts its workflow. A call may be sent again whatever happened to the server,
and each accepted one must raise the instance's revision by exactly one: a lost or doubled decision shows at once. What is
refused must be a 4xx and leave the instance as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from pliers_workflow.client.api import Answer, Api
from pliers_workflow.client.setup import ensure_binding, ensure_workflow

from .cases import Case, Refusal, Verdict
from .cast import MAPPING, Cast
from .travel import Row, key, travel_definition

#: the form that cases are submitted with
FORM = "travel_declaration"


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
        self._cast = Cast(admin, rows, start, steps)
        self._rows = rows
        self._start = start

    @property
    def repeated(self) -> int:
        """Calls that had to be sent again."""
        return self._cast.repeated

    async def prepare(self) -> None:
        """Make what the log needs: a user and a token for each role, the workflow, the form's binding."""
        await self._cast.prepare()
        await ensure_workflow(self._cast.admin, travel_definition(self._rows, self._start))
        await ensure_binding(self._cast.admin, FORM, FORM, MAPPING)

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
        answer, run.instance = await self._cast.submit(run.number, FORM, run.case.attributes | {"case": run.case.id})
        if run.instance is None:
            run.faults.append(f"its submission started no workflow: {answer.sentence}")
            return
        state, revision = self._start, 1
        for index, step in enumerate(run.case.steps):
            answer = await self._cast.do(run.number, index, run.instance, step.act, step.by)
            if answer.ok:
                state, revision = self._accepted(run, index, answer, revision)
                continue
            if not 400 <= answer.status < 500:
                run.faults.append(f"event {index} was answered {answer.sentence}")
            run.refused = Refusal(state, index)
            now = await self._cast.instance(run.instance)
            if (now["currentState"], now["revision"]) != (key(state), revision):
                run.faults.append(
                    f"event {index} was refused, but the instance went from {state}, revision {revision}, "
                    f"to {now['currentState']}, revision {now['revision']}"
                )
            break

    def _accepted(self, run: CaseRun, index: int, answer: Answer, revision: int) -> tuple[str, int]:
        state = self._cast.state(answer.body["currentState"])
        run.states.append(state)
        if answer.body["revision"] != revision + 1:
            run.faults.append(
                f"event {index} moved the instance from revision {revision} to {answer.body['revision']}, not by one"
            )
        return state, answer.body["revision"]

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
        rows = await self._cast.history(run.instance)
        kept = [row["toState"] for row in rows]
        if [row["seq"] for row in rows] != list(range(1, len(rows) + 1)):
            run.faults.append(f"its history counts {[row['seq'] for row in rows]}")
        acknowledged = [key(self._start), *(key(state) for state in run.states)]
        if kept != acknowledged:
            run.faults.append(f"its history says {kept}, but {acknowledged} was acknowledged")
