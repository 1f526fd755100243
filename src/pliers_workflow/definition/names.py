"""Names of definitions: they stand in paths of the API beside UUIDs and fixed words, so they must be neither."""

from __future__ import annotations

import re
from typing import Final

from .findings import Finding

PATTERN: Final = re.compile(r"[a-z][a-z0-9_.-]*")
_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")

#: Fixed words that stand, or will stand, where a path of the API has a definition's id or name, or right behind it.
RESERVED: Final = frozenset(
    {
        # beside /workflows/{id}
        "health", "dashboard", "cleanup", "bulk-update", "query", "search", "new", "import", "export", "schema",
        # behind /workflows/{id}: a name like these makes paths and logs unreadable
        "versions", "validate", "publish", "instances", "analytics", "migrate", "archive", "diagram", "diff",
    }
)  # fmt: skip


def check_name(name: object, at: str = "/name") -> Finding | None:
    """
    Say what is wrong with a definition's name, or None.

    >>> check_name("expense_report") is None
    True
    >>> check_name("health").code
    'reserved_name'
    """
    if not isinstance(name, str) or not PATTERN.fullmatch(name) or len(name) > 255:
        return Finding(
            at,
            "bad_format",
            "A name begins with a small letter and goes on with small letters, digits, `_`, `.` and `-`; at most 255.",
            "For example `expense_report`.",
        )
    if name in RESERVED:
        return Finding(
            at,
            "reserved_name",
            f"`{name}` is a fixed word in the paths of the API.",
            f"Choose another name, such as `{name}_workflow`.",
        )
    if _UUID.fullmatch(name):
        return Finding(
            at,
            "reserved_name",
            "A name must not be a UUID: paths of the API take either one.",
            "Put a word in front of it.",
        )
    return None
