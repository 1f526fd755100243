"""Composition: settings become an engine, and an engine becomes the application that a server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pliers_workflow.api.application import api_application, worker_application

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from pliers_workflow.runtime.engine import Engine


def create_app(engine: Engine, *, owns_engine: bool = True) -> Starlette:
    """
    The application on an engine that has been opened (`runtime.engine.open_engine`), as the node's role asks for.

    Its lifespan starts the engine and drains it at the end; with `owns_engine` False whoever opened the engine does both.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if not owns_engine:
            yield
            return
        try:
            await engine.start()
        except BaseException:
            engine.abandon()
            raise
        try:
            yield
        finally:
            await engine.close()

    application = worker_application if engine.settings.node.role == "worker" else api_application
    return application(engine, lifespan=lifespan)
