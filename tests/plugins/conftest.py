"""Engines with the sample plugins on a fresh database, whose steps are moved by the test alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.runtime.plugins.discovery import Installed
from pliers_workflow.settings import Settings
from tests.jobs.conftest import Shop

from . import samples

MakeShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def make_shop(database: str) -> AsyncIterator[MakeShop]:
    """Engines with the plugins that are given, or with all samples; each has told the others what it has."""
    shops: list[Shop] = []

    async def make(installed: Installed | None = None, **settings: Any) -> Shop:
        given = samples.installed(*samples.EVERY) if installed is None else installed
        engine = await open_engine(
            Settings.model_validate({"database": {"url": database}, "execution": {"retry_attempts": 2}, **settings}),
            given,
        )
        await engine.start(services=False)
        await engine.plugins.register()
        await engine.registrar.beat()
        await engine.tokens.bootstrap("default")
        row = await engine.directory.user_by_name("default", "admin")
        assert row is not None
        shops.append(Shop(engine, Principal("default", row.id, "admin", frozenset({"admin"}))))
        return shops[-1]

    yield make
    for shop in shops:
        await shop.engine.close()


@pytest.fixture
async def shop(make_shop: MakeShop) -> Shop:
    return await make_shop()
