"""What an operator does about an incident: have it done again, let it count as done, or give the instance up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ..effects import CloseIncident
from ..events import IncidentResolved
from .results import apply_result
from .starting import begin_again, work_off

if TYPE_CHECKING:
    from ..commands import ResolveIncident
    from ..draft import Draft
    from ..instance import Incident


def close(draft: Draft, incident: Incident, order: ResolveIncident) -> None:
    """The incident is resolved, by this person and for this reason."""
    draft.emit(IncidentResolved(incident.id, order.reason, order.action))
    draft.owe(CloseIncident(incident.id, order.action, order.reason, draft.actor.user))


def resolve_incident(draft: Draft, incident: Incident, order: ResolveIncident) -> None:
    """A step's incident is resolved: it is done again with fresh attempts, or counts as completed with this output."""
    assert incident.step is not None
    close(draft, incident, order)
    run = draft.instance.machine.steps[incident.step]
    if order.action == "skip":
        draft.later("complete", run.id, order.output)
    elif run.held is not None:
        # The work was done; what failed was to apply its result.
        apply_result(draft, run, run.held)
    else:
        attempt = run.attempt + 1
        begin_again(draft, replace(run, attempt=attempt, first_attempt=attempt))
    work_off(draft)


def close_all_incidents(draft: Draft, reason: str) -> None:
    """The instance has ended, and nothing can be done about it any more."""
    incidents = draft.instance.machine.incidents
    if incidents:
        for incident in incidents.values():
            draft.emit(IncidentResolved(incident.id, reason))
            draft.owe(CloseIncident(incident.id))
