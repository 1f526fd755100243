"""Which events a subscription wants: by type, by workflow, by a condition. Pure.

A condition is CEL over `event`, the CloudEvent with all its data. One that gives an error for an event does not hold for
it: a condition about `event.data.toState` is not about events that have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pliers_workflow.definition.expressions import (
    Budget,
    BudgetExceeded,
    Environment,
    ExpressionError,
    ExpressionSyntaxError,
    check_expression,
    compile_expression,
)
from pliers_workflow.definition.findings import Finding, pointer

#: interpreter steps that a condition may take for one event
_BUDGET_STEPS: Final = 5_000
_LENGTH_MAX: Final = 4_000
_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,199}(\.\*)?")
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,254}")
_MANY: Final = 200


class Filter:
    """Made once for a subscription, asked for every event."""

    def __init__(self, event_types: Sequence[str], definitions: Sequence[str], condition: str | None) -> None:
        self._exact = frozenset(type_ for type_ in event_types if not type_.endswith(".*"))
        self._prefixes = tuple(type_[:-1] for type_ in event_types if type_.endswith(".*"))
        self._definitions = frozenset(definitions)
        self._condition = compile_expression(condition) if condition is not None else None

    def wants(self, type_: str, definition: str | None, event: Callable[[], Mapping[str, Any]]) -> bool:
        """Whether it wants an event of this type and workflow; `event` gives the event for a condition."""
        if (self._exact or self._prefixes) and type_ not in self._exact and not type_.startswith(self._prefixes):
            return False
        if self._definitions and definition not in self._definitions:
            return False
        if self._condition is None:
            return True
        try:
            return self._condition({"event": event()}, Budget(_BUDGET_STEPS)) is True
        except (ExpressionError, BudgetExceeded):
            return False


def check(event_types: Sequence[str], definitions: Sequence[str], condition: str | None) -> list[Finding]:
    """Everything that is wrong with a filter."""
    findings: list[Finding] = []
    for name, words, form, what in (
        ("eventTypes", event_types, _TYPE, "a type of event, nor a prefix that ends in `.*`"),
        ("definitions", definitions, _NAME, "the name of a workflow"),
    ):
        if len(words) > _MANY:
            findings.append(Finding(pointer(name), "out_of_range", f"At most {_MANY} of them."))
        for index, word in enumerate(words[:_MANY]):
            if not form.fullmatch(word):
                findings.append(Finding(pointer(name, index), "bad_format", f"{word[:100]!r} is not {what}."))
    if condition is not None:
        findings += _check_condition(condition)
    return findings


def _check_condition(condition: str) -> list[Finding]:
    at = pointer("condition")
    if len(condition) > _LENGTH_MAX:
        return [Finding(at, "out_of_range", f"An expression may have {_LENGTH_MAX} characters.")]
    try:
        expression = compile_expression(condition)
    except ExpressionSyntaxError as error:
        return [Finding(at, "bad_expression", f"{error}.")]
    strangers = sorted(expression.roots - {"event"})
    if strangers:
        hint = "It sees `event`: the CloudEvent with its data."
        return [Finding(at, "expression_mismatch", f"A condition does not know `{strangers[0]}`.", hint)]
    return [
        Finding(at, "expression_mismatch", f"{found.message}.", found.hint, found.severity)
        for found in check_expression(expression, Environment(roots={"event": None}), "bool")
    ]
