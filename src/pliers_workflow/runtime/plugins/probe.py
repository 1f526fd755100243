"""What health says of plugins: which are broken, for which steps wait, and whether calls have been left behind here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pliers_workflow.storage import queries

from ..health import Alarm, Reading

if TYPE_CHECKING:
    from pliers_workflow.storage.database import AnyConnection

    from .calls import Calls
    from .registry import PluginRegistry

_sql: Final = queries.load("plugins")


class PluginsProbe:
    """Plugins of all nodes, and this node's calls."""

    name = "plugins"

    def __init__(self, registry: PluginRegistry, calls: Calls) -> None:
        self._registry = registry
        self._calls = calls

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        known = await self._registry.known(connection)
        waiting = [row["id"] for row in await connection.fetch(_sql.waiting)]
        alarms = [
            Alarm(
                "plugin_missing",
                "Steps wait for this plugin, and no worker that lives has it: install it on one, or let it run "
                "(plugins.allowed, plugins.denied).",
                subject=id,
            )
            for id in waiting
            if id not in known or known[id].state != "ready"
        ]
        alarms += [
            Alarm("plugin_broken", f"It is broken on {holder.node}: {holder.reason}", subject=id)
            for id, plugin in known.items()
            for holder in plugin.broken
        ]
        alarms += [
            Alarm(
                "plugin_left_behind",
                "Calls whose steps are over do not end, and keep their threads; a plugin that may hang belongs into a "
                "process of its own.",
                count,
                subject=id,
            )
            for id, count in self._calls.left_behind.items()
        ]
        details = {
            "known": {
                id: {"state": plugin.state, "nodes": [holder.node for holder in plugin.holders if holder.runs]}
                for id, plugin in known.items()
            },
            "waiting": waiting,
            "threadsBusy": self._calls.busy,
            "leftBehind": dict(self._calls.left_behind),
        }
        return Reading(details, tuple(alarms))
