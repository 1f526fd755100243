"""Directory facts kept between batches, as long as the directory has not changed.

Facts are read for one revision of a tenant's directory, and the statement that writes a batch compares that revision.
So a fact kept here can be stale only for a batch that will not be written.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pliers_workflow.interpreter.facts import Fact, Facts

#: Facts of one tenant; when there are more, that tenant's are dropped and read again as they are needed.
_FACTS_MAX: Final = 20_000
#: Tenants; the one not asked for longest goes first.
_TENANTS_MAX: Final = 1_000


class FactCache:
    """Facts by tenant, for one directory revision each."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, tuple[int, dict[str, Fact]]] = OrderedDict()

    def view(self, tenant_id: str, revision: int) -> dict[str, Fact]:
        """The facts known of a tenant at this revision; what is put in stays until the directory changes."""
        kept = self._views.get(tenant_id)
        if kept is not None and kept[0] == revision and len(kept[1]) < _FACTS_MAX:
            self._views.move_to_end(tenant_id)
            return kept[1]
        facts: dict[str, Fact] = {}
        self._views[tenant_id] = (revision, facts)
        if len(self._views) > _TENANTS_MAX:
            self._views.popitem(last=False)
        return facts

    def latest(self, tenant_id: str) -> Facts:
        """What was last known of a tenant, for answers that need not be of this moment."""
        kept = self._views.get(tenant_id)
        return {} if kept is None else kept[1]
