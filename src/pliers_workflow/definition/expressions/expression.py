"""A compiled expression: what guards, mappings and assignments hold, shared by all instances of a definition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from .budget import Budget
from .compiling import Compiler
from .errors import BudgetExceeded, ExpressionError
from .functions import NAMESPACES
from .parsing import parse
from .syntax import Bind, Call, Comprehension, Identifier, Index, Literal, Node, OptionalMap, Select
from .values import TYPE_VALUES, finished

#: Results that leave an expression as they are.
_PLAIN: Final = frozenset({bool, int, Decimal, str, bytes, type(None), datetime, timedelta})


def compile_expression(source: str) -> Expression:
    """Compile the text of an expression.

    Raises `ExpressionSyntaxError`, whose message gives line and column, for text that is no expression, or is too long
    (4,000 characters) or nested too deeply (100 levels). Unknown names and functions are no syntax errors: they are
    `ExpressionError` when they are evaluated, and findings of `check_expression` before.

    >>> expression = compile_expression("data.amount > 1000 && 'manager' in user.roles")
    >>> expression({"data": {"amount": 1500}, "user": {"roles": ["manager"]}}, Budget(steps=100))
    True
    >>> sorted(expression.roots)
    ['data', 'user']
    """
    return Expression(source)


class Expression:
    """Immutable; safe to share between threads and instances."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree: Final = parse(source)
        compiler = Compiler(source)
        code = compiler.compile(self.tree)
        self._run = code.run
        #: steps that one evaluation takes, without those of macros and functions
        self.cost: Final = code.cost
        self._slots = [None] * compiler.slots

    def __call__(self, scope: Mapping[str, Any], budget: Budget) -> Any:
        """The value of the expression: None, bool, int, Decimal, str, bytes, datetime, timedelta, list or dict.

        Lists and dicts may be those of the scope: do not change them. Raises `ExpressionError` where there is no value,
        `BudgetExceeded` where it would cost too much.
        """
        left = budget.steps - self.cost
        budget.steps = left
        if left < 0:
            raise BudgetExceeded("the step budget is spent: too much is evaluated in one go")
        try:
            result = self._run([scope, budget, *self._slots])
            return result if type(result) in _PLAIN else finished(result, budget)
        except RecursionError:
            raise ExpressionError("the data is nested too deeply") from None
        except ArithmeticError as error:
            raise ExpressionError(f"the numbers are out of range ({type(error).__name__})") from None

    def explain(self, scope: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
        """Say how the value came about: see `explaining.explain`."""
        from .explaining import explain

        return explain(self, scope, budget)

    @cached_property
    def reads(self) -> frozenset[tuple[str, ...]]:
        """The paths it reads, each as long as it is known: `data.lines[0].price` reads `("data", "lines")`."""
        found: set[tuple[str, ...]] = set()
        _reads(self.tree, frozenset(), found)
        return frozenset(found)

    @cached_property
    def roots(self) -> frozenset[str]:
        """The names at the beginning of those paths: what the scope must hold."""
        return frozenset(path[0] for path in self.reads)

    def __repr__(self) -> str:
        return f"<Expression {self.source}>"


def read_path(node: Node, variables: frozenset[str]) -> tuple[str, ...] | None:
    """The path that `node` reads from the scope, where it is a chain of fields from a root."""
    names: list[str] = []
    while True:
        match node:
            case Select(operand=below, field=field):
                names.append(field)
                node = below
            case Index(operand=below, key=Literal(value=str() as field)):
                names.append(field)
                node = below
            case Identifier(name=name, absolute=absolute) if (absolute or name not in variables) and (
                name not in TYPE_VALUES
            ):
                return (name, *reversed(names))
            case _:
                return None


def _reads(node: Node, variables: frozenset[str], found: set[tuple[str, ...]]) -> None:
    path = read_path(node, variables)
    if path is not None:
        found.add(path)
        return
    match node:
        case Comprehension(range=over, variable=name, predicate=predicate, transform=transform):
            _reads(over, variables, found)
            for part in (predicate, transform):
                if part is not None:
                    _reads(part, variables | {name}, found)
        case Bind(variable=name, value=value, body=body):
            _reads(value, variables, found)
            _reads(body, variables | {name}, found)
        case OptionalMap(operand=operand, variable=name, body=body):
            _reads(operand, variables, found)
            _reads(body, variables | {name}, found)
        case Call(target=Identifier(name=name), arguments=arguments) if name in NAMESPACES and name not in variables:
            for argument in arguments:
                _reads(argument, variables, found)
        case _:
            for child in node.children():
                _reads(child, variables, found)
