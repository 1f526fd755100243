"""What comes back from outside: the results of steps, and operators' decisions about incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import approvals, firing, life, statechart, steps
from .draft import Refused
from .editing import edit
from .rejections import Reason

if TYPE_CHECKING:
    from .commands import CompleteStep, FailStep, ResolveIncident
    from .draft import Draft


_NO_VOTE = "a stage of an approval chain is granted by its approvers only; retry, or leave the state another way"


def record_result(draft: Draft, order: CompleteStep | FailStep) -> None:
    """A step's attempt has ended."""
    draft.allow(())
    steps.record_result(draft, order, steps.result_of(order))
    statechart.run_to_rest(draft)


def could_not_record(draft: Draft, order: CompleteStep | FailStep, refusal: Refused) -> None:
    """What follows from a result was refused: whoever brought it can do nothing about that, an operator can."""
    draft.allow(())
    steps.expect_attempt(draft, order)
    steps.cannot_apply(draft, order.step, steps.result_of(order), refusal)


def resolve_incident(draft: Draft, order: ResolveIncident) -> None:
    """An operator resolves an incident. Raises `Refused` where that cannot be done so."""
    draft.allow(())
    incident = draft.instance.machine.incidents.get(order.incident)
    if incident is None:
        raise Refused(Reason.UNKNOWN_INCIDENT, incident=order.incident, open=list(draft.instance.machine.incidents))
    if order.patch is not None:
        edit(draft, order.patch)
    if order.action == "give_up":
        steps.close(draft, incident, order)
        life.fail_for_good(draft, incident.code, f"{order.reason} ({incident.message})")
        return
    if incident.stage is not None:
        if order.action == "skip":
            # It would be a vote in the approvers' place, which no permission stretches to.
            raise Refused(Reason.NOT_ALLOWED, incident=incident.id, allowed=[], explanation=_NO_VOTE)
        steps.close(draft, incident, order)
        approvals.ask_again(draft, incident.step or incident.state or "")
    elif incident.step is not None:
        steps.resolve_incident(draft, incident, order)
    else:
        steps.close(draft, incident, order)
        if order.action == "retry":
            firing.fire_again(draft, incident)
            return
    statechart.run_to_rest(draft)
