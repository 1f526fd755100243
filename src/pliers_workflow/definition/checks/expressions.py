"""Every expression of the document: that it is CEL, and that it fits the data it will see."""

from __future__ import annotations

import ast
from typing import Any, TypeAlias

from ..document import ConditionExpression, GuardFunction, ParallelExecution, WorkflowDefinition
from ..expressions import (
    Environment,
    ExpressionFinding,
    ExpressionSyntaxError,
    check_expression,
    simple_condition,
)
from ..findings import Findings, Severity, pointer
from ..sharing import shared_expression
from ..step_walking import StepWalk, step_conditions, step_expressions
from ..tree import Tree
from ..walking import Expected, conditions, expressions

#: an expression's problems: (severity, code, message, hint)
_Problems: TypeAlias = tuple[tuple[Severity, str, str, str | None], ...]


def check(
    definition: WorkflowDefinition, tree: Tree, walk: StepWalk, findings: Findings, *, schema_holds: bool
) -> None:
    """See the module. Without a usable schema only the syntax is checked."""
    outside = {"steps": _steps(walk.seen_outside)} if walk.all else None
    checker = Checker(Environment(definition.data_schema, roots=outside) if schema_holds else None)
    for at, condition in conditions(definition, tree):
        if isinstance(condition, str):
            report(checker.problems(condition, "bool"), at, findings)
        else:
            _condition(condition, at, checker, findings)
    for placed in expressions(definition, tree):
        report(checker.problems(placed.source, placed.expected), placed.pointer, findings)
    for name, guard in definition.state_machine.guards.items():
        _timeout(name, guard, findings)
    _of_steps(definition, walk, findings, schema_holds=schema_holds)


def _of_steps(definition: WorkflowDefinition, walk: StepWalk, findings: Findings, *, schema_holds: bool) -> None:
    """Expressions of steps see more: other steps, elements of loops, their own output. What it is depends on the place."""
    checkers: dict[tuple[frozenset[str], frozenset[str], bool], Checker] = {}
    reported: set[tuple[str, str]] = set()

    def checker(ids: frozenset[str], names: frozenset[str], by_event: bool) -> Checker:
        key = (ids, names, by_event)
        found = checkers.get(key)
        if found is None:
            roots = {"steps": _steps(ids), **dict.fromkeys(names)}
            # Only what an event begins sees one: another attempt would see another trigger.
            without = () if by_event else ("event",)
            environment = Environment(definition.data_schema, roots=roots, without=without) if schema_holds else None
            found = checkers[key] = Checker(environment)
        return found

    for placed in walk.all:
        ids, variables, by_event = walk.visible(placed), placed.place.variables, placed.place.state is None
        # A step in several places is written once, and told once of each mistake.
        found = Findings()
        for at, condition in step_conditions(placed):
            if isinstance(condition, str):
                report(checker(ids, variables, by_event).problems(condition, "bool"), at, found)
            else:
                _condition(condition, at, checker(ids, variables, by_event), found)
        for expression, names in step_expressions(placed):
            if isinstance(placed.step, ParallelExecution) and "branches" in names:
                roots = {"steps": _steps(ids), **dict.fromkeys(variables), **_branches(placed.step)}
                environment = Environment(definition.data_schema, roots=roots, without=("event",))
                one_off = Checker(environment if schema_holds else None)
                report(one_off.problems(expression.source, expression.expected), expression.pointer, found)
                continue
            problems = checker(ids, variables | names, by_event).problems(expression.source, expression.expected)
            report(problems, expression.pointer, found)
        for one in found.all:
            if (one.pointer, one.message) not in reported:
                reported.add((one.pointer, one.message))
                findings.add(one.severity, one.code, one.pointer, one.message, one.hint)


def _branches(step: ParallelExecution) -> dict[str, Any]:
    """What a `completionCondition` sees, as JSON Schemas."""
    branch = {
        "type": "object",
        "properties": {
            "status": {"enum": ["completed", "failed", "skipped", "running"]},
            "output": {},
            "error": {},
            "weight": {"type": "number"},
        },
        "additionalProperties": False,
    }
    ids = [each.id for each in step.branches]
    return {
        "branches": {"type": "object", "properties": dict.fromkeys(ids, branch), "additionalProperties": False},
        "counts": {
            "type": "object",
            "properties": {key: {"type": "integer"} for key in ("total", "completed", "failed", "running")},
            "additionalProperties": False,
        },
    }


def _steps(ids: frozenset[str]) -> dict[str, Any]:
    """What `steps` is, as a JSON Schema: finished steps by id."""
    ended = {
        "type": "object",
        "properties": {"status": {"enum": ["completed", "failed", "skipped"]}, "output": {}, "error": {}},
        "additionalProperties": False,
    }
    return {"type": "object", "properties": dict.fromkeys(ids, ended), "additionalProperties": False}


class Checker:
    """Checks each expression once, however often it stands in the document."""

    def __init__(self, environment: Environment | None) -> None:
        self._environment = environment
        self._known: dict[tuple[str, Expected], _Problems] = {}

    def problems(self, source: str, expected: Expected) -> _Problems:
        """What is wrong with an expression."""
        key = (source, expected)
        if key not in self._known:
            self._known[key] = self._check(source, expected)
        return self._known[key]

    def _check(self, source: str, expected: Expected) -> _Problems:
        try:
            expression = shared_expression(source)
        except ExpressionSyntaxError as error:
            return (("error", "bad_expression", _sentence(str(error)), None),)
        if self._environment is None:
            return ()
        found: list[ExpressionFinding] = check_expression(expression, self._environment, expected)
        return tuple((one.severity, "expression_mismatch", _sentence(one.message), _hint(one)) for one in found)


def report(problems: _Problems, at: str, findings: Findings) -> None:
    """Add an expression's problems to the findings."""
    for severity, code, message, hint in problems:
        findings.add(severity, code, at, message, hint)


def _sentence(message: str) -> str:
    message = message[:1].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else message + "."


def _hint(finding: ExpressionFinding) -> str:
    place = f"At character {finding.position + 1} of the expression."
    return place if finding.hint is None else f"{_sentence(finding.hint)} {place}"


def _condition(condition: ConditionExpression, at: str, checker: Checker, findings: Findings) -> None:
    needed = {"simple": ("field", "operator"), "complex": ("expression",), "script": ("script",)}[condition.type]
    allowed = {*needed, "value"} if condition.type == "simple" else {*needed}
    complete = True
    for key in ("field", "operator", "value", "expression", "script"):
        given = key in condition.model_fields_set and getattr(condition, key) is not None
        if key in needed and not given:
            complete = False
            findings.error(
                "bad_condition", f"{at}/{key}", f"A {condition.type} condition needs `{key}`.", f"Add `{key}`."
            )
        elif given and key not in allowed:
            findings.error(
                "bad_condition",
                f"{at}/{key}",
                f"`{key}` means nothing in a {condition.type} condition.",
                f"Remove it, or change `type`; a {condition.type} condition takes {', '.join(f'`{k}`' for k in sorted(allowed))}.",
            )
    if not complete:
        return
    if condition.type == "complex":
        assert condition.expression is not None
        report(checker.problems(condition.expression, "bool"), at + "/expression", findings)
    elif condition.type == "script":
        assert condition.script is not None
        problem = script_problem(condition.script)
        if problem is not None:
            findings.error("bad_script", at + "/script", problem)
    else:
        assert condition.field is not None
        assert condition.operator is not None
        try:
            source = simple_condition(condition.field, condition.operator, condition.value)
        except ValueError as error:
            findings.error("bad_condition", at, _sentence(str(error)))
        else:
            report(checker.problems(source, "bool"), at, findings)


def script_problem(source: str) -> str | None:
    """
    Say what keeps a text from being a script, or None.

    >>> script_problem("data['amount'] > 5") is None
    True
    >>> script_problem("x = 1")
    'The last line must be an expression: its value is the answer.'
    """
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        return f"Line {error.lineno or 1}: {error.msg}."
    except (ValueError, RecursionError, MemoryError):
        return "The script is nested too deeply to be read."
    if not body or not isinstance(body[-1], ast.Expr):
        return "The last line must be an expression: its value is the answer."
    return None


def _timeout(name: str, guard: GuardFunction, findings: Findings) -> None:
    scripted = isinstance(guard.condition, ConditionExpression) and guard.condition.type == "script"
    if guard.timeout is not None and not scripted:
        findings.warning(
            "timeout_without_script",
            pointer("stateMachine", "guards", name, "timeout"),
            "Only scripts are limited by `timeout`; expressions have a budget of their own.",
            "Remove it.",
        )
