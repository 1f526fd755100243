"""The people of a recorded log: a user with a token for each role, and what they do as calls to the server.

Every call has an Idempotency-Key made of run, case and event, so it may be sent again whatever happened to the server.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pliers_workflow.client.api import Answer, Api
from pliers_workflow.client.setup import ensure_sets, ensure_user, user_api

from .travel import SYSTEM, Decide, Row, deed, key, requester_role

__all__ = ["INSTANCES", "MAPPING", "Cast"]

INSTANCES: Final = "/api/v1/workflow-instances"
#: what a case's submission gives its instance
MAPPING: Final = {"case": "submission.case", "amount": "has(submission.amount) ? submission.amount : 0"}

#: seconds for which a start that is on record may take to follow, and between two looks
_START_MAX: Final = 60.0
_START_POLL: Final = 0.02


class Cast:
    """See the module. `rows` is the table of moves from state `start`; `steps` what the log has besides, as act and role."""

    def __init__(self, admin: Api, rows: Sequence[Row], start: str, steps: Iterable[tuple[str, str]]) -> None:
        self.admin = admin
        self.requester = requester_role(rows, start)
        self._roles = sorted(
            {self.requester, SYSTEM}
            | {deed(row.act, row.by, self.requester).role for row in rows}
            | {deed(act, by, self.requester).role for act, by in steps}
        )
        self._names = {key(name): name for row in rows for name in (row.state, row.to)} | {key(start): start}
        self._users: dict[str, Api] = {}
        self._run = uuid.uuid4().hex[:12]

    @property
    def repeated(self) -> int:
        """Calls that had to be sent again."""
        return self.admin.repeated + sum(user.repeated for user in self._users.values())

    async def prepare(self) -> None:
        """Make a user and a token for each role."""
        await ensure_sets(self.admin, roles=self._roles)
        for role in self._roles:
            await ensure_user(self.admin, role, name=role.replace("_", " ").capitalize(), roles=[role])
            self._users[role] = await user_api(self.admin, role, f"replay {self._run}")

    def state(self, current: str) -> str:
        """A state by the table's name."""
        return self._names.get(current, current)

    async def submit(self, case: int, form: str, data: dict[str, Any]) -> tuple[Answer, str | None]:
        """Submit a case as a form; the answer, and the instance that its binding started, once it is there."""
        body = {"formId": form, "data": data}
        answer = await self._users[self.requester].call(
            "POST", "/api/v1/submissions", body, key=self._key(case, "submission")
        )
        started = [*answer.body["instances"], *answer.body["pending"]] if answer.ok else []
        if not started:
            return answer, None
        if answer.body["pending"]:
            await self.until_there(started[0])
        return answer, started[0]

    async def do(self, case: int, part: object, instance: str | None, act: str, by: str) -> Answer:
        """What the table's row of this act is as a call: a decision or a trigger."""
        one = deed(act, by, self.requester)
        if not isinstance(one, Decide):
            return await self.advance(case, part, instance, one.trigger, one.role)
        body: dict[str, Any] = {} if one.final is None else {"data": {"final": one.final}}
        path = f"{INSTANCES}/{instance}/{one.action}"
        return await self._users[one.role].call("POST", path, body, key=self._key(case, part))

    async def advance(
        self, case: int, part: object, instance: str | None, trigger: str, role: str | None = None
    ) -> Answer:
        """A trigger, by the requester where no role is named."""
        path = f"{INSTANCES}/{instance}/advance"
        user = self._users[role or self.requester]
        return await user.call("POST", path, {"trigger": trigger}, key=self._key(case, part))

    async def instance(self, instance: str | None) -> dict[str, Any]:
        """An instance as its requester sees it."""
        shown: dict[str, Any] = await self._users[self.requester].get(f"{INSTANCES}/{instance}")
        return shown

    async def history(self, instance: str | None) -> list[dict[str, Any]]:
        """All history rows of an instance, the first first."""
        return await self._users[self.requester].pages(f"{INSTANCES}/{instance}/history", limit=200)

    async def until_there(self, instance: str) -> None:
        """Wait for a start that is on record and follows (404 until then), a minute at most: then the next call tells."""
        until = time.monotonic() + _START_MAX
        while time.monotonic() < until:
            if (await self._users[self.requester].call("GET", f"{INSTANCES}/{instance}")).ok:
                return
            await asyncio.sleep(_START_POLL)

    def _key(self, case: int, part: object) -> str:
        return f"replay/{self._run}/{case}/{part}"
