"""Telling a story through REST to an engine on PostgreSQL, in a tenant whose clock is moved by hand."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import msgspec

from pliers_workflow import examples
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.runtime.engine import Engine

from .transcript import DECISIONS, ORDERS, Line, Person, View

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
#: roles and groups that the examples name; they exist in the directory even where nobody has them
ROLES = ("department_head", "director", "finance", "controller", "purchasing")
GROUPS = ("legal",)


class Rest:
    """A `Teller` with everything behind it."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient, chart: str) -> None:
        self.engine = engine
        self.http = http
        self.document = examples.load(chart)
        definition = read(self.document).definition
        assert definition is not None
        kinds = compile_definition(definition).by_id
        self.leaves = {state for state, node in kinds.items() if node.kind in ("atomic", "final")}
        self.tokens: dict[str, str] = {}
        self.instance: str | None = None

    async def people(self, people: list[Person]) -> None:
        _, secret = await self.engine.tenants.create(
            None, "story", "Story", virtual_now=datetime.fromisoformat("2026-03-01T00:00Z")
        )
        assert secret is not None
        self.tokens["admin"] = secret
        for kind, keys in (("roles", ROLES), ("groups", GROUPS)):
            for key in keys:
                await self._do("admin", "PUT", f"/{kind}/{key}", {})
        # Managers first: a manager is named by a username that has to be there.
        for person in sorted(people, key=lambda each: each.manager is not None):
            body = {"username": person.username, "roles": list(person.roles), "groups": list(person.groups)}
            await self._do("admin", "POST", "/users", body)
        for person in people:
            if person.manager is not None:
                await self._do("admin", "PATCH", f"/users/{person.username}", {"manager": person.manager})
            made = await self._do("admin", "POST", "/tokens", {"user": person.username})
            self.tokens[person.username] = made["secret"]
        await self._do("admin", "POST", "/users", {"username": "operator"})
        made = await self._do("admin", "POST", "/tokens", {"user": "operator", "permissions": ["operator"]})
        self.tokens["operator"] = made["secret"]
        await self._do("admin", "POST", "/workflows", self.document)
        await self._do("admin", "POST", f"/workflows/{self.document['name']}/publish", {})

    async def move_to(self, at: datetime) -> None:
        """Every timer that is due on the way fires at its own instant, as it would if time simply passed."""
        while self.instance is not None and (due := (await self.view()).due) is not None and due <= at:
            await self._set_clock(due)
            assert await self.engine.timers.sweep() > 0, f"nothing fired at {due}"
        await self._set_clock(at)

    async def _set_clock(self, at: datetime) -> None:
        await self._do("admin", "PUT", "/tenants/story/clock", {"virtualNow": at.isoformat()})

    async def tell(self, line: Line) -> str | None:
        path = f"/workflow-instances/{self.instance}"
        if line.verb == "start":
            answer = await self._call(
                line.who, "POST", f"/workflows/{self.document['name']}/instances", {"data": line.fields}
            )
            assert answer.status_code == 201, answer.text
            self.instance = answer.json()["id"]
        elif line.verb == "edit":
            answer = await self._call(line.who, "PUT", path, {"patch": line.fields})
        elif line.verb in DECISIONS:
            fields = dict(line.fields)
            own = {name: fields.pop(name) for name in ("to", "stage") if name in fields}
            body = {**own, "comments": line.comment, "data": fields}
            answer = await self._call(line.who, "POST", f"{path}/{line.verb.replace('_', '-')}", body)
        elif line.verb == "cancel":
            answer = await self._call(line.who, "DELETE", path)
        elif line.verb in ORDERS:
            answer = await self._call(line.who, "POST", f"{path}/{line.verb}", {})
        else:
            answer = await self._call(line.who, "POST", f"{path}/advance", {"trigger": line.verb, "data": line.fields})
        if answer.is_success:
            return None
        assert 400 <= answer.status_code < 500, answer.text
        return str(answer.json()["code"])

    async def view(self) -> View:
        now = await self._do("operator", "GET", f"/workflow-instances/{self.instance}")
        items = (await self._do("operator", "GET", f"/workflow-instances/{self.instance}/approvals"))["items"]
        asks = [item["approver"].get("username") or item["approver"]["identifier"] for item in items]
        return View(
            state=now["currentState"],
            leaves=tuple(state for state in now["configuration"] if state in self.leaves),
            status=now["status"],
            asks=tuple(sorted(asks)),
            due=None if now["timeoutAt"] is None else datetime.fromisoformat(now["timeoutAt"]),
            data=now["instanceData"],
            revision=now["revision"],
        )

    async def _call(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[who]}", "content-type": "application/json"}
        if method != "GET":
            headers["idempotency-key"] = str(uuid4())
        content = None if body is None else _encode(body)
        return await self.http.request(method, f"/api/v1{path}", content=content, headers=headers)

    async def _do(self, who: str, method: str, path: str, body: Any = None) -> Any:
        answer = await self._call(who, method, path, body)
        assert answer.is_success, (method, path, answer.text)
        return _decode(answer.content)
