"""The port that every kind of sink implements, and what it is given."""

from __future__ import annotations

import re
from typing import Final, Protocol

from msgspec import Struct

from pliers_workflow.interpreter.commands import Trace


class Message(Struct, frozen=True):
    """One event, ready to be sent."""

    #: the same whenever this event is sent to this subscription; another for each subscription
    key: str
    #: the event's type, for subjects and routing keys
    type: str
    tenant_id: str
    instance_id: str
    workflow: str
    #: the CloudEvent, in JSON
    body: bytes
    #: of the command that made it
    trace: Trace | None = None


class TransportError(Exception):
    """
    The event was not taken, or nobody knows whether it was; it will be sent again.

    `retry_after` is how many seconds the other side asked us to wait; `gone`: it asks never to be sent anything again.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, gone: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.gone = gone


class EventTransport(Protocol):
    """One connection of one subscription on one node; several lanes use it at the same time."""

    #: how many events a lane may have under way at once, of different instances
    parallel: int

    async def publish(self, message: Message) -> None:
        """Send an event; return when it is taken for good. Raises TransportError. A broken connection is made anew."""

    async def close(self) -> None:
        """Disconnect."""


_PLACE: Final = re.compile(r"\{(tenant|type|workflow|instance)\}")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.:-]")


def place(template: str, message: Message) -> str:
    """
    Put a message's own words into a template; what might mean something to a broker becomes `_`.

    >>> place("pliers.{tenant}.{type}", Message("k", "order placed.*", "default", "i", "w", b""))
    'pliers.default.order_placed._'
    """
    words = {
        "tenant": message.tenant_id,
        "type": message.type,
        "workflow": message.workflow,
        "instance": message.instance_id,
    }
    return _PLACE.sub(lambda found: _UNFIT.sub("_", words[found[1]]) or "_", template)


def unknown_places(template: str) -> list[str]:
    """
    What stands in braces and means nothing.

    >>> unknown_places("a.{tenant}.{name}")
    ['{name}']
    """
    return re.findall(r"\{[^}]*\}?", _PLACE.sub("", template))
