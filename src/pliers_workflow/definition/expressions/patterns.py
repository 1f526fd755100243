"""Regular expressions (RE2) and what they cost.

RE2 never explodes, but "linear" has two factors. Its automaton may be as large as the author likes, and where that does
not fit its memory each byte of the text visits each instruction: measured up to 25 ns for one of them. So a search is
charged for bytes x instructions at that rate, however fast it turns out to be: the same input costs the same everywhere.

A pattern of the definition is compiled once, with it. One that is made from data is compiled while a command waits, and
pays for that too, known or not. Dear are Unicode classes (a third of a millisecond for `\\pL`); the rest goes by length.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import re2

from .errors import ExpressionError

if TYPE_CHECKING:
    from .budget import Budget

#: A regular expression's automaton may take this many bytes; it also bounds what a pattern may be repeated to.
_PATTERN_BYTES: Final = 1 << 18
_PATTERN_MAX: Final = 1_000
#: Steps (of a quarter of a microsecond) for a pattern from data, for a character of it, and for a Unicode class in it.
_COMPILED: Final = 2_000
_CHARACTER: Final = 40
_CLASS: Final = 2_000


@lru_cache(maxsize=256)
def pattern(source: str) -> Any:
    """A compiled RE2 pattern; raises `ExpressionError` for one that is wrong, too long or too large."""
    _check_length(source)
    options = re2.Options()
    options.max_mem = _PATTERN_BYTES
    options.log_errors = False
    # Nobody asks what a group has matched; to know it took up to sixty times as long as to know that it has.
    options.never_capture = True
    try:
        return re2.compile(source, options=options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args and isinstance(error.args[0], (str, bytes)) else "not understood"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        raise ExpressionError(f"{source[:40]!r} is no pattern (RE2): {text}") from None


def found(budget: Budget, text: str, compiled: Any) -> bool:
    """Whether the pattern is found in the text."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise ExpressionError("the text holds half a character") from None
    budget.spend(1 + (len(encoded) * compiled.programsize >> 3))
    return compiled.search(encoded) is not None


def found_from_data(budget: Budget, text: str, source: str) -> bool:
    """The same with a pattern that no author has written down."""
    _check_length(source)
    budget.spend(_COMPILED + _CHARACTER * len(source) + _CLASS * (source.count("\\p") + source.count("\\P")))
    return found(budget, text, pattern(source))


def _check_length(source: str) -> None:
    if len(source) > _PATTERN_MAX:
        raise ExpressionError(f"a pattern may have {_PATTERN_MAX:,} characters, this one has {len(source):,}")
