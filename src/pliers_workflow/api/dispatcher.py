"""The dispatcher: finds the endpoint, lets the caller in, reads the request, answers.

It is an ASGI application of its own, because a command is answered in a few hundred microseconds all told: solving
dependencies anew for each request would take a good part of them, and the framework's stack of middleware alone takes as
long as everything in here. What every answer has in common (security headers, problems, ETag, compression) is written
here once.
"""

from __future__ import annotations

import gzip
import re
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote

import asyncpg
import msgspec
import structlog
from msgspec import structs
from starlette.types import Receive, Scope, Send

from pliers_workflow.runtime import idempotency
from pliers_workflow.runtime.answers import EngineError, OutcomeUnknown, Overloaded, ShuttingDown
from pliers_workflow.runtime.errors import (
    ForbiddenError,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    PreconditionFailedError,
    RequestError,
)
from pliers_workflow.runtime.principal import Principal

from .bodies import check_media_type, decode, invalid, read_body
from .endpoint import Call, Endpoint, Reply, Routes, invalid_parameter
from .problems import ApiError, FindingView, problem_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pliers_workflow.runtime.engine import Engine

#: answers from this size on are compressed for those who can read it, in bytes
COMPRESSED_SIZE_MIN: Final = 4_000

_log: Final = structlog.get_logger("pliers.api")
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_COMMON: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
#: a node that stops lets go of connections that would be used again
_CLOSE: Final = (b"connection", b"close")
_REPLAYED: Final = (b"idempotency-replayed", b"true")
_GZIP: Final = ((b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
_BEARER: Final = (b"www-authenticate", b'Bearer realm="pliers"')
_BEARER_INVALID: Final = (b"www-authenticate", b'Bearer realm="pliers", error="invalid_token"')
_KEY_FORM: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_ETAG_FORM: Final = re.compile(rb'"([0-9]{1,18})"')

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
        headers: dict[bytes, bytes] = dict(scope["headers"])
        endpoint: Endpoint | None = None
        try:
            endpoint, values = self._find(method, path)
            reply = await self._answer(endpoint, values, method, path, base, scope, headers, receive)
        except Exception as error:
            problem = _problem(error, endpoint, method, path)
            body = problem_body(problem, base=base, path=quote(base + path, errors="replace"))
            sent = [_PROBLEM, *_COMMON, *problem.headers]
            if self.engine.draining.is_set():
                sent.append(_CLOSE)
            await _send(send, problem.kind.status, body, sent, headers, head=method == "HEAD")
            return
        sent = [_JSON, *_COMMON]
        if self.engine.draining.is_set():
            sent.append(_CLOSE)
        if reply.revision is not None:
            etag = b'"%d"' % reply.revision
            sent.append((b"etag", etag))
            if not endpoint.mutates and headers.get(b"if-none-match") == etag:
                await _send(send, 304, b"", sent[1:], headers)
                return
        if reply.replayed:
            sent.append(_REPLAYED)
        if reply.location is not None:
            sent.append((b"location", reply.location.encode("ascii")))
        if reply.value is None and endpoint.answers is None:
            await _send(send, reply.status or endpoint.status, b"", sent[1:], headers)
            return
        await _send(send, reply.status or endpoint.status, _encode(reply.value), sent, headers, head=method == "HEAD")

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
        principal = await self._authenticate(endpoint, headers.get(b"authorization"))
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
        arguments: dict[str, Any] = dict(zip(endpoint.path_names, values, strict=True))

        query_string: bytes = scope["query_string"]
        if endpoint.query is not None:
            arguments["query"] = _query(endpoint.query, query_string)
        elif query_string:
            _query(_NoQuery, query_string)

        key: str | None = None
        if_match: int | None = None
        body: Any = None
        if endpoint.mutates:
            raw_key = headers.get(b"idempotency-key")
            if raw_key is not None:
                if not _KEY_FORM.fullmatch(raw_key):
                    raise ApiError(
                        "invalid_header", "`Idempotency-Key` must be 1 to 255 visible ASCII characters, no blanks."
                    )
                key = raw_key.decode("ascii")
            raw_match = headers.get(b"if-match")
            if raw_match is not None and endpoint.conditional:
                if_match = _revision(raw_match)
            if endpoint.executes:
                retry_after = self.engine.overloaded()
                if retry_after is not None:
                    raise Overloaded(retry_after)
            if endpoint.body_decoder is not None:
                body = arguments["body"] = await self._body(endpoint, scope, headers, receive)
        call = Call(self.engine, principal, method=method, path=path, base=base, if_match=if_match, key=key, body=body)
        if key is None or endpoint.executes:
            return await endpoint.handler(call, **arguments)
        # Services give the first answer again without a word; whether it is one is asked here. (Of two at the same time
        # the second may miss the mark; it has the same answer all the same.)
        known = await idempotency.known(self.engine.pool, principal.tenant_id, call.request)
        reply = await endpoint.handler(call, **arguments)
        return reply if known is None else structs.replace(reply, replayed=True)

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


def _problem(error: Exception, endpoint: Endpoint | None, method: str, path: str) -> ApiError:
    """What went wrong as a problem; what nobody foresaw gets an incident id, under which it stands in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestError):
        return _of_service(error, endpoint)
    if isinstance(error, Overloaded):
        seconds = max(1, round(error.retry_after + 0.5))
        return ApiError(
            "overloaded",
            f"Too many commands are waiting; repeat this one after {seconds} s.",
            headers=[(b"retry-after", str(seconds).encode())],
        )
    if isinstance(error, ShuttingDown):
        return ApiError("shutting_down", headers=[(b"retry-after", b"1")])
    if isinstance(error, OutcomeUnknown):
        return ApiError("outcome_unknown", details={"command": error.command_id}, headers=[(b"retry-after", b"2")])
    incident = secrets.token_hex(8)
    if isinstance(error, EngineError):
        _log.error("engine error", incident=incident, method=method, path=path, error=str(error))
        return ApiError("unavailable", str(error), details={"incident": incident}, headers=[(b"retry-after", b"2")])
    if isinstance(error, _DATABASE_AWAY):
        _log.error("database unavailable", incident=incident, method=method, path=path, error=repr(error))
        return ApiError("unavailable", details={"incident": incident}, headers=[(b"retry-after", b"2")])
    _log.error("unexpected error", incident=incident, method=method, path=path, exc_info=error)
    return ApiError("internal_error", details={"incident": incident})


_DATABASE_AWAY: Final = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    # what asyncpg says when the connection breaks while a statement is being prepared
    asyncpg.InternalClientError,
)


def _of_service(error: RequestError, endpoint: Endpoint | None) -> ApiError:
    """A service's refusal as a problem: the class says which, its own code goes into `details.reason`."""
    wrong_input = "invalid_body" if endpoint is None or endpoint.mutates else "invalid_parameter"
    findings: tuple[FindingView, ...] = ()
    match error:
        case NotFoundError():
            # Where no id is in the address, what is missing was named in the body or the query.
            code = "not_found" if endpoint is None or endpoint.path_names else wrong_input
        case ForbiddenError():
            code = "permission_missing"
        case PreconditionFailedError():
            code = "precondition_failed"
        case KeyReusedError():
            code = "idempotency_key_reused"
        case InvalidError():
            code = wrong_input
            findings = tuple(
                FindingView(found.pointer, found.code, found.message, found.hint, found.severity)
                for found in error.findings
            )
        case _:
            code = "conflict"
    return ApiError(code, error.message, details={"reason": error.code, **error.details}, findings=findings)


class _NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    pass


def _query(into: type[msgspec.Struct], query_string: bytes) -> Any:
    if not query_string:
        return into()
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise ApiError(
            "invalid_parameter", "The query string is not percent-encoded UTF-8, or has over 50 fields."
        ) from None
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise invalid_parameter(name[:100], "is given twice", "give it once")
            seen.add(name)
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise invalid_parameter(name.replace("\0", "")[:100], "contains a NUL character", "remove it")
    fields = into.__struct_encode_fields__
    for name in values:
        if name not in fields:
            known = ", ".join(fields)
            raise invalid_parameter(
                name[:100], "is unknown here", f"known: {known}" if known else "there are none here"
            )
    try:
        return msgspec.convert(values, into, strict=False)
    except msgspec.ValidationError as error:
        problem = invalid("invalid_parameter", str(error), into)
        pointer = problem.findings[0].pointer.strip("/")
        raise invalid_parameter(pointer, f"is not valid: {problem.findings[0].message}") from None


def _revision(if_match: bytes) -> int | None:
    value = if_match.strip()
    if value == b"*":
        return None
    if found := _ETAG_FORM.fullmatch(value):
        return int(found.group(1))
    if value.startswith(b'W/"'):
        raise ApiError("precondition_failed", "`If-Match` compares strong tags only; send the ETag as it was given.")
    raise ApiError("invalid_header", '`If-Match` must be one ETag as this API gives them, such as "7", or *.')


async def _send(
    send: Send,
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]],
    request: dict[bytes, bytes],
    *,
    head: bool = False,
) -> None:
    if len(body) >= COMPRESSED_SIZE_MIN and accepts_gzip(request.get(b"accept-encoding", b"")):
        body = compressed(body)
        headers.extend(_GZIP)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def compressed(body: bytes) -> bytes:
    """The body as gzip, quickly rather than tightly."""
    return gzip.compress(body, compresslevel=1, mtime=0)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether the caller reads gzip (RFC 9110 section 12.5.3; `q=0` refuses it)."""
    if b"gzip" not in accept_encoding:
        return False
    for part in accept_encoding.split(b","):
        coding, _, weight = part.partition(b";")
        if coding.strip().lower() == b"gzip":
            quality = weight.replace(b" ", b"").lower()
            return not re.fullmatch(rb"q=0(\.0*)?", quality)
    return False
