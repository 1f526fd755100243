"""Values as JSON has them, with exact numbers: what plugins and workers give, before anybody keeps it.

Knows nothing of the engine, so that what others build upon may use it.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import msgspec

_DEPTH_MAX: Final = 200


def plain(value: Any) -> Any:
    """
    A value as JSON has it: objects, lists, texts, exact numbers, truth values, null. Raises TypeError, ValueError.

    Dataclasses, msgspec Structs and pydantic models become objects, instants text, floats the decimals they show as.

    >>> plain({"price": 1.1, "codes": ("a", "b")})
    {'price': Decimal('1.1'), 'codes': ['a', 'b']}
    """
    made = msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True, enc_hook=_other)
    return _exact(made, 0)


def told(value: object) -> str:
    """
    Any text as one that can be kept and sent.

    >>> told("half of a pair \\ud800")
    'half of a pair ?'
    """
    return str(value).encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def excerpt(value: object, length: int) -> str:
    """
    The beginning of how a value shows itself, as text that can be kept; of one that cannot show itself, its type.

    >>> excerpt({"queue": 3}, 8)
    "{'queue'"
    """
    try:
        return told(repr(value)[:length])
    except Exception:  # whatever stands in it
        return f"a {type(value).__name__}"


def _other(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic model's
    if callable(dump):
        return dump(by_alias=True)
    raise TypeError(f"a {type(value).__name__} has no place in it")


def _exact(value: Any, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise ValueError("it is nested too deeply")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number in it is not finite")
        return Decimal(repr(value))
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError("a number in it is not finite")
    if isinstance(value, list | tuple):
        return [_exact(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {key: _exact(each, depth + 1) for key, each in value.items()}
    return value
