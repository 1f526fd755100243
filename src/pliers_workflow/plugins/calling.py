"""One call of a plugin: what it is given is checked and typed, what it gives is checked and made plain.

The engine calls this in its own process and in the plugin's; it is not for authors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import ValidationError

from .errors import FAILED, Permanent, PluginFailure, Retryable

if TYPE_CHECKING:
    from .context import Context
    from .declaring import Plugin

#: Problems of one value that are told.
_PROBLEMS_MAX: Final = 20
_TEXT_MAX: Final = 300
_DEPTH_MAX: Final = 200


def arguments(
    plugin: Plugin, configuration: Mapping[str, Any], given: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    """
    What the plugin is called with, by name.

    Raises `Permanent`: `CONFIGURATION_INVALID`, `INPUT_INVALID`, with `problems` in its details.
    """
    read = {
        "configuration": _read(plugin, "configuration", configuration),
        "input": _read(plugin, "input", given),
        "context": context,
    }
    return {name: read[name] for name in plugin.parameters}


def output_of(plugin: Plugin, value: Any) -> Any:
    """
    What the plugin gave, as plain values with exact numbers. Raises `Permanent` (`OUTPUT_INVALID`).

    It is held to the type that the plugin promises, so that a workflow may rely on it.
    """
    try:
        typed = plugin.output.validate_python(value)
        return plain(plugin.output.dump_python(typed, by_alias=True, warnings="error"))
    except ValidationError as error:
        raise Permanent(
            "OUTPUT_INVALID",
            f"The output of {plugin.id} is not what it promises.",
            details={"problems": _problems(error)},
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The output of {plugin.id} cannot be kept as JSON: {str(error)[:_TEXT_MAX]}"
        raise Permanent("OUTPUT_INVALID", message) from None


def plain(value: Any) -> Any:
    """
    A value as JSON has it: objects, lists, texts, exact numbers, truth values, null. Raises TypeError, ValueError.

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


def failure_of(plugin: Plugin, error: BaseException) -> PluginFailure:
    """Any exception of a plugin as a failure that says what comes next. The text of an unknown one is not told."""
    if isinstance(error, PluginFailure):
        return error
    return Retryable(f"{plugin.id} failed with {type(error).__name__}; the log of the node says more.", code=FAILED)


def _read(plugin: Plugin, what: str, value: Mapping[str, Any]) -> Any:
    adapter = plugin.configuration if what == "configuration" else plugin.input
    try:
        return adapter.validate_python(dict(value))
    except ValidationError as error:
        message = f"The {what} is not what {plugin.id} takes."
        raise Permanent(f"{what.upper()}_INVALID", message, details={"problems": _problems(error)}) from None


def _problems(error: ValidationError) -> list[dict[str, str]]:
    """Where and why, without the values themselves, which may be secret."""
    return [
        {"at": "".join(f"/{part}" for part in each["loc"]), "message": each["msg"][:_TEXT_MAX]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)[:_PROBLEMS_MAX]
    ]


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
