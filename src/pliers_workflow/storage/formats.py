"""The format of what is kept for good: `machine` of an instance, and the records of its history, carry its number.

A release reads its own format and all before it. It writes the highest format that every node that lives can read, so
releases may run beside each other while nodes are replaced one by one: the new format is written from the moment when
the last node of the old release has gone. What a node cannot read it refuses, that instance alone.

Whoever raises `FORMAT` says here how a record of the format before is read as one of today, and keeps writing the format
before while it is agreed on. Formats older than `FORMAT_WRITTEN_MIN` are not written any more: nodes that read nothing
newer must be gone before this release starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: The format that this release reads at most, and writes when everybody reads it.
FORMAT: Final = 1
#: The oldest format that this release still writes, for nodes of the release before.
FORMAT_WRITTEN_MIN: Final = 1


class NewerFormat(Exception):
    """This was written by a newer release than this node runs; a newer node can handle it."""


def agreed(own: int, others: Iterable[int]) -> int:
    """
    The format that a node writes: the highest that all nodes read.

    >>> agreed(2, []), agreed(2, [1, 2]), agreed(2, [3])
    (2, 1, 2)
    """
    return min([own, *others])
