"""The HTTP application: the REST API at `/api/v1`, its description at `/openapi.json`, and a page to read at `/docs`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pliers_workflow import __version__

from .dispatcher import Dispatcher, accepts_gzip, compressed
from .openapi import openapi_document
from .reference_page import reference_page
from .rest import access, approvals, definitions, directory, history, instances, service, submissions

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
    submissions.routes,
    directory.routes,
    access.routes,
    service.routes,
)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def api_application(engine: Engine, *, lifespan: Lifespan | None = None) -> FastAPI:
    """The application on an engine; `lifespan` opens and closes what is around it."""
    app = FastAPI(
        title="Pliers Workflow Engine",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan or _nothing,
    )
    app.mount(BASE, Dispatcher(engine, ROUTES, body_size_max=engine.settings.server.body_size_max))
    app.openapi = _document  # type: ignore[method-assign]  # FastAPI's own way to bring a document of one's own
    app.add_route("/openapi.json", _send_document, include_in_schema=False)
    app.add_route("/docs", _send_page, include_in_schema=False)
    app.add_route("/", _to_docs, include_in_schema=False)
    return app


@asynccontextmanager
async def _nothing(_: FastAPI) -> AsyncIterator[None]:
    yield


class _Kept:
    document: dict[str, Any] | None = None
    encoded: bytes | None = None
    page: bytes | None = None


def _document() -> dict[str, Any]:
    if _Kept.document is None:
        _Kept.document = openapi_document(ROUTES, base=BASE)
    return _Kept.document


async def _send_document(request: Request) -> Response:
    if _Kept.encoded is None:
        _Kept.encoded = msgspec.json.encode(_document())
    return _answer(request, _Kept.encoded, "application/json")


async def _send_page(request: Request) -> Response:
    if _Kept.page is None:
        _Kept.page = reference_page(_document()).encode()
    return _answer(request, _Kept.page, "text/html; charset=utf-8")


async def _to_docs(_: Request) -> Response:
    return RedirectResponse("/docs")


def _answer(request: Request, body: bytes, media_type: str) -> Response:
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }
    if accepts_gzip(request.headers.get("accept-encoding", "").encode()):
        body = compressed(body)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=media_type, headers=headers)
