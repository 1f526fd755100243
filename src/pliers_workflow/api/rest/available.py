"""What the caller of a request could do with an instance, so that a client shows only what leads somewhere.

It says to whom transitions are open, by the interpreter's own rule for subjects. Guards are not evaluated: they may look
at data that comes with the trigger, a list would evaluate them a hundredfold, and firing is answered with the reason why a
guard did not hold, which a trigger that is not shown never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pliers_workflow.interpreter.facts import User
from pliers_workflow.interpreter.instance import Status
from pliers_workflow.interpreter.subjects import includes

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.interpreter.instance import Instance

    from ..endpoint import Call

#: raised inside the engine; firing them from outside is no use to anybody
_INTERNAL: Final = ("timeout", "done", "error", "approved", "rejected", "changes_requested", "recalled", "*")


class Caller(Struct, frozen=True):
    """Whoever asks, as `access` sees them."""

    user_id: str
    #: holds the permission that opens every transition
    operates: bool
    #: their record in the directory; an operator's is not needed
    person: User | None

    def is_among(self, subjects: tuple[str, ...], instance: Instance) -> bool:
        """Whether the subjects of this instance include them, or they may do it anyway."""
        return self.operates or includes(subjects, self.user_id, instance.requester, lambda _: self.person)


async def caller_of(call: Call) -> Caller:
    """
    Whoever has just given a command, for its answer: their record is at hand, so the database is asked next to never.

    It may be a moment old, which does no harm: a command asks again. Who reads has `Reading.caller`.
    """
    principal = call.principal
    operates = principal.may("operator")
    person = None if operates else await call.engine.person(principal.tenant_id, principal.user_id)
    return Caller(principal.user_id, operates, person)


def available_triggers(chart: Chart, instance: Instance, caller: Caller) -> list[str]:
    """Triggers from outside that transitions of the active states take from this caller, in the order of asking."""
    triggers: dict[str, None] = {}
    if instance.ended or instance.status is Status.SUSPENDED:
        return []
    for state_id in reversed(instance.configuration):
        state = chart.by_id.get(state_id)
        for transition in state.transitions if state is not None else ():
            names = [each for each in transition.triggers if each.partition(".")[0] not in _INTERNAL]
            access = transition.access if transition.access is not None else chart.advance_access
            if names and caller.is_among(access, instance):
                triggers.update(dict.fromkeys(names))
    if caller.is_among(("requester",), instance) and any(
        run.status == "changes_requested" for run in instance.machine.chains.values()
    ):
        triggers["resubmit"] = None
    return list(triggers)
