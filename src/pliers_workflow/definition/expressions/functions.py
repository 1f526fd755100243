"""The functions of the language: one table that evaluation, the static check and the reference page all read.

A function has overloads; an overload names the types of its arguments (a method's target comes first), the type of its
result, and what computes it from the budget and the arguments. `number` stands for int, uint and double, `any` for all.
An implementation raises `ExpressionError` without a position; the caller knows the place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, DecimalException
from functools import partial
from typing import Any, Final

from . import times
from .budget import Budget
from .errors import ExpressionError
from .patterns import found_from_data
from .values import (
    EXACT,
    INT_MAX,
    INT_MIN,
    NONE,
    NUMBERS,
    TYPE_NAMES,
    UINT_MAX,
    Optional,
    TypeValue,
    UInt,
    a,
    adapt,
    add,
    comparable,
    contains,
    type_name,
)

Implementation = Callable[..., Any]

_PYTHON: Final = {name: kind for kind, name in TYPE_NAMES.items()}
_GROUPS: Final[Mapping[str, tuple[type, ...]]] = {
    "any": tuple(TYPE_NAMES),
    "number": (int, UInt, Decimal),
}


@dataclass(slots=True, frozen=True, eq=False)
class Overload:
    """One way to call a function."""

    #: type names; for a method the target's comes first
    parameters: tuple[str, ...]
    #: a type name, or `same` (the target's), `item` (of the target list), `any`
    result: str
    implementation: Implementation


@dataclass(slots=True, eq=False)
class Function:
    """A function or method, with everything that may be called by its name."""

    name: str
    method: bool
    overloads: list[Overload] = field(default_factory=list)
    #: takes any number of arguments of its only parameter's type
    variadic: bool = False
    #: by the Python types of the arguments
    table: dict[tuple[type, ...], Implementation] = field(default_factory=dict)

    @property
    def arities(self) -> tuple[int, ...]:
        """How many arguments may be written between the brackets."""
        return tuple(sorted({len(overload.parameters) - self.method for overload in self.overloads}))

    def called(self) -> str:
        return f"{'.' if self.method else ''}{self.name}()"

    def no_overload(self, arguments: tuple[Any, ...]) -> ExpressionError:
        return ExpressionError(self.mismatch([type_name(argument) for argument in arguments]))

    def mismatch(self, given: list[str]) -> str:
        """Say that the function does not take these types, and which it takes."""
        if self.method:
            wanted = sorted({" and ".join((f"a {o.parameters[0]}", *o.parameters[1:])) for o in self.overloads})
            return f"{self.called()} cannot be called on {_called_with(given)}; it takes {' or '.join(wanted)}"
        wanted = sorted({" and ".join(o.parameters) for o in self.overloads})
        return f"{self.called()} cannot be called with {_called_with(given)}; it takes {' or '.join(wanted)}"


def _called_with(given: list[str]) -> str:
    return f"({', '.join(given)})"


FUNCTIONS: Final[dict[str, Function]] = {}
METHODS: Final[dict[str, Function]] = {}
#: First parts of qualified function names.
NAMESPACES: Final = frozenset({"math", "optional", "cel"})


def _define(
    functions: dict[str, Function], name: str, parameters: str, result: str, implementation: Implementation
) -> None:
    function = functions.setdefault(name, Function(name, functions is METHODS))
    names = tuple(parameters.split())
    function.overloads.append(Overload(names, result, implementation))
    for kinds in itertools.product(*(_GROUPS.get(each) or (_PYTHON[each],) for each in names)):
        function.table.setdefault(kinds, implementation)


def _defined(
    functions: dict[str, Function], name: str, parameters: str, result: str, implementation: Implementation
) -> Implementation:
    _define(functions, name, parameters, result, implementation)
    return implementation


def _function(name: str, parameters: str, result: str) -> Callable[[Implementation], Implementation]:
    return partial(_defined, FUNCTIONS, name, parameters, result)


def _method(name: str, parameters: str, result: str) -> Callable[[Implementation], Implementation]:
    return partial(_defined, METHODS, name, parameters, result)


# -- size, types -------------------------------------------------------------------------------------------------------


def _size(budget: Budget, value: Any) -> int:
    return len(value)


for _kind in ("string", "bytes", "list", "map"):
    _define(FUNCTIONS, "size", _kind, "int", _size)
    _define(METHODS, "size", _kind, "int", _size)

_define(FUNCTIONS, "dyn", "any", "any", lambda budget, value: value)
_TYPES: Final = {kind: TypeValue(name) for kind, name in TYPE_NAMES.items()}
_define(FUNCTIONS, "type", "any", "type", lambda budget, value: _TYPES[type(value)])


# -- conversions -------------------------------------------------------------------------------------------------------


def _to_int(value: Any) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise ExpressionError("the number does not fit into a 64-bit integer")
    return int(value)


def _to_uint(value: Any) -> UInt:
    if value < 0 or value > UINT_MAX:
        raise ExpressionError("the number does not fit into a 64-bit unsigned integer")
    return UInt(value)


def _whole(text: str, kind: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 40:
        raise ExpressionError(f"{text[:40]!r} is no {kind}")
    return int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > 100 or not text.isascii() or "_" in text or text != text.strip():
        raise ExpressionError(f"{text[:40]!r} is no number")
    try:
        value = EXACT.create_decimal(text)
    except DecimalException:
        raise ExpressionError(f"{text[:40]!r} is no number") from None
    if not value.is_finite():
        raise ExpressionError(f"{text[:40]!r} is no finite number")
    return value


_BOOLEANS: Final = {
    **dict.fromkeys(("true", "True", "TRUE", "t", "1"), True),
    **dict.fromkeys(("false", "False", "FALSE", "f", "0"), False),
}


@_function("bool", "string", "bool")
def _to_bool(budget: Budget, text: str) -> bool:
    if text not in _BOOLEANS:
        raise ExpressionError(f"{text[:40]!r} is neither 'true' nor 'false'")
    return _BOOLEANS[text]


def format_number(value: Decimal) -> str:
    """As it is written, without an exponent where it is short without.

    >>> format_number(Decimal("1E+3")), format_number(Decimal("10.50"))
    ('1000', '10.50')
    """
    return format(value, "f") if -30 < value.adjusted() < 30 else str(value)


def _utf8(budget: Budget, value: bytes) -> str:
    budget.spend_bytes(len(value))
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ExpressionError("the bytes are no UTF-8 text") from None


def _encoded(budget: Budget, text: str) -> bytes:
    budget.spend_bytes(4 * len(text))
    return text.encode("utf-8", "surrogatepass")


_define(FUNCTIONS, "bool", "bool", "bool", lambda budget, value: value)
_define(FUNCTIONS, "int", "number", "int", lambda budget, value: _to_int(value))
_define(FUNCTIONS, "int", "string", "int", lambda budget, text: _to_int(_whole(text, "integer")))
_define(FUNCTIONS, "int", "timestamp", "int", lambda budget, moment: times.to_epoch(moment))
_define(FUNCTIONS, "uint", "number", "uint", lambda budget, value: _to_uint(value))
_define(FUNCTIONS, "uint", "string", "uint", lambda budget, text: _to_uint(_whole(text, "unsigned integer")))
_define(FUNCTIONS, "double", "number", "double", lambda budget, value: Decimal(value))
_define(FUNCTIONS, "double", "string", "double", lambda budget, text: _decimal(text))
_define(FUNCTIONS, "string", "string", "string", lambda budget, value: value)
_define(FUNCTIONS, "string", "bool", "string", lambda budget, value: "true" if value else "false")
_define(FUNCTIONS, "string", "int", "string", lambda budget, value: str(_to_int(value)))
_define(FUNCTIONS, "string", "uint", "string", lambda budget, value: str(value))
_define(FUNCTIONS, "string", "double", "string", lambda budget, value: format_number(EXACT.plus(value)))
_define(FUNCTIONS, "string", "bytes", "string", _utf8)
_define(FUNCTIONS, "string", "timestamp", "string", lambda budget, value: times.format_timestamp(value))
_define(FUNCTIONS, "string", "duration", "string", lambda budget, value: times.format_duration(value))
_define(FUNCTIONS, "bytes", "bytes", "bytes", lambda budget, value: value)
_define(FUNCTIONS, "bytes", "string", "bytes", _encoded)
_define(FUNCTIONS, "timestamp", "timestamp", "timestamp", lambda budget, value: value)
_define(FUNCTIONS, "timestamp", "string", "timestamp", lambda budget, text: times.parse_timestamp(text))
_define(FUNCTIONS, "timestamp", "int", "timestamp", lambda budget, value: times.from_epoch(value))
_define(FUNCTIONS, "duration", "duration", "duration", lambda budget, value: value)
_define(FUNCTIONS, "duration", "string", "duration", lambda budget, text: times.parse_duration(text))


# -- time --------------------------------------------------------------------------------------------------------------


def _zoned(getter: str, budget: Budget, moment: datetime, name: str = "UTC") -> int:
    if name != "UTC":
        budget.spend(20)
    return times.field(getter, moment, name)


def _span(getter: str, budget: Budget, duration: timedelta) -> int:
    return times.DURATION_FIELDS[getter](duration)


for _getter in times.FIELDS:
    _define(METHODS, _getter, "timestamp", "int", partial(_zoned, _getter))
    _define(METHODS, _getter, "timestamp string", "int", partial(_zoned, _getter))
for _getter in times.DURATION_FIELDS:
    _define(METHODS, _getter, "duration", "int", partial(_span, _getter))


# -- strings -----------------------------------------------------------------------------------------------------------

_SPACE: Final = " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


def _scan(budget: Budget, text: str) -> None:
    if len(text) > 64:
        budget.spend(len(text) >> 6)


def _build(budget: Budget, text: str) -> str:
    budget.spend_bytes(len(text))
    return text


def _contains(budget: Budget, text: str, part: str) -> bool:
    _scan(budget, text)
    return part in text


_define(METHODS, "contains", "string string", "bool", _contains)
_define(METHODS, "contains", "list any", "bool", lambda budget, items, item: contains(items, item, budget))
_define(METHODS, "startsWith", "string string", "bool", lambda budget, text, part: text.startswith(part))
_define(METHODS, "endsWith", "string string", "bool", lambda budget, text, part: text.endswith(part))
_define(METHODS, "matches", "string string", "bool", found_from_data)
_define(FUNCTIONS, "matches", "string string", "bool", found_from_data)


@_method("charAt", "string int", "string")
def _char_at(budget: Budget, text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise ExpressionError(f"there is no character {index} in a string of {len(text)}")
    return text[index : index + 1]


@_method("indexOf", "string string", "int")
@_method("indexOf", "string string int", "int")
def _index_of(budget: Budget, text: str, part: str, offset: int = 0) -> int:
    _scan(budget, text)
    if not 0 <= offset <= len(text):
        raise ExpressionError(f"there is no character {offset} in a string of {len(text)}")
    return text.find(part, offset)


@_method("lastIndexOf", "string string", "int")
@_method("lastIndexOf", "string string int", "int")
def _last_index_of(budget: Budget, text: str, part: str, offset: int | None = None) -> int:
    _scan(budget, text)
    if offset is None:
        return text.rfind(part)
    if not 0 <= offset <= len(text):
        raise ExpressionError(f"there is no character {offset} in a string of {len(text)}")
    return text.rfind(part, 0, min(len(text), offset + len(part)))


_define(METHODS, "lowerAscii", "string", "string", lambda budget, text: _build(budget, text).translate(_LOWER))
_define(METHODS, "upperAscii", "string", "string", lambda budget, text: _build(budget, text).translate(_UPPER))
_define(METHODS, "trim", "string", "string", lambda budget, text: _build(budget, text).strip(_SPACE))
_define(METHODS, "reverse", "string", "string", lambda budget, text: _build(budget, text)[::-1])


@_method("replace", "string string string", "string")
@_method("replace", "string string string int", "string")
def _replace(budget: Budget, text: str, old: str, new: str, limit: int = -1) -> str:
    _scan(budget, text)
    count = text.count(old) if limit < 0 else min(text.count(old), limit)
    budget.spend_bytes(max(0, len(text) + count * (len(new) - len(old))))
    return text.replace(old, new, count)


@_method("split", "string string", "list")
@_method("split", "string string int", "list")
def _split(budget: Budget, text: str, separator: str, limit: int = -1) -> list[str]:
    _scan(budget, text)
    if limit == 0:
        return []
    parts = (len(text) if separator == "" else text.count(separator)) + 1
    if limit > 0:
        parts = min(parts, limit)
    budget.spend_bytes(len(text) + 60 * parts)
    if separator == "" and text != "":
        return list(text) if limit < 0 or limit >= len(text) else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, parts - 1) if separator else [text]


@_method("substring", "string int", "string")
@_method("substring", "string int int", "string")
def _substring(budget: Budget, text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise ExpressionError(f"there are no characters {start} to {end} in a string of {len(text)}")
    budget.spend_bytes(end - start)
    return text[start:end]


@_method("join", "list", "string")
@_method("join", "list string", "string")
def _join(budget: Budget, items: list[Any], separator: str = "") -> str:
    budget.spend(len(items))
    for item in items:
        if type(item) is not str:
            raise ExpressionError(f"join() takes a list of strings, one element is {a(adapt(item))}")
        budget.spend_bytes(len(item) + len(separator))
    return separator.join(items)


# -- lists -------------------------------------------------------------------------------------------------------------


@_method("sum", "list", "any")
def _sum(budget: Budget, items: list[Any]) -> Any:
    budget.spend(len(items))
    if not items:
        return 0
    total = adapt(items[0])
    if type(total) not in NUMBERS and type(total) is not timedelta:
        raise ExpressionError(f"sum() adds numbers or durations, one element is {a(total)}")
    for item in items[1:]:
        total = add(total, adapt(item), budget)
    return total


def _identity(value: Any, budget: Budget) -> Any:
    """Something hashable that two values share exactly when CEL calls them equal."""
    value = adapt(value)
    kind = type(value)
    if kind in NUMBERS:
        return "number", value
    if kind is list:
        budget.spend(len(value))
        return "list", tuple(_identity(item, budget) for item in value)
    if kind is dict:
        budget.spend(len(value))
        return "map", frozenset((key, _identity(item, budget)) for key, item in value.items())
    if kind is Optional:
        return "optional", value.present, _identity(value.value, budget) if value.present else None
    return kind, value


@_method("distinct", "list", "same")
def _distinct(budget: Budget, items: list[Any]) -> list[Any]:
    budget.spend(len(items))
    budget.spend_bytes(100 * len(items))
    seen: dict[Any, Any] = {}
    for item in items:
        seen.setdefault(_identity(item, budget), item)
    return list(seen.values())


@_method("flatten", "list", "list")
@_method("flatten", "list int", "list")
def _flatten(budget: Budget, items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise ExpressionError("flatten() takes a depth of 0 or more")
    budget.spend(len(items))
    flat: list[Any] = []
    for item in items:
        if depth and type(item) is list:
            flat.extend(_flatten(budget, item, depth - 1))
        else:
            flat.append(item)
    budget.spend_bytes(8 * len(flat))
    return flat


@_method("slice", "list int int", "same")
def _slice(budget: Budget, items: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(items):
        raise ExpressionError(f"there are no elements {start} to {end} in a list of {len(items)}")
    budget.spend_bytes(8 * (end - start))
    return items[start:end]


@_method("reverse", "list", "same")
def _reverse(budget: Budget, items: list[Any]) -> list[Any]:
    budget.spend_bytes(8 * len(items))
    return items[::-1]


@_method("sort", "list", "same")
def _sort(budget: Budget, items: list[Any]) -> list[Any]:
    budget.spend(len(items) * len(items).bit_length())
    budget.spend_bytes(8 * len(items))
    adapted = [adapt(item) for item in items]
    for item in adapted:
        if not comparable(adapted[0], item):
            raise ExpressionError(f"sort() cannot compare {a(adapted[0])} with {a(item)}")
    return sorted(adapted)


# -- numbers -----------------------------------------------------------------------------------------------------------


def _extreme(name: str, budget: Budget, items: list[Any]) -> Any:
    if not items:
        raise ExpressionError(f"math.{name}() takes at least one number")
    budget.spend(len(items))
    best: Any = None
    for item in items:
        number = adapt(item)
        if type(number) not in NUMBERS:
            raise ExpressionError(f"math.{name}() compares numbers, one argument is {a(number)}")
        if best is None or (number > best if name == "greatest" else number < best):
            best = number
    return best


def _rounded(mode: str, budget: Budget, value: Any, places: int = 0) -> Any:
    if not 0 <= places <= 30:
        raise ExpressionError("math.round() takes 0 to 30 places")
    if type(value) is not Decimal or value.as_tuple().exponent >= -places:  # type: ignore[operator]  # is finite
        return value
    try:
        return value.quantize(Decimal(1).scaleb(-places), rounding=mode, context=EXACT)
    except DecimalException:
        raise ExpressionError("the number has too many digits to round") from None


def _absolute(budget: Budget, value: Any) -> Any:
    if type(value) is Decimal:
        return value.copy_abs()
    return _to_int(abs(value)) if type(value) is int else value


def _sign(budget: Budget, value: Any) -> Any:
    return type(value)((value > 0) - (value < 0))


for _name in ("greatest", "least"):
    FUNCTIONS[f"math.{_name}"] = Function(f"math.{_name}", False, variadic=True)
    _define(FUNCTIONS, f"math.{_name}", "list", "any", partial(_extreme, _name))
    FUNCTIONS[f"math.{_name}"].overloads.append(Overload(("number",), "number", partial(_extreme, _name)))
for _name, _mode in {
    "ceil": ROUND_CEILING,
    "floor": ROUND_FLOOR,
    "round": ROUND_HALF_UP,
    "trunc": ROUND_DOWN,
}.items():
    _define(FUNCTIONS, f"math.{_name}", "number", "same", partial(_rounded, _mode))
_define(FUNCTIONS, "math.round", "number int", "same", partial(_rounded, ROUND_HALF_UP))
_define(FUNCTIONS, "math.abs", "number", "same", _absolute)
_define(FUNCTIONS, "math.sign", "number", "same", _sign)


# -- optionals ---------------------------------------------------------------------------------------------------------


@_method("value", "optional_type", "any")
def _value(budget: Budget, optional: Optional) -> Any:
    if not optional.present:
        raise ExpressionError("the optional has no value; write .orValue(…) to give one")
    return optional.value


@_function("optional.ofNonZeroValue", "any", "optional_type")
def _of_non_zero(budget: Budget, value: Any) -> Optional:
    return NONE if not value and type(value) is not Optional else Optional(True, value)


def _or(budget: Budget, optional: Optional, other: Optional) -> Optional:
    return optional if optional.present else other


_define(FUNCTIONS, "optional.of", "any", "optional_type", lambda budget, value: Optional(True, value))
_define(FUNCTIONS, "optional.none", "", "optional_type", lambda budget: NONE)
_define(METHODS, "hasValue", "optional_type", "bool", lambda budget, optional: optional.present)
_define(METHODS, "or", "optional_type optional_type", "optional_type", _or)
_define(METHODS, "orValue", "optional_type any", "any", lambda budget, o, other: o.value if o.present else other)
