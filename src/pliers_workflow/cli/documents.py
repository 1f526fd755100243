"""Reading JSON from a file, from standard input or from an option."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from .problems import Problem

#: bytes; a definition may have 1 MB, a list of events some more
_SIZE_MAX = 32 * 1024 * 1024
#: of a number; what it is used for may allow less
_DIGITS_MAX = 1_000


def read_json(name: str, what: str) -> Any:
    """
    The JSON in a file, or on standard input where the name is `-`; numbers are int or Decimal.

    Raises `Problem` with file, line and column.
    """
    if name == "-":
        if sys.stdin is None:
            raise Problem(f"standard input is closed; name the {what} as a JSON file")
        raw, place = sys.stdin.buffer.read(_SIZE_MAX + 1), "standard input"
    else:
        place = name
        try:
            with Path(name).open("rb") as file:
                raw = file.read(_SIZE_MAX + 1)
        except FileNotFoundError:
            raise Problem(
                f"there is no file {name!r}; name the {what} as a JSON file, or `-` for standard input"
            ) from None
        except OSError as error:
            raise Problem(f"{name!r} cannot be read: {error.strerror}") from None
    if len(raw) > _SIZE_MAX:
        raise Problem(f"{place} holds more than {_SIZE_MAX // 1024 // 1024} MB; that is no {what}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(f"{place} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return parse_json(text, place)


def read_option(text: str, option: str) -> Any:
    """The JSON given with an option, or in the file that `@FILE` names."""
    if text.startswith("@"):
        return read_json(text[1:], f"value of {option}")
    return parse_json(text, option)


def parse_json(text: str, place: str) -> Any:
    """Decode JSON exactly. Raises `Problem` with the place."""
    try:
        return json.loads(
            text, parse_int=_integer, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise Problem(f"{place} is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Problem(f"{place} is nested too deeply to be read") from None
    except ValueError as error:
        raise Problem(f"{place} is not valid JSON: {error}") from None


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"a number has {len(digits):,} digits, and may have {_DIGITS_MAX:,} at most; write it as text")
    return int(digits)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; keep one of them")
    return value
