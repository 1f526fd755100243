"""What PostgreSQL cannot keep is refused at the edge, with the place where it stands.

`jsonb` holds no NUL character and no half of a surrogate pair, and its numbers end at 131,072 digits before and 16,383
after the point. Nesting is bounded so that nothing of ours recurses too deep.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pliers_workflow.definition.findings import Finding, pointer

from .errors import InvalidError

DEPTH_MAX: Final = 100
#: digits a number may have on either side of the point
DIGITS_MAX: Final = 1000
#: of the canonical JSON of what a submission or a person may carry
BYTES_MAX: Final = 256 * 1024


def exact_number(number: str) -> int | Decimal:
    """
    A JSON number with a point or an exponent, in the form in which `jsonb` gives it back; raises ValueError out of range.

    >>> exact_number("1e3"), exact_number("1.50"), exact_number("-0.0")
    (1000, Decimal('1.50'), Decimal('0.0'))
    """
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise ValueError(f"the number {number[:40]} is out of range") from None
    if "e" in number or "E" in number:
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int) or exponent < -DIGITS_MAX or (value and value.adjusted() >= DIGITS_MAX):
            raise ValueError(f"the number {number[:40]} is out of range")
        if exponent >= 0:
            return int(value) if value else 0
    elif len(number) > DIGITS_MAX:
        raise ValueError(f"a number has more than {DIGITS_MAX} digits")
    return value or value.copy_abs()  # jsonb has no negative zero


def find_unstorable(value: object) -> Finding | None:
    """
    Say what is the first thing in a JSON value that cannot be kept, or None.

    >>> find_unstorable({"a": ["ok", "no\\0"]}).pointer
    '/a/1'
    """
    stack: list[tuple[object, tuple[str | int, ...]]] = [(value, ())]
    while stack:
        here, path = stack.pop()
        if isinstance(here, str):
            if (message := _bad_text(here)) is not None:
                return Finding(pointer(*path), "bad_text", message)
        elif isinstance(here, dict):
            if len(path) >= DEPTH_MAX:
                return Finding(pointer(*path), "too_deep", f"Values may be nested {DEPTH_MAX} levels deep.")
            for key, below in here.items():
                if not isinstance(key, str) or (message := _bad_text(key)) is not None:
                    return Finding(pointer(*path), "bad_text", "A key holds a character that cannot be kept.")
                stack.append((below, (*path, key)))
        elif isinstance(here, list | tuple):
            if len(path) >= DEPTH_MAX:
                return Finding(pointer(*path), "too_deep", f"Values may be nested {DEPTH_MAX} levels deep.")
            stack.extend((below, (*path, index)) for index, below in enumerate(here))
        elif isinstance(here, bool) or here is None:
            continue
        elif isinstance(here, int):
            if abs(here) >= 10**DIGITS_MAX:
                return Finding(pointer(*path), "bad_number", f"A number may have {DIGITS_MAX} digits.")
        elif isinstance(here, Decimal):
            if not here.is_finite() or abs(here.adjusted()) > DIGITS_MAX or len(here.as_tuple().digits) > DIGITS_MAX:
                return Finding(
                    pointer(*path), "bad_number", f"A number must be finite and have at most {DIGITS_MAX} digits."
                )
        else:
            return Finding(pointer(*path), "wrong_type", f"A {type(here).__name__} has no place in JSON.")
    return None


def _bad_text(text: str) -> str | None:
    if "\0" in text:
        return "A text may not hold a NUL character; take it out."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "A text may not hold half of a surrogate pair; send whole characters."
    return None


def check_text(what: str, text: object, *, length_max: int, length_min: int = 1) -> str:
    """Give the text back, or raise InvalidError where it is none, too long, or cannot be kept."""
    if not isinstance(text, str):
        raise InvalidError("wrong_type", f"{what} must be a text.")
    if not length_min <= len(text) <= length_max:
        raise InvalidError("out_of_range", f"{what} must have {length_min} to {length_max} characters.")
    if (message := _bad_text(text)) is not None:
        raise InvalidError("bad_text", f"{what}: {message}")
    return text


def check_object(what: str, value: object) -> dict[str, Any]:
    """Give a JSON object back that can be kept, or raise InvalidError with the place of what cannot."""
    if not isinstance(value, dict):
        raise InvalidError("wrong_type", f"{what} must be a JSON object.")
    if (finding := find_unstorable(value)) is not None:
        raise InvalidError(finding.code, f"{what} cannot be kept: {finding.message}", findings=(finding,))
    return value
