"""The OpenAPI document, made from the endpoints' own declarations.

Schemas come from the very Structs that decode bodies and encode answers; what a field means is the `#:` comment above it
in the source. Nothing here is written twice, so nothing here can be out of date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pliers_workflow import __version__
from pliers_workflow.definition.schema import definition_schema

from .endpoint import Endpoint, Routes
from .examples import BODIES
from .problems import KINDS, Problem

_REF: Final = "#/components/schemas/{name}"

_ABOUT: Final = """\
The Pliers Workflow Engine runs JSON-defined workflows for form submissions: statecharts with approvals and clocks.

**Authentication.** Every call but a few carries `Authorization: Bearer …`. A token belongs to a user of one tenant and may
carry the permissions `author`, `publisher`, `operator`, `auditor`, `events`, `worker` and `admin`. Another tenant's ids are
404, and so is an instance that you may not see, whether you read it or give it a command.

**Errors** are RFC 9457 problems (`application/problem+json`). `code` says what exactly, `errorCode` is the specification's
group, `detail` says what to do next, and `type` leads to an explanation.

**Repeating safely.** Send an `Idempotency-Key` with a mutating call: repeated with the same key and body it takes effect
once, and the first answer is given again. A refusal keeps nothing, not even its key: the same call, or another one under that
key, may be accepted when its time has come.

**Lost updates.** Single resources have an `ETag`, their revision and a digest of the answer. Send it back as `If-Match`, and a
stale revision is refused with 412; as `If-None-Match`, and an answer that would be the same, to the byte and to you, is 304.

**Lists** are paged: `limit`, and `cursor` with the page's `nextCursor`.

**Traces.** `traceparent` and `tracestate` (W3C Trace Context) are kept with a command and handed on to all that it leads to.

**Numbers** are exact: integers and decimals, never rounded to binary fractions.
"""

_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "ETag": {
        "description": "The revision, and a digest of this answer: for If-Match and If-None-Match.",
        "schema": {"type": "string"},
        "example": '"7-5be0cd19137e"',
    },
    "Location": {"description": "Where it is from now on.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "The Idempotency-Key had been used before; this is that answer again.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
}

_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Your own id of this request: repeated with the same key it takes effect once.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "required": False,
        "description": 'The ETag you have read, or its revision alone (`"7"`); another revision is refused with 412.',
        "schema": {"type": "string", "pattern": '^("[0-9]{1,18}(-[0-9a-f]{12})?"|\\*)$'},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The ETag you have: while the answer would be the same, it is 304 without a body.",
        "schema": {"type": "string", "example": '"7-5be0cd19137e"'},
    },
}


def openapi_document(routes: Iterable[Routes], *, base: str) -> dict[str, Any]:
    """The document (OpenAPI 3.1) of these endpoints, mounted at `base`."""
    groups = list(routes)
    endpoints = [endpoint for group in groups for endpoint in group.endpoints]
    types = _types(endpoints)
    schemas, components = msgspec.json.schema_components([*types, Problem], ref_template=_REF)
    schema_of = {_key(type_): schema for type_, schema in zip(types, schemas, strict=False)}
    _describe_fields(components, types)
    components |= _definition_components()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(base + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pliers Workflow Engine",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": group.tag, "description": group.about} for group in groups],
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of POST /api/v1/tokens."}
            },
        },
    }


def _key(type_: Any) -> str:
    return repr(type_)


def _types(endpoints: Iterable[Endpoint]) -> list[Any]:
    types: dict[str, Any] = {}
    for endpoint in endpoints:
        body_type = endpoint.body_type if endpoint.takes_body else None
        for type_ in (body_type, *endpoint.consumes.values(), endpoint.answers, endpoint.query):
            if type_ is not None:
                types[_key(type_)] = type_
    return list(types.values())


def _operation(endpoint: Endpoint, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.summary,
        "description": f"{endpoint.description}\n\nOpen to {endpoint.allowed}.",
        "tags": [endpoint.tag],
    }
    parameters: list[dict[str, Any]] = []
    for name, part in endpoint.path_parts.items():
        schema: dict[str, Any] = {"type": "string", "pattern": f"^({part.pattern})$"}
        if part.format:
            schema = {"type": "string", "format": part.format}
        parameter = {"name": name, "in": "path", "required": True, "description": part.about, "schema": schema}
        if part.example:
            parameter["example"] = part.example
        parameters.append(parameter)
    if endpoint.query is not None:
        parameters += _query_parameters(endpoint.query)
    if endpoint.mutates:
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    if endpoint.conditional:
        parameters.append({"$ref": "#/components/parameters/IfMatch"})
    if endpoint.tagged:
        parameters.append({"$ref": "#/components/parameters/IfNoneMatch"})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes_body:
        schema = (
            {"$ref": _REF.format(name=endpoint.body_schema)}
            if endpoint.body_schema
            else schema_of[_key(endpoint.body_type)]
        )
        operation["requestBody"] = {
            "required": not endpoint.body_optional,
            "content": {"application/json": {"schema": schema}},
        }
        if endpoint.operation_id in BODIES:
            operation["requestBody"]["content"]["application/json"]["example"] = BODIES[endpoint.operation_id]
    elif endpoint.takes_raw:
        content: dict[str, Any] = {
            media_type: {"schema": schema_of[_key(type_)]} for media_type, type_ in endpoint.consumes.items()
        }
        operation["requestBody"] = {"required": True, "content": content}
        if endpoint.operation_id in BODIES:
            next(iter(content.values()))["example"] = BODIES[endpoint.operation_id]
    operation["responses"] = _responses(endpoint, schema_of)
    if endpoint.open:
        operation["security"] = [{}, {"bearer": []}]
    return operation


def _query_parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    (reference,), components = msgspec.json.schema_components([query], ref_template=_REF)
    schema = components[reference["$ref"].rsplit("/", 1)[1]]
    comments = field_comments(query)
    parameters = []
    for name, field in schema["properties"].items():
        field = _without_null(field)
        description = field.pop("description", None) or comments.get(name, "")
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}
        if description:
            parameter["description"] = description
        parameters.append(parameter)
    return parameters


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter is left out, never null."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if len(branches) == 1:
        return {**branches[0], **kept}
    if branches:
        return {"anyOf": branches, **kept}
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    if "enum" in kept:
        kept["enum"] = [value for value in kept["enum"] if value is not None]
    return kept


_FURTHER: Final = {
    201: "Created.",
    202: "Begun; the rest is done in the background, and `Location` says how far it has come.",
}


def _responses(endpoint: Endpoint, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": endpoint.summary}
    headers: dict[str, Any] = {}
    if endpoint.answers is None:
        answer["description"] = "Done."
    else:
        schema: Any = schema_of[_key(endpoint.answers)]
        if endpoint.selects:
            schema = {"anyOf": [schema, {"type": "object", "description": "Only the `fields` asked for."}]}
        answer["content"] = {"application/json": {"schema": schema}}
    if endpoint.status == 201 or 202 in endpoint.further:
        headers["Location"] = {"$ref": "#/components/headers/Location"}
    if endpoint.conditional or endpoint.executes or endpoint.tagged:
        headers["ETag"] = {"$ref": "#/components/headers/ETag"}
    if endpoint.mutates:
        headers["Idempotency-Replayed"] = {"$ref": "#/components/headers/Idempotency-Replayed"}
    if headers:
        answer["headers"] = headers
    responses: dict[str, Any] = {str(endpoint.status): answer}
    for status in endpoint.further:
        responses[str(status)] = {**answer, "description": _FURTHER[status]}
    if endpoint.tagged:
        responses["304"] = {"description": "Unchanged: `If-None-Match` names the present `ETag`.", "headers": headers}
    by_status: dict[int, list[str]] = {}
    for code in endpoint.problems:
        by_status.setdefault(KINDS[code].status, []).append(code)
    for status in sorted(by_status):
        codes = by_status[status]
        response: dict[str, Any] = {
            "description": "\n".join(f"- `{code}`: {KINDS[code].sentence}" for code in codes),
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
        }
        if status == 503:
            response["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
            if endpoint.operation_id == "get_health":
                response["content"]["application/json"] = {"schema": schema_of[_key(endpoint.answers)]}
        if status == 401:
            response["headers"] = {"WWW-Authenticate": {"$ref": "#/components/headers/WWW-Authenticate"}}
        responses[str(status)] = response
    return responses


_COMMENT: Final = re.compile(r"^\s+#:\s?(.*)$")
_FIELD: Final = re.compile(r"^    (\w+)\s*:")


def field_comments(type_: type) -> dict[str, str]:
    """The `#:` comments of a Struct's fields, by the field's name on the wire; those of its bases included."""
    comments: dict[str, str] = {}
    for base in reversed(type_.__mro__):
        if not (isinstance(base, type) and issubclass(base, msgspec.Struct)) or base is msgspec.Struct:
            continue
        names = dict(zip(base.__struct_fields__, base.__struct_encode_fields__, strict=True))
        pending: list[str] = []
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            continue
        for line in source.splitlines():
            if found := _COMMENT.match(line):
                pending.append(found.group(1))
                continue
            if (found := _FIELD.match(line)) and pending and found.group(1) in names:
                comments[names[found.group(1)]] = " ".join(pending)
            pending = []
    return comments


def _describe_fields(components: dict[str, Any], types: Iterable[Any]) -> None:
    """Put the comments into the schemas of all Structs reachable from these types."""
    structs: dict[str, type] = {}

    def visit(info: msgspec.inspect.Type) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls.__name__ in structs:
                return
            structs[info.cls.__name__] = info.cls
            for field in info.fields:
                visit(field.type)
        for name in ("item_type", "key_type", "value_type", "type"):
            inner = getattr(info, name, None)
            if isinstance(inner, msgspec.inspect.Type):
                visit(inner)
        for inner in (*getattr(info, "types", ()), *getattr(info, "item_types", ())):
            visit(inner)

    for info in msgspec.inspect.multi_type_info([*types, Problem]):
        visit(info)
    for name, schema in components.items():
        struct = structs.get(name)
        if struct is None:
            continue
        for field, comment in field_comments(struct).items():
            described = schema.get("properties", {}).get(field)
            if described is not None and "description" not in described:
                described["description"] = comment


def _definition_components() -> dict[str, Any]:
    """The schema of a definition document, with its parts as components of their own."""
    schema = definition_schema()
    parts = schema.get("$defs", {})

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: f"#/components/schemas/WorkflowDefinition.{item.rsplit('/', 1)[1]}"
                if name == "$ref" and isinstance(item, str) and item.startswith("#/$defs/")
                else moved(item)
                for name, item in value.items()
                if not (name == "mapping" and isinstance(item, dict))
            }
        if isinstance(value, list):
            return [moved(item) for item in value]
        return value

    top = {name: value for name, value in schema.items() if name not in ("$defs", "$schema", "$id")}
    return {"WorkflowDefinition": moved(top)} | {
        f"WorkflowDefinition.{name}": moved(part) for name, part in parts.items()
    }
