"""Subjects: whom a definition names in its `access` and in `editableBy`.

`anyone`, `requester`, `user:NAME`, `role:KEY` and `group:KEY`. The interpreter asks this when a command is given, and the
API when it says what its caller could do: one answer for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .facts import User


def includes(subjects: tuple[str, ...], user: str, requester: str | None, find: Callable[[str], User | None]) -> bool:
    """
    Say whether a user (by id) is among the subjects; nobody inactive is by name, role or group.

    `find` gives a person's record, and is asked only where the subjects speak of the directory:

    >>> includes(("requester", "role:clerks"), "u1", "u1", lambda user: None)
    True
    >>> includes(("role:clerks",), "u2", "u1", lambda user: None)
    False
    """
    if "anyone" in subjects or (user == requester and "requester" in subjects):
        return True
    for subject in subjects:
        kind, _, name = subject.partition(":")
        if not name:
            continue
        person = find(user)
        if person is None or not person.active:
            return False
        if kind == "user":
            if person.username == name:
                return True
        elif name in (person.roles if kind == "role" else person.groups):
            return True
    return False
