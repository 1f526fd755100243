"""The workflows of the load: each module has its `DOCUMENT`, its model, and `drive`, which plays its people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from ..model import Model, Row
from ..people import Workflow
from . import claim, clock, desk, form, order, parcel, plan, trip


class Kind(Struct, frozen=True):
    """One workflow: the document, what must become of it, who plays it, and how often. Some are started by others only."""

    document: dict[str, Any]
    model: Callable[[Row], Model]
    drive: Callable[[Workflow], Awaitable[None]] | None = None
    weight: int = 0


KINDS: Final = {
    "claim": Kind(claim.DOCUMENT, claim.Claim, claim.drive, 5),
    "clock": Kind(clock.DOCUMENT, clock.Clockwork, clock.drive, 2),
    "desk": Kind(desk.DOCUMENT, desk.Desk, desk.drive, 3),
    "form": Kind(form.DOCUMENT, form.Form, form.drive, 3),
    "plan": Kind(plan.DOCUMENT, plan.Plan, plan.drive, 3),
    "parcel": Kind(parcel.DOCUMENT, parcel.Parcel, parcel.drive, 3),
    "trip": Kind(trip.DOCUMENT, trip.Trip, trip.drive, 3),
    "order": Kind(order.DOCUMENT, order.Order, order.drive, 4),
    "leg": Kind(trip.LEG, trip.Leg),
}
