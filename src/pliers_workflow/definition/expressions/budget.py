"""What one interpretation may cost, counted and not timed: the same input stops at the same place on every machine."""

from __future__ import annotations

from .errors import BudgetExceeded


class Budget:
    """Steps and bytes that are left, shared by everything in one interpretation.

    A step is one node of an expression, or one element that a macro, a comparison or a function looks at. Nodes are
    charged when an expression begins, elements as they come. Bytes are charged for strings, lists and maps that are
    built, before they are.

    >>> budget = Budget(steps=10)
    >>> budget.spend(4)
    >>> budget.steps
    6
    """

    __slots__ = ("bytes", "steps")

    def __init__(self, steps: int, bytes: int = 4_000_000) -> None:
        #: remaining; negative once it is exceeded
        self.steps = steps
        #: remaining
        self.bytes = bytes

    def spend(self, steps: int) -> None:
        """Take `steps`; raises `BudgetExceeded` when they are not there."""
        self.steps -= steps
        if self.steps < 0:
            raise BudgetExceeded("the step budget is spent: the expression, or the data it walks, is too large")

    def spend_bytes(self, count: int) -> None:
        """Take `count` bytes for something about to be built; raises `BudgetExceeded` when they are not there."""
        self.bytes -= count
        if self.bytes < 0:
            raise BudgetExceeded(
                "the memory budget is spent: the expression builds strings or lists that are too large"
            )
