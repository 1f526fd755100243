"""The people of the torture test, and one of them at work on one workflow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from msgspec import Struct

from pliers_workflow.client.api import Api
from pliers_workflow.client.setup import ensure_sets, ensure_user

from .caller import Call, Calls
from .model import Deed

REQUESTERS: Final = tuple(f"requester{number}" for number in range(1, 7))
#: by requester: whom `requester.manager` means
MANAGERS: Final = {name: f"manager{1 + place % 2}" for place, name in enumerate(REQUESTERS)}
BOARD: Final = tuple(f"board{number}" for number in range(1, 6))
LEGAL: Final = tuple(f"legal{number}" for number in range(1, 4))
#: is asked while they are there, which they are now and then; and who is asked otherwise
CLERK: Final = "clerk1"
DEPUTY: Final = "clerk2"
#: keeps the directory
STAFF: Final = "staff1"
#: sends events, and may do nothing else
CARRIER: Final = "carrier1"
#: may do everything with every instance
OPERATOR: Final = "operator1"
_INSTANCES: Final = "/api/v1/workflow-instances"


class Cast(Struct, frozen=True):
    """Who there is, with ids and tokens by username."""

    ids: dict[str, str]
    tokens: dict[str, str]

    @property
    def names(self) -> dict[str, str]:
        """Usernames by id."""
        return {user_id: name for name, user_id in self.ids.items()}


async def make_people(admin: Api) -> Cast:
    """Put them into the directory."""
    await ensure_sets(admin, roles=("board", "legal"))
    for name in sorted(set(MANAGERS.values())):
        await ensure_user(admin, name)
    for name, manager in MANAGERS.items():
        await ensure_user(admin, name, manager=manager)
    for role, names in (("board", BOARD), ("legal", LEGAL)):
        for name in names:
            await ensure_user(admin, name, roles=[role])
    permissions = {OPERATOR: ["operator"], CARRIER: ["events"], STAFF: ["admin"]}
    for name in (CLERK, DEPUTY, *permissions):
        await ensure_user(admin, name)
    ids, tokens = {}, {}
    for name in (*REQUESTERS, *sorted(set(MANAGERS.values())), *BOARD, *LEGAL, CLERK, DEPUTY, *permissions):
        ids[name] = (await admin.get(f"/api/v1/users/{name}"))["id"]
        body = {"user": name, "name": "torture", "permissions": permissions.get(name, [])}
        made = await admin.do("POST", "/api/v1/tokens", body)
        tokens[name] = made["secret"]
    return Cast(ids, tokens)


class Workflow:
    """One workflow under load: its instance, once there is one, and what is known of it."""

    def __init__(self, kind: str, number: int, seed: str, calls: Calls, cast: Cast) -> None:
        self.kind = kind
        self.number = number
        self.seed = seed
        self.calls = calls
        self.cast = cast
        self.instance: str | None = None
        #: the highest revision that was acknowledged
        self.revision = 0
        #: what callers saw that cannot be
        self.faults: list[str] = []

    def chance(self, part: str) -> Random:
        """A generator of its own for each part of the story, so that none depends on how fast another was."""
        return Random(f"{self.seed}/load/{self.number}/{part}")

    def person(self, name: str, part: str | None = None) -> Person:
        """Somebody at work on it."""
        return Person(self, name, part or name)


class Person:
    """A caller: does one thing after another, each until it is answered."""

    def __init__(self, workflow: Workflow, name: str, part: str) -> None:
        self.workflow = workflow
        self.name = name
        self.chance = workflow.chance(part)
        self._part = part
        self._count = 0

    async def wait(self, low: float, high: float) -> None:
        """Think."""
        await asyncio.sleep(self.chance.uniform(low, high))

    async def fire(self, trigger: str, **data: Any) -> Call:
        """Fire a trigger."""
        key = self._key()
        body = {"trigger": trigger, "data": {**data, "mark": key}}
        return await self._command("POST", "/advance", body, Deed("fire", trigger, self.name), key)

    async def decide(self, action: str) -> Call:
        """`approve`, `reject` or `request_changes`."""
        key = self._key()
        path = "/" + action.replace("_", "-")
        return await self._command("POST", path, {"comments": key}, Deed("decide", action, self.name), key)

    async def patch(self, **fields: Any) -> Call:
        """Edit the data."""
        key = self._key()
        body = {"patch": {**fields, "last": key}}
        return await self._command("PUT", "", body, Deed("update_data", "", self.name, fields), key)

    async def order(self, kind: str, instance: str | None = None) -> Call:
        """`suspend`, `resume` or `cancel` the workflow's instance, or one that it has started."""
        key = self._key()
        method, path = ("DELETE", "") if kind == "cancel" else ("POST", f"/{kind}")
        return await self._command(method, path, {"reason": key}, Deed(kind, "", self.name), key, instance)

    async def start(self, **data: Any) -> Call:
        """Start the workflow's instance."""
        key = self._key()
        path = f"/api/v1/workflows/torture_{self.workflow.kind}/instances"
        fields = {**data, "mark": key, "pokes": 0}
        body = {"data": fields, "externalKey": key}
        call = await self._send(Call(
            self.workflow.number, key, Deed("start", "", self.name, fields), "POST", path, body, 0, _now()
        ))  # fmt: skip
        if call.ok:
            self.workflow.instance = call.answer["id"]
            self.workflow.revision = call.answer["revision"]
        return call

    async def submit(self, form: str, **data: Any) -> Call:
        """Submit a form to which the workflow is bound; it may start a moment later."""
        key = self._key()
        fields = {**data, "mark": key}
        body = {"formId": form, "data": fields}
        call = await self._send(Call(
            self.workflow.number, key, Deed("submit", form, self.name, fields), "POST", "/api/v1/submissions",
            body, 0, _now(),
        ))  # fmt: skip
        if call.ok:
            started = [*call.answer["instances"], *call.answer["pending"]]
            if len(started) == 1 and not call.answer["failed"]:
                self.workflow.instance = started[0]
            else:
                self.workflow.faults.append(f"submission {key} was answered {call.answer!r}")
            for _ in range(300):
                if self.workflow.instance is None or await self.look() is not None:
                    break
                await asyncio.sleep(0.1)
        return call

    async def tell(self, event_type: str, event_id: str, data: dict[str, Any], *, starts: bool) -> Call:
        """Send an event. It goes by its id: the same one may be sent by several."""
        body = {"specversion": "1.0", "id": event_id, "source": "torture", "type": event_type, "data": data}
        deed = Deed("start" if starts else "event", event_type, self.name)
        return await self._send(Call(
            self.workflow.number, self._key(), deed, "POST", "/api/v1/events", body, 0, _now(), mark=event_id,
            content_type="application/cloudevents+json",
        ))  # fmt: skip

    async def find(self, *, externalKey: str, within: float) -> Any:  # noqa: N803 - as the API calls it
        """Look for the instance until it is there."""
        path = f"/api/v1/workflows/torture_{self.workflow.kind}/instances?externalKey={externalKey}"
        until = time.monotonic() + within
        while time.monotonic() < until:
            page = await self.workflow.calls.read(path, self.workflow.cast.tokens[OPERATOR], self.chance)
            if page and page["items"]:
                self.workflow.instance = page["items"][0]["id"]
                return page["items"][0]
            await self.wait(0.1, 0.4)
        return None

    async def until(self, holds: Callable[[Any], bool], *, within: float) -> None:
        """Look at the instance until it is as wanted; a fault when it does not become so."""
        until, seen = time.monotonic() + within, None
        while time.monotonic() < until:
            seen = await self.look()
            if seen is not None and holds(seen):
                return
            await self.wait(0.1, 0.6)
        self.workflow.faults.append(
            f"instance {self.workflow.instance} has not become what it must within {within:g} s: "
            f"{seen and seen['instanceData']}"
        )

    async def look(self) -> Any:
        """Read the instance at some node: what was acknowledged must be there."""
        known = self.workflow.revision
        path = f"{_INSTANCES}/{self.workflow.instance}"
        seen = await self.workflow.calls.read(path, self.workflow.cast.tokens[OPERATOR], self.chance)
        if seen is not None:
            if seen["revision"] < known:
                self.workflow.faults.append(f"a read gave revision {seen['revision']} after {known} was acknowledged")
            self.workflow.revision = max(self.workflow.revision, seen["revision"])
        elif known:
            self.workflow.faults.append(f"a read gave nothing after revision {known} was acknowledged")
        return seen

    async def children(self) -> list[str]:
        """The instances that it has started."""
        page = await self.workflow.calls.read(
            f"{_INSTANCES}/{self.workflow.instance}/history", self.workflow.cast.tokens[OPERATOR], self.chance
        )
        events = [event for row in (page or {"items": []})["items"] for event in row["executionData"]["events"]]
        runs = [event["run"] for event in events if event["type"] == "workflow.step.started"]
        return [run["child"] for run in runs if run.get("child")]

    async def _command(
        self, method: str, path: str, body: dict[str, Any], deed: Deed, key: str, instance: str | None = None
    ) -> Call:
        workflow = self.workflow
        call = await self._send(Call(
            workflow.number, key, deed, method, f"{_INSTANCES}/{instance or workflow.instance}{path}", body,
            0 if instance else workflow.revision, _now(),
        ))  # fmt: skip
        if call.ok and not instance:
            workflow.revision = max(workflow.revision, call.answer["revision"])
        return call

    async def _send(self, call: Call) -> Call:
        return await self.workflow.calls.send(call, self.workflow.cast.tokens[self.name], self.chance)

    def _key(self) -> str:
        self._count += 1
        return f"{self.workflow.seed}/{self.workflow.number}/{self._part}/{self._count}"


def _now() -> datetime:
    return datetime.now(UTC)
