"""What an instance has been through."""

from __future__ import annotations

from ..endpoint import Call, InstanceId, Reply, Routes
from . import views
from .viewer import viewer_of
from .wire import HistoryEntryView, Page, PageQuery, TimelineView

routes = Routes("History", "What an instance has been through.")


@routes.get("/workflow-instances/{id}/history", "Read an instance's history", answers=Page[HistoryEntryView])
async def get_history(call: Call, id: InstanceId, query: PageQuery) -> Reply:
    """Every accepted command in order, with the events it made and the facts it rested on."""
    return Reply(views.found(await viewer_of(call).history(id, query.limit, query.cursor), "instance"))


@routes.get("/workflow-instances/{id}/timeline", "Read an instance's timeline", answers=TimelineView)
async def get_timeline(call: Call, id: InstanceId) -> Reply:
    """The history as a person would tell it: states entered, decisions, timeouts."""
    return Reply(views.found(await viewer_of(call).timeline(id), "instance"))
