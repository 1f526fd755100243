"""The HTTP application: the REST API at `/api/v1`, its description at `/openapi.json`, and a page to read at `/docs`.

A node that is a worker only answers `/health/live` and `/health/ready`, as every node does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from pliers_workflow import __version__

from .dispatcher import Dispatcher
from .openapi import openapi_document
from .probes import probes
from .problems import ApiError, problem_body
from .reference_page import reference_page
from .rest import (
    access,
    approvals,
    definitions,
    directory,
    event_sources,
    events,
    external,
    history,
    incidents,
    instances,
    jobs,
    plugins,
    service,
    submissions,
    subscriptions,
)
from .sending import accepts_gzip, compressed

if TYPE_CHECKING:
    from pliers_workflow.runtime.engine import Engine

#: where the REST API is mounted
BASE: Final = "/api/v1"

#: all endpoints, in the order of the documentation
ROUTES: Final = (
    definitions.routes,
    instances.routes,
    approvals.routes,
    history.routes,
    incidents.routes,
    submissions.routes,
    events.routes,
    jobs.routes,
    external.routes,
    plugins.routes,
    subscriptions.routes,
    event_sources.routes,
    directory.routes,
    access.routes,
    service.routes,
)

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


class Application(FastAPI):
    """
    FastAPI for everything but the REST API, which is handed to its dispatcher before any middleware.

    Middleware that is to see REST calls too has to be put around the application, not into it.
    """

    dispatcher: Dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and _below(scope.get("root_path", ""), scope["path"]):
            await self.dispatcher(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _below(root: str, path: str) -> bool:
    return path.startswith(_PREFIX) or (root != "" and path.startswith(root + _PREFIX))


_PREFIX: Final = f"{BASE}/"


def api_application(engine: Engine, *, lifespan: Lifespan | None = None) -> Application:
    """The application on an engine; `lifespan` opens and closes what is around it."""
    app = Application(
        title="Pliers Workflow Engine",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan or _nothing,
    )
    app.dispatcher = Dispatcher(engine, ROUTES, base=BASE, body_size_max=engine.settings.server.body_size_max)
    app.openapi = _document  # type: ignore[method-assign]  # FastAPI's own way to bring a document of one's own
    app.add_route("/openapi.json", _send_document, include_in_schema=False)
    app.add_route("/docs", _send_page, include_in_schema=False)
    app.add_route("/", _to_docs, include_in_schema=False)
    app.router.routes.extend(probes(engine))
    app.add_exception_handler(HTTPException, _send_problem)
    return app


def worker_application(engine: Engine, *, lifespan: Lifespan | None = None) -> Starlette:
    """What a node of the role `worker` answers: whether it lives and is ready, and nothing else."""
    return Starlette(
        routes=probes(engine),
        lifespan=lifespan or _nothing,
        exception_handlers={HTTPException: _send_problem},
    )


async def _send_problem(request: Request, error: Exception) -> Response:
    """What lies outside the REST API and is not there, or does not take that method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        problem = ApiError("method_not_allowed", f"This address takes GET and HEAD, but not {request.method[:20]}.")
    else:
        problem = ApiError("not_found", "There is nothing here; /docs of a node with the API lists what is.")
    body = problem_body(problem, base=BASE, path=quote(request.url.path))
    headers = {"Allow": "GET, HEAD"} if status == 405 else None
    return Response(body, problem.kind.status, media_type="application/problem+json", headers=headers)


@asynccontextmanager
async def _nothing(_: Starlette) -> AsyncIterator[None]:
    yield


# What anybody may ask for, without a token, is made and compressed once.


@cache
def _document() -> dict[str, Any]:
    return openapi_document(ROUTES, base=BASE)


@cache
def _description() -> tuple[bytes, bytes]:
    return _both(msgspec.json.encode(_document()))


@cache
def _page() -> tuple[bytes, bytes]:
    return _both(reference_page(_document()).encode())


def _both(body: bytes) -> tuple[bytes, bytes]:
    """As it is, and compressed."""
    return body, compressed(body)


async def _send_document(request: Request) -> Response:
    return _answer(request, _description(), "application/json")


async def _send_page(request: Request) -> Response:
    return _answer(request, _page(), "text/html; charset=utf-8")


async def _to_docs(_: Request) -> Response:
    return RedirectResponse("/docs")


def _answer(request: Request, bodies: tuple[bytes, bytes], media_type: str) -> Response:
    body, packed = bodies
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }
    if accepts_gzip(request.headers.get("accept-encoding", "").encode()):
        body = packed
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=media_type, headers=headers)
