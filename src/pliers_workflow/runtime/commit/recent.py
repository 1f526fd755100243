"""Instances as this node left them, so that the next command need not read what has not changed.

The read of a batch still asks the database for every instance's revision, and sends the rest only where that differs: a
cached instance is never stale, it only saves work. A waiting instance is here by chance, and the bound is small.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pliers_workflow.interpreter.instance import Instance

    from .queue import Key

#: Instances kept; the one not used for longest goes first.
_INSTANCES_MAX: Final = 2_000
#: Bytes of history record above which an instance is not worth keeping.
_RECORD_MAX: Final = 16_384


class RecentInstances:
    """A bounded map from key to instance and history hash."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[Instance, bytes]] = OrderedDict()

    def of(self, keys: list[Key]) -> dict[Key, tuple[Instance, bytes]]:
        """What is kept of these."""
        kept = self._kept
        return {key: kept[key] for key in keys if key in kept}

    def keep(self, key: Key, instance: Instance, history_hash: bytes, record_bytes: int) -> None:
        """Keep an instance as it was just committed; one that has ended or is large is let go."""
        if instance.ended or record_bytes > _RECORD_MAX:
            self._kept.pop(key, None)
            return
        self._kept[key] = (instance, history_hash)
        self._kept.move_to_end(key)
        if len(self._kept) > _INSTANCES_MAX:
            self._kept.popitem(last=False)

    def forget(self, key: Key) -> None:
        """Let an instance go."""
        self._kept.pop(key, None)
