"""Plugins over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from .base import Json, View


class PluginNodeView(View, frozen=True, kw_only=True):
    """A node that has a plugin."""

    #: as in health
    name: str
    #: null: it is broken there, and nobody knows
    version: str | None
    state: Literal["ready", "broken"]
    #: why it is broken
    reason: str | None
    #: whether steps for it are run there: it is ready, and the node works and is not about to stop
    runs_steps: bool


class PluginSummaryView(View, frozen=True, kw_only=True):
    """A plugin, and where it is."""

    #: what a step's `pluginId` says
    id: str
    #: `ready`: a node that runs steps has it; `missing`: it was there, and no such node has it now; `broken`: nothing else is
    #: known of it
    state: Literal["ready", "missing", "broken"]
    #: the newest that a node has, else the newest there was; what follows is that one's. Null: it was never but broken
    version: str | None
    title: str | None
    description: str | None
    #: `thread`: in the node's process; `process`: in one of its own, which is killed when the time is up
    isolation: Literal["thread", "process"] | None
    #: seconds for one attempt, where the step and the engine allow as much
    timeout_seconds: float | None
    #: MiB that its process may have; null: no bound of its own
    memory_mib: int | None
    #: since when this version is known
    registered_at: datetime | None
    nodes: list[PluginNodeView]


class PluginView(PluginSummaryView, frozen=True, kw_only=True):
    """The same with what it takes and gives."""

    #: JSON Schema (2020-12) of a step's `configuration`
    configuration_schema: Json | None
    #: of what the step's `inputMapping` gives
    input_schema: Json | None
    #: of the step's output
    output_schema: Json | None
