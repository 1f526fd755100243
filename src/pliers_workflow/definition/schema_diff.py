"""What changed between two data schemas: major where data that was accepted may now be refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from .findings import pointer

Change: TypeAlias = Literal["major", "minor", "patch"]
Entry: TypeAlias = tuple[str, Change, str]

#: These describe; they accept and refuse nothing.
_TEXTS: Final = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
#: More of these refuses less, fewer refuses more …
_LIMITS_MAX: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"})
#: … and here the other way round.
_LIMITS_MIN: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"})
_SCHEMA_MAPS: Final = frozenset({"properties", "$defs", "definitions"})


def compare_schemas(old: Any, new: Any, at: tuple[str | int, ...] = ()) -> Iterator[Entry]:
    """Give the differences: JSON Pointer below the schema, change, message."""
    if _equal(old, new):
        return
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        looser = new is True or new == {} or old is False
        yield pointer(*at), "minor" if looser else "major", "The schema accepts something else."
        return
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in old or key not in new or not _equal(old[key], new[key]):
            yield from _keyword(key, old, new, at)


def _keyword(key: str, old: Mapping[str, Any], new: Mapping[str, Any], at: tuple[str | int, ...]) -> Iterator[Entry]:
    before, after = old.get(key), new.get(key)
    place = pointer(*at, key)
    if key in _TEXTS or key.startswith("x-"):
        yield place, "patch", f"`{key}` changed."
    elif key == "properties":
        yield from _properties(old, new, at)
    elif key in _SCHEMA_MAPS and isinstance(before or {}, Mapping) and isinstance(after or {}, Mapping):
        for name in (before or {}).keys() & (after or {}).keys():
            yield from compare_schemas(before[name], after[name], (*at, key, name))  # type: ignore[index]
        if (before or {}).keys() - (after or {}).keys():
            yield place, "patch", f"`{key}` lost a schema; what referred to it shows the effect."
        if (after or {}).keys() - (before or {}).keys():
            yield place, "patch", f"`{key}` has a new schema."
    elif key == "required":
        yield from _required(before, after, place)
    elif key == "type":
        yield from _types(before, after, place)
    elif key == "enum":
        yield place, _set_change(before, after), "Other values are accepted."
    elif key in _LIMITS_MAX | _LIMITS_MIN:
        yield place, _limit_change(key, before, after), f"`{key}` changed."
    elif key in ("additionalProperties", "items") and before is not None and after is not None:
        yield from compare_schemas(before, after, (*at, key))
    elif key not in new or after is True or after == {}:
        yield place, "minor", f"`{key}` no longer holds."
    else:
        yield place, "major", f"`{key}` is new or changed, so data may be refused that was accepted."


def _properties(old: Mapping[str, Any], new: Mapping[str, Any], at: tuple[str | int, ...]) -> Iterator[Entry]:
    before, after = old.get("properties") or {}, new.get("properties") or {}
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        yield pointer(*at, "properties"), "major", "`properties` changed."
        return
    for name in before:
        if name not in after:
            yield pointer(*at, "properties", name), "major", f"The field `{name}` was removed or renamed."
    for name, schema in after.items():
        if name in before:
            yield from compare_schemas(before[name], schema, (*at, "properties", name))
        else:
            yield pointer(*at, "properties", name), "minor", f"The field `{name}` is new."


def _required(before: Any, after: Any, place: str) -> Iterator[Entry]:
    was, now = set(before or ()), set(after or ())
    if now - was:
        yield place, "major", f"Now required: {', '.join(f'`{name}`' for name in sorted(now - was))}."
    if was - now:
        yield place, "minor", f"No longer required: {', '.join(f'`{name}`' for name in sorted(was - now))}."


def _types(before: Any, after: Any, place: str) -> Iterator[Entry]:
    was = _names(before)
    now = _names(after)
    if now is None or (was is not None and was <= now):
        yield place, "minor", "More types are accepted."
    else:
        yield place, "major", "A type that was accepted is refused."


def _names(kinds: Any) -> set[str] | None:
    """The accepted types; None: all. Every integer is a number."""
    if kinds is None:
        return None
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    return found | {"integer"} if "number" in found else found


def _set_change(before: Any, after: Any) -> Change:
    if after is None:
        return "minor"
    if before is None:
        return "major"
    return "minor" if all(any(_equal(one, other) for other in after) for one in before) else "major"


def _limit_change(key: str, before: Any, after: Any) -> Change:
    if after is None:
        return "minor"
    if before is None:
        return "major"
    looser = after >= before if key in _LIMITS_MAX else after <= before
    return "minor" if looser else "major"


def _equal(one: Any, other: Any) -> bool:
    # in JSON true is not 1
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
