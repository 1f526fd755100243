"""A shop on a fresh database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import Settings
from tests.inbound.office import Shop


@pytest.fixture
async def make_shop(database: str) -> AsyncIterator[Callable[..., Awaitable[Shop]]]:
    """Shops on the test's database, each a node of its own; all are closed in the end."""
    shops: list[Shop] = []

    async def make(*, services: bool = False, **events: Any) -> Shop:
        settings = Settings()
        settings.database.url = database
        for name, value in events.items():
            setattr(settings.events, name, value)
        engine = await open_engine(settings)
        await engine.start(services=services)
        await engine.tokens.bootstrap("default")
        row = await engine.directory.user_by_name("default", "admin")
        assert row is not None
        shop = Shop(engine, Principal("default", row.id, "admin", frozenset({"admin"})))
        if shops:
            shop.users = shops[0].users
        else:
            await shop.people(ada={}, bob={})
        shops.append(shop)
        return shop

    yield make
    for shop in shops:
        await shop.engine.close()


@pytest.fixture
async def shop(make_shop: Callable[..., Awaitable[Shop]]) -> Shop:
    """One node without services: what is due waits to be asked for."""
    return await make_shop()
