"""Taking SQL text apart just far enough: comments, strings and dollar quotes are known, everything else is words.

Nothing here understands SQL. It is for the migrations runner (which sends some statements one by one), and for the test
that holds every query to naming its tenant.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["split_statements", "without_comments"]

_TOKEN: Final = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<dollar>\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$)
    | (?P<string>'(?:[^']|'')*')
    | (?P<identifier>"(?:[^"]|"")*")
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(text: str) -> list[str]:
    """
    Split a script into its statements, without the semicolons and without comments between statements.

    >>> split_statements("SELECT ';' -- one; still one\\n; SELECT $$a;b$$;")
    ["SELECT ';'", 'SELECT $$a;b$$']
    """
    statements: list[str] = []
    current: list[str] = []
    position = 0
    for token in _TOKEN.finditer(text):
        current.append(text[position : token.start()])
        position = token.end()
        if token.lastgroup == "end" or token["end"]:
            statements.append("".join(current).strip())
            current = []
        elif not token["comment"]:
            current.append(token[0])
    current.append(text[position:])
    statements.append("".join(current).strip())
    return [statement for statement in statements if statement]


def without_comments(text: str) -> str:
    """
    Take comments out; strings that look like comments stay.

    >>> without_comments("SELECT '--no' -- yes")
    "SELECT '--no' "
    """
    return _TOKEN.sub(lambda token: "" if token["comment"] else token[0], text)
