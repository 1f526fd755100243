"""Operators, compiled: strict in types, except that `&&` and `||` absorb an error where the other side decides."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from . import values
from .code import Code, Frame, Run, fold, not_bool
from .errors import ExpressionError
from .syntax import Binary, Conditional, Logic, Negate, Not
from .values import NUMBERS, contains, equal

if TYPE_CHECKING:
    from .compiling import Compiler


_COMPARISONS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_ARITHMETIC: Final = {
    "+": values.add,
    "-": values.subtract,
    "*": values.multiply,
    "/": values.divide,
    "%": values.modulo,
}


# -- logic -------------------------------------------------------------------------------------------------------------


def compile_logic(compiler: Compiler, node: Logic) -> Code:
    parts = [compiler.compile(operand) for operand in node.operands]
    #: the value that decides alone
    decisive = node.operator == "||"
    name = f"an operand of {node.operator}"
    if len(parts) == 2:
        left, right = parts[0].run, parts[1].run
        left_at, right_at = (operand.start for operand in node.operands)

        def both(frame: Frame) -> Any:
            try:
                value = left(frame)
                if value is decisive:
                    return decisive
                if value is not True and value is not False:
                    not_bool(value, name, left_at)
            except ExpressionError:
                if right(frame) is decisive:
                    return decisive
                raise
            value = right(frame)
            if value is True or value is False:
                return value
            return not_bool(value, name, right_at)

        return fold(both, parts)
    runs = tuple((part.run, operand.start) for part, operand in zip(parts, node.operands, strict=True))

    def chain(frame: Frame) -> Any:
        failed: ExpressionError | None = None
        for run, position in runs:
            try:
                value = run(frame)
                if value is decisive:
                    return decisive
                if value is not True and value is not False:
                    not_bool(value, name, position)
            except ExpressionError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decisive

    return fold(chain, parts)


def compile_not(compiler: Compiler, node: Not) -> Code:
    part = compiler.compile(node.operand)
    run = part.run

    def invert(frame: Frame) -> bool:
        value = run(frame)
        if value is True:
            return False
        if value is False:
            return True
        return not_bool(value, "the operand of !", node.start)

    return fold(invert, [part])


def compile_conditional(compiler: Compiler, node: Conditional) -> Code:
    parts = [compiler.compile(child) for child in (node.condition, node.then, node.otherwise)]
    condition, then, otherwise = (part.run for part in parts)

    def choose(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return then(frame)
        if value is False:
            return otherwise(frame)
        return not_bool(value, "the condition of ? :", node.start)

    return fold(choose, parts)


# -- operators ---------------------------------------------------------------------------------------------------------


def compile_negate(compiler: Compiler, node: Negate) -> Code:
    part = compiler.compile(node.operand)
    run = part.run

    def negate(frame: Frame) -> Any:
        try:
            return values.negate(run(frame))
        except ExpressionError as error:
            raise error.at(node.start) from None

    return fold(negate, [part])


def compile_binary(compiler: Compiler, node: Binary) -> Code:
    left, right = compiler.compile(node.left), compiler.compile(node.right)
    if node.operator in _COMPARISONS:
        run = _comparison(node, left, right)
    elif node.operator in ("==", "!="):
        run = _equality(node, left, right)
    elif node.operator == "in":
        run = _membership(node, left, right)
    else:
        run = _arithmetic(node, left, right)
    return fold(run, [left, right])


def _comparison(node: Binary, left: Code, right: Code) -> Run:
    compare, symbol, position = _COMPARISONS[node.operator], node.operator, node.start
    get_left, get_right, numbers = left.run, right.run, NUMBERS
    if right.constant and type(right.value) in numbers:
        bound = right.value

        def with_number(frame: Frame) -> Any:
            value = get_left(frame)
            if type(value) in numbers:
                return compare(value, bound)
            return _incomparable(symbol, value, bound, position)

        return with_number
    ordered = values.ORDERED

    def both(frame: Frame) -> Any:
        value, other = get_left(frame), get_right(frame)
        kind = type(value)
        if kind is type(other):
            if kind in ordered:
                return compare(value, other)
        elif kind in numbers and type(other) in numbers:
            return compare(value, other)
        return _incomparable(symbol, value, other, position)

    return both


def _incomparable(symbol: str, left: Any, right: Any, position: int) -> NoReturn:
    try:
        values.cannot_compare(symbol, left, right)
    except ExpressionError as error:
        raise error.at(position) from None


def _equality(node: Binary, left: Code, right: Code) -> Run:
    get_left, get_right, wanted = left.run, right.run, node.operator == "=="
    if right.constant:
        expected = right.value
        kind = type(expected)
        if kind is str:

            def with_string(frame: Frame) -> bool:
                value = get_left(frame)
                return (type(value) is str and value == expected) is wanted

            return with_string
        if expected is None or kind is bool:

            def with_singleton(frame: Frame) -> bool:
                return (get_left(frame) is expected) is wanted

            return with_singleton
        if kind in NUMBERS:
            numbers = NUMBERS

            def with_number(frame: Frame) -> bool:
                value = get_left(frame)
                return (type(value) in numbers and value == expected) is wanted

            return with_number

    def both(frame: Frame) -> bool:
        return equal(get_left(frame), get_right(frame), frame[1]) is wanted

    return both


def _membership(node: Binary, left: Code, right: Code) -> Run:
    get_left, get_right, position = left.run, right.run, node.start
    if right.constant and type(right.value) is list and all(type(item) is str for item in right.value):
        choices = frozenset(right.value)

        def among_strings(frame: Frame) -> bool:
            value = get_left(frame)
            return type(value) is str and value in choices

        return among_strings

    def inside(frame: Frame) -> bool:
        try:
            return contains(get_right(frame), get_left(frame), frame[1])
        except ExpressionError as error:
            raise error.at(position) from None

    return inside


def _arithmetic(node: Binary, left: Code, right: Code) -> Run:
    calculate, get_left, get_right, position = _ARITHMETIC[node.operator], left.run, right.run, node.start

    def calculated(frame: Frame) -> Any:
        try:
            return calculate(get_left(frame), get_right(frame), frame[1])
        except ExpressionError as error:
            raise error.at(position) from None

    return calculated
