"""What whoever starts and watches processes asks them: do you live, are you ready. Cheap, and without a token.

`/health/live` is 503 where only a restart helps. `/health/ready` is 503 where requests should go elsewhere for now: the
database does not answer, or this node is about to stop. How the engine is doing is told by
`GET /api/v1/workflows/health`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from pliers_workflow.runtime.engine import Engine

LIVE: Final = "/health/live"
READY: Final = "/health/ready"


def probes(engine: Engine) -> list[Route]:
    """Both, as routes."""

    async def live(_: Request) -> Response:
        return _answer(engine, None if engine.alive else "stuck", "live")

    async def ready(_: Request) -> Response:
        return _answer(engine, await engine.ready(), "ready")

    return [Route(LIVE, live, include_in_schema=False), Route(READY, ready, include_in_schema=False)]


def _answer(engine: Engine, problem: str | None, well: str) -> Response:
    headers = {"Cache-Control": "no-store"}
    if engine.draining.is_set():
        headers["Connection"] = "close"
    return JSONResponse({"status": problem or well}, 503 if problem else 200, headers)
