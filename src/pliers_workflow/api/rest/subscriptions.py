"""Event subscriptions: who else is told of events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pliers_workflow.runtime.subscriptions import SubscriptionInput, SubscriptionRow

from ..endpoint import Call, Reply, Routes, SubscriptionId
from . import views
from .wire import (
    EventSubscriptionBody,
    EventSubscriptionView,
    Page,
    PageQuery,
    ReplayInput,
    RotateSecretInput,
    SubscriptionMadeView,
    SubscriptionStatusView,
)

routes = Routes("Event subscriptions", "Standing orders to tell others of events: webhooks and brokers.")

_READS = ("operator", "auditor")
_WRITES = ("operator",)


@routes.get("/event-subscriptions", "List subscriptions", answers=Page[EventSubscriptionView], permissions=_READS)
async def list_event_subscriptions(call: Call, query: PageQuery) -> Reply:
    """Who is told of events, and how that is going."""
    rows = await call.engine.subscriptions.list(call.principal, limit=query.limit, cursor=query.cursor)
    return Reply(views.page(rows, _view))


@routes.post(
    "/event-subscriptions",
    "Create a subscription",
    answers=SubscriptionMadeView,
    status=201,
    permissions=_WRITES,
    problems=("conflict",),
)
async def create_event_subscription(call: Call, body: EventSubscriptionBody) -> Reply:
    """
    Have events sent to a webhook or a broker, in order per instance and at least once.

    The secret that signs webhooks is in this answer and nowhere else; a request repeated with the same Idempotency-Key
    is answered without it.
    """
    row, secret = await call.engine.subscriptions.create(call.principal, _input(body), request=call.request)
    return Reply(_made(row, secret), revision=row.revision, location=f"{call.base}/event-subscriptions/{row.id}")


@routes.get(
    "/event-subscriptions/{id}", "Get a subscription", answers=EventSubscriptionView, permissions=_READS, tagged=True
)
async def get_event_subscription(call: Call, id: SubscriptionId) -> Reply:
    """One subscription, with how far it is and what went wrong last."""
    row = views.found(await call.engine.subscriptions.get(call.principal, id.lower()), "subscription")
    return _reply(row)


@routes.put(
    "/event-subscriptions/{id}",
    "Replace a subscription",
    answers=EventSubscriptionView,
    permissions=_WRITES,
    conditional=True,
    problems=("conflict",),
)
async def replace_event_subscription(call: Call, id: SubscriptionId, body: EventSubscriptionBody) -> Reply:
    """
    Change a subscription; it goes on where it is.

    `position` and `lanes` are as they were made, and so is the kind of sink. One that the engine has disabled stays so
    until it is resumed.
    """
    row = await call.engine.subscriptions.replace(
        call.principal, id.lower(), _input(body), call.if_match, request=call.request
    )
    return _reply(row)


@routes.delete("/event-subscriptions/{id}", "Delete a subscription", permissions=_WRITES)
async def delete_event_subscription(call: Call, id: SubscriptionId) -> Reply:
    """Remove a subscription, and forget how far it was."""
    await call.engine.subscriptions.delete(call.principal, id.lower(), request=call.request)
    return Reply(None)


@routes.post(
    "/event-subscriptions/{id}/pause", "Pause a subscription", answers=EventSubscriptionView, permissions=_WRITES
)
async def pause_event_subscription(call: Call, id: SubscriptionId) -> Reply:
    """Send nothing more for now. What happens meanwhile is sent after it is resumed."""
    return _reply(await call.engine.subscriptions.set_enabled(call.principal, id.lower(), False, request=call.request))


@routes.post(
    "/event-subscriptions/{id}/resume", "Resume a subscription", answers=EventSubscriptionView, permissions=_WRITES
)
async def resume_event_subscription(call: Call, id: SubscriptionId) -> Reply:
    """Go on where it was, at once: one that was paused, that the engine has disabled, or that waits after a failure."""
    return _reply(await call.engine.subscriptions.set_enabled(call.principal, id.lower(), True, request=call.request))


@routes.post("/event-subscriptions/{id}/replay", "Replay events", answers=EventSubscriptionView, permissions=_WRITES)
async def replay_event_subscription(call: Call, id: SubscriptionId, body: ReplayInput) -> Reply:
    """Send again what came after a position, or skip to one. Events keep the ids they had."""
    row = await call.engine.subscriptions.replay(call.principal, id.lower(), body.position, request=call.request)
    return _reply(row)


@routes.post(
    "/event-subscriptions/{id}/rotate-secret",
    "Rotate the secret",
    answers=SubscriptionMadeView,
    permissions=_WRITES,
    problems=("conflict",),
)
async def rotate_event_subscription_secret(call: Call, id: SubscriptionId, body: RotateSecretInput | None) -> Reply:
    """
    Sign webhooks with a new secret, which is in this answer and nowhere else.

    For a day, or as long as you say, the one before signs as well, so that receivers can change over.
    """
    keep = timedelta(seconds=(body or RotateSecretInput()).keep_seconds)
    row, secret = await call.engine.subscriptions.rotate_secret(call.principal, id.lower(), keep, request=call.request)
    return Reply(_made(row, secret), revision=row.revision)


def _reply(row: SubscriptionRow) -> Reply:
    return Reply(_view(row), revision=row.revision)


def _input(body: EventSubscriptionBody) -> SubscriptionInput:
    return SubscriptionInput(**{name: getattr(body, name) for name in SubscriptionInput.__struct_fields__})


def _view(row: SubscriptionRow) -> EventSubscriptionView:
    return EventSubscriptionView.of(row, **_others(row))


def _made(row: SubscriptionRow, secret: str | None) -> SubscriptionMadeView:
    return SubscriptionMadeView.of(row, **_others(row), secret=secret)


def _others(row: SubscriptionRow) -> dict[str, Any]:
    """What has another form over the wire."""
    return {
        "status": SubscriptionStatusView.of(row.status),
        "event_types": list(row.event_types),
        "definitions": list(row.definitions),
    }
