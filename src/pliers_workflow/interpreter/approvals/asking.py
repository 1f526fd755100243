"""The life of a chain in its state: started on entry, restarted after changes, timed out, left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..draft import Refused
from ..events import ChainStarted
from ..rejections import Reason
from ..rounds import rounds_key
from .items import Cause, open_stage, place_of, resolve_incidents, run_of, stop_asking
from .settling import ask_fallbacks, fill_seats, go_on, grant, refuse

if TYPE_CHECKING:
    from ..draft import Draft
    from ..instance import Instance
    from .items import Place, WithdrawReason


def start_chain(draft: Draft, place: Place) -> None:
    """
    Start the chain of a state that has just been entered, or of a step that has begun.

    After a round that ended with a request for changes, and whose place was left, this is the next round, whichever
    state of that chain is entered, or when the same step begins again; else it is a first one. A chain whose stages are
    all skipped is granted at once.
    """
    chain = place.chain
    machine = draft.instance.machine
    round_ = machine.rounds.get(rounds_key(machine, chain.id, place.step), 0) + 1
    draft.emit(ChainStarted(chain.id, place.state, draft.number("visit"), round_, place.step))
    go_on(draft, place, 0, Cause("approve"))


def resubmit(draft: Draft, key: str) -> None:
    """
    Begin the next round of a chain that waits in place for changes.

    Raises `Refused` (`nothing_to_decide`) where the chain does not wait for them.
    """
    if not awaits_changes(draft.instance, key):
        raise Refused(Reason.NOTHING_TO_DECIDE)
    run = run_of(draft.instance, key)
    place = place_of(draft, run)
    draft.emit(ChainStarted(run.chain, place.state, run.visit, run.round + 1, place.step))
    go_on(draft, place, 0, Cause("approve"))


def ask_again(draft: Draft, key: str) -> None:
    """Ask the stage that was stuck once more, with facts as they are now; an operator says that this helps."""
    run = run_of(draft.instance, key)
    asked = open_stage(run)
    place = place_of(draft, run)
    if asked is None:  # its condition had failed, so that it was never asked
        go_on(draft, place, len(run.stages), Cause("approve"))
    else:
        fill_seats(draft, place, place.chain.stage_by_id[asked.id])


def leave(draft: Draft, key: str) -> None:
    """The place is left: nobody is asked any more, and what was wrong with its stages does not matter any more."""
    if key in draft.instance.machine.chains:
        stop_asking(draft, key, "state_left")
        resolve_incidents(draft, key, "state_left")


def withdraw_all(draft: Draft, reason: WithdrawReason = "cancelled") -> None:
    """The instance ends where it is: nobody is asked any more. Incidents stay on record."""
    for key in draft.instance.machine.chains:
        stop_asking(draft, key, reason)


def stage_timed_out(draft: Draft, key: str, visit: int | None, stage_id: str | None) -> None:
    """
    The clock of a stage has run out; what that does besides raising its trigger, the stage's `on_timeout` says.

    `key` and `visit` say of which place's chain, and which time it was asked there.
    """
    run = draft.instance.machine.chains.get(key)
    if run is None or run.visit != visit:
        return
    asked = open_stage(run)
    if asked is None or asked.id != stage_id:
        return
    place = place_of(draft, run)
    stage = place.chain.stage_by_id[asked.id]
    if stage.on_timeout == "grant":
        grant(draft, place, stage, Cause("approve"), "timeout")
    elif stage.on_timeout == "refuse":
        refuse(draft, place, stage, Cause("reject"), "timeout")
    elif stage.on_timeout == "fallback":
        ask_fallbacks(draft, place, stage)


def chain_granted(instance: Instance, state_id: str) -> bool:
    """Whether the chain of a state is granted, for which its eventless transitions wait."""
    run = instance.machine.chains.get(state_id)
    return run is not None and run.status == "granted"


def awaits_changes(instance: Instance, key: str) -> bool:
    """Whether the chain of a place waits for the requester's changes."""
    run = instance.machine.chains.get(key)
    return run is not None and run.status == "changes_requested"
