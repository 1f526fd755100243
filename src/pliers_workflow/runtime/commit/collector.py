"""Python's garbage collector, set for a server.

Interpreting makes many small objects that live for a few milliseconds and form no cycles; charts, caches and modules live
for ever. By default the collector walks all of them again and again: a tenth of the time of a transition.
"""

from __future__ import annotations

import gc

#: Allocations between two looks at the youngest objects; Python's own default is 700 (2,000 from 3.13 on).
_YOUNG: int = 20_000


def settle_collector() -> None:
    """Leave what is in memory now out of every collection, and look at the rest less often. Call once, when all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
