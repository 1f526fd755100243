"""What tests of event sources share: nodes at work on one database, and parcels that are told of by messages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx

from pliers_workflow.app import create_app
from pliers_workflow.interpreter.commands import DeliverEvent
from pliers_workflow.runtime.commit.history import decode_record
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.settings import DatabaseSettings, EventSourceSettings, FeedSettings, OutboundSettings, Settings
from tests.api.world import Caller

#: it is sent, and moves as often as it is told; `moved` and `sent` are found by the parcel's number
PARCEL: dict[str, Any] = {
    "name": "parcel",
    "version": "1.0.0",
    "title": "Parcel",
    "stateMachine": {
        "initialState": "under_way",
        "states": {"under_way": {"type": "intermediate"}, "there": {"type": "final"}},
        "transitions": [
            {"from": "under_way", "to": "under_way", "trigger": "moved"},
            {"from": "under_way", "to": "there", "trigger": "arrived"},
        ],
    },
    "eventHooks": {
        "correlation": [{"name": "parcel", "key": "data.parcel"}],
        "triggers": [
            {
                "id": "sent",
                "eventType": "parcel.sent",
                "action": {"type": "start_workflow", "parameters": {"parcel": "event.data.parcel"}},
            },
            {
                "id": "moved",
                "eventType": "parcel.moved",
                "correlationKey": "event.data.parcel",
                "action": {"type": "advance_state", "trigger": "moved"},
            },
        ],
    },
}


def told(parcel: str, number: int, **more: Any) -> dict[str, Any]:
    """An event about a parcel: the first says that it was sent, the others that it has moved. None waits for anything."""
    return {
        "specversion": "1.0", "id": f"{parcel}/{number}", "source": "/post", "ttlseconds": 0,
        "type": "parcel.moved" if number else "parcel.sent", "data": {"parcel": parcel, "n": number}, **more,
    }  # fmt: skip


def body(parcel: str, number: int) -> bytes:
    """The same as a message."""
    return json.dumps(told(parcel, number)).encode()


class Office:
    """One node with its API, on a database that others may be on as well."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient, token: str, eye: asyncpg.Connection[Any]) -> None:
        self.engine = engine
        #: looks into the database beside the engine, whose connections a test may cut
        self.eye = eye
        self.http = http
        self.admin = Caller(http, token)

    async def publish(self, document: dict[str, Any] = PARCEL) -> None:
        await self.admin("POST", "/workflows", document, status=201)
        await self.admin("POST", f"/workflows/{document['name']}/publish", status=200)

    async def source(self, broker: dict[str, Any], **more: Any) -> str:
        """A source, made and read from now on; its id."""
        made = await self.admin("POST", "/event-sources", {"name": "post", "broker": broker, **more}, status=201)
        return str(made.json()["id"])

    async def look(self, source: str) -> dict[str, Any]:
        return dict((await self.admin("GET", f"/event-sources/{source}", status=200)).json())

    async def place(self, source: str) -> Any:
        """How far it has been read, as that is kept."""
        return await self.eye.fetchval("SELECT place::text FROM event_sources WHERE id = $1::text::uuid", source)

    async def rejects(self, source: str) -> list[dict[str, Any]]:
        found = await self.admin("GET", f"/event-sources/{source}/rejects", status=200)
        return list(found.json()["items"])

    async def until(self, true: Callable[[dict[str, Any]], bool], source: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until a source is so."""
        limit = time.monotonic() + seconds
        while not true(seen := await self.look(source)):
            assert time.monotonic() < limit, seen
            await asyncio.sleep(0.02)
        return seen

    async def parcels(self, numbers: dict[str, int], seconds: float = 30) -> None:
        """
        Wait until each parcel has been told so often, and nothing is owed; and each is one instance, told in order.
        """
        limit = time.monotonic() + seconds
        wanted = {parcel: list(range(1, count)) for parcel, count in numbers.items()}
        while True:
            found, instances = await moves(self.eye)
            owed = await self.eye.fetchval("SELECT count(*) FROM inbound_events WHERE status = 'received'")
            if found == wanted and not owed:
                assert instances == len(numbers)
                return
            for parcel, seen in found.items():
                assert seen == wanted[parcel][: len(seen)], f"{parcel} was told {seen}"
            assert time.monotonic() < limit, (found, owed)
            await asyncio.sleep(0.05)


async def moves(pool: Any) -> tuple[dict[str, list[int]], int]:
    """What each parcel was told, in the order of its history; and how many instances there are."""
    found: dict[str, list[int]] = {}
    rows = await pool.fetch("SELECT id::text, instance_data ->> 'parcel' AS parcel FROM workflow_instances")
    for row in rows:
        mine = found.setdefault(row["parcel"], [])
        for line in await pool.fetch(
            "SELECT execution_data::text AS record FROM workflow_execution_history "
            "WHERE tenant_id = 'default' AND workflow_instance_id = $1::text::uuid ORDER BY seq",
            row["id"],
        ):
            order = decode_record(line["record"]).command.order
            if isinstance(order, DeliverEvent):
                mine.append(int(order.event.data["n"]))
    return found, len(rows)


@asynccontextmanager
async def office_on(database: str, **sources: Any) -> AsyncIterator[Office]:
    """A node whose retries are quick, and which may call this machine."""
    settings = Settings(
        database=DatabaseSettings(url=database),
        feed=FeedSettings(poll=0.1, lease=5),
        outbound=OutboundSettings(allow_private_networks=True),
        event_sources=EventSourceSettings(**{"retry_delay_min": 0.02, "retry_delay_max": 0.2, "timeout": 5, **sources}),
    )
    engine = await open_engine(settings)
    await engine.start()
    token = await engine.tokens.bootstrap()
    if token is None:
        from pliers_workflow import installation

        token = await installation.create_token(
            database, tenant="default", user="admin", permissions=("admin",), name="test", expires_days=0
        )
    app = create_app(engine, owns_engine=False)
    eye = await asyncpg.connect(database)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://engine") as http:
        yield Office(engine, http, token, eye)
    await engine.close()
    await eye.close()


Publish = Callable[[str, int], Awaitable[None]]
"""Gives the broker a message about a parcel."""


async def tell(publish: Publish, parcels: list[str], numbers: range) -> None:
    """Messages about parcels, of all of them in turn."""
    for number in numbers:
        for parcel in parcels:
            await publish(parcel, number)


async def owed(database: str) -> int:
    connection = await asyncpg.connect(database)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM inbound_events WHERE status = 'received'"))
    finally:
        await connection.close()
