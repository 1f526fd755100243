"""What happens to a submission as an event: `submission.created`, `submission.updated`, for whoever listens.

The event is put into the inbox by the statement or transaction that keeps the submission, so there is one exactly where
there is a submission, and whoever dies afterwards leaves it to the inbox's sweep. Its data are the form's; whose form it
is and who changed it are attributes. Instances of that submission are found by its id (`definition.listening`), now or never:
a change says something about where an instance stands now, so it waits for nobody.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from pliers_workflow.interpreter.commands import InboundEvent
from pliers_workflow.settings import EventSettings
from pliers_workflow.storage import canonical, identity

from .. import tracing
from ..failures import DATABASE_AWAY
from ..inbound.rows import Stored, submissions_source

if TYPE_CHECKING:
    from ..inbound.inbox import Inbox

_log = structlog.get_logger(__name__)

#: how long this node has for an event before another one takes it up
_LEASE: Final = timedelta(seconds=60)


class Told(Struct, frozen=True):
    """An event about a submission, before it is kept."""

    stored: Stored
    #: as the statements take them: id, fingerprint, type, event, how long it is known, lease, trace
    columns: tuple[Any, ...]


class SubmissionEvents:
    """Makes events of what happens to submissions, and has them carried out."""

    def __init__(
        self, inbox: Inbox | None = None, *, public_url: str = "", settings: EventSettings | None = None
    ) -> None:
        """Without an inbox somebody else carries them out."""
        self._inbox = inbox
        self._base = public_url.rstrip("/")
        self._dedupe = timedelta(seconds=(settings or EventSettings()).dedupe_ttl)

    def told(
        self,
        tenant_id: str,
        event_type: str,
        *,
        submission_id: str,
        form_id: str,
        revision: int,
        data: dict[str, Any],
        submitted_by: str,
        changed_by: str,
        at: datetime,
        real_now: datetime,
    ) -> Told:
        """The event of one revision; the same whoever makes it."""
        event = InboundEvent(
            id=f"{submission_id}/{revision}",
            source=submissions_source(self._base, tenant_id),
            type=event_type,
            subject=submission_id,
            time=at,
            data=data,
            attributes={
                "formid": form_id,
                "submissionrevision": revision,
                "submittedby": submitted_by,
                "changedby": changed_by,
            },
        )
        trace = tracing.current()
        stored = Stored(tenant_id, identity.new_instance_id(real_now), event, 0, at, at, own=True, trace=trace)
        # With a word before it, so that nobody outside can use up the event's name.
        fingerprint = sha256(f"submission\0{event.source}\0{event.id}".encode()).digest()
        encoded = canonical.encode_loose(event).decode()
        traced = None if trace is None else canonical.encode_loose(trace).decode()
        return Told(stored, (stored.id, fingerprint, event_type, encoded, self._dedupe, _LEASE, traced))

    async def act(self, told: Told) -> None:
        """Have an event that is kept carried out; return when it is, or soon. What goes wrong, the inbox's sweep makes good."""
        if self._inbox is None:
            return
        try:
            await self._inbox.act_on(told.stored)
        except DATABASE_AWAY as error:
            _log.warning("event_left_for_later", tenant=told.stored.tenant_id, id=told.stored.id, error=repr(error))
