"""Plugins: which there are, what they take, and which nodes have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..endpoint import Call, PluginId, Reply, Routes
from .wire import Page, PageQuery
from .wire.plugins import PluginNodeView, PluginSummaryView, PluginView

if TYPE_CHECKING:
    from pliers_workflow.runtime.plugins.registry import KnownPlugin

routes = Routes("Plugins", "Code of yours that nodes run as steps of the type `plugin`.")

_READ = ("author", "publisher", "operator", "auditor")


@routes.get("/plugins", "List plugins", answers=Page[PluginSummaryView], permissions=_READ)
async def list_plugins(call: Call, query: PageQuery) -> Reply:
    """All plugins of all nodes by id, broken ones with the reason; they fit on one page."""
    known = await call.engine.plugins.all()
    return Reply(Page(items=[PluginSummaryView(**_summary(each)) for each in known], next_cursor=None))


@routes.get("/plugins/{id}", "Get a plugin", answers=PluginView, permissions=_READ)
async def get_plugin(call: Call, id: PluginId) -> Reply:
    """One plugin, with JSON Schemas of its configuration, input and output: what a step of it may say."""
    plugin = await call.engine.plugins.get(id)
    about = plugin.about
    return Reply(
        PluginView(
            **_summary(plugin),
            configuration_schema=None if about is None else about.configuration_schema,
            input_schema=None if about is None else about.input_schema,
            output_schema=None if about is None else about.output_schema,
        )
    )


def _summary(plugin: KnownPlugin) -> dict[str, Any]:
    about = plugin.about
    return {
        "id": plugin.id,
        "state": plugin.state,
        "version": about and about.version,
        "title": about and about.title,
        "description": about and about.description,
        "isolation": about and about.isolation,
        "timeout_seconds": about and about.timeout,
        "memory_mib": about and about.memory,
        "registered_at": about and about.registered_at,
        "nodes": [
            PluginNodeView(
                name=holder.node,
                version=holder.version,
                state=holder.state,
                reason=holder.reason,
                runs_steps=holder.runs,
            )
            for holder in plugin.holders
        ],
    }
