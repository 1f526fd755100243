"""What may stand at a place of a body, so that a refusal can say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from msgspec import inspect

#: values that a hint names; where there are more, the reference has them
_VALUES_MAX: Final = 30


def fields_at(type: Any, path: Sequence[str], body: Any) -> tuple[str, ...]:
    """
    Names of the fields that an object there may have; of a tagged union those of the kind that `body` names.

    Empty where there is no object, or one with any fields.
    """
    names: dict[str, None] = {}
    for each in _at(type, path, body):
        if isinstance(each, inspect.StructType):
            if each.tag_field is not None:
                names[each.tag_field] = None
            names.update(dict.fromkeys(field.encode_name for field in each.fields))
    return tuple(names)


def values_at(type: Any, path: Sequence[str], body: Any) -> tuple[str, ...]:
    """The values one of which must stand there, as JSON has them; empty where they are not counted, or too many."""
    values: dict[str, None] = {}
    for each in _at(type, path, body):
        if isinstance(each, inspect.LiteralType):
            values.update(dict.fromkeys(map(str, each.values)))
        elif isinstance(each, inspect.EnumType):
            values.update(dict.fromkeys(str(_value(member)) for member in each.cls))
    return tuple(values) if len(values) <= _VALUES_MAX else ()


def _value(member: Enum) -> Any:
    return member.value


@lru_cache(maxsize=512)
def _info(type: Any) -> inspect.Type:
    return inspect.type_info(type)


def _at(type: Any, path: Sequence[str], body: Any) -> list[inspect.Type]:
    """The types that are possible at a place."""
    found = list(_options(_info(type)))
    for name in path:
        found = [option for each in found for inner in _inside(each, name, body) for option in _options(inner)]
        if isinstance(body, dict):
            body = body.get(name)
        else:
            body = body[int(name)] if isinstance(body, list) and name.isdigit() and int(name) < len(body) else None
    kinds = [each for each in found if _fits(each, body)]
    return kinds or found


def _options(type: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(type, inspect.UnionType):
        for each in type.types:
            yield from _options(each)
    elif isinstance(type, inspect.Metadata):
        yield from _options(type.type)
    else:
        yield type


def _fits(type: inspect.Type, body: Any) -> bool:
    """Whether a tagged object is the one that the body names."""
    if not isinstance(type, inspect.StructType) or type.tag_field is None:
        return True
    return isinstance(body, dict) and body.get(type.tag_field) == type.tag


def _inside(type: inspect.Type, name: str, body: Any) -> Iterator[inspect.Type]:
    if isinstance(type, inspect.StructType):
        if name == type.tag_field:
            yield inspect.LiteralType((type.tag,))
        elif _fits(type, body):
            yield from (field.type for field in type.fields if field.encode_name == name)
    elif isinstance(type, inspect.DictType):
        yield type.value_type
    elif isinstance(type, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        yield type.item_type
