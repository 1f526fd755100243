"""Event sources: brokers whose messages are events."""

from __future__ import annotations

from typing import Any

from pliers_workflow.runtime.event_sources import EventSourceInput, EventSourceRow, RejectRow

from ..endpoint import Call, EventSourceId, RejectId, Reply, Routes
from . import views
from .events import event_answers
from .wire import EventAnswersView, EventSourceBody, EventSourceRejectView, EventSourceView, Page, PageQuery

routes = Routes("Event sources", "Brokers whose messages are events: NATS JetStream, RabbitMQ, Redis Streams, Kafka.")

_READS = ("operator", "auditor")
_WRITES = ("operator",)


@routes.get("/event-sources", "List event sources", answers=Page[EventSourceView], permissions=_READS)
async def list_event_sources(call: Call, query: PageQuery) -> Reply:
    """Which brokers are read, and how that goes."""
    rows = await call.engine.event_sources.list(call.principal, limit=query.limit, cursor=query.cursor)
    return Reply(views.page(rows, _view))


@routes.post(
    "/event-sources",
    "Create an event source",
    answers=EventSourceView,
    status=201,
    permissions=_WRITES,
    problems=("conflict",),
)
async def create_event_source(call: Call, body: EventSourceBody) -> Reply:
    """
    Have a broker read, on one node at a time; each message is taken in once, and those of one instance in their order.

    A message is a CloudEvent in one of its three forms, or any JSON that the `mapping` makes one: CEL over `message`
    (`body`, `headers`, `address`, `key`, `id`). It is acknowledged when its event is on disk.
    """
    row = await call.engine.event_sources.create(call.principal, _input(body), request=call.request)
    return Reply(_view(row), revision=row.revision, location=f"{call.base}/event-sources/{row.id}")


@routes.get("/event-sources/{id}", "Get an event source", answers=EventSourceView, permissions=_READS, tagged=True)
async def get_event_source(call: Call, id: EventSourceId) -> Reply:
    """One event source, with how much has come of it and what went wrong last."""
    return _reply(views.found(await call.engine.event_sources.get(call.principal, id.lower()), "event source"))


@routes.put(
    "/event-sources/{id}",
    "Replace an event source",
    answers=EventSourceView,
    permissions=_WRITES,
    conditional=True,
    problems=("conflict",),
)
async def replace_event_source(call: Call, id: EventSourceId, body: EventSourceBody) -> Reply:
    """Change an event source; it is read on as it says now. It stays with its kind of broker."""
    row = await call.engine.event_sources.replace(
        call.principal, id.lower(), _input(body), call.if_match, request=call.request
    )
    return _reply(row)


@routes.delete("/event-sources/{id}", "Delete an event source", permissions=_WRITES)
async def delete_event_source(call: Call, id: EventSourceId) -> Reply:
    """Read it no more, and forget what it rejected. The events it brought stay, and so does what lies in the broker."""
    await call.engine.event_sources.delete(call.principal, id.lower(), request=call.request)
    return Reply(None)


@routes.post("/event-sources/{id}/enable", "Enable an event source", answers=EventSourceView, permissions=_WRITES)
async def enable_event_source(call: Call, id: EventSourceId) -> Reply:
    """Read on, at once: one that was disabled, or that waits after a failure."""
    return _reply(await call.engine.event_sources.set_enabled(call.principal, id.lower(), True, request=call.request))


@routes.post("/event-sources/{id}/disable", "Disable an event source", answers=EventSourceView, permissions=_WRITES)
async def disable_event_source(call: Call, id: EventSourceId) -> Reply:
    """Read nothing more for now; what comes meanwhile waits in the broker."""
    return _reply(await call.engine.event_sources.set_enabled(call.principal, id.lower(), False, request=call.request))


@routes.get(
    "/event-sources/{id}/rejects", "List rejected messages", answers=Page[EventSourceRejectView], permissions=_READS
)
async def list_event_source_rejects(call: Call, id: EventSourceId, query: PageQuery) -> Reply:
    """Messages that were no events, newest first. They were acknowledged; so many are kept for so long, as the settings say."""
    rows = await call.engine.rejects.list(call.principal, id.lower(), limit=query.limit, cursor=query.cursor)
    return Reply(views.page(rows, _reject))


@routes.post(
    "/event-sources/{id}/rejects/{rejectId}/retry",
    "Retry a rejected message",
    answers=EventAnswersView,
    permissions=_WRITES,
    executes=True,
    problems=("conflict",),
)
async def retry_event_source_reject(call: Call, id: EventSourceId, rejectId: RejectId) -> Reply:  # noqa: N803
    """Read a message again by the event source as it is now, and take its events in; it is a reject no more."""
    answers = await call.engine.rejects.retry(call.principal, id.lower(), rejectId.lower(), request=call.request)
    return Reply(event_answers(answers, detailed=True))


@routes.delete("/event-sources/{id}/rejects/{rejectId}", "Discard a rejected message", permissions=_WRITES)
async def discard_event_source_reject(call: Call, id: EventSourceId, rejectId: RejectId) -> Reply:  # noqa: N803
    """Throw a message away."""
    await call.engine.rejects.discard(call.principal, id.lower(), rejectId.lower(), request=call.request)
    return Reply(None)


def _reply(row: EventSourceRow) -> Reply:
    return Reply(_view(row), revision=row.revision)


def _input(body: EventSourceBody) -> EventSourceInput:
    return EventSourceInput(**{name: getattr(body, name) for name in EventSourceInput.__struct_fields__})


def _view(row: EventSourceRow) -> EventSourceView:
    return EventSourceView.of(row)


def _reject(row: RejectRow) -> EventSourceRejectView:
    body: Any = row.body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return EventSourceRejectView.of(row, body=body)
