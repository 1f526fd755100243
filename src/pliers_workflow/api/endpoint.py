"""An endpoint, declared once: address, permissions, and the types of its path, query, body and answer.

    @routes.post("/workflow-instances/{id}/suspend", "Suspend an instance", answers=InstanceView, executes=True)
    async def suspend(call: Call, id: InstanceId, body: ReasonInput | None) -> Reply: ...

The parameters say what is read: names in braces come from the path, `query` from the query string, `body` from the body
(`| None`: it may be missing), `raw` is a body that the endpoint reads itself. Bodies and queries are msgspec Structs that forbid unknown fields. The dispatcher reads this
declaration once at the start and `openapi` describes it, so that the documentation cannot differ from what is served.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from pliers_workflow.runtime.answers import RequestKey

from . import bodies
from .problems import KINDS, ApiError

if TYPE_CHECKING:
    from starlette.types import Receive

    from pliers_workflow.runtime.access.principal import Principal
    from pliers_workflow.runtime.engine import Engine

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class PathPart(Struct, frozen=True):
    """What a name in braces may be; anything else is 404, as nothing can be there."""

    pattern: str
    about: str
    format: str | None = None
    example: str | None = None


_UUID: Final = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
#: a name, or a UUID
_NAME: Final = r"[a-z][a-z0-9_.\-]{0,254}"
_KEY: Final = r"[^\s:/\x00-\x1f\x7f-\x9f]{1,200}"

InstanceId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the instance.", "uuid")]
DefinitionRef: TypeAlias = Annotated[
    str,
    PathPart(
        f"{_UUID}|{_NAME}",
        "Name of a workflow (then its active version, else its draft), or the UUID of one version.",
        example="expense_report",
    ),
]
VersionNumber: TypeAlias = Annotated[
    str, PathPart(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(-[0-9A-Za-z.\-]{1,70})?", "Version.", example="1.2.0")
]
UserRef: TypeAlias = Annotated[str, PathPart(_KEY, "Username, UUID of the user, or `me`.", example="me")]
SetKey: TypeAlias = Annotated[str, PathPart(_KEY, "Key of the role or group.", example="managers")]
SubmissionId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the submission.", "uuid")]
BindingId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the binding.", "uuid")]
SubscriptionId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the subscription.", "uuid")]
EventSourceId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the event source.", "uuid")]
RejectId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the rejected message.", "uuid")]
TokenId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the token.", "uuid")]
EventId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the event, as its sender was told.", "uuid")]
TaskId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the task, as it was fetched.", "uuid")]
JobId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the job.", "uuid")]
ResolutionId: TypeAlias = Annotated[str, PathPart(_UUID, "Id of the resolution.", "uuid")]
IncidentNumber: TypeAlias = Annotated[
    str, PathPart(r"[1-9][0-9]{0,8}", "Number of the incident: 3 of `incident/3`.", example="1")
]
QueueName: TypeAlias = Annotated[
    str,
    PathPart(
        r"[a-z][a-z_]{0,39}(:[A-Za-z0-9][A-Za-z0-9_.\-]{0,254})?",
        "A queue (`http`, `plugin:NAME`, `external:TOPIC`) or a type of steps.",
        example="http",
    ),
]
PluginId: TypeAlias = Annotated[
    str,
    PathPart(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}", "Id of the plugin, as steps name it.", example="acme.iban"),
]
TenantId: TypeAlias = Annotated[str, PathPart(r"[a-z0-9][a-z0-9_\-]{0,62}", "Id of the tenant.", example="default")]
ProblemCode: TypeAlias = Annotated[str, PathPart(r"[a-z_]{1,60}", "Code of the problem.", example="guard_failed")]


class RawBody(Struct, frozen=True):
    """A body that is read by its endpoint, and what its headers say of it."""

    content: bytes
    #: in small letters, without parameters such as `charset`
    media_type: str
    content_type: str
    headers: dict[str, str]

    @property
    def said(self) -> tuple[str, dict[str, str], bytes]:
        """What the caller says: the content, and the headers that belong to it. The others say who carries it, and where to."""
        attributes = {name: value for name, value in self.headers.items() if name.startswith("ce-")}
        return self.content_type, attributes, self.content


class Reply(Struct, frozen=True):
    """What an endpoint answers. `value` is encoded as JSON; None: no body (204)."""

    value: Any
    #: None: the endpoint's own
    status: int | None = None
    #: the revision, for `ETag`; a GET that has one is `tagged`
    revision: int | None = None
    location: str | None = None
    replayed: bool = False


_hash_encode: Final = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


class Call:
    """One request on its way through an endpoint."""

    __slots__ = ("admit", "base", "body", "engine", "if_match", "key", "method", "path", "principal", "receive")

    def __init__(
        self,
        engine: Engine,
        principal: Principal,
        *,
        method: str,
        path: str,
        base: str,
        if_match: int | None,
        key: str | None,
        body: Any,
        admit: Callable[[], Awaitable[Principal]],
        receive: Receive,
    ) -> None:
        self.engine = engine
        self.principal = principal
        self.method = method
        #: the path, without what stands before `/api/v1`
        self.path = path
        #: where the API is mounted: `/api/v1`
        self.base = base
        #: the revision of `If-Match`
        self.if_match = if_match
        #: the Idempotency-Key
        self.key = key
        self.body = body
        #: asks again whether the caller may, for calls that wait; raises ApiError, as at the beginning
        self.admit = admit
        #: what the connection says next; the body has been read
        self.receive = receive

    async def gone(self) -> None:
        """Wait until the caller has gone away."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    @property
    def request(self) -> RequestKey | None:
        """The Idempotency-Key as the services keep it; None when the caller sent none."""
        if self.key is None:
            return None
        body = self.body.said if isinstance(self.body, RawBody) else self.body
        body_hash = sha256(_hash_encode(body)).digest()
        return RequestKey(self.principal.user_id, f"{self.method} /api/v1{self.path}", self.key, body_hash)


Handler: TypeAlias = Callable[..., Awaitable[Reply]]


class Endpoint:
    """See the module. Made by `Routes`; everything that can be known before a request comes is worked out here."""

    def __init__(
        self,
        handler: Handler,
        *,
        method: Method,
        path: str,
        summary: str,
        tag: str,
        answers: Any,
        status: int,
        further: tuple[int, ...],
        tagged: bool,
        permissions: tuple[str, ...],
        open: bool,
        executes: bool,
        conditional: bool,
        selects: bool,
        problems: Iterable[str],
        body_schema: str | None,
        consumes: Mapping[str, Any],
    ) -> None:
        self.handler = handler
        self.method = method
        self.path = path
        self.summary = summary
        self.description = inspect.cleandoc(handler.__doc__ or summary)
        self.operation_id = handler.__name__
        self.tag = tag
        self.answers = answers
        self.status = status
        #: what else it may answer where all is well, with a body of the same type
        self.further = further
        #: reads one thing that has a revision: its answer has an ETag, and `If-None-Match` is heard
        self.tagged = tagged
        #: any one of these will do; empty: any valid token
        self.permissions = permissions
        #: answers without a token; a token that is sent must be valid all the same
        self.open = open
        #: gives a command to the engine, so a full queue refuses it before its body is read
        self.executes = executes
        #: takes If-Match
        self.conditional = conditional
        #: takes `fields=`
        self.selects = selects
        self.mutates = method != "GET"
        self.body_schema = body_schema
        #: what a raw body may be: types by their media types, for the description
        self.consumes = consumes

        hints = get_type_hints(handler, include_extras=True)
        names = re.findall(r"\{(\w+)\}", path)
        self.path_parts: dict[str, PathPart] = {
            name: next(part for part in get_args(hints[name]) if isinstance(part, PathPart)) for name in names
        }
        self.patterns: Sequence[re.Pattern[str]] = tuple(re.compile(part.pattern) for part in self.path_parts.values())
        self.path_names: tuple[str, ...] = tuple(names)
        self.query: type[Struct] | None = hints.get("query")
        self.takes_body = "body" in hints
        body_type, self.body_optional = _without_none(hints.get("body"))
        self.body_type = body_type
        self.body_decoder = bodies.decoder(body_type) if self.takes_body else None
        self.takes_raw = "raw" in hints
        self.problems = self._known_problems(problems)

    def _known_problems(self, own: Iterable[str]) -> tuple[str, ...]:
        codes: list[str] = ["invalid_token"] if self.open else ["unauthenticated", "invalid_token"]
        if self.permissions:
            codes.append("permission_missing")
        if self.path_names:
            codes.append("not_found")
        codes.append("invalid_parameter")
        if self.takes_body or self.takes_raw:
            codes += ["malformed_json", "unsupported_media_type", "body_too_large", "invalid_body", "unstorable_value"]
            if not self.body_optional:
                codes.append("body_required")
        if self.mutates:
            codes += ["invalid_header", "idempotency_key_reused"]
        if self.conditional:
            codes += ["invalid_header", "revision_conflict" if self.executes else "precondition_failed"]
        if self.executes:
            codes += ["overloaded", "shutting_down", "outcome_unknown"]
        codes.append("unavailable")
        codes += own
        known = dict.fromkeys(codes)
        for code in known:
            assert code in KINDS, f"{self.operation_id} names an unknown problem: {code}"
        return tuple(known)

    @property
    def allowed(self) -> str:
        """Whom it lets in, as a phrase for the documentation."""
        if self.open:
            return "everybody"
        if not self.permissions:
            return "every valid token"
        permissions = dict.fromkeys((*self.permissions, "admin"))
        return "tokens with " + " or ".join(f"`{permission}`" for permission in permissions)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not NoneType]
        if len(members) < len(get_args(hint)):
            return (members[0] if len(members) == 1 else Union[tuple(members)]), True  # noqa: UP007
    return hint, False


class Routes:
    """Endpoints of one subject."""

    def __init__(self, tag: str, about: str) -> None:
        self.tag = tag
        self.about = about
        self.endpoints: list[Endpoint] = []

    def _add(self, method: Method, path: str, summary: str, **options: Any) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.endpoints.append(
                Endpoint(
                    handler,
                    method=method,
                    path=path,
                    summary=summary,
                    tag=self.tag,
                    answers=options.get("answers"),
                    status=options.get("status", 200 if options.get("answers") is not None else 204),
                    further=options.get("further", ()),
                    tagged=options.get("tagged", False),
                    permissions=options.get("permissions", ()),
                    open=options.get("open", False),
                    executes=options.get("executes", False),
                    conditional=options.get("conditional", False),
                    selects=options.get("selects", False),
                    problems=options.get("problems", ()),
                    body_schema=options.get("body_schema"),
                    consumes=options.get("consumes", {}),
                )
            )
            return handler

        return add

    def get(self, path: str, summary: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a GET; `options` as the parameters of `Endpoint`."""
        return self._add("GET", path, summary, **options)

    def post(self, path: str, summary: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a POST."""
        return self._add("POST", path, summary, **options)

    def put(self, path: str, summary: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PUT."""
        return self._add("PUT", path, summary, **options)

    def patch(self, path: str, summary: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a PATCH."""
        return self._add("PATCH", path, summary, **options)

    def delete(self, path: str, summary: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a DELETE."""
        return self._add("DELETE", path, summary, **options)


def invalid_parameter(name: str, message: str, hint: str | None = None) -> ApiError:
    """A query parameter is not as it should be."""
    from .problems import FindingView

    return ApiError(
        "invalid_parameter",
        f"The query parameter `{name}` {message}{f'; {hint}' if hint else ''}.",
        findings=[FindingView(f"?{name}", "invalid_parameter", message, hint)],
    )
