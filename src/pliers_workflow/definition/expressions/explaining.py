"""Why an expression came to its value: the smallest sub-conditions that made it so, with the values they read.

A false `a && b` is explained by its false operands alone, a true one by all; `||` the other way round; `all` by the
first element that breaks it. What is no logic any more (a comparison, a function, a field) is a cause.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from . import times
from .budget import Budget
from .calling import elements
from .code import BUDGET, FIRST_SLOT, SCOPE, Frame
from .compiling import Compiler
from .errors import ExpressionError
from .expression import read_path
from .syntax import Bind, Comprehension, Conditional, Logic, Node, Not
from .values import Optional, TypeValue, adapt

if TYPE_CHECKING:
    from .expression import Expression

#: What an explanation shows of a long text or list.
_TEXT_MAX: Final = 500
_ITEMS_MAX: Final = 20
_CAUSES_MAX: Final = 50


def explain(expression: Expression, scope: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """Evaluate once more and give the reasons, ready for JSON (decimals stay decimals, instants become text).

    - `expression`: the source; `value`, or `error` with the sentence why there is none
    - `because`: the causes, each `{"expression", "value"}` or `{"expression", "error"}`; inside a macro also `where`,
      the variable's value
    - `reads`: by path, the values that the causes read; missing ones are left out

    Takes from the budget like an evaluation; raises `BudgetExceeded` only.
    """
    answer: dict[str, Any] = {"expression": expression.source}
    because = _Because(expression.source, scope, budget)
    try:
        answer["value"] = shown(expression(scope, budget))
    except ExpressionError as error:
        answer["error"] = error.message
    because.find(expression.tree, {}, {})
    answer["because"] = because.causes[:_CAUSES_MAX]
    answer["reads"] = because.reads
    return answer


class _Because:
    """Walks down the logic of an expression and collects causes."""

    def __init__(self, source: str, scope: Mapping[str, Any], budget: Budget) -> None:
        self.source = source
        self.scope = scope
        self.budget = budget
        self.causes: list[dict[str, Any]] = []
        self.reads: dict[str, Any] = {}

    def value(self, node: Node, bound: Mapping[str, Any]) -> Any:
        """The value of `node` where these variables have these values; an error is returned, not raised."""
        slots = {name: FIRST_SLOT + index for index, name in enumerate(bound)}
        compiler = Compiler(self.source, slots, len(bound))
        code = compiler.compile(node)
        self.budget.spend(code.cost)
        frame: Frame = [None] * (FIRST_SLOT + compiler.slots)
        frame[SCOPE], frame[BUDGET] = self.scope, self.budget
        frame[FIRST_SLOT : FIRST_SLOT + len(bound)] = bound.values()
        try:
            return code.run(frame)
        except ExpressionError as error:
            return error
        except (ArithmeticError, RecursionError) as error:
            return ExpressionError(f"the numbers or the data are out of range ({type(error).__name__})")

    def find(self, node: Node, bound: dict[str, Any], where: dict[str, Any]) -> None:
        """Add the causes of `node`'s value."""
        if len(self.causes) >= _CAUSES_MAX:
            return
        match node:
            case Logic(operator=operator, operands=operands):
                values = [self.value(operand, bound) for operand in operands]
                decisive = operator == "||"
                if any(value is decisive for value in values):
                    wanted = [value is decisive for value in values]
                else:
                    failed = [isinstance(value, ExpressionError) or not isinstance(value, bool) for value in values]
                    wanted = failed if any(failed) else [True] * len(values)
                for operand, reason in zip(operands, wanted, strict=True):
                    if reason:
                        self.find(operand, bound, where)
            case Not(operand=operand):
                self.find(operand, bound, where)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                self.find(condition, bound, where)
                value = self.value(condition, bound)
                if isinstance(value, bool):
                    self.find(then if value else otherwise, bound, where)
            case Bind(variable=name, value=given, body=body):
                value = self.value(given, bound)
                if isinstance(value, ExpressionError):
                    self.add(given, value, bound, where)
                else:
                    self.find(body, {**bound, name: value}, where)
            case Comprehension(kind="all" | "exists" as kind) if self.element(node, kind, bound, where):
                pass
            case _:
                self.add(node, self.value(node, bound), bound, where)

    def element(self, node: Comprehension, kind: str, bound: dict[str, Any], where: dict[str, Any]) -> bool:
        """Explain `all` and `exists` by the element that decided; False where none did."""
        over = self.value(node.range, bound)
        assert node.predicate is not None
        if isinstance(over, ExpressionError):
            return False
        decisive = kind == "exists"
        try:
            items = list(elements(over, node))
        except ExpressionError:
            return False
        for item in items:
            self.budget.spend(1)
            inner = {**bound, node.variable: adapt(item)}
            if self.value(node.predicate, inner) is decisive:
                self.note_reads(node.range, bound)
                self.find(node.predicate, inner, {**where, node.variable: shown(item)})
                return True
        return False

    def add(self, node: Node, value: Any, bound: Mapping[str, Any], where: dict[str, Any]) -> None:
        cause: dict[str, Any] = {"expression": self.source[node.start : node.end]}
        if isinstance(value, ExpressionError):
            cause["error"] = value.message
        else:
            cause["value"] = shown(value)
        if where:
            cause["where"] = where
        self.causes.append(cause)
        self.note_reads(node, bound)

    def note_reads(self, node: Node, bound: Mapping[str, Any]) -> None:
        path = read_path(node, frozenset(bound))
        if path is not None:
            value = self.value(node, bound)
            if not isinstance(value, ExpressionError):
                self.reads[".".join(path)] = shown(value)
            return
        inner: Mapping[str, Any] = bound
        if isinstance(node, Comprehension | Bind):
            inner = {**bound, node.variable: None}
        for child in node.children():
            self.note_reads(child, inner)


def shown(value: Any, depth: int = 4) -> Any:
    """A value as an explanation shows it: ready for JSON, long ones cut short."""
    match value:
        case None | bool():
            return value
        case datetime():
            return times.format_timestamp(value)
        case timedelta():
            return times.format_duration(value)
        case bytes():
            return shown(base64.b64encode(value[:_TEXT_MAX]).decode())
        case str():
            return value if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]}… ({len(value)} characters)"
        case int():
            return int(value)
        case TypeValue():
            return value.name
        case Optional():
            return shown(value.value, depth) if value.present else None
        case list() | dict() if depth == 0:
            return f"… ({len(value)} elements)"
        case list():
            items = [shown(item, depth - 1) for item in value[:_ITEMS_MAX]]
            return items if len(value) <= _ITEMS_MAX else [*items, f"… ({len(value)} elements)"]
        case dict():
            keys = list(value)[:_ITEMS_MAX]
            entries = {str(key): shown(value[key], depth - 1) for key in keys}
            return entries if len(value) <= _ITEMS_MAX else {**entries, "…": f"({len(value)} entries)"}
        case _:
            return adapt(value)
