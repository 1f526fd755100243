"""An engine behind its API, moved by the test alone, and workers that reach it through a line that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from pliers_workflow.app import create_app
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import Settings
from pliers_workflow.worker import Worker
from tests.api.world import World
from tests.nodes.conftest import until


class Line(httpx.AsyncBaseTransport):
    """The way to the engine. `meddle` is asked of each request before it is sent and after it was answered."""

    def __init__(self, app: Any) -> None:
        self._way = httpx.ASGITransport(app=app)
        self.requests: list[httpx.Request] = []
        self.before: Callable[[httpx.Request], None] = lambda request: None
        self.after: Callable[[httpx.Request], None] = lambda request: None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.before(request)
        answer = await self._way.handle_async_request(request)
        await answer.aread()
        self.after(request)
        return answer

    def sent(self, what: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.url.path.endswith(f"/{what}")]


class Office(World):
    """A world with external steps of the topic `work`, and workers for them."""

    line: Line
    token: str

    def worker(self, **options: Any) -> Worker:
        options = {"worker_id": "one", "wait": 0.2, "grace": 10, "transport": self.line, **options}
        return Worker("http://engine", options.pop("token", self.token), **options)

    async def begin(self, **data: Any) -> str:
        made = await self.admin("POST", "/workflows/office/instances", {"data": data}, status=201)
        return str(made.json()["id"])

    async def look(self, instance_id: str) -> dict[str, Any]:
        return dict((await self.admin("GET", f"/workflow-instances/{instance_id}", status=200)).json())

    async def settled(self, instance_id: str) -> dict[str, Any]:
        """The instance once it has ended or has an incident."""

        async def is_settled() -> bool:
            return (await self.look(instance_id))["status"] in ("completed", "failed")

        await until(is_settled)
        return await self.look(instance_id)

    async def incident(self, instance_id: str) -> dict[str, Any]:
        await self.settled(instance_id)
        (found,) = (await self.admin("GET", f"/workflow-instances/{instance_id}/incidents", status=200)).json()["items"]
        return dict(found)

    async def actions(self, instance_id: str) -> list[str]:
        items = (await self.admin("GET", f"/workflow-instances/{instance_id}/history", status=200)).json()["items"]
        return [item["actionType"] for item in items]


def office(**step: Any) -> dict[str, Any]:
    """A document with one step for a worker, which keeps what it gives."""
    return {
        "name": "office", "version": "1.0.0", "title": "Office",
        "stateMachine": {
            "initialState": "busy",
            "states": {
                "busy": {"properties": {"steps": [{
                    "type": "external", "id": "do", "topic": "work", "inputMapping": {"data": "data"},
                    "outputMapping": {"result": "output"},
                    "retryPolicy": {"maxAttempts": 2, "initialDelaySeconds": 0, "jitter": 0}, **step,
                }]}},
                "done": {"type": "final"},
            },
            "transitions": [{"from": "busy", "to": "done"}],
        },
    }  # fmt: skip


@pytest.fixture
async def world(database: str) -> AsyncIterator[Office]:
    engine = await open_engine(Settings.model_validate({"database": {"url": database}}))
    await engine.start(services=False)
    secret = await engine.tokens.bootstrap()
    app = create_app(engine, owns_engine=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://engine") as http:
        world = Office(engine, http, secret or "")
        world.line = Line(app)
        await world.admin("POST", "/users", {"username": "clerk"}, status=201)
        world.token = (await world.person("clerk", ("worker",))).token or ""
        await world.publish(office())
        yield world
    await engine.close()


@asynccontextmanager
async def at_work(*workers: Worker) -> AsyncIterator[None]:
    """Workers that work meanwhile, and stop in good order."""
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        await asyncio.wait_for(asyncio.gather(*running), 30)
