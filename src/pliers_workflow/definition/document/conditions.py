"""Conditions and guards."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, StrictInt

from .words import Document, Expression, Name


class ConditionExpression(Document):
    """A condition in one of three forms (spec: Conditional Execution).

    `simple` compares a field with a value and compiles to CEL; `complex` is a CEL expression; `script` is Python that
    runs in a sandbox with time and memory limits and whose last expression is the answer.
    """

    type: Literal["simple", "complex", "script"]
    #: simple: path of the field, e.g. `data.amount`; a path without a known root is below `data`
    field: str | None = None
    operator: (
        Literal[
            "equals",
            "not_equals",
            "greater_than",
            "greater_than_or_equal",
            "less_than",
            "less_than_or_equal",
            "in",
            "not_in",
            "contains",
            "not_contains",
            "starts_with",
            "ends_with",
            "matches",
            "exists",
            "not_exists",
            "is_empty",
            "is_not_empty",
            "between",
        ]
        | None
    ) = None
    #: simple: what the field is compared with; a list for `in`, `not_in` and `between`
    value: Any = None
    #: complex: the CEL expression
    expression: Expression | None = None
    #: script: the source
    script: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None


#: CEL as a string, or a condition object.
Condition: TypeAlias = Expression | ConditionExpression


class GuardFunction(Document):
    """A named guard that transitions refer to (spec: Guard Functions)."""

    name: str | None = None
    description: str | None = None
    #: what must hold; the specification's `evaluate` as data
    condition: Condition
    #: names of guards that must hold before this one is asked
    dependencies: tuple[Name, ...] = ()
    #: script conditions: milliseconds the sandbox may take
    timeout: Annotated[StrictInt, Field(gt=0, le=10_000)] | None = None
