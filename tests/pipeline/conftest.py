"""An engine at work on a fresh database, with people and definitions to work on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pliers_workflow.interpreter.commands import Actor, Command, Order
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted, Answer, RequestKey
from pliers_workflow.runtime.commit.history import decode_record, fold_records, verify_chain
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.runtime.rows import DefinitionRow, UserInput
from pliers_workflow.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "src" / "pliers_workflow" / "examples"
EXPENSE: dict[str, Any] = {"amount": 1800, "currency": "EUR", "purpose": "Conference in Lisbon"}


class World:
    """One engine, its people, and short ways to say what they do."""

    def __init__(self, engine: Engine, admin: Principal) -> None:
        self.engine = engine
        self.admin = admin
        self.users: dict[str, str] = {}

    async def people(self, **users: dict[str, Any]) -> None:
        rows = [UserInput(username=name, **options) for name, options in users.items()]
        self.users |= await self.engine.directory.put_users(self.admin, rows)

    async def publish(self, document: dict[str, Any]) -> DefinitionRow:
        created = await self.engine.catalog.create(self.admin, document)
        assert isinstance(created, DefinitionRow), created
        published = await self.engine.catalog.publish(self.admin, created.id)
        assert isinstance(published, DefinitionRow), published
        return published

    def principal(self, name: str) -> Principal:
        return Principal("default", self.users[name], name)

    async def start(self, definition: DefinitionRow, name: str = "ada", **options: Any) -> Accepted:
        options.setdefault("data", EXPENSE)
        answer = await self.engine.start_instance(self.principal(name), definition, **options)
        assert isinstance(answer, Accepted), answer
        return answer

    async def do(self, instance_id: str, name: str | None, order: Order, **options: Any) -> Answer:
        return await self.engine.execute("default", instance_id, self.command(name, order), **options)

    def command(self, name: str | None, order: Order, **options: Any) -> Command:
        return Command(str(uuid4()), Actor(self.users[name] if name else None), order, **options)

    async def rows(self, instance_id: str) -> list[Any]:
        return list(
            await self.engine.pool.fetch(
                "SELECT seq, command_id, execution_data::text AS record, previous_hash, hash, position "
                "FROM workflow_execution_history WHERE tenant_id = 'default' AND workflow_instance_id = $1 ORDER BY seq",
                instance_id,
            )
        )

    async def check(self, instance_id: str) -> list[Any]:
        """The laws that every instance obeys: unbroken chain, folding gives the row, positions in order."""
        rows = await self.rows(instance_id)
        verify_chain(instance_id, [(r["seq"], r["record"], r["previous_hash"], r["hash"]) for r in rows])
        assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)
        folded = fold_records(decode_record(row["record"]) for row in rows)
        assert folded is not None
        from pliers_workflow.storage import instances

        async with self.engine.pool.acquire() as connection:
            loaded, _ = await instances.load(connection, [("default", instance_id)], [])
        stored = loaded["default", instance_id].instance
        assert stored is not None
        stored.started_at = folded.started_at  # kept to the microsecond by both; compared by the statuses' own columns
        assert stored == folded
        return rows


def request_key(route: str = "POST x", key: str | None = None, body: bytes = b"0" * 32) -> RequestKey:
    return RequestKey("someone", route, key or uuid4().hex, body)


@pytest.fixture
async def make_world(database: str) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Engines on the test's database; each is closed in the end."""
    worlds: list[World] = []

    async def make(*, services: bool = False, **execution: Any) -> World:
        settings = Settings()
        settings.database.url = database
        for name, value in execution.items():
            setattr(settings.execution, name, value)
        engine = await open_engine(settings)
        await engine.start(services=services)
        await engine.tokens.bootstrap("default")
        row = await engine.directory.user_by_name("default", "admin")
        assert row is not None
        world = World(engine, Principal("default", row.id, "admin", frozenset({"admin"})))
        if worlds:
            world.users = worlds[0].users
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.engine.close()


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    """One engine without timers, and the people of the expense report."""
    world = await make_world()
    await people_of_expenses(world)
    return world


async def people_of_expenses(world: World) -> None:
    await world.people(
        grace={}, edsger={"roles": ("finance",)}, barbara={"roles": ("director", "department_head")}, alan={}
    )
    await world.people(ada={"manager": "grace"})


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text())
    return document


async def terminate_backends(database: str, like: str = "pliers write%") -> int:
    """Cut the connections of the engine, as a fail-over would."""
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE $1 AND pid <> pg_backend_pid()",
            like,
        )
        return len(rows)
    finally:
        await connection.close()
