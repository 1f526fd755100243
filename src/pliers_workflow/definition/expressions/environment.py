"""What the static check knows about the values that expressions see: types, read from JSON Schemas.

Whatever a schema does not say for certain is `ANY`, and `ANY` is never complained about: the check may miss a mistake,
it must not invent one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

#: Names as `type()` gives them, and `any`, `number` (an int or a double).
Kind = Literal[
    "any", "bool", "int", "uint", "double", "number", "string", "bytes", "null_type", "list", "map", "timestamp",
    "duration", "type", "optional_type",
]  # fmt: skip


@dataclass(slots=True, frozen=True, eq=False)
class Type:
    """What is known of a value."""

    kind: Kind
    #: map: the fields it may have
    fields: Mapping[str, Type] = field(default_factory=dict)
    #: map: other fields may come
    open: bool = True
    #: map: the type of other fields; list: of elements; optional: of its value
    item: Type | None = None
    #: the only values it may have
    choices: tuple[Any, ...] | None = None
    #: may be null instead
    nullable: bool = False


ANY: Final = Type("any")
BOOL: Final = Type("bool")
STRING: Final = Type("string")
TIMESTAMP: Final = Type("timestamp")

_KINDS: Final[Mapping[str, Kind]] = {
    "string": "string",
    "integer": "int",
    "number": "number",
    "boolean": "bool",
    "array": "list",
    "object": "map",
    "null": "null_type",
}
#: Keywords that may say more about an object than its `properties` do.
_COMBINATORS: Final = ("allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "dependentSchemas", "$dynamicRef")
_DEPTH_MAX: Final = 30


def type_of_schema(schema: Any) -> Type:
    """The type that a JSON Schema (2020-12) describes; `ANY` where it is not understood.

    >>> type_of_schema({"type": "object", "properties": {"amount": {"type": "integer"}}}).fields["amount"].kind
    'int'
    """
    return _Reader(schema).type(schema, 0)


class _Reader:
    def __init__(self, root: Any) -> None:
        self.root = root

    def type(self, schema: Any, depth: int) -> Type:
        if not isinstance(schema, Mapping) or depth > _DEPTH_MAX:
            return ANY
        if "$ref" in schema:
            return self.type(self.referenced(schema["$ref"]), depth + 1) if len(schema) == 1 else ANY
        kinds, nullable = self.kinds(schema)
        if len(kinds) != 1:
            return ANY
        kind = kinds[0]
        choices = _choices(schema)
        if kind == "map":
            return self.map(schema, depth, nullable)
        if kind == "list":
            item = schema.get("items")
            known = "prefixItems" not in schema and not any(word in schema for word in _COMBINATORS)
            return Type("list", item=self.type(item, depth + 1) if known else ANY, nullable=nullable)
        return Type(kind, choices=choices, nullable=nullable)

    def kinds(self, schema: Mapping[str, Any]) -> tuple[list[Kind], bool]:
        """The kinds a value may have, null apart."""
        said = schema.get("type")
        if said is None:
            if "properties" in schema:
                return ["map"], False
            if (choices := _choices(schema)) is not None:
                found = {_kind_of(choice) for choice in choices}
                nullable = "null_type" in found
                return sorted(found - {"null_type"}), nullable
            return [], False
        names = said if isinstance(said, list) else [said]
        kinds = {_KINDS.get(name, "any") if isinstance(name, str) else "any" for name in names}
        nullable = "null_type" in kinds and len(kinds) > 1
        if nullable:
            kinds.discard("null_type")
        if kinds == {"int", "number"}:
            kinds = {"number"}
        return (sorted(kinds) if "any" not in kinds else []), nullable

    def map(self, schema: Mapping[str, Any], depth: int, nullable: bool) -> Type:
        properties = schema.get("properties")
        fields: dict[str, Type] = {}
        if isinstance(properties, Mapping):
            fields = {str(name): self.type(below, depth + 1) for name, below in properties.items()}
        additional = schema.get("additionalProperties", True)
        combined = any(word in schema for word in _COMBINATORS)
        # required fields that are not described exist all the same
        required = schema.get("required")
        if isinstance(required, list):
            fields.update({name: ANY for name in required if isinstance(name, str) and name not in fields})
        closed = (additional is False or schema.get("unevaluatedProperties") is False) and not combined
        item = self.type(additional, depth + 1) if isinstance(additional, Mapping) and not combined else ANY
        return Type("map", fields=fields, open=not closed, item=item, nullable=nullable)

    def referenced(self, pointer: Any) -> Any:
        if not isinstance(pointer, str) or not pointer.startswith("#"):
            return None
        found = self.root
        for part in pointer[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return found


def _choices(schema: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if "const" in schema:
        return (schema["const"],)
    choices = schema.get("enum")
    return tuple(choices) if isinstance(choices, list) else None


def _kind_of(value: Any) -> Kind:
    match value:
        case bool():
            return "bool"
        case int() | float() | Decimal():
            return "number"
        case str():
            return "string"
        case None:
            return "null_type"
        case list():
            return "list"
        case dict():
            return "map"
        case _:
            return "any"


def _record(nullable: bool = False, **fields: Type) -> Type:
    return Type("map", fields=fields, open=False, nullable=nullable)


_OPTIONAL_STRING: Final = Type("string", nullable=True)
_OPTIONAL_TIME: Final = Type("timestamp", nullable=True)
_STRINGS: Final = Type("list", item=STRING)
_INT: Final = Type("int")
_PERSON: Final = _record(
    nullable=True,
    id=STRING,
    username=STRING,
    name=_OPTIONAL_STRING,
    email=_OPTIONAL_STRING,
    manager=_OPTIONAL_STRING,
    active=BOOL,
    roles=_STRINGS,
    groups=_STRINGS,
    attributes=Type("map", item=ANY),
)
_ROOTS: Final[Mapping[str, Type]] = {
    "submission": Type("map", item=ANY),
    "data": Type("map", item=ANY),
    "context": Type("map", item=ANY),
    # the second line: of an event from outside
    "event": _record(
        name=STRING,
        data=ANY,
        user=_OPTIONAL_STRING,
        id=_OPTIONAL_STRING,
        source=_OPTIONAL_STRING,
        type=_OPTIONAL_STRING,
        subject=_OPTIONAL_STRING,
        time=_OPTIONAL_TIME,
        attributes=Type("map", item=ANY),
    ),
    "user": _PERSON,
    "requester": _PERSON,
    # what else an instance shows is for the runtime to say
    "instance": Type(
        "map",
        fields={
            "id": STRING,
            "status": Type(
                "string",
                choices=("pending", "running", "waiting", "suspended", "escalated", "completed", "failed", "cancelled"),
            ),
            "current_state": _OPTIONAL_STRING,
            "configuration": _STRINGS,
            "version": STRING,
            "definition": STRING,
            "created_at": TIMESTAMP,
            "revision": _INT,
            "title": _OPTIONAL_STRING,
            "submission_id": _OPTIONAL_STRING,
        },
        item=ANY,
    ),
    "metadata": Type("map", item=ANY),
    "now": TIMESTAMP,
}


#: An event from outside as triggers see it.
_INBOUND_EVENT: Final = _record(
    id=STRING, source=STRING, type=STRING, subject=_OPTIONAL_STRING, time=_OPTIONAL_TIME, data=ANY,
    attributes=Type("map", item=ANY),
)  # fmt: skip


class Environment:
    """The roots that an expression sees and what is known of each.

    `data_schema` and `submission_schema` are JSON Schemas of objects, empty or None for anything; `roots` adds further
    names, each with a JSON Schema or None, and `without` takes some away; `only` gives all there are. Built once for a
    definition, used for all its expressions.
    """

    def __init__(
        self,
        data_schema: Mapping[str, Any] | None = None,
        submission_schema: Mapping[str, Any] | None = None,
        roots: Mapping[str, Mapping[str, Any] | None] | None = None,
        *,
        only: Mapping[str, Type] | None = None,
        without: Iterable[str] = (),
    ) -> None:
        types = dict(_ROOTS) if only is None else dict(only)
        for name in without:
            types.pop(name, None)
        if data_schema:
            types["data"] = type_of_schema(data_schema)
        if submission_schema:
            types["submission"] = type_of_schema(submission_schema)
        for name, schema in (roots or {}).items():
            types[name] = type_of_schema(schema) if schema else ANY
        self.roots: Final[Mapping[str, Type]] = types


def event_environment() -> Environment:
    """What expressions about an event from outside see: `event` and `now`."""
    return Environment(only={"event": _INBOUND_EVENT, "now": TIMESTAMP})


def key_environment(data_schema: Mapping[str, Any] | None = None) -> Environment:
    """What the keys of instances may rest on: what the instance itself holds, and nothing that changes without it."""
    types = Environment(data_schema).roots
    return Environment(only={name: types[name] for name in ("data", "context", "submission", "instance", "metadata")})
