"""Compiled charts, kept within a bound.

The content of a published version never changes, so a chart that is kept is right for ever: keeping is a matter of memory
alone. Charts weigh what their documents weigh (states, transitions, expressions); who was not asked for longest goes
first, and the last one stays however heavy it is, or every command of its instances would compile it anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Chart

Key = tuple[str, str]
"""Tenant id and id of the version."""


class Charts:
    """An LRU of charts by total weight; loads of one chart at the same time are one load."""

    def __init__(self, load: Callable[[str, str], Awaitable[Chart]], *, weight_max: int) -> None:
        self._load = load
        self._weight_max = weight_max
        self._weight = 0
        self._kept: OrderedDict[Key, Chart] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Chart]] = {}

    def get(self, tenant_id: str, definition_id: str) -> Chart | None:
        """Give a chart that is in memory; this is on the way of every command."""
        key = (tenant_id, definition_id)
        chart = self._kept.get(key)
        if chart is not None:
            self._kept.move_to_end(key)
        return chart

    async def load(self, tenant_id: str, definition_id: str) -> Chart:
        """Give a chart, loading it where it is not in memory; raises what loading it raises."""
        chart = self.get(tenant_id, definition_id)
        if chart is not None:
            return chart
        key = (tenant_id, definition_id)
        loading = self._loading.get(key)
        if loading is None:
            # A task of its own: whoever asked first may be cancelled, and the others still wait for it.
            loading = self._loading[key] = asyncio.create_task(self._load_and_keep(key), name="chart")
            loading.add_done_callback(_seen)
        return await asyncio.shield(loading)

    def __len__(self) -> int:
        return len(self._kept)

    async def _load_and_keep(self, key: Key) -> Chart:
        try:
            chart = await self._load(*key)
        finally:
            del self._loading[key]
        self._kept[key] = chart
        self._weight += _weight(chart)
        while self._weight > self._weight_max and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._weight -= _weight(old)
        return chart


def _weight(chart: Chart) -> int:
    return max(chart.weight, 1)


def _seen(task: asyncio.Task[Chart]) -> None:
    """Whoever waits has the error; where nobody is left to, it is no news."""
    if not task.cancelled():
        task.exception()
