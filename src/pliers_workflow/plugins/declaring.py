"""Declaring a plugin: a function or a class, read once when its module is imported.

The parameters say what the plugin wants, by their names: `configuration` (of the step, literal), `input` (what the step's
`inputMapping` gives) and `context`; each may be missing. Annotations say what configuration, input and output are: anything
pydantic understands (a model, a dataclass; a `TypedDict` of `typing_extensions` before Python 3.12). JSON Schemas are derived from them, for authors of workflows and
for the check when a definition is published.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from pliers_workflow.exact import told

from .context import Context

#: The group of entry points in which plugins are found.
GROUP: Final = "pliers.plugins"
TIMEOUT_MAX: Final = 86_400.0
#: MiB; below, Python itself has hardly room
MEMORY_MIN: Final = 64
MEMORY_MAX: Final = 1_048_576
DESCRIPTION_MAX: Final = 10_000
#: Bytes of JSON.
SCHEMA_MAX: Final = 262_144

Isolation: TypeAlias = Literal["thread", "process"]
"""`thread`: in the node's own process; asynchronous functions in its event loop, others in a thread. `process`: in a process
of its own, which is killed when the time is up or the step is not wanted any more."""

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_NUMBER: Final = r"(0|[1-9][0-9]{0,8})"
_PART: Final = r"(0|[1-9][0-9]{0,8}|[0-9]{0,20}[A-Za-z-][0-9A-Za-z-]{0,20})"
#: Semantic Versioning 2.0.0 without build metadata
_VERSION: Final = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PART}(\.{_PART})?)?")
_PARAMETERS: Final = ("configuration", "input", "context")

Declared = TypeVar("Declared")


class DeclarationError(TypeError):
    """A plugin is not declared as it must be; the message says what to change."""


class Configuration(BaseModel):
    """
    Base of a plugin's configuration: frozen, refuses keys it does not know, and is camelCase in JSON as definitions are.

    >>> class Limits(Configuration):
    ...     retry_count: int = 1
    >>> Limits.model_validate({"retryCount": 2}).retry_count
    2
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class Nothing(Configuration):
    """The configuration of a plugin that has none."""


class Plugin:
    """A declared plugin. Made by `plugin`; calling it calls what was declared, as a test of it may."""

    def __init__(
        self,
        target: Callable[..., Any] | type,
        id: str,
        *,
        title: str,
        version: str,
        description: str = "",
        timeout: float = 60.0,
        isolation: Isolation = "thread",
        memory: int | None = None,
    ) -> None:
        if not _ID.fullmatch(id):
            raise DeclarationError(
                f"{id!r} cannot be a plugin's id; use letters, digits and `_.-`, as in `acme.credit_check`."
            )
        if not title.strip() or len(title) > 200:
            raise DeclarationError(f"The title of {id} needs 1 to 200 characters.")
        if not _VERSION.fullmatch(version):
            raise DeclarationError(f"{version!r} is no version of {id}; give a semantic one, as `1.0.0`.")
        if isinstance(timeout, bool) or not 0 < timeout <= TIMEOUT_MAX:
            raise DeclarationError(f"The timeout of {id} is a number of seconds up to {TIMEOUT_MAX:,.0f}.")
        if isolation not in ("thread", "process"):
            raise DeclarationError(f"The isolation of {id} is `thread` or `process`, not {isolation!r}.")
        if memory is not None:
            if isolation != "process":
                raise DeclarationError(f'The memory of {id} can be bounded with `isolation="process"` only.')
            if isinstance(memory, bool) or not isinstance(memory, int) or not MEMORY_MIN <= memory <= MEMORY_MAX:
                raise DeclarationError(
                    f"The memory of {id} is a whole number of MiB from {MEMORY_MIN} to {MEMORY_MAX:,}."
                )
        self.id = id
        self.title = title
        self.version = version
        self.timeout = float(timeout)
        self.isolation: Isolation = isolation
        self.memory = memory
        self.target = target
        self.description = description or inspect.cleandoc(target.__doc__ or "")
        for text in (title, self.description):
            if told(text) != text:
                raise DeclarationError(f"A text of {id} holds a character that cannot be kept: {told(text)[:100]!r}.")
        if len(self.description) > DESCRIPTION_MAX:
            raise DeclarationError(f"The description of {id} has more than {DESCRIPTION_MAX:,} characters.")
        function = _function(target, id)
        self.is_async = inspect.iscoroutinefunction(function)
        hints = _hints(function, id)
        self.parameters = _parameters(function, id, bound=inspect.isclass(target))
        wants = set(self.parameters)
        self.configuration = _adapter(
            hints.get("configuration", dict[str, Any]) if "configuration" in wants else Nothing, id, "configuration"
        )
        self.input = _adapter(hints.get("input", dict[str, Any]), id, "input")
        self.output = _adapter(hints.get("return", Any), id, "output")
        self.configuration_schema = _schema(self.configuration, id, "configuration", "validation")
        self.input_schema = _schema(self.input, id, "input", "validation")
        self.output_schema = _schema(self.output, id, "output", "serialization")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call what was declared."""
        return self.target(*arguments, **named)

    def __repr__(self) -> str:
        return f"<Plugin {self.id} {self.version}>"

    def make(self) -> tuple[Callable[..., Any], Callable[[], Any] | None]:
        """The function to call, and what is called in the end. A class is made into an object here, without arguments."""
        if not inspect.isclass(self.target):
            return self.target, None
        made: Any = self.target()
        return made.run, getattr(made, "close", None)


def plugin(
    id: str,
    *,
    title: str,
    version: str,
    description: str = "",
    timeout: float = 60.0,
    isolation: Isolation = "thread",
    memory: int | None = None,
) -> Callable[[Callable[..., Any] | type], Plugin]:
    """
    Declare a function, or a class with a method `run`, as a plugin.

    `id` is what a step's `pluginId` says, and the entry point's name. `description` is the docstring where none is given.
    `timeout` is in seconds for one attempt; the step's `timeoutMinutes` and the engine's `execution.max_step_execution_time`
    may be shorter. `memory`, in MiB, bounds what a plugin in a process of its own may have. A class is made once for each
    node (with `process`: once for each attempt), used by several attempts at a time, and its `close` is called in the end.
    Raises `DeclarationError`.
    """

    def declare(target: Callable[..., Any] | type) -> Plugin:
        return Plugin(
            target,
            id,
            title=title,
            version=version,
            description=description,
            timeout=timeout,
            isolation=isolation,
            memory=memory,
        )

    return declare


def _function(target: Any, id: str) -> Callable[..., Any]:
    if inspect.isclass(target):
        run = getattr(target, "run", None)
        if not callable(run):
            raise DeclarationError(f"The class of {id} needs a method `run`.")
        made: Callable[..., Any] = run
        return made
    if not inspect.isfunction(target):
        raise DeclarationError(f"{id} is declared on {target!r}; it takes a function, or a class with a method `run`.")
    return target


def _hints(function: Callable[..., Any], id: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        raise DeclarationError(f"The annotations of {id} cannot be read: {error}") from error


def _parameters(function: Callable[..., Any], id: str, *, bound: bool) -> tuple[str, ...]:
    found = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    for parameter in found:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DeclarationError(f"The parameter `{parameter.name}` of {id} must be one that can be given by name.")
        if parameter.name not in _PARAMETERS and parameter.default is parameter.empty:
            raise DeclarationError(
                f"The parameter `{parameter.name}` of {id} is none of `configuration`, `input`, `context`."
            )
    return tuple(parameter.name for parameter in found if parameter.name in _PARAMETERS)


def _adapter(hint: Any, id: str, what: str) -> TypeAdapter[Any]:
    if hint is Context:
        raise DeclarationError(f"The {what} of {id} cannot be a Context.")
    try:
        return TypeAdapter(hint)
    except Exception as error:  # pydantic raises of many kinds for types it has no schema for
        raise DeclarationError(f"The type of the {what} of {id} is none that pydantic understands: {error}") from error


def _schema(
    adapter: TypeAdapter[Any], id: str, what: str, mode: Literal["validation", "serialization"]
) -> dict[str, Any]:
    try:
        schema = adapter.json_schema(by_alias=True, mode=mode)
        size = len(msgspec.json.encode(schema))
    except Exception as error:  # as above
        raise DeclarationError(f"The {what} of {id} has no JSON Schema: {error}") from error
    if size > SCHEMA_MAX:
        raise DeclarationError(f"The JSON Schema of the {what} of {id} has more than {SCHEMA_MAX:,} bytes.")
    return schema
