"""Composition: settings become an engine, and an engine becomes the application that a server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pliers_workflow.api.application import api_application

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pliers_workflow.runtime.engine import Engine


def create_app(engine: Engine, *, owns_engine: bool = True) -> FastAPI:
    """
    The application on an engine that has been opened (`runtime.engine.open_engine`).

    Its lifespan starts the engine and drains it at the end; with `owns_engine` False whoever opened the engine does both.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not owns_engine:
            yield
            return
        await engine.start()
        try:
            yield
        finally:
            await engine.close()

    return api_application(engine, lifespan=lifespan)
