"""What a client says of a failure, for the people who read `lastError`."""

from __future__ import annotations

from typing import Final

_LENGTH_MAX: Final = 400


def said(error: Exception) -> str:
    """
    The kind of an error and its own words, in a line: some libraries' `repr` tells no words, and some errors have none.

    >>> said(ValueError("no such queue")), said(ValueError())
    ('ValueError: no such queue', 'ValueError')
    >>> said(RuntimeError("RuntimeError: one line\\n   and another"))
    'RuntimeError: one line and another'
    """
    name = type(error).__name__
    text = " ".join(str(error).split()).removeprefix(name).removeprefix(":").strip()
    return (f"{name}: {text}" if text else name)[:_LENGTH_MAX]
