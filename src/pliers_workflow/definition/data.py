"""The instance data as a definition describes it: paths into it, its JSON Schema, and the check of real data.

A schema comes from an author, so it is bounded before it is used: no references to elsewhere, none that run in a circle
without going deeper into the data, no alternatives that multiply, and regular expressions of the kind that takes linear
time only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import jsonschema_rs

from .expressions import ROOTS
from .findings import pointer

CheckData: TypeAlias = "Callable[[Mapping[str, Any]], list[tuple[str, str]]]"

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: So many problems of one piece of data are told.
_PROBLEMS_MAX: Final = 50
_MESSAGE_MAX: Final = 300
#: So many schemas may be asked about one value, all alternatives counted.
SCHEMA_COST_MAX: Final = 10_000


# -- paths -------------------------------------------------------------------------------------------------------------


def data_path(path: str) -> tuple[Literal["data", "context"], tuple[str, ...]]:
    """
    Read a path into the instance data: below `data` unless it begins with `context.`; `data.` may be written too.

    >>> data_path("amount"), data_path("data.amount"), data_path("context.seen")
    (('data', ('amount',)), ('data', ('amount',)), ('context', ('seen',)))
    """
    first, *rest = path.split(".")
    if rest and first == "context":
        return "context", tuple(rest)
    if rest and first == "data":
        return "data", tuple(rest)
    return "data", (first, *rest)


Template: TypeAlias = tuple[str | tuple[str, ...], ...]

_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def parse_template(template: str) -> Template:
    """
    Split a title template into texts and paths that begin with a root. Raises `ValueError` with a sentence.

    >>> parse_template("Expense of {requester.username}: {amount}")
    ('Expense of ', ('requester', 'username'), ': ', ('data', 'amount'))
    """
    pieces: list[str | tuple[str, ...]] = []
    for position, part in enumerate(re.split(r"\{([^{}]*)\}", template)):
        if position % 2 == 0:
            if "{" in part or "}" in part:
                raise ValueError("The braces do not pair.")
            if part:
                pieces.append(part)
        elif not _PATH.fullmatch(part.strip()):
            raise ValueError(f"`{{{part}}}` holds no path.")
        else:
            names = tuple(part.strip().split("."))
            pieces.append(names if names[0] in ROOTS else ("data", *names))
    return tuple(pieces)


# -- schemas -----------------------------------------------------------------------------------------------------------

_ONE: Final = ("additionalProperties", "propertyNames", "unevaluatedProperties", "items", "contains", "unevaluatedItems",
               "contentSchema")  # fmt: skip
#: these apply to the value itself, not to something inside it
_IN_PLACE_ONE: Final = ("not", "if", "then", "else")
_IN_PLACE_MANY: Final = ("allOf", "anyOf", "oneOf")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")

Place: TypeAlias = tuple[str | int, ...]


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Place, Any, bool]]:
    """Give the schemas directly inside one: the way there, the schema, and whether it applies to the same value."""
    for key, value in schema.items():
        if key in _IN_PLACE_ONE or key in _ONE:
            yield (key,), value, key in _IN_PLACE_ONE
        elif key in _IN_PLACE_MANY or key == "prefixItems":
            if isinstance(value, list | tuple):
                for index, item in enumerate(value):
                    yield (key, index), item, key != "prefixItems"
        elif (key in _MAPS or key == "dependentSchemas") and isinstance(value, Mapping):
            for name, item in value.items():
                yield (key, name), item, key == "dependentSchemas"


def resolve(schema: Mapping[str, Any], reference: str) -> tuple[Place, Any] | None:
    """Find what a local reference (`#`, `#/…`) points to in a schema; None when there is nothing."""
    if reference in ("#", ""):
        return (), schema
    if not reference.startswith("#/"):
        return None
    place: list[str | int] = []
    found: Any = schema
    for part in reference[2:].split("/"):
        word = re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), part)
        word = word.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and word in found:
            found = found[word]
            place.append(word)
        elif (
            isinstance(found, list | tuple)
            and word.isascii()
            and word.isdigit()
            and len(word) < 7
            and int(word) < len(found)
        ):
            found = found[int(word)]
            place.append(int(word))
        else:
            return None
    return tuple(place), found


def all_schemas(schema: Any) -> Iterator[tuple[Place, Any]]:
    """Give a schema and all those inside it, in document order."""
    todo: list[tuple[Place, Any]] = [((), schema)]
    while todo:
        place, found = todo.pop()
        yield place, found
        if isinstance(found, Mapping):
            todo.extend(reversed([((*place, *way), inner) for way, inner, _ in subschemas(found)]))


def knows(schema: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """
    Say whether data of this schema can have a field; false only when the schema certainly rules it out.

    >>> knows({"properties": {"amount": {"type": "number"}}, "additionalProperties": False}, ("total",))
    False
    """
    found: Any = schema
    for name in path:
        for _ in range(20):
            if isinstance(found, Mapping) and isinstance(found.get("$ref"), str) and "properties" not in found:
                target = resolve(schema, found["$ref"])
                found = target[1] if target else True
        if not isinstance(found, Mapping):
            return found is not False
        kinds = found.get("type")
        if isinstance(kinds, str) and kinds != "object":
            return False
        properties = found.get("properties")
        if isinstance(properties, Mapping) and name in properties:
            found = properties[name]
            continue
        rest = found.get("additionalProperties", True)
        if "patternProperties" in found:
            return True
        found = rest
    return found is not False


def compile_schema(schema: Mapping[str, Any]) -> CheckData:
    """Make the function that says what is wrong with instance data: (JSON Pointer, message), empty when it is valid.

    Raises `ValueError` for a schema that the checks would have refused.
    """
    if not schema:
        return _anything
    try:
        validator = jsonschema_rs.Draft202012Validator(
            dict(schema),
            offline=True,
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1_000_000, dfa_size_limit=1_000_000),
        )
    except jsonschema_rs.ValidationError as error:
        raise ValueError(shorten(error.message)) from error
    is_valid, iter_errors = validator.is_valid, validator.iter_errors

    def check(data: Mapping[str, Any]) -> list[tuple[str, str]]:
        try:
            if is_valid(data):
                return []
            problems = []
            for error in iter_errors(data):
                problems.append((pointer(*error.instance_path), shorten(error.message)))
                if len(problems) >= _PROBLEMS_MAX:
                    break
            return problems
        except ValueError as error:
            # half of a surrogate pair, or nested too deeply
            return [("", shorten(f"The data cannot be checked: {error}"))]

    return check


def _anything(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    return []


def shorten(message: str) -> str:
    """Keep a message readable where it repeats the data."""
    return message if len(message) <= _MESSAGE_MAX else message[: _MESSAGE_MAX - 1] + "…"
