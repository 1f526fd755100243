"""What a compiled node is: a function of a frame, with what it costs, folded to a constant where it can be.

A frame is a list: the scope, the budget, then one slot for each variable of a macro. Nodes outside macros run at most
once, so their steps are known beforehand: `Code.cost` is charged in one go when an expression begins, and the cost of
a macro's body with each element. That is what makes a budget cost nothing on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from .budget import Budget
from .errors import ExpressionError
from .values import a

#: `[scope, budget, slot, slot, …]`
Frame = list[Any]
Run = Callable[[Frame], Any]

SCOPE: Final = 0
BUDGET: Final = 1
FIRST_SLOT: Final = 2


class Code:
    """A compiled node."""

    __slots__ = ("constant", "cost", "run", "value")

    def __init__(self, run: Run, cost: int, constant: bool = False, value: Any = None) -> None:
        self.run = run
        #: steps of everything that runs at most once
        self.cost = cost
        #: always gives `value`
        self.constant = constant
        self.value = value


def constant(value: Any) -> Code:
    return Code(lambda frame: value, 1, True, value)


def fold(run: Run, parts: Iterable[Code]) -> Code:
    """The code of a pure node: a constant where all its parts are and the result is small."""
    parts = tuple(parts)
    cost = 1 + sum(part.cost for part in parts)
    if all(part.constant for part in parts):
        try:
            return constant(run([{}, Budget(1_000, 10_000)]))
        except Exception:  # noqa: BLE001  # whatever it is happens again, with a place, when it is evaluated
            pass
    return Code(run, cost)


def not_bool(value: Any, what: str, position: int) -> NoReturn:
    raise ExpressionError(f"{what} is {a(value)}, not a bool", position)
