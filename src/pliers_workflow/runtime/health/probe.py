"""What a probe is, and what it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from pliers_workflow.storage.database import AnyConnection


class Alarm(Struct, frozen=True, omit_defaults=True):
    """Something that somebody should look at."""

    #: which one; the documentation lists them by this name
    alarm: str
    #: what is wrong and what to do, in a sentence
    message: str
    value: float | None = None
    #: the value from which on it is raised
    threshold: float | None = None
    #: which of several things, where there are several: a reader's name
    subject: str | None = None


class Reading(Struct, frozen=True):
    """What a probe found. `details` are shown as they are; keys in camelCase, instants as they come."""

    details: Any
    alarms: tuple[Alarm, ...] = ()


class HealthProbe(Protocol):
    """Looks at one thing. May raise; then that is the alarm."""

    @property
    def name(self) -> str:
        """The key of its details."""

    async def read(self, connection: AnyConnection) -> Reading:
        """Look, by a few small statements."""
