"""Compiled expressions, shared: a document is checked and then compiled, and its versions repeat each other.

Parsing is by far the dearest part of both (0.4 ms an expression). Expressions are immutable, so equal texts may be one
object, in all charts of all tenants; the cache is bounded, and a text that is no expression is not kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .expressions import Expression, compile_expression

CACHE_MAX: Final = 4096


@lru_cache(maxsize=CACHE_MAX)
def shared_expression(source: str) -> Expression:
    """Give the compiled expression of a text. Raises `ExpressionSyntaxError` as `compile_expression` does."""
    return compile_expression(source)
