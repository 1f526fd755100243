"""An event on its way to readers: what happened, and where it stands in the log.

A row of the history is read once by a node and shared by everybody who reads there; it is decoded when somebody first
looks into it. Its id and place never change, so a reader that acts with `key` has acted once, however often it is given
the event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..commit.history import decode_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pliers_workflow.interpreter.events import Event

    from ..commit.history import Record

#: Lanes are told apart by the last byte of the instance's id, which is random.
LANES_MAX: Final = 256


def lane_of(instance_id: str, lanes: int) -> int:
    """
    Say in which of `lanes` lanes an instance is read; the statements of `feed.sql` say the same.

    >>> lane_of("019cabd8-3800-7bc6-8000-0000000000ff", 4)
    3
    """
    return int(instance_id[-2:], 16) % lanes


def type_of(event: Event) -> str:
    """The type of an event, as it is written down."""
    tag: str = type(event).__struct_config__.tag  # type: ignore[assignment]  # each event has one
    return tag


class LoggedRow:
    """One row of the history as readers get it: one command, with the events it made."""

    __slots__ = (
        "_envelopes", "_record", "_text", "byte", "definition_id", "definition_name", "from_state", "instance_id",
        "position", "seq", "tenant_id", "to_state", "version",
    )  # fmt: skip

    def __init__(
        self, position: int, tenant_id: str, instance_id: str, seq: int, from_state: str | None, to_state: str | None,
        record: str, definition_id: str | None, definition_name: str | None, version: str | None,
    ) -> None:  # fmt: skip
        self.position = position
        self.tenant_id = tenant_id
        self.instance_id = instance_id
        self.seq = seq
        #: `current_state` before and after the command
        self.from_state = from_state
        self.to_state = to_state
        #: of the version the instance runs by now; None: the instance is not kept any more
        self.definition_id = definition_id
        self.definition_name = definition_name
        self.version = version
        #: decides the lane
        self.byte = int(instance_id[-2:], 16)
        self._text = record
        self._record: Record | None = None
        self._envelopes: tuple[Envelope, ...] | None = None

    @property
    def size(self) -> int:
        """Characters of the record."""
        return len(self._text)

    def forget(self) -> None:
        """Keep no more than what was read; what was made of it is made again for whoever comes late."""
        self._record = self._envelopes = None

    @property
    def record(self) -> Record:
        """The row's record. Raises `msgspec.DecodeError` for one that a newer release has written."""
        if self._record is None:
            self._record = decode_record(self._text)
        return self._record

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """The row's events, in order."""
        if self._envelopes is None:
            self._envelopes = tuple(Envelope(self, index, event) for index, event in enumerate(self.record.events))
        return self._envelopes


class Envelope:
    """One event with its place. Shared between readers: look, do not change."""

    __slots__ = ("_made", "event", "index", "row")

    def __init__(self, row: LoggedRow, index: int, event: Event) -> None:
        self.row = row
        #: which of the row's events it is, from 0
        self.index = index
        self.event = event
        self._made: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """Of the event, for ever: instance, seq and index."""
        return f"{self.row.instance_id}/{self.row.seq}/{self.index}"

    @property
    def type(self) -> str:
        """`workflow.state.entered`."""
        return type_of(self.event)

    @property
    def tenant_id(self) -> str:
        return self.row.tenant_id

    @property
    def instance_id(self) -> str:
        return self.row.instance_id

    @property
    def at(self) -> datetime:
        """When it happened, by the tenant's clock."""
        return self.row.record.at

    @property
    def user(self) -> str | None:
        """Id of the user whose command made it happen; None: the engine."""
        return self.row.record.command.actor.user

    def key(self, reader: str) -> str:
        """With what a reader acts on this event: the same each time it is given it, another for each reader."""
        return f"{self.id}/{reader}"

    def made(self, what: str, make: Callable[[Envelope], Any]) -> Any:
        """Give what `make` makes of this event; it is made once, for whoever asks first, and kept under `what`."""
        if what not in self._made:
            self._made[what] = make(self)
        return self._made[what]

    def __repr__(self) -> str:
        return f"<Envelope {self.id} {type(self.event).__name__}>"
