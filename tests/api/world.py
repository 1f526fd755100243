"""A small company behind a REST API: what tests of the edge share."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx

from pliers_workflow.api.application import ROUTES
from pliers_workflow.api.openapi import openapi_document
from pliers_workflow.runtime.engine import Engine

#: an expense: the manager decides; above 1000 finance as well, in parallel regions nothing
EXPENSE: dict[str, Any] = {
    "name": "expense",
    "version": "1.0.0",
    "title": "Expense",
    "dataSchema": {
        "type": "object",
        "properties": {"amount": {"type": "number", "minimum": 0}, "note": {"type": "string"}},
    },
    "stateMachine": {
        "initialState": "draft",
        "states": {
            "draft": {"name": "Draft"},
            "review": {"name": "Review", "properties": {"approvalChain": "approval"}},
            "paid": {"name": "Paid", "type": "final"},
            "refused": {"name": "Refused", "type": "final"},
            "withdrawn": {"name": "Withdrawn", "type": "final"},
        },
        "transitions": [
            {
                "id": "submit",
                "from": "draft",
                "to": "review",
                "trigger": "submit",
                "condition": "has(data.amount) && data.amount > 0",
            },
            {"id": "withdraw", "from": "draft", "to": "withdrawn", "trigger": "withdraw"},
            {"id": "pay", "from": "review", "to": "paid"},
            {"id": "refuse", "from": "review", "to": "refused", "trigger": "rejected"},
            {"id": "send_back", "from": "review", "to": "draft", "trigger": "changes_requested"},
        ],
    },
    "approvalChains": [
        {
            "id": "approval",
            "steps": [
                {"id": "manager", "approvers": [{"type": "role", "identifier": "managers"}]},
                {
                    "id": "finance",
                    "type": "conditional",
                    "condition": "data.amount > 1000",
                    "approvers": [{"type": "user", "identifier": "finn"}],
                    "requirements": {"requireComments": True},
                },
            ],
        }
    ],
}

#: username -> roles
PEOPLE: dict[str, list[str]] = {"ada": [], "mia": ["managers"], "max": ["managers"], "finn": ["finance"], "eve": []}


class Caller:
    """One person with a token."""

    def __init__(self, http: httpx.AsyncClient, token: str | None) -> None:
        self.http = http
        self.token = token

    async def __call__(
        self, method: str, path: str, body: Any = None, *, status: int | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request to a path below /api/v1; `status` is what must come back."""
        headers = dict(options.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            options["json"] = body
        response = await self.http.request(method, f"/api/v1{path}", headers=headers, **options)
        if status is not None:
            assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        known = declared(method, path)
        # 500 is a defect, which nobody declares.
        assert known is None or response.status_code in {*known, 500}, (
            f"{method} {path}: {response.status_code} is not among the declared {sorted(known)}"
        )
        return response


@cache
def _operations() -> list[tuple[str, re.Pattern[str], frozenset[int]]]:
    return [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), frozenset(map(int, operation["responses"])))
        for path, methods in openapi_document(ROUTES, base="")["paths"].items()
        for method, operation in methods.items()
    ]


def declared(method: str, path: str) -> frozenset[int] | None:
    """The statuses that the OpenAPI document has for this request; None where it knows no such request."""
    path = path.partition("?")[0]
    method = "GET" if method == "HEAD" else method
    fitting = (found for known, pattern, found in _operations() if known == method and pattern.fullmatch(path))
    return next(fitting, None)


class World:
    """An engine with its API, an administrator, and people when they are called for."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient, admin_token: str) -> None:
        self.engine = engine
        self.http = http
        self.admin = Caller(http, admin_token)
        self.nobody = Caller(http, None)
        self.callers: dict[str, Caller] = {}

    async def person(self, username: str, permissions: tuple[str, ...] = ()) -> Caller:
        """A token for somebody of the directory."""
        body = {"user": username, "permissions": list(permissions)}
        made = await self.admin("POST", "/tokens", body, status=201)
        caller = Caller(self.http, made.json()["secret"])
        self.callers[username] = caller
        return caller

    async def populate(self) -> None:
        """The people of the company, each with a token without permissions."""
        for role in sorted({role for roles in PEOPLE.values() for role in roles}):
            await self.admin("PUT", f"/roles/{role}", status=201)
        for username, roles in PEOPLE.items():
            await self.admin("POST", "/users", {"username": username, "roles": roles}, status=201)
            await self.person(username)

    async def publish(self, document: dict[str, Any]) -> dict[str, Any]:
        """A definition, created and published."""
        await self.admin("POST", "/workflows", document, status=201)
        published = await self.admin("POST", f"/workflows/{document['name']}/publish", status=200)
        return dict(published.json())

    async def start(self, who: str, data: dict[str, Any] | None = None, workflow: str = "expense") -> dict[str, Any]:
        """An instance started by somebody."""
        body = {"data": {"amount": 120.5} if data is None else data}
        return dict((await self.callers[who]("POST", f"/workflows/{workflow}/instances", body, status=201)).json())

    async def submitted(self, who: str = "ada", data: dict[str, Any] | None = None) -> dict[str, Any]:
        """An instance that waits for its approvers."""
        instance = await self.start(who, data)
        at = f"/workflow-instances/{instance['id']}"
        return dict((await self.callers[who]("POST", f"{at}/advance", {"trigger": "submit"}, status=200)).json())
