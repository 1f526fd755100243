"""An engine on a fresh database, with its API in front."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from pliers_workflow.app import create_app
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import DatabaseSettings, Settings
from tests.api.world import EXPENSE, World


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    """An engine that serves commands (time is not moved), its API, and the first administrator."""
    engine = await open_engine(Settings(database=DatabaseSettings(url=database)))
    await engine.start(services=False)
    secret = await engine.tokens.bootstrap()
    assert secret is not None
    app = create_app(engine, owns_engine=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://engine") as http:
        yield World(engine, http, secret)
    await engine.close()


@pytest.fixture
async def company(world: World) -> World:
    """The same with people and a published expense workflow."""
    await world.populate()
    await world.publish(EXPENSE)
    return world
