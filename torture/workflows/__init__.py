"""The workflows of the load: each module has its `DOCUMENT`, its model, and `drive`, which plays its people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from ..model import Model, Row
from ..people import Workflow
from . import claim, clock, form, parcel, plan


class Kind(Struct, frozen=True):
    """One workflow: the document, how often it is played, who plays it, and what must become of it."""

    document: dict[str, Any]
    weight: int
    drive: Callable[[Workflow], Awaitable[None]]
    model: Callable[[Row], Model]


KINDS: Final = {
    "claim": Kind(claim.DOCUMENT, 5, claim.drive, claim.Claim),
    "clock": Kind(clock.DOCUMENT, 2, clock.drive, clock.Clockwork),
    "form": Kind(form.DOCUMENT, 3, form.drive, form.Form),
    "plan": Kind(plan.DOCUMENT, 3, plan.drive, plan.Plan),
    "parcel": Kind(parcel.DOCUMENT, 3, parcel.drive, parcel.Parcel),
}
