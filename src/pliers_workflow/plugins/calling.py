"""One call of a plugin: what it is given is checked and typed, what it gives is checked and made plain.

The engine calls this in its own process and in the plugin's; it is not for authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from pliers_workflow.exact import plain

from .errors import FAILED, Permanent, PluginFailure, Retryable

if TYPE_CHECKING:
    from .context import Context
    from .declaring import Plugin

#: Problems of one value that are told.
_PROBLEMS_MAX: Final = 20
_TEXT_MAX: Final = 300


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
