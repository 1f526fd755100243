"""A step's output as it is kept: JSON with exact numbers, whatever a plugin or worker gives."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec

from ..storable import find_unstorable

__all__ = ["Unkept", "as_json"]


class Unkept(ValueError):
    """The value cannot be kept; the message says what of it, for its author."""


def as_json(value: object) -> Any:
    """
    Give a value as JSON that can be kept: instants and ids as text, sets and tuples as lists, floats as they show.

    Dataclasses, msgspec Structs and pydantic models become objects. Raises `Unkept`.

    >>> as_json({"price": 1.1, "lines": (1, 2)})
    {'price': Decimal('1.1'), 'lines': [1, 2]}
    >>> as_json({"price": float("nan")})
    Traceback (most recent call last):
    pliers_workflow.runtime.jobs.outputs.Unkept: a number in it is not finite
    """
    try:
        plain = msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True, enc_hook=_other)
    except RecursionError:
        raise Unkept("it is nested too deeply") from None
    except (TypeError, ValueError, NotImplementedError) as error:
        raise Unkept(f"it holds what JSON cannot: {error}") from None
    if (finding := find_unstorable(_without_floats(plain, 0))) is not None:
        raise Unkept(f"at {finding.pointer or 'its top'}: {finding.message}")
    return _without_floats(plain, 0)


def _other(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic model's
    if callable(dump):
        return dump(mode="json")
    raise NotImplementedError(f"a {type(value).__name__}")


def _without_floats(value: Any, depth: int) -> Any:
    if depth > 200:
        raise Unkept("it is nested too deeply")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unkept("a number in it is not finite")
        return Decimal(repr(value))
    if isinstance(value, list | tuple):
        return [_without_floats(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {key: _without_floats(each, depth + 1) for key, each in value.items()}
    return value
