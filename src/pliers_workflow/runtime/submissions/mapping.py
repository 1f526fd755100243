"""What a binding says, and what comes of it for one submission: pure, so that a retry comes to the same.

Condition and mappings are CEL over `submission` (the form's data), `metadata` (the definition's) and `now`. A mapping may
also be a bare path: `amount` is `submission.amount`, and a path that leads nowhere leaves its field out, where CEL that
reads a missing value is an error. Without a mapping for `submission` the form's data is the instance's data as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from pliers_workflow.definition.data import knows
from pliers_workflow.definition.expressions import (
    ROOTS as EXPRESSION_ROOTS,
)
from pliers_workflow.definition.expressions import (
    Budget,
    BudgetExceeded,
    Environment,
    Expression,
    ExpressionError,
    ExpressionSyntaxError,
    check_expression,
    compile_expression,
)
from pliers_workflow.definition.findings import Finding, pointer
from pliers_workflow.interpreter.draft import describe, plain

from ..storable import find_unstorable

#: What expressions of a binding may read.
ROOTS: Final = frozenset({"submission", "metadata", "now"})
#: fields one mapping may set
FIELDS_MAX: Final = 1000
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
#: what expressions elsewhere may read, and a binding may not
_STRANGERS: Final = frozenset(EXPRESSION_ROOTS) - ROOTS
_WORDS: Final = frozenset({"true", "false", "null"})
#: interpreter steps that one submission's condition and mappings may take together
_BUDGET_STEPS: Final = 20_000

Mapped = dict[str, Any]


class Failure(Exception):
    """A binding should start its workflow and cannot; `code` and message say why."""

    def __init__(self, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}


class Order(Struct, frozen=True, omit_defaults=True):
    """What a job needs to know of the binding that made it; the binding itself may be gone when it runs."""

    id: str
    workflow: str
    version: str | None = None
    condition: str | None = None
    mapping: dict[str, dict[str, str]] = {}


class Scope:
    """What the expressions of one binding see for one submission, and what they may spend."""

    def __init__(self, submission: Mapping[str, Any], metadata: Mapping[str, Any], now: datetime) -> None:
        self.values: dict[str, Any] = {"submission": submission, "metadata": metadata, "now": now}
        self.budget = Budget(_BUDGET_STEPS)


def holds(order: Order, scope: Scope) -> bool:
    """Say whether the condition holds; one that gives an error is a Failure, not false."""
    if order.condition is None:
        return True
    try:
        answer = _compiled(order.condition)(scope.values, scope.budget)
    except (ExpressionError, BudgetExceeded, ExpressionSyntaxError) as error:
        raise Failure("condition_error", f"The binding's condition gives an error: {error}.") from None
    if answer is not True and answer is not False:
        raise Failure(
            "condition_error", f"The binding's condition gives {describe(answer)} where true or false is wanted."
        )
    return answer is True


def mapped(order: Order, scope: Scope) -> tuple[Mapped, Mapped]:
    """Give instance data and context; raises Failure where a mapping gives an error or what cannot be kept."""
    fields = order.mapping.get("submission") or {}
    data = _apply(fields, scope, "data") if fields else dict(scope.values["submission"])
    return data, _apply(order.mapping.get("context") or {}, scope, "context")


def check(
    mapping: Mapping[str, Mapping[str, str]], condition: str | None, document: Mapping[str, Any] | None
) -> list[Finding]:
    """Say everything that is wrong with a binding's expressions; `document` is the definition it would start now."""
    findings: list[Finding] = []
    environment = Environment()
    if condition is not None:
        findings += _check_source(condition, "/condition", environment, "bool")
    schema = (document or {}).get("dataSchema")
    for root, fields in mapping.items():
        if root not in ("submission", "context"):
            findings.append(
                Finding(pointer("dataMapping", root), "unknown_key", "A mapping has `submission` and `context` only.")
            )
            continue
        if len(fields) > FIELDS_MAX:
            findings.append(Finding(pointer("dataMapping", root), "out_of_range", f"At most {FIELDS_MAX} fields."))
            continue
        for field, source in fields.items():
            at = pointer("dataMapping", root, field)
            if not _PATH.fullmatch(field) or len(field) > 500:
                findings.append(
                    Finding(
                        at, "bad_format", "A field is a dotted path of letters, digits and `_`: `traveller.department`."
                    )
                )
            elif root == "submission" and isinstance(schema, Mapping) and not knows(schema, tuple(field.split("."))):
                findings.append(
                    Finding(
                        at, "unknown_field", f"The data schema knows no {field}.", "Starts would be refused.", "warning"
                    )
                )
            path = _path_of(source)
            if path is None:
                findings += _check_source(source, at, environment, "any")
            elif source.partition(".")[0] in _STRANGERS:
                hint = "A binding has no such root; only if the form has a field of that name is this right."
                findings.append(
                    Finding(at, "expression_mismatch", f"`{source}` is read as `{'.'.join(path)}`.", hint, "warning")
                )
    return findings


def _check_source(source: str, at: str, environment: Environment, expected: Any) -> list[Finding]:
    if len(source) > 4000:
        return [Finding(at, "out_of_range", "An expression may have 4000 characters.")]
    try:
        expression = compile_expression(source)
    except ExpressionSyntaxError as error:
        return [Finding(at, "bad_expression", f"{error}.")]
    strangers = sorted(root for root in expression.roots if root not in ROOTS)
    if strangers:
        known = ", ".join(f"`{root}`" for root in sorted(ROOTS))
        return [
            Finding(
                at,
                "expression_mismatch",
                f"A binding's expression does not know `{strangers[0]}`.",
                f"It sees {known}.",
            )
        ]
    return [
        Finding(at, "expression_mismatch", f"{found.message}.", found.hint, found.severity)
        for found in check_expression(expression, environment, expected)
    ]


@lru_cache(maxsize=2048)
def _compiled(source: str) -> Expression:
    return compile_expression(source)


def _path_of(source: str) -> tuple[str, ...] | None:
    """The names of a bare path from its root on, or None for CEL."""
    if not _PATH.fullmatch(source) or source in _WORDS:
        return None
    names = tuple(source.split("."))
    return names if names[0] in ROOTS else ("submission", *names)


_NOTHING: Final = object()


def _apply(fields: Mapping[str, str], scope: Scope, what: str) -> Mapped:
    result: Mapped = {}
    for field, source in fields.items():
        path = _path_of(source)
        try:
            if path is not None:
                value = _follow(scope.values, path)
                if value is _NOTHING:
                    continue
            else:
                value = _compiled(source)(scope.values, scope.budget)
            value = plain(value)
        except (ExpressionError, BudgetExceeded, ExpressionSyntaxError) as error:
            raise Failure("mapping_error", f"The mapping of {what} field {field} gives an error: {error}.") from None
        put(result, field, value)
    if (finding := find_unstorable(result)) is not None:
        raise Failure("mapping_error", f"The mapping gives {what} that cannot be kept: {finding.message}")
    return result


def put(result: Mapped, field: str, value: Any) -> None:
    """Set a field by its dotted path; raises Failure where something else than a map is in the way."""
    here = result
    *above, last = field.split(".")
    for name in above:
        below = here.get(name, {})
        if not isinstance(below, dict):
            raise Failure("mapping_error", f"The mapping cannot set {field}: {name} is {describe(below)}, not a map.")
        # A copy: what another mapping has put there may belong to the submission.
        below = dict(below)
        here[name] = below
        here = below
    here[last] = value


def _follow(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = values
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return _NOTHING
        found = found[name]
    return found
