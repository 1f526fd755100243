"""Engines on a fresh database, and a way to owe any effect for an instance without a definition that would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from pliers_workflow.interpreter.commands import Actor, Command, Order, UpdateData
from pliers_workflow.interpreter.effects import Effect, ScheduleStep
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted, Answer
from pliers_workflow.runtime.commit.fold import Fold
from pliers_workflow.runtime.commit.queue import Pending
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.runtime.rows import DefinitionRow
from pliers_workflow.settings import Settings
from pliers_workflow.storage import instances
from pliers_workflow.storage.batch_writes import BatchWrites, save


def waiting_room(name: str = "waiting_room") -> dict[str, Any]:
    """A document whose instances wait for ever, for a trigger `leave`."""
    return {
        "name": name, "version": "1.0.0", "title": "Waiting room",
        "stateMachine": {
            "initialState": "waiting",
            "states": {"waiting": {}, "gone": {"type": "final"}},
            "transitions": [{"from": "waiting", "to": "gone", "trigger": "leave"}],
        },
    }  # fmt: skip


class Shop:
    """One engine, an administrator, and instances for which anything may be owed."""

    def __init__(self, engine: Engine, admin: Principal) -> None:
        self.engine = engine
        self.admin = admin

    async def publish(self, document: dict[str, Any]) -> DefinitionRow:
        created = await self.engine.catalog.create(self.admin, document)
        assert isinstance(created, DefinitionRow), created
        published = await self.engine.catalog.publish(self.admin, created.id)
        assert isinstance(published, DefinitionRow), published
        return published

    async def start(self, definition: DefinitionRow, **options: Any) -> str:
        """The id of a new instance."""
        answer = await self.engine.start_instance(self.admin, definition, data=options.pop("data", {}), **options)
        assert isinstance(answer, Accepted), answer
        return answer.instance.id

    async def do(self, instance_id: str, order: Order) -> Answer:
        return await self.engine.execute("default", instance_id, Command(uuid4().hex, Actor(), order))

    async def owe(self, instance_id: str, *outcomes: Sequence[Effect]) -> Fold:
        """Commit commands of an instance in one fold, each with these effects and nothing else."""
        key = ("default", instance_id)
        async with self.engine.pool.acquire() as connection:
            loaded, _ = await instances.load(connection, [key], [])
            fold = Fold(key, [], loaded[key])
            for effects in outcomes:
                assert fold.instance is not None
                after = msgspec.structs.replace(
                    fold.instance, revision=fold.instance.revision + 1, last_activity_at=fold.now
                )
                command = Command(uuid4().hex, Actor(), UpdateData(patch={}))
                pending = Pending(*key, command, None, background=False)
                fold.accept(pending, Outcome(after, (), tuple(effects), {}))
            writes = BatchWrites(timedelta(days=1))
            fold.write(writes)
            assert await save(connection, writes) == {instance_id}
        self.engine.pipeline._recent.forget(key)
        self.engine.wakeups.committed([fold])
        return fold

    async def now(self) -> datetime:
        moment: datetime = await self.engine.pool.fetchval("SELECT now()")
        return moment

    async def jobs(self, instance_id: str | None = None) -> dict[str, Any]:
        """Jobs by name, of an instance or of all."""
        rows = await self.engine.pool.fetch(
            "SELECT *, payload::text AS payload_text FROM workflow_jobs WHERE tenant_id = 'default' "
            "AND ($1::uuid IS NULL OR workflow_instance_id = $1) ORDER BY id",
            instance_id,
        )
        return {row["name"]: row for row in rows}

    async def history(self, instance_id: str) -> list[str]:
        """The commands that an instance has accepted, in their order."""
        rows = await self.engine.pool.fetch(
            "SELECT action_type::text FROM workflow_execution_history WHERE tenant_id = 'default' "
            "AND workflow_instance_id = $1 ORDER BY seq",
            instance_id,
        )
        return [row[0] for row in rows]


def step(name: str, due_at: datetime, **options: Any) -> ScheduleStep:
    """A step that is owed."""
    options.setdefault("queue", "http")
    options.setdefault("attempt", 1)
    options.setdefault("payload", {"type": "http", "stepId": "call", "configuration": {}, "input": {}})
    return ScheduleStep(step=name, due_at=due_at, **options)


MakeShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def make_shop(database: str) -> AsyncIterator[MakeShop]:
    """Engines on the test's database, without services unless asked for; each is closed in the end."""
    shops: list[Shop] = []

    async def make(*, services: bool = False, **settings: Any) -> Shop:
        engine = await open_engine(Settings.model_validate({"database": {"url": database}, **settings}))
        await engine.start(services=services)
        await engine.tokens.bootstrap("default")
        row = await engine.directory.user_by_name("default", "admin")
        assert row is not None
        shop = Shop(engine, Principal("default", row.id, "admin", frozenset({"admin"})))
        shops.append(shop)
        return shop

    yield make
    for shop in shops:
        await shop.engine.close()


@pytest.fixture
async def shop(make_shop: MakeShop) -> Shop:
    """One engine without services."""
    return await make_shop()
