"""Several engines in one process, each a node of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.settings import Settings

MakeNode = Callable[..., Awaitable[Engine]]


@pytest.fixture
async def make_node(database: str) -> AsyncIterator[MakeNode]:
    """Nodes on the test's database, with quick heartbeats; each is closed in the end."""
    nodes: list[Engine] = []

    async def make(role: str = "all", *, start: bool = True, **changes: Any) -> Engine:
        settings = Settings.model_validate({
            "database": {"url": database},
            "node": {"role": role, "heartbeat": 0.2, "silent_after": 3.0, "name": f"node{len(nodes) + 1}", **changes.pop("node", {})},
            **changes,
        })  # fmt: skip
        engine = await open_engine(settings)
        nodes.append(engine)
        if start:
            await engine.start()
        return engine

    yield make
    for node in nodes:
        await node.close()


async def until(true: Callable[[], Any], *, seconds: float = 20) -> None:
    """Wait until something holds; a generous bound, because the machine may be busy."""
    async with asyncio.timeout(seconds):
        while True:
            answer = true()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.005)


async def cut(database: str, like: str) -> int:
    """End the connections of this name, as a fail-over would."""
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
