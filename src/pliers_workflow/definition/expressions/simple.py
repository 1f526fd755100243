"""`simple` conditions, a field compared with a value, as the CEL they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from .errors import ExpressionError
from .parsing import SOURCE_MAX
from .patterns import pattern
from .values import INT_MAX, INT_MIN

#: What expressions see. A field of a `simple` condition that begins with none of these is below `data`.
ROOTS: Final = (
    "submission", "data", "context", "event", "user", "requester", "instance", "metadata", "now",
)  # fmt: skip

_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_COMPARISONS: Final = {
    "equals": "==",
    "not_equals": "!=",
    "greater_than": ">",
    "greater_than_or_equal": ">=",
    "less_than": "<",
    "less_than_or_equal": "<=",
}
#: Absent, null, or without content.
_EMPTY: Final = '[null, "", [], {}]'


def simple_condition(field: str, operator: str, value: object = None) -> str:
    """The CEL source of a `simple` condition. Raises `ValueError` with a sentence for the author.

    `field` is a dotted path; without a known root it is below `data`. `exists` means present and not null, `is_empty`
    absent, null, or empty text, list or map; both never fail. The other operators fail where the field is missing.

    >>> simple_condition("amount", "greater_than", 1000)
    'data.amount > 1000'
    >>> simple_condition("user.roles", "contains", "manager")
    'user.roles.contains("manager")'
    >>> simple_condition("traveller.phone", "exists")
    'data.?traveller.?phone.orValue(null) != null'
    """
    if not _PATH.fullmatch(field or ""):
        raise ValueError(f"{field!r} is no path of a field; write names with dots between them, as in data.amount")
    path = field if field.split(".", maxsplit=1)[0] in ROOTS else f"data.{field}"
    write = _OPERATORS.get(operator)
    if write is None:
        raise ValueError(f"{operator!r} is no operator of a simple condition; there are {', '.join(_OPERATORS)}")
    source = write(path, value, operator)
    if len(source) > SOURCE_MAX:
        raise ValueError(f"the condition is longer than {SOURCE_MAX} characters; compare with fewer or shorter values")
    return source


def cel_literal(value: object) -> str:
    """A JSON value as CEL writes it; no text can break out of its quotes.

    >>> cel_literal({"a": [1, Decimal("1.50"), None, 'say "hi"']})
    '{"a": [1, 1.50, null, "say \\\\"hi\\\\""]}'
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            if not INT_MIN <= value <= INT_MAX:
                raise ValueError(f"the number {value} does not fit into 64 bits")
            return str(value)
        case Decimal() | float():
            number = value if isinstance(value, Decimal) else Decimal(repr(value))
            if not number.is_finite():
                raise ValueError(f"{value} is no number that can be compared with")
            text = str(number) if abs(number.adjusted()) > 30 else format(number, "f")
            return text if "." in text or "E" in text else f"{text}.0"
        case str():
            return _quoted(value)
        case list() | tuple():
            return f"[{', '.join(cel_literal(item) for item in value)}]"
        case dict():
            return "{" + ", ".join(f"{_quoted(str(key))}: {cel_literal(item)}" for key, item in value.items()) + "}"
        case _:
            raise ValueError(f"a value of type {type(value).__name__} cannot be compared with")


def _quoted(text: str) -> str:
    parts = ['"']
    for character in text:
        code = ord(character)
        if character in '"\\':
            parts.append("\\" + character)
        elif code < 32 or 127 <= code < 160 or code in (0x2028, 0x2029):
            parts.append(f"\\u{code:04x}")
        elif 0xD800 <= code <= 0xDFFF:
            raise ValueError("the text holds half a character")
        else:
            parts.append(character)
    parts.append('"')
    return "".join(parts)


def _optional(path: str) -> str:
    root, *names = path.split(".")
    return root + "".join(f".?{name}" for name in names) + (".orValue(null)" if names else "")


def _comparison(path: str, value: object, operator: str) -> str:
    symbol = _COMPARISONS[operator]
    if symbol not in ("==", "!=") and not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"{operator} compares with a number or a text")
    if symbol not in ("==", "!=") and isinstance(value, bool):
        raise ValueError(f"{operator} compares with a number or a text, not with true or false")
    return f"{path} {symbol} {cel_literal(value)}"


def _in(path: str, value: object, operator: str) -> str:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{operator} takes a list of values")
    inside = f"{path} in {cel_literal(value)}"
    return inside if operator == "in" else f"!({inside})"


def _contains(path: str, value: object, operator: str) -> str:
    inside = f"{path}.contains({cel_literal(value)})"
    return inside if operator == "contains" else f"!{inside}"


def _text(function: str) -> Callable[[str, Any, str], str]:
    def write(path: str, value: object, operator: str) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{operator} takes a text")
        if function == "matches":
            try:
                pattern(value)
            except ExpressionError as error:
                raise ValueError(error.message) from None
        return f"{path}.{function}({_quoted(value)})"

    return write


def _between(path: str, value: object, operator: str) -> str:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("between takes a list of two values, the lowest and the highest")
    low = _comparison(path, value[0], "greater_than_or_equal")
    return f"{low} && {_comparison(path, value[1], 'less_than_or_equal')}"


_OPERATORS: Final[dict[str, Callable[[str, Any, str], str]]] = {
    **dict.fromkeys(_COMPARISONS, _comparison),
    "in": _in,
    "not_in": _in,
    "contains": _contains,
    "not_contains": _contains,
    "starts_with": _text("startsWith"),
    "ends_with": _text("endsWith"),
    "matches": _text("matches"),
    "exists": lambda path, value, operator: f"{_optional(path)} != null",
    "not_exists": lambda path, value, operator: f"{_optional(path)} == null",
    "is_empty": lambda path, value, operator: f"{_optional(path)} in {_EMPTY}",
    "is_not_empty": lambda path, value, operator: f"!({_optional(path)} in {_EMPTY})",
    "between": _between,
}
