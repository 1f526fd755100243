"""Nodes that cannot start, because the database goes away in the middle of it."""

from __future__ import annotations

import asyncpg
import pytest

from pliers_workflow.app import create_app
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import Settings


async def test_a_node_that_cannot_start_lets_go_of_the_database(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its pools open connections anew while the process ends, and complain that nobody waits for them."""
    settings = Settings()
    settings.database.url = database
    engine = await open_engine(settings)

    async def away() -> None:
        raise asyncpg.CannotConnectNowError("the database system is shutting down")

    monkeypatch.setattr(engine.registrar, "start", away)
    application = create_app(engine)
    with pytest.raises(asyncpg.CannotConnectNowError):
        async with application.router.lifespan_context(application):
            raise AssertionError("it must not come up")
    assert engine.pool.is_closing() and engine.readers.is_closing()
