"""An engine that sends: what tests of subscriptions share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from pliers_workflow.app import create_app
from pliers_workflow.interpreter.commands import FireTrigger
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import DatabaseSettings, FeedSettings, OutboundSettings, Settings, SubscriptionSettings
from tests.api.world import Caller
from tests.outbound.server import Answer, Request, reply
from tests.pipeline.conftest import World

from .conftest import TURNSTILE


class Sender:
    """An engine with everything at work, its API, and instances to make it talk."""

    def __init__(self, world: World, http: httpx.AsyncClient, token: str) -> None:
        self.world = world
        self.http = http
        self.admin = Caller(http, token)
        #: the turnstile, published
        self.definition: Any = None

    async def subscribe(self, sink: dict[str, Any], **options: Any) -> dict[str, Any]:
        body = {"name": "test", "sink": sink, **options}
        made = await self.admin("POST", "/event-subscriptions", body, status=201)
        return dict(made.json())

    async def status(self, subscription: dict[str, Any]) -> dict[str, Any]:
        got = await self.admin("GET", f"/event-subscriptions/{subscription['id']}", status=200)
        return dict(got.json())

    async def act(self, subscription: dict[str, Any], what: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        done = await self.admin("POST", f"/event-subscriptions/{subscription['id']}/{what}", body, status=status)
        return dict(done.json())

    async def instance(self, pushes: int = 0) -> str:
        """A turnstile that has been pushed so often."""
        started = await self.world.start(self.definition, data={})
        for number in range(pushes):
            await self.push(started.instance.id, number)
        return started.instance.id

    async def push(self, instance_id: str, number: int) -> None:
        await self.world.do(instance_id, "ada", FireTrigger("push" if number % 2 else "coin"))


@asynccontextmanager
async def sending(database: str, **subscriptions: Any) -> AsyncIterator[Sender]:
    """A sender whose retries are quick, and which may call this machine."""
    settings = Settings(
        database=DatabaseSettings(url=database),
        feed=FeedSettings(poll=0.1, lease=5),
        outbound=OutboundSettings(allow_private_networks=True),
        subscriptions=SubscriptionSettings(
            **{
                "webhook_schemes": ("http",),
                "retry_delay_min": 0.02,
                "retry_delay_max": 0.1,
                "publish_timeout": 3,
                **subscriptions,
            }
        ),
    )
    engine = await open_engine(settings)
    await engine.start()
    token = await engine.tokens.bootstrap()
    assert token is not None
    row = await engine.directory.user_by_name("default", "admin")
    assert row is not None
    world = World(engine, Principal("default", row.id, "admin", frozenset({"admin"})))
    await world.people(ada={})
    app = create_app(engine, owns_engine=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://engine") as http:
        sender = Sender(world, http, token)
        sender.definition = await world.publish(TURNSTILE)
        yield sender
    await engine.close()


def places(ids: list[str], instance_id: str) -> list[tuple[int, int]]:
    """Seq and index of one instance's events, by their ids, in the order they came."""
    found = [each.split("/") for each in ids if each.startswith(instance_id)]
    return [(int(seq), int(index)) for _, seq, index in found]


def in_order(ids: list[str]) -> bool:
    """Whether the first arrivals of each instance's events are in their order; an event may come again."""
    seen: dict[str, tuple[int, int]] = {}
    known: set[str] = set()
    for each in ids:
        if each in known:
            continue
        known.add(each)
        instance_id, seq, index = each.split("/")
        place = (int(seq), int(index))
        if place <= seen.get(instance_id, (0, 0)):
            return False
        seen[instance_id] = place
    return True


def script(*answers: Answer, then: Answer | None = None) -> Answer:
    """Answer as told, one after another, and then always the same."""
    waiting = list(answers)
    last = then or reply(204)

    async def answer(request: Request, writer: Any) -> None:
        chosen: Callable[[Request, Any], Awaitable[None]] = waiting.pop(0) if waiting else last
        await chosen(request, writer)

    return answer
