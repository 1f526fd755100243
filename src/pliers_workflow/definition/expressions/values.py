"""The values of expressions, their types, and what it means that two are equal or ordered.

| CEL           | Python           |                                                                          |
|---------------|------------------|--------------------------------------------------------------------------|
| int           | int              | 64 bit, overflow is an error                                             |
| uint          | UInt             | only from `1u` and `uint()`; leaves an expression as an int              |
| double        | Decimal          | exact: 64 digits for `+ - *`, 34 for `/`; no NaN, no infinity            |
| bool, string, bytes, null_type, list, map | bool, str, bytes, None, list, dict |                            |
| timestamp     | datetime, aware  | microseconds                                                             |
| duration      | timedelta        | microseconds                                                             |
| type          | TypeValue        | leaves an expression as its name                                         |
| optional_type | Optional         | leaves an expression as its value, or null                               |

Nothing else gets in: what comes from outside passes `adapt`, which turns floats into decimals and refuses objects, so
no expression ever touches an attribute of a Python object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    Underflow,
)
from typing import Any, Final, NoReturn

from .budget import Budget
from .errors import ExpressionError

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
UINT_MAX: Final = 2**64 - 1

_TRAPS: Final = [DivisionByZero, InvalidOperation, Overflow, Underflow]
#: for `+ - *`
EXACT: Final = Context(prec=64, rounding=ROUND_HALF_EVEN, Emin=-6143, Emax=6144, clamp=0, capitals=1, traps=_TRAPS)
#: for `/`: decimal128
QUOTIENT: Final = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-6143, Emax=6144, clamp=0, capitals=1, traps=_TRAPS)


class UInt(int):
    """CEL's unsigned integer. It equals the int of the same value and does not mix with it in arithmetic."""

    __slots__ = ()


class TypeValue:
    """What `type(x)` gives."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


class Optional:
    """A value that may be absent: of `a.?b`, `optional.of(x)`, `optional.none()`."""

    __slots__ = ("present", "value")

    def __init__(self, present: bool, value: Any = None) -> None:
        self.present = present
        self.value = value


NONE: Final = Optional(False)

#: Types as messages, `type()` and the static check name them.
TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    Decimal: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    list: "list",
    dict: "map",
    datetime: "timestamp",
    timedelta: "duration",
    TypeValue: "type",
    Optional: "optional_type",
}
#: Identifiers that stand for a type.
TYPE_VALUES: Final = {
    name: TypeValue(name)
    for name in ("bool", "int", "uint", "double", "string", "bytes", "null_type", "list", "map", "type")
} | {
    "timestamp": TypeValue("timestamp"),
    "duration": TypeValue("duration"),
    "optional_type": TypeValue("optional_type"),
}

#: A value of one of these is taken as it is; anything else passes `adapt`. (An instant may lack its zone.)
KNOWN: Final = frozenset(TYPE_NAMES) - {datetime}
_SETTLED: Final = frozenset(TYPE_NAMES)
NUMBERS: Final = frozenset({int, Decimal, UInt})


def type_name(value: object) -> str:
    return TYPE_NAMES.get(type(value), type(value).__name__)


def adapt(value: Any) -> Any:
    """Take a value from outside: a float becomes the decimal it shows as, what expressions do not know is refused.

    >>> adapt(0.1)
    Decimal('0.1')
    """
    kind = type(value)
    if kind in KNOWN:
        return value
    if kind is datetime:
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, float):
        number = Decimal(repr(value))
        if not number.is_finite():
            raise ExpressionError(f"{value!r} is no number that expressions can use")
        return number
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return Decimal(value)
    if isinstance(value, datetime):
        return adapt(datetime.combine(value.date(), value.timetz()))
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise ExpressionError(f"a value of type {kind.__name__} cannot be used in an expression")


# -- equality and order ------------------------------------------------------------------------------------------------


def equal(left: Any, right: Any, budget: Budget) -> bool:
    """CEL's equality: numbers by value across their types, everything else only within its type; deep, and never an error.

    >>> equal(1, Decimal("1.0"), Budget(9)), equal(1, True, Budget(9)), equal([1], [1, 2], Budget(9))
    (True, False, False)
    """
    kind, other = type(left), type(right)
    if kind is not other:
        if kind in NUMBERS and other in NUMBERS:
            return bool(left == right)
        if kind in _SETTLED and other in _SETTLED:
            return False
        return equal(adapt(left), adapt(right), budget)
    if kind is list:
        if len(left) != len(right):
            return False
        budget.spend(len(left))
        return all(equal(a, b, budget) for a, b in zip(left, right, strict=True))
    if kind is dict:
        if len(left) != len(right):
            return False
        budget.spend(len(left))
        return all(key in right and equal(value, right[key], budget) for key, value in left.items())
    if kind is str:
        if len(left) > 1024:
            budget.spend(len(left) >> 10)
    elif kind is Optional:
        if left.present != right.present:
            return False
        return not left.present or equal(left.value, right.value, budget)
    elif kind is float:
        return bool(adapt(left) == adapt(right))
    return bool(left == right)


def contains(container: Any, needle: Any, budget: Budget) -> bool:
    """`needle in container`: an element of a list, a key of a map."""
    kind = type(container)
    if kind is list:
        if len(container) > 16:
            budget.spend(len(container) >> 2)
        if type(needle) is str:
            return needle in container
        return any(equal(item, needle, budget) for item in container)
    if kind is dict:
        return type(needle) in _KEYS and needle in container
    raise ExpressionError(f"'in' looks into a list or a map, not into {a(container)}")


_KEYS: Final = frozenset({str, int, UInt, Decimal})

ORDERED: Final = frozenset({str, bytes, bool, datetime, timedelta, int, Decimal, UInt})


def comparable(left: Any, right: Any) -> bool:
    """Whether `<` has a meaning for these two."""
    kind, other = type(left), type(right)
    return (kind is other and kind in ORDERED) or (kind in NUMBERS and other in NUMBERS)


def cannot_compare(operator: str, left: Any, right: Any) -> NoReturn:
    message = f"cannot compare {a(left)} {operator} {a(right)}"
    if {type(left), type(right)} == {str, datetime}:
        message += "; write timestamp(…) around the string"
    elif left is None or right is None:
        message += "; ask for null first"
    raise ExpressionError(message)


def a(value: Any) -> str:
    """The type of a value with its article, for messages."""
    name = type_name(value)
    if name == "null_type":
        return "null"
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _int(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ExpressionError("the result does not fit into a 64-bit integer")


def _uint(value: int) -> UInt:
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise ExpressionError("the result does not fit into a 64-bit unsigned integer")


def _decimal(operation: Callable[[Any, Any], Decimal], left: Any, right: Any) -> Decimal:
    try:
        return operation(left, right)
    except DivisionByZero:
        raise ExpressionError("division by zero") from None
    except DecimalException as error:
        if isinstance(error, InvalidOperation) and not right:
            raise ExpressionError("division by zero") from None
        raise ExpressionError("the result is out of the range of decimals") from None


def _moment(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    try:
        result = operation(left, right)
    except OverflowError:
        raise ExpressionError("the result is out of the range of time") from None
    return result


def _no_overload(operator: str, left: Any, right: Any) -> NoReturn:
    message = f"cannot calculate {a(left)} {operator} {a(right)}"
    if operator == "+" and str in (type(left), type(right)):
        message += "; write string(…) around what is no string"
    raise ExpressionError(message)


_MIXED: Final = frozenset({int, Decimal})


def add(left: Any, right: Any, budget: Budget) -> Any:
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return _int(left + right)
        if kind is Decimal:
            return _decimal(EXACT.add, left, right)
        if kind is str or kind is bytes:
            budget.spend_bytes(len(left) + len(right))
            return left + right
        if kind is list:
            budget.spend_bytes(8 * (len(left) + len(right)))
            return left + right
        if kind is timedelta:
            return _moment(timedelta.__add__, left, right)
        if kind is UInt:
            return _uint(int(left) + int(right))
    elif kind in _MIXED and other in _MIXED:
        return _decimal(EXACT.add, left, right)
    elif kind is datetime and other is timedelta:
        return _moment(lambda x, y: x + y, left, right)
    elif kind is timedelta and other is datetime:
        return _moment(lambda x, y: y + x, left, right)
    return _no_overload("+", left, right)


def subtract(left: Any, right: Any, budget: Budget) -> Any:
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return _int(left - right)
        if kind is Decimal:
            return _decimal(EXACT.subtract, left, right)
        if kind is datetime or kind is timedelta:
            return _moment(lambda x, y: x - y, left, right)
        if kind is UInt:
            return _uint(int(left) - int(right))
    elif kind in _MIXED and other in _MIXED:
        return _decimal(EXACT.subtract, left, right)
    elif kind is datetime and other is timedelta:
        return _moment(lambda x, y: x - y, left, right)
    return _no_overload("-", left, right)


def multiply(left: Any, right: Any, budget: Budget) -> Any:
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return _int(left * right)
        if kind is Decimal:
            return _decimal(EXACT.multiply, left, right)
        if kind is UInt:
            return _uint(int(left) * int(right))
    elif kind in _MIXED and other in _MIXED:
        return _decimal(EXACT.multiply, left, right)
    return _no_overload("*", left, right)


def divide(left: Any, right: Any, budget: Budget) -> Any:
    """Integers divide towards zero, as in CEL; where one side is a decimal the result is one, to 34 digits."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int or kind is UInt:
            quotient, _ = _truncated(left, right, "division")
            return _int(quotient) if kind is int else UInt(quotient)
        if kind is Decimal:
            return _decimal(QUOTIENT.divide, left, right)
    elif kind in _MIXED and other in _MIXED:
        return _decimal(QUOTIENT.divide, left, right)
    return _no_overload("/", left, right)


def modulo(left: Any, right: Any, budget: Budget) -> Any:
    """The remainder of `divide` on integers; it has the sign of the dividend."""
    kind = type(left)
    if kind is type(right) and (kind is int or kind is UInt):
        quotient, remainder = _truncated(left, right, "modulus")
        if kind is int:
            _int(quotient)
        return kind(remainder)
    return _no_overload("%", left, right)


def _truncated(left: int, right: int, what: str) -> tuple[int, int]:
    left, right = int(left), int(right)
    if right == 0:
        raise ExpressionError(f"{what} by zero")
    quotient = abs(left) // abs(right)
    if (left < 0) != (right < 0):
        quotient = -quotient
    return quotient, left - quotient * right


def negate(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return _int(-value)
    if kind is Decimal:
        return value.copy_negate() if value else value
    if kind is timedelta:
        return -value
    raise ExpressionError(f"cannot negate {a(value)}")


# -- leaving an expression ---------------------------------------------------------------------------------------------


def finished(value: Any, budget: Budget) -> Any:
    """A value that an expression has built, as instance data may hold it; also a copy that nobody else holds.

    Lists may share their elements many times over (`[s, s, s]`), so the size of the whole is charged here, before
    anybody writes it out.
    """
    kind = type(value)
    if kind is list:
        budget.spend(len(value))
        budget.spend_bytes(8 * len(value) + 8)
        return [finished(item, budget) for item in value]
    if kind is dict:
        budget.spend(len(value))
        budget.spend_bytes(16 * len(value) + 8)
        result = {}
        for key, item in value.items():
            if type(key) is str:
                budget.spend_bytes(len(key))
            result[str(key)] = finished(item, budget)
        return result
    if kind is str or kind is bytes:
        budget.spend_bytes(len(value))
        return value
    if kind is UInt:
        return int(value)
    if kind is Optional:
        return finished(value.value, budget) if value.present else None
    if kind is TypeValue:
        return value.name
    return value if kind in KNOWN else adapt(value)
