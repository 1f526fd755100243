"""Whether a document has the shape of a definition: pydantic's errors, turned into findings an author can act on.

Pydantic names a place by a path in which alternatives of a union appear as extra elements (`condition`, `str`), and
complains once for each alternative. Here the path is followed through the document itself, and only the complaints about
the alternative that the author plainly meant, by its JSON type, are kept.
"""

from __future__ import annotations

import types
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .document import WorkflowDefinition
from .findings import FINDINGS_MAX, Findings, did_you_mean, pointer, shown

_ACTION_TYPES: Final = ("assign", "raise", "send", "cancel", "log", "if", "foreach")
_STEP_TYPES: Final = (
    "plugin", "http", "script", "notification", "external", "assign", "wait", "emit", "receive", "approval",
    "sub_workflow", "sequential", "parallel", "conditional", "for_each",
)  # fmt: skip
_TAGS: Final = frozenset((*_ACTION_TYPES, *_STEP_TYPES))
#: Keys that hold steps.
_STEP_KEYS: Final = ("steps", "compensation")

#: Words for what a pattern asks, by how it begins.
_PATTERNS: Final = {
    r"^[a-z][a-z0-9_.-]*$": (
        "a name: a small letter, then small letters, digits, `_`, `.` or `-`",
        "For example `manager_review`.",
    ),
    r"^[A-Za-z_][A-Za-z0-9_.-]*$": (
        "an id: a letter or `_`, then letters, digits, `_`, `.` or `-`",
        "For example `manager_review`.",
    ),
    r"^[A-Za-z_][A-Za-z0-9_-]*$": (
        "an id: a letter or `_`, then letters, digits, `_` or `-`",
        "For example `fetch_order`.",
    ),
    r"^[A-Za-z_][A-Za-z0-9_]*$": ("a name: a letter or `_`, then letters, digits or `_`", "For example `order`."),
    r"^[A-Za-z0-9_][A-Za-z0-9_./-]*": ("the type of an event", "For example `com.example.order.paid`."),
    r"^(0|[1-9]": ("a semantic version without build metadata", "For example `1.0.0` or `2.1.0-beta.1`."),
    r"^[A-Za-z_][A-Za-z0-9_]*(": ("a dotted path into the data", "For example `amount` or `traveller.department`."),
    r"^(\*|[^\s*]+(": (
        "a type of events: whole, or with all below it (`.*`), or `*` for all",
        "For example `order.paid` or `order.*`.",
    ),
    r"^[^\s*]*\*?$": ("a source, or its beginning and a `*`", "For example `/shops/*`."),
    r"^(requester|anyone": (
        "one of `requester`, `anyone`, `user:NAME`, `role:KEY`, `group:KEY`",
        "For example `role:finance`.",
    ),
}

_TYPES: Final = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "mapping_type": "an object",
    "tuple_type": "a list",
    "list_type": "a list",
}


#: So many of pydantic's errors are looked at: enough for all findings that are kept, were each a union of twenty.
_ERRORS_MAX: Final = 20 * FINDINGS_MAX


def check_shape(document: Mapping[str, Any], findings: Findings) -> WorkflowDefinition | None:
    """Read the document into its type; findings say why that cannot be."""
    try:
        return WorkflowDefinition.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        _translate(error.errors(include_url=False, include_input=False), document, findings)
    return None


def error_places(error: ValidationError, document: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """
    Give pydantic's errors as their type and their path in the document; an error in a key itself has the type `key`.

    Of a union only the complaints about the alternative that was meant, or one about the whole where none was.
    """
    places = [
        (each["type"], _Place(document, each["loc"]))
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    places = [(kind, place) for kind, place in places if not _is_echo(kind, place)]
    explained = {
        tuple(place.path[:length]) for _, place in places if place.meant for length, _, _ in place.alternatives
    }
    for kind, place in places:
        if place.meant:
            yield ("key" if place.of_key else kind), tuple(place.path)
            continue
        union = next(tuple(place.path[:length]) for length, wanted, found in place.alternatives if wanted != found)
        if union not in explained:
            explained.add(union)
            yield "wrong_type", union


def _is_echo(kind: str, place: _Place) -> bool:
    """A list whose elements are all wrong is empty to pydantic, too; the author has been told of the elements."""
    return kind == "too_short" and bool(place.value)


class _Place:
    """Where an error is: its path in the document, and the alternatives pydantic tried on the way."""

    def __init__(self, document: object, location: tuple[str | int, ...]) -> None:
        self.path: list[str | int] = []
        #: (length of the path there, JSON kind of the alternative, JSON kind of the value)
        self.alternatives: list[tuple[int, str, str]] = []
        self.of_key = False
        value = document
        last = len(location) - 1
        #: the value whose alternative has been named already
        named: object = None
        for position, part in enumerate(location):
            inner = _step(value, part)
            if inner is not _NOTHING and not (position < last and value is not named and _is_tag(value, part)):
                value = inner
                self.path.append(part)
            elif part == "[key]":
                self.of_key = True
            elif position == last and isinstance(value, Mapping) and isinstance(part, str) and _is_key(part):
                # a key that is missing
                self.path.append(part)
                value = None
            else:
                kind = _kind_of_label(str(part))
                if kind is not None:
                    self.alternatives.append((len(self.path), kind, _kind_of_value(value)))
                if kind is None or part in _models():
                    named = value
        self.value = value

    @property
    def meant(self) -> bool:
        """Whether every alternative on the way is the one that fits the value's JSON type."""
        return all(kind == found for _, kind, found in self.alternatives)


def _translate(errors: list[ErrorDetails], document: Mapping[str, Any], findings: Findings) -> None:
    # A document of a megabyte can hold hundreds of thousands of errors, which nobody will be told of.
    errors = errors[:_ERRORS_MAX]
    unions: dict[tuple[str | int, ...], set[str]] = defaultdict(set)
    kept: list[tuple[ErrorDetails, _Place]] = []
    explained: set[tuple[str | int, ...]] = set()
    for error in errors:
        place = _Place(document, error["loc"])
        for length, kind, _ in place.alternatives:
            unions[tuple(place.path[:length])].add(kind)
        if place.meant and not _is_echo(error["type"], place):
            kept.append((error, place))
            explained.update(tuple(place.path[:length]) for length, _, _ in place.alternatives)
    seen: set[tuple[str, str]] = set()
    for error, place in kept:
        if len(seen) >= FINDINGS_MAX:
            break
        code, at, message, hint = _explain(error, place, document)
        # the places of two alternatives of one kind can coincide
        if (code, at) not in seen:
            seen.add((code, at))
            findings.error(code, at, message, hint)
    for path, kinds in unions.items():
        # A union inside an alternative that was not meant is no concern of the author.
        if path in explained or any(
            path[:length] in unions and path[:length] not in explained for length in range(len(path))
        ):
            continue
        if len(seen) < FINDINGS_MAX:
            seen.add(("wrong_type", pointer(*path)))
            expected = _either(sorted(kinds))
            findings.error("wrong_type", pointer(*path), f"This should be {expected}.", _null_hint(_at(document, path)))
    if not seen and errors:
        # Never silence: whatever the filter above made of it, the document is not a definition.
        error = errors[0]
        findings.error("wrong_type", pointer(*_Place(document, error["loc"]).path), error["msg"] + ".")


def _explain(error: ErrorDetails, place: _Place, document: Mapping[str, Any]) -> tuple[str, str, str, str | None]:
    kind = error["type"]
    context = error.get("ctx", {})
    at = pointer(*place.path)
    name = str(place.path[-1]) if place.path else ""
    if place.of_key:
        what, hint = _pattern(str(context.get("pattern", "")))
        return "bad_format", at, f"`{shown(name)}` should be {what}.", hint
    if kind == "missing":
        return "missing", at, f"`{name}` is missing.", f"Add `{name}`."
    if kind == "extra_forbidden":
        known = known_keys(place.path, document)
        hint = did_you_mean(name, known) or f"Known here: {', '.join(sorted(known))}."
        return "unknown_key", at, f"`{shown(name)}` means nothing here.", hint
    if kind == "union_tag_not_found":
        _, types_ = _union(place.path)
        return "missing", at + "/type", "`type` is missing.", f"One of {', '.join(f'`{t}`' for t in types_)}."
    if kind == "union_tag_invalid":
        tag = str(context.get("tag", ""))
        what, types_ = _union(place.path)
        return "unknown_value", at + "/type", f"`{shown(tag)}` is no {what}.", did_you_mean(tag, types_)
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
        value = place.value
        message = (
            f"`{shown(value)}` is not possible here." if isinstance(value, str) else "This value is not possible here."
        )
        hint = did_you_mean(value, words) if isinstance(value, str) else None
        return "unknown_value", at, message, hint or f"One of {expected}."
    if kind == "string_pattern_mismatch":
        what, hint = _pattern(str(context.get("pattern", "")))
        return "bad_format", at, f"`{shown(place.value)}` should be {what}.", hint
    if kind in _TYPES:
        return "wrong_type", at, f"This should be {_TYPES[kind]}.", _null_hint(place.value)
    if kind == "value_error":
        return "wrong_type", at, "This should be a number.", None
    if kind in ("string_too_long", "too_long"):
        most = context.get("max_length")
        return "out_of_range", at, f"This is too long; the most is {most}.", None
    if kind in ("string_too_short", "too_short"):
        return "out_of_range", at, "This must not be empty.", None
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"):
        return "out_of_range", at, error["msg"].replace("Input should", "The number should") + ".", None
    return "wrong_type", at, error["msg"].replace("Input", "The value") + ".", None


def _union(path: list[str | int]) -> tuple[str, tuple[str, ...]]:
    """What the object at this place may be, and of which types there are: a step or an action."""
    keys = [part for part in path if isinstance(part, str)]
    is_step = keys[:1] == ["steps"] or (bool(keys) and keys[-1] in _STEP_KEYS)
    return ("step", _STEP_TYPES) if is_step else ("action", _ACTION_TYPES)


def _is_tag(value: object, part: str | int) -> bool:
    """Whether pydantic names the alternative of a union by its `type`, and not the key of the same name (`script`)."""
    return part in _TAGS and isinstance(value, Mapping) and value.get("type") == part


def _pattern(pattern: str) -> tuple[str, str | None]:
    # the whole pattern first: the patterns of names and paths begin alike
    for begin, words in sorted(_PATTERNS.items(), key=lambda item: -len(item[0])):
        if pattern.startswith(begin):
            return words
    return f"text that matches `{pattern}`", None


def _null_hint(value: object) -> str | None:
    return "Leave the key out instead of giving null." if value is None else None


# -- JSON kinds --------------------------------------------------------------------------------------------------------


def _kind_of_label(label: str) -> str | None:
    """
    Tell the JSON kind of an alternative from pydantic's label; None for labels that are no alternatives.

    >>> _kind_of_label("tuple[constrained-str, ...]"), _kind_of_label("ConditionExpression"), _kind_of_label("assign")
    ('a list', 'an object', None)
    """
    if label in _TAGS:
        return None
    if label.startswith(("tuple[", "list[")):
        return "a list"
    if label.startswith(("dict[", "tagged-union[")) or label in _models():
        return "an object"
    if "float" in label:
        return "a number"
    # `constrained-str`; every constrained label holds these letters, so this comes last
    if "str" in label:
        return "a string"
    return None


def _kind_of_value(value: object) -> str:
    if isinstance(value, str):
        return "a string"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return "something else"
    return "a number"


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _at(document: object, path: tuple[str | int, ...]) -> object:
    for part in path:
        document = _step(document, part)
        if document is _NOTHING:
            return ""
    return document


_NOTHING: Final = object()


def _step(value: object, part: str | int) -> object:
    """What is at a key or position; `_NOTHING` where there is nothing."""
    if isinstance(value, Mapping):
        return value.get(part, _NOTHING) if isinstance(part, str) else _NOTHING
    if isinstance(value, list | tuple) and isinstance(part, int) and 0 <= part < len(value):
        return value[part]
    return _NOTHING


# -- the document's types ----------------------------------------------------------------------------------------------


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Give the JSON keys of a part of the document, with the field's name in Python."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def parts_of(annotation: object) -> Iterator[type[BaseModel]]:
    """Give the models that an annotation mentions, inside unions, tuples and maps too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple, list, dict):
        for inner in get_args(annotation):
            yield from parts_of(inner)


@cache
def _models() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    todo: list[type[BaseModel]] = [WorkflowDefinition]
    while todo:
        model = todo.pop()
        if model.__name__ not in found:
            found[model.__name__] = model
            for field in model.model_fields.values():
                todo.extend(parts_of(field.annotation))
    return found


def all_parts() -> tuple[type[BaseModel], ...]:
    """Give every type of the document, the document itself first."""
    return tuple(_models().values())


@cache
def _parts_by_key() -> dict[str, tuple[type[BaseModel], ...]]:
    found: dict[str, list[type[BaseModel]]] = defaultdict(list)
    for model in _models().values():
        for key, name in keys_of(model).items():
            found[key].extend(parts_of(model.model_fields[name].annotation))
    return {key: tuple(models) for key, models in found.items()}


@cache
def _all_keys() -> frozenset[str]:
    return frozenset(key for model in _models().values() for key in keys_of(model))


def _is_key(word: str) -> bool:
    return word in _all_keys()


def known_keys(path: list[str | int], document: Mapping[str, Any]) -> list[str]:
    """Give the keys that could stand where an unknown one does: those of the part its container must be."""
    if len(path) == 1:
        return list(keys_of(WorkflowDefinition))
    container = _at(document, tuple(path[:-1]))
    tag = container.get("type") if isinstance(container, Mapping) else None
    for part in reversed(path[:-1]):
        models = _parts_by_key().get(part, ()) if isinstance(part, str) else ()
        if models:
            tagged = [model for model in models if isinstance(tag, str) and tag in _tags(model)]
            return [key for model in tagged or models for key in keys_of(model)]
    return list(_all_keys())


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
