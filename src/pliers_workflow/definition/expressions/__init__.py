"""CEL, the Common Expression Language: conditions, guards, mappings and dynamic approvers are written in it.

Parsed by a grammar (`cel.lark`), compiled to closures (`compiling`), bounded by a budget of steps and bytes, checked
against the data's JSON Schema before anything runs (`checking`), and able to say why a condition was false
(`explaining`). Numbers are exact. Nothing here knows a clock, a network or an attribute of a Python object.
"""

from __future__ import annotations

from .budget import Budget
from .checking import ExpressionFinding, check_expression
from .environment import Environment, event_environment, key_environment
from .errors import BudgetExceeded, ExpressionError, ExpressionSyntaxError
from .expression import Expression, compile_expression
from .simple import ROOTS, cel_literal, simple_condition

__all__ = [
    "ROOTS",
    "Budget",
    "BudgetExceeded",
    "Environment",
    "Expression",
    "ExpressionError",
    "ExpressionFinding",
    "ExpressionSyntaxError",
    "cel_literal",
    "check_expression",
    "compile_expression",
    "event_environment",
    "key_environment",
    "simple_condition",
]
