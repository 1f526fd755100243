"""Work items and the other small parts of a run: finding them, opening them, withdrawing them.

A chain is asked in a *place*: a state, or the run of a step (`step/7`). Its key says which, and no state's id has a slash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from pliers_workflow.definition.step_chart import Ask

from ..clocks import cancel_timer
from ..effects import CloseIncident, OpenIncident, OpenWorkItem, SettleWorkItem
from ..events import ApprovalRequested, ApprovalWithdrawn, IncidentRaised, IncidentResolved
from ..identity import fingerprint
from ..instance import Incident, WorkItem

if TYPE_CHECKING:
    from datetime import datetime

    from pliers_workflow.definition.chart import Chain, State

    from ..draft import Draft
    from ..instance import ChainRun, Instance, StageRun
    from ..step_runs import StepRun

WithdrawReason: TypeAlias = Literal[
    "stage_settled", "state_left", "cancelled", "changes_requested", "timeout", "approver_left"
]


class Cause(Struct, frozen=True):
    """Whose answer moved a chain on; the engine's, where `user` is None. It becomes the data of the chain's trigger."""

    action: Literal["approve", "reject", "request_changes"]
    user: str | None = None
    principal: str | None = None
    #: `{"type": …, "identifier": …}`: as asked
    approver: dict[str, str] | None = None
    comments: str | None = None
    data: dict[str, Any] = {}


class Place(NamedTuple):
    """Where a chain is asked."""

    #: of the chain's run in `machine.chains`: the state's id, or the step run's
    key: str
    chain: Chain
    #: the state, or the one that the step is part of (empty: none)
    state: str
    #: the step run, where a step asks
    step: str | None = None


def place_of_state(state: State) -> Place:
    """The place of a state that has a chain."""
    assert state.chain is not None
    return Place(state.id, state.chain, state.id)


def place_of_step(draft: Draft, run: StepRun) -> Place:
    """The place of a step that asks a chain."""
    work = draft.chart.steps[run.path].work
    assert isinstance(work, Ask)
    return Place(run.id, work.chain, run.state or "", run.id)


def place_of(draft: Draft, run: ChainRun) -> Place:
    """The place of a chain at work."""
    if run.step is not None:
        return place_of_step(draft, draft.instance.machine.steps[run.step])
    return place_of_state(draft.chart.by_id[run.state])


def run_of(instance: Instance, key: str) -> ChainRun:
    """The chain at work in a place. It is replaced with every event, so it is read anew after each."""
    return instance.machine.chains[key]


def open_stage(run: ChainRun) -> StageRun | None:
    """The stage that is being asked; stages are asked one after another, so it is the last one."""
    if run.stages and run.status in ("asking", "stuck"):
        stage = run.stages[-1]
        if stage.status in ("asking", "stuck"):
            return stage
    return None


def stage_of(instance: Instance, key: str) -> StageRun:
    """The last stage of a place's chain, which is the one being asked."""
    return instance.machine.chains[key].stages[-1]


def due_at(draft: Draft, key: str, stage: str) -> datetime | None:
    """When the stage's clock runs out."""
    for timer in draft.instance.machine.timers.values():
        if timer.kind == "stage" and timer.stage == stage and (timer.step or timer.state) == key:
            return timer.due_at
    return None


def next_slot(stage: StageRun, key: str) -> int:
    """The next slot of somebody asked: `role:KEY` and the others are told apart in a stage by it."""
    return stage.asked.get(key, 0) + 1


def open_item(draft: Draft, key: str, position: int) -> None:
    """Ask one seat of the stage being asked."""
    run = run_of(draft.instance, key)
    stage = run.stages[-1]
    seat = stage.seats[position]
    kind = seat.approver_type
    eligible = seat.eligible
    if kind != "user" and any(vote.seat == position for vote in stage.votes):
        eligible = ()  # a quorum of all of 200 members would otherwise write 200 lists of them
    item = WorkItem(
        id=f"item/{draft.number('item')}",
        seat=position,
        approver_type=kind,
        approver=seat.approver,
        slot=next_slot(stage, f"{kind}:{seat.approver}"),
        eligible=eligible,
        opened_at=draft.now,
    )
    timeout_at = due_at(draft, key, stage.id)
    draft.emit(ApprovalRequested(run.state, run.chain, stage.id, run.visit, run.round, item, timeout_at, step=run.step))
    draft.owe(OpenWorkItem(run.chain, stage.id, run.visit, run.round, item, timeout_at))


def withdraw(draft: Draft, run: ChainRun, stage: StageRun, item: WorkItem, reason: WithdrawReason) -> None:
    """Take one item out of inboxes: its answer is not needed any more."""
    draft.emit(ApprovalWithdrawn(run.state, stage.id, item.id, reason, step=run.step))
    draft.owe(SettleWorkItem(item.id, "withdraw"))


def stop_asking(draft: Draft, key: str, reason: WithdrawReason) -> None:
    """Withdraw what is open in a place's chain, and stop the clock of its stage."""
    run = run_of(draft.instance, key)
    for stage in run.stages:
        for item in stage.items:
            withdraw(draft, run, stage, item, reason)
    timers = draft.instance.machine.timers
    if timers:
        for timer in timers.values():
            if timer.kind == "stage" and (timer.step or timer.state) == key:
                cancel_timer(draft, timer.id)


def raise_incident(draft: Draft, key: str, stage: str, code: str, message: str) -> None:
    """The stage cannot go on by itself; somebody has to look. Raised once as long as the stage is stuck."""
    run = run_of(draft.instance, key)
    if run.stages and run.stages[-1].id == stage and run.stages[-1].status == "stuck":
        return
    incident = Incident(
        id=f"incident/{draft.number('incident')}",
        code=code,
        message=message,
        state=run.state or None,
        stage=stage,
        step=run.step,
        raised_at=draft.now,
        fingerprint=fingerprint(draft.chart.name, f"stage {run.chain}.{stage}", code),
    )
    draft.emit(IncidentRaised(incident))
    draft.owe(OpenIncident(incident))


def resolve_incidents(draft: Draft, key: str, reason: str) -> None:
    """The stages of this place are over or have moved on, and with them what was wrong with them."""
    incidents = draft.instance.machine.incidents
    if incidents:
        for incident in incidents.values():
            if incident.stage is not None and (incident.step or incident.state) == key:
                draft.emit(IncidentResolved(incident.id, reason))
                draft.owe(CloseIncident(incident.id))
