"""The dispatcher: finds the endpoint, lets the caller in, reads the request, answers.

It is an ASGI application of its own, because a command is answered in a few hundred microseconds all told: solving
dependencies anew for each request would take a good part of them, and the framework's stack of middleware alone takes as
long as everything in here. Beside it stand `parameters` and `bodies`, which read, `failures`, which makes a problem of
whatever went wrong, and `sending`, which writes what all answers have in common.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
from msgspec import structs
from starlette.types import Receive, Scope, Send

from pliers_workflow.runtime import idempotency, tracing
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Overloaded

from .bodies import check_media_type, decode, read_body
from .endpoint import Call, Endpoint, RawBody, Reply, Routes
from .failures import problem_of
from .parameters import by_name, etag, idempotency_key, names_tag, read_query, revision
from .problems import ApiError, problem_body
from .sending import CLOSE, COMMON, JSON, PROBLEM, send_answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pliers_workflow.runtime.engine import Engine

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode

_REPLAYED: Final = (b"idempotency-replayed", b"true")
_BEARER: Final = (b"www-authenticate", b'Bearer realm="pliers"')
_BEARER_INVALID: Final = (b"www-authenticate", b'Bearer realm="pliers", error="invalid_token"')
#: seconds that a body may take without its sender's token being checked again: a body may come for half an hour
_SLOW: Final = 1.0
#: nobody: for endpoints that are open
_NOBODY: Final = Principal("", "", "")


class _Node:
    __slots__ = ("by_name", "endpoints", "names", "variable")

    def __init__(self) -> None:
        self.by_name: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.endpoints: dict[str, Endpoint] = {}


class Dispatcher:
    """All endpoints as one ASGI application."""

    def __init__(self, engine: Engine, routes: Iterable[Routes], *, base: str, body_size_max: int) -> None:
        self.engine = engine
        #: the address of all endpoints, without what a proxy puts before it
        self.base = base
        self.body_size_max = body_size_max
        self._root = _Node()
        for endpoint in (endpoint for group in routes for endpoint in group.endpoints):
            node = self._root
            for part in endpoint.path.strip("/").split("/"):
                if part.startswith("{"):
                    node.variable = node.variable or _Node()
                    node = node.variable
                else:
                    node = node.by_name.setdefault(part, _Node())
            assert endpoint.method not in node.endpoints, f"two endpoints at {endpoint.method} {endpoint.path}"
            node.endpoints[endpoint.method] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request below `base`; no exception leaves this."""
        root: str = scope.get("root_path", "")
        base = root + self.base
        path: str = scope["path"]
        path = path[len(base if path.startswith(base) else self.base) :]
        method: str = scope["method"]
        headers = by_name(scope["headers"])
        endpoint: Endpoint | None = None
        traceparent = headers.get(b"traceparent")
        try:
            endpoint, values = self._find(method, path)
            answer = self._answer(endpoint, values, method, path, base, scope, headers, receive)
            if traceparent is None:
                reply = await answer
            else:
                with tracing.within(tracing.read(traceparent, headers.get(b"tracestate"))):
                    reply = await answer
        except Exception as error:
            problem = problem_of(error, endpoint, method, path)
            body = problem_body(problem, base=base, path=quote(base + path, errors="replace"))
            sent = [PROBLEM, *COMMON, *problem.headers]
            if self.engine.draining.is_set():
                sent.append(CLOSE)
            await send_answer(send, problem.kind.status, body, sent, headers, head=method == "HEAD")
            return
        sent = [JSON, *COMMON]
        if self.engine.draining.is_set():
            sent.append(CLOSE)
        if reply.replayed:
            sent.append(_REPLAYED)
        if reply.location is not None:
            sent.append((b"location", reply.location.encode("ascii")))
        if reply.value is None and endpoint.answers is None:
            await send_answer(send, reply.status or endpoint.status, b"", sent[1:], headers)
            return
        body = _encode(reply.value)
        if reply.revision is not None:
            tag = etag(reply.revision, body)
            sent.append((b"etag", tag))
            if endpoint.tagged and names_tag(headers.get(b"if-none-match"), tag):
                await send_answer(send, 304, b"", sent[1:], headers)
                return
        await send_answer(send, reply.status or endpoint.status, body, sent, headers, head=method == "HEAD")

    def _find(self, method: str, path: str) -> tuple[Endpoint, list[str]]:
        node = self._root
        values: list[str] = []
        for part in path[1:].split("/"):
            following = node.by_name.get(part)
            if following is None:
                following = node.variable
                if following is None:
                    raise ApiError(
                        "not_found", "There is no such address in this API; the reference lists all of them."
                    )
                values.append(part)
            node = following
        endpoint = node.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            if not node.endpoints:
                raise ApiError("not_found", "There is no such address in this API; the reference lists all of them.")
            methods = sorted(node.endpoints)
            if "GET" in node.endpoints:
                methods.append("HEAD")
            allow = ", ".join(methods)
            raise ApiError(
                "method_not_allowed",
                f"This address takes {allow}, but not {method[:20]}.",
                headers=[(b"allow", allow.encode())],
            )
        return endpoint, values

    async def _answer(
        self,
        endpoint: Endpoint,
        values: list[str],
        method: str,
        path: str,
        base: str,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
    ) -> Reply:
        admit = partial(self._admit, endpoint, values, path, headers.get(b"authorization"))
        principal = await admit()
        arguments: dict[str, Any] = dict(zip(endpoint.path_names, values, strict=True))

        query_string: bytes = scope["query_string"]
        if endpoint.query is not None:
            arguments["query"] = read_query(endpoint.query, query_string)
        elif query_string:
            read_query(None, query_string)

        key: str | None = None
        if_match: int | None = None
        body: Any = None
        if endpoint.mutates:
            key = idempotency_key(headers)
            raw_match = headers.get(b"if-match")
            if raw_match is not None and endpoint.conditional:
                if_match = revision(raw_match)
            if endpoint.executes:
                retry_after = self.engine.overloaded()
                if retry_after is not None:
                    raise Overloaded(retry_after)
            begun = monotonic()
            if endpoint.body_decoder is not None:
                body = arguments["body"] = await self._body(endpoint, scope, headers, receive)
            elif endpoint.takes_raw:
                body = arguments["raw"] = await self._raw(headers, receive)
            if monotonic() - begun > _SLOW:
                principal = await admit()
        call = Call(
            self.engine, principal, method=method, path=path, base=base, if_match=if_match, key=key, body=body,
            admit=admit, receive=receive,
        )  # fmt: skip
        if key is None or endpoint.executes:
            return await endpoint.handler(call, **arguments)
        # Services give the first answer again without a word; whether it is one is asked here. (Of two at the same time
        # the second may miss the mark; it has the same answer all the same.)
        known = await idempotency.known(self.engine.pool, principal.tenant_id, call.request)
        reply = await endpoint.handler(call, **arguments)
        return reply if known is None else structs.replace(reply, replayed=True)

    async def _admit(self, endpoint: Endpoint, values: list[str], path: str, authorization: bytes | None) -> Principal:
        """Who asks. Raises ApiError where they may not, or where there can be nothing at this address."""
        principal = await self._authenticate(endpoint, authorization)
        for value, pattern in zip(values, endpoint.patterns, strict=True):
            if not pattern.fullmatch(value):
                raise ApiError("not_found")
        if endpoint.permissions and not principal.may(*endpoint.permissions):
            needed = (*endpoint.permissions, "admin") if "admin" not in endpoint.permissions else endpoint.permissions
            await self.engine.audit.denied(principal, endpoint.operation_id, f"path:{path}", needed)
            raise ApiError(
                "permission_missing",
                f"This needs a token with {' or '.join(needed)}; ask an administrator for one.",
                details={"anyOf": list(needed)},
            )
        return principal

    async def _authenticate(self, endpoint: Endpoint, authorization: bytes | None) -> Principal:
        if authorization is None:
            if endpoint.open:
                return _NOBODY
            raise ApiError("unauthenticated", headers=[_BEARER])
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise ApiError("unauthenticated", headers=[_BEARER])
        try:
            principal = await self.engine.tokens.authenticate(secret.strip().decode("ascii"))
        except UnicodeDecodeError:
            principal = None
        if principal is None:
            raise ApiError("invalid_token", headers=[_BEARER_INVALID])
        return principal

    async def _body(self, endpoint: Endpoint, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Any:
        raw = await read_body(headers.get(b"content-length"), receive, self.body_size_max)
        if not raw:
            if endpoint.body_optional:
                return None
            raise ApiError("body_required")
        content_type = headers.get(b"content-type")
        if content_type != b"application/json":
            check_media_type(content_type)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ApiError("unsupported_media_type", "Send the body as it is, without `Content-Encoding`.")
        assert endpoint.body_decoder is not None
        return decode(raw, endpoint.body_decoder)

    async def _raw(self, headers: dict[bytes, bytes], receive: Receive) -> RawBody:
        content = await read_body(headers.get(b"content-length"), receive, self.body_size_max)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ApiError("unsupported_media_type", "Send the body as it is, without `Content-Encoding`.")
        content_type = headers.get(b"content-type", b"").decode("latin-1").strip()
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        return RawBody(content, content_type.partition(";")[0].strip().lower(), content_type, texts)
