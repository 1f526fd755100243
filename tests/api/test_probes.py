"""`/health/live` and `/health/ready`: cheap, open, and true."""

from __future__ import annotations

import pytest

from pliers_workflow.app import create_app
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import Settings
from tests.api.world import World


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_all_is_well(world: World, path: str) -> None:
    """Nobody needs a token to ask; nobody keeps the answer."""
    answer = await world.http.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": path.removeprefix("/health/")})
    assert answer.headers["cache-control"] == "no-store"
    assert (await world.http.post(path)).status_code == 405


async def test_not_ready_without_the_database(world: World) -> None:
    """A node whose database is away lives, and should be sent nothing."""
    world.engine.readers.terminate()
    assert (await world.http.get("/health/live")).status_code == 200
    answer = await world.http.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "database_unreachable"})


async def test_not_ready_while_draining(world: World) -> None:
    """A node that is told to stop says so at once, and says goodbye with every answer; it still answers."""
    world.engine.drain()
    answer = await world.http.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    assert answer.headers["connection"] == "close"
    for path, status in (("/workflows", 200), ("/workflows/unheard", 404)):
        answer = await world.admin("GET", path, status=status)
        assert answer.headers["connection"] == "close"
    assert (await world.http.get("/health/live")).status_code == 200


async def test_not_alive_without_a_pipeline(world: World) -> None:
    """A process whose commits have ended by a defect asks for a restart."""
    worker = world.engine.pipeline._workers[0]
    worker.cancel()
    while not worker.done():
        await world.http.get("/health/ready")
    answer = await world.http.get("/health/live")
    assert (answer.status_code, answer.json()) == (503, {"status": "stuck"})


async def test_a_worker_answers_nothing_else(database: str) -> None:
    """A node of the role `worker` has probes, and no API."""
    import httpx

    settings = Settings.model_validate({"database": {"url": database}, "node": {"role": "worker"}})
    engine = await open_engine(settings)
    await engine.start(services=False)
    app = create_app(engine, owns_engine=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://engine") as http:
        assert (await http.get("/health/ready")).status_code == 200
        for path in ("/api/v1/workflows", "/docs", "/openapi.json", "/"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    await engine.close()
