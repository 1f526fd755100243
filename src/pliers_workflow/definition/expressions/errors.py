"""What can go wrong with an expression, by who can act: the author (syntax), the data (value), the operator (budget)."""

from __future__ import annotations


class ExpressionSyntaxError(ValueError):
    """The text is no expression of our language. The message says where and what was expected."""

    def __init__(self, message: str, position: int = 0, source: str = "") -> None:
        before = source[:position]
        #: 1-based, for people
        self.line = before.count("\n") + 1
        self.column = position - (before.rfind("\n") + 1) + 1
        #: characters before the place, from 0
        self.position = position
        super().__init__(f"line {self.line}, column {self.column}: {message}" if source else message)


class ExpressionError(Exception):
    """An evaluation has no value: something is missing, of the wrong type, out of range, or divided by zero.

    `position` counts characters from the beginning of the expression, where it is known.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position

    def at(self, position: int) -> ExpressionError:
        """The same error, placed: the innermost place wins."""
        if self.position is None:
            self.position = position
        return self


class BudgetExceeded(Exception):
    """The evaluation took more steps, or built more, than the command may; simplify the expression or the data.

    Not an `ExpressionError`: no operator absorbs it, so `true || huge` cannot hide what it costs.
    """
