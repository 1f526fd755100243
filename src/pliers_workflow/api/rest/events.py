"""Events from outside: taken in as CloudEvents, and looked at by those who run the engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from pliers_workflow.runtime.inbound import cloudevents

from .. import bodies
from ..endpoint import Call, EventId, RawBody, Reply, Routes
from ..problems import ApiError
from . import views
from .wire import (
    CloudEvent,
    EventAnswersView,
    EventAnswerView,
    EventResultView,
    EventsQuery,
    EventView,
    EventWaitView,
    Page,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pliers_workflow.runtime.inbound.cloudevents import Incoming
    from pliers_workflow.runtime.inbound.rows import EventAnswer, EventRow, Result, Wait

routes = Routes("Events", "Events from outside: what starts workflows, moves their instances, and waits for them.")

_OPERATOR: Final = ("operator", "auditor")
_any: Final = bodies.decoder(Any)
#: headers of the binary form
_PREFIX: Final = "ce-"
#: a quoted string (RFC 9110, section 5.6.4), and what is escaped in it
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_ESCAPED: Final = re.compile(r"\\(.)")


@routes.post(
    "/events",
    "Send events",
    answers=EventAnswersView,
    status=202,
    permissions=("events", "operator"),
    executes=True,
    consumes={cloudevents.EVENT_TYPE: CloudEvent, cloudevents.BATCH_TYPE: list[CloudEvent]},
)
async def receive_event(call: Call, raw: RawBody) -> Reply:
    """
    Take in an event of CloudEvents 1.0: structured, as a batch, or in the binary form of its HTTP binding.

    In the binary form the attributes are headers (`ce-specversion`, `ce-id`, `ce-source`, `ce-type` …, values percent-encoded)
    and the body is the data, of whatever `Content-Type`. An event is known by `source` and `id`; one that comes again acts
    no second time and is answered with what became of it. A batch is taken in as a whole or not at all. When this answers,
    the events are kept; one whose fate takes longer than a few seconds is `received` and follows by itself.
    """
    answers, replayed = await call.engine.inbox.receive_request(
        call.principal.tenant_id, _events(raw), received_by=call.principal.user_id, request=call.request
    )
    return Reply(event_answers(answers, detailed=call.principal.may(*_OPERATOR)), replayed=replayed)


@routes.get("/events", "List events", answers=Page[EventView], permissions=_OPERATOR)
async def list_events(call: Call, query: EventsQuery) -> Reply:
    """Events that are still known, newest first."""
    rows = await call.engine.inbox.list(
        call.principal,
        status=query.status,
        event_type=query.type,
        event_source=query.event_source,
        limit=query.limit,
        cursor=query.cursor,
    )
    return Reply(views.page(rows, _view))


@routes.get("/events/{id}", "Get an event", answers=EventView, permissions=_OPERATOR)
async def get_event(call: Call, id: EventId) -> Reply:
    """One event, what became of it, and for whom it waits."""
    row = views.found(await call.engine.inbox.get(call.principal, id.lower()), "event")
    return Reply(_view(row))


@routes.post(
    "/events/{id}/retry",
    "Retry an event",
    answers=EventView,
    permissions=("operator",),
    executes=True,
    problems=("conflict",),
)
async def retry_event(call: Call, id: EventId) -> Reply:
    """Do again what of an event has failed, when its cause is gone; everything else stays as it was."""
    return Reply(_view(await call.engine.inbox.retry(call.principal, id.lower())))


def _events(raw: RawBody) -> tuple[Incoming, ...]:
    """The events of a request, in whichever form they came."""
    if raw.media_type in (cloudevents.EVENT_TYPE, cloudevents.BATCH_TYPE):
        if not raw.content:
            raise ApiError("body_required")
        value = bodies.decode(raw.content, _any)
        if raw.media_type == cloudevents.BATCH_TYPE:
            return cloudevents.batch(value)
        return (cloudevents.structured(value),)
    try:
        attributes = {
            name.removeprefix(_PREFIX): unquote(_unquoted(value), errors="strict")
            for name, value in raw.headers.items()
            if name.startswith(_PREFIX)
        }
    except UnicodeDecodeError:
        raise ApiError("invalid_header", "A `ce-` header is not percent-encoded UTF-8.") from None
    if "specversion" not in attributes or raw.media_type.startswith("application/cloudevents"):
        raise ApiError(
            "unsupported_media_type",
            f"Send `{cloudevents.EVENT_TYPE}` or `{cloudevents.BATCH_TYPE}`; or any other content with the event's "
            "attributes in headers: `ce-specversion`, `ce-id`, `ce-source`, `ce-type`.",
        )
    event = cloudevents.binary(
        attributes, raw.content_type or None, raw.content, lambda body: bodies.decode(body, _any)
    )
    return (event,)


def _unquoted(value: str) -> str:
    """
    A header's value that stands in quotes, without them, as the HTTP binding asks of receivers (section 3.1.3.2).

    >>> _unquoted('"two words"'), _unquoted("plain")
    ('two words', 'plain')
    """
    return _ESCAPED.sub(r"\1", value[1:-1]) if _QUOTED.fullmatch(value) else value


# -- views ----------------------------------------------------------------------------------------------------------------


def _view(row: EventRow) -> EventView:
    """An event and what became of it."""
    event = row.event
    return EventView(
        id=row.id,
        source=event.source,
        event_id=event.id,
        type=event.type,
        subject=event.subject,
        time=event.time,
        data=event.data,
        attributes=event.attributes,
        status=row.status,
        received_at=row.received_at,
        received_by=row.received_by,
        event_source_id=row.event_source,
        open_until=row.open_until,
        known_until=row.forget_at,
        results=[_event_result(each) for each in row.results],
        waits=[_event_wait(each) for each in row.waits],
    )


def event_answers(answers: Iterable[EventAnswer], *, detailed: bool) -> EventAnswersView:
    """What became of the events of one request; `detailed`: for those who may see more than a sender."""
    return EventAnswersView(
        events=[
            EventAnswerView(
                id=each.row.id,
                source=each.row.event.source,
                event_id=each.row.event.id,
                duplicate=each.duplicate,
                status=each.row.status,
                results=[_event_result(one, detailed=detailed) for one in each.row.results],
                waits=[_event_wait(one) for one in each.row.waits],
            )
            for each in answers
        ]
    )


def _event_result(result: Result, *, detailed: bool = True) -> EventResultView:
    return EventResultView(
        workflow=result.workflow,
        trigger=result.trigger,
        action=result.action,
        outcome=result.outcome,
        instance_id=result.instance,
        due_at=result.due_at,
        code=result.code,
        message=result.message,
        details=(result.details or None) if detailed else None,
    )


def _event_wait(wait: Wait) -> EventWaitView:
    return EventWaitView(
        workflow=wait.workflow, trigger=wait.trigger, correlation=wait.name, key=wait.key, open_until=wait.open_until
    )
