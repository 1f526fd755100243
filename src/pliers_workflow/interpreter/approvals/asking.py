"""The life of a chain in its state: started on entry, restarted after changes, timed out, left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..draft import Refused
from ..events import ChainStarted
from ..rejections import Reason
from .items import Cause, open_stage, resolve_incidents, run_of, stop_asking
from .settling import ask_fallbacks, chain_of, fill_seats, go_on, grant, refuse

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import State

    from ..draft import Draft
    from ..instance import Instance, Timer
    from .items import WithdrawReason


def start_chain(draft: Draft, state: State) -> None:
    """
    Start the chain of a state that has just been entered.

    After a round that ended with a request for changes this is the next round, whichever state of that chain is
    entered; else it is a first one. A chain whose stages are all skipped is granted at once.
    """
    chain = chain_of(state)
    machine = draft.instance.machine
    round_ = machine.rounds.get(chain.id, 0) + 1
    draft.emit(ChainStarted(chain.id, state.id, draft.number("visit"), round_))
    go_on(draft, state, 0, Cause("approve"))


def resubmit(draft: Draft, state: State) -> None:
    """
    Begin the next round of a chain that waits in place for changes.

    Raises `Refused` (`nothing_to_decide`) where the chain does not wait for them.
    """
    if not awaits_changes(draft.instance, state.id):
        raise Refused(Reason.NOTHING_TO_DECIDE)
    run = run_of(draft.instance, state.id)
    draft.emit(ChainStarted(run.chain, state.id, run.visit, run.round + 1))
    go_on(draft, state, 0, Cause("approve"))


def ask_again(draft: Draft, state: State) -> None:
    """Ask the stage that was stuck once more, with facts as they are now; an operator says that this helps."""
    run = run_of(draft.instance, state.id)
    asked = open_stage(run)
    chain = chain_of(state)
    if asked is None:  # its condition had failed, so that it was never asked
        go_on(draft, state, len(run.stages), Cause("approve"))
    else:
        fill_seats(draft, state, chain.stage_by_id[asked.id])


def leave_state(draft: Draft, state: State) -> None:
    """The state is left: nobody is asked any more, and what was wrong with its stages does not matter any more."""
    if state.id in draft.instance.machine.chains:
        stop_asking(draft, state.id, "state_left")
        resolve_incidents(draft, state.id, "state_left")


def withdraw_all(draft: Draft, reason: WithdrawReason = "cancelled") -> None:
    """The instance ends where it is: nobody is asked any more. Incidents stay on record."""
    for state in draft.instance.machine.chains:
        stop_asking(draft, state, reason)


def stage_timed_out(draft: Draft, timer: Timer) -> None:
    """A stage's clock has run out; what that does besides raising its trigger, the stage's `on_timeout` says."""
    if timer.state is None:
        return
    run = draft.instance.machine.chains.get(timer.state)
    if run is None or run.visit != timer.visit:
        return
    asked = open_stage(run)
    if asked is None or asked.id != timer.stage:
        return
    state = draft.chart.by_id[timer.state]
    stage = chain_of(state).stage_by_id[asked.id]
    if stage.on_timeout == "grant":
        grant(draft, state, stage, Cause("approve"), "timeout")
    elif stage.on_timeout == "refuse":
        refuse(draft, state, stage, Cause("reject"), "timeout")
    elif stage.on_timeout == "fallback":
        ask_fallbacks(draft, state, stage)


def chain_granted(instance: Instance, state_id: str) -> bool:
    """Whether the chain of a state is granted, for which its eventless transitions wait."""
    run = instance.machine.chains.get(state_id)
    return run is not None and run.status == "granted"


def awaits_changes(instance: Instance, state_id: str) -> bool:
    """Whether the chain of a state waits for the requester's changes."""
    run = instance.machine.chains.get(state_id)
    return run is not None and run.status == "changes_requested"
