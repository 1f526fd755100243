"""The engine's SQL, one `.sql` file for each subject, one `-- name:` section for each statement.

`load("read_instances")` reads `read_instances.sql` beside this file once and gives an object with one string attribute
for each section. Comments below the name are for people and stay in the file: the server gets the statement only.

A fragment that several statements share is written once: `-- fragment: NAME` begins it, `{NAME}` in a statement of the
same file stands for it. `load(file, NAME="…")` gives fragments from outside, such as the visibility predicate.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Final

from ..sql import without_comments

__all__ = ["load", "sections"]

_SECTION: Final = re.compile(r"^-- (name|fragment): *([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)
_FRAGMENT: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def load(file: str, **fragments: str) -> SimpleNamespace:
    """Give the statements of `queries/FILE.sql`, each as an attribute. Raises ValueError for a malformed file."""
    return SimpleNamespace(**_statements(file, tuple(sorted(fragments.items()))))


def sections(text: str, fragments: dict[str, str] | None = None) -> dict[str, str]:
    """
    Take a file's text apart into its named statements.

    >>> sections("-- name: one\\n-- Why.\\nSELECT 1;\\n")
    {'one': 'SELECT 1'}
    >>> sections("-- fragment: live\\nnot done\\n-- name: two\\nSELECT 2 WHERE {live};\\n")
    {'two': 'SELECT 2 WHERE not done'}
    """
    known = dict(fragments or {})
    found: dict[str, str] = {}
    heads = list(_SECTION.finditer(text))
    if heads and without_comments(text[: heads[0].start()]).strip():
        raise ValueError(f"SQL before the first section: {text[: heads[0].start()].strip()[:80]!r}")
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = without_comments(text[head.end() : following.start() if following else len(text)])
        body = "\n".join(line.rstrip() for line in body.splitlines() if line.strip()).rstrip(";")
        kind, name = head.groups()
        if name in found or name in known:
            raise ValueError(f"two sections are named {name}")
        # A fragment may rest on fragments above it; naming one that is not there is a KeyError at load, not at run time.
        body = _FRAGMENT.sub(lambda use: known[use[1]], body)
        (found if kind == "name" else known)[name] = body
    return found


@cache
def _statements(file: str, fragments: tuple[tuple[str, str], ...]) -> dict[str, str]:
    text = files(__package__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
    found = sections(text, dict(fragments))
    if not found:
        raise ValueError(f"{file}.sql has no `-- name:` section")
    return found
