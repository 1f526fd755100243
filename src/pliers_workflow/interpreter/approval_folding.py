"""Fold approval events into an instance: the approval part of `interpreter.folding`.

Every function changes a working copy by replacing containers; none is mutated, because instances handed out before
share them. `APPLY` names the function of each event and is merged into the table of `interpreter.folding`.

What folding promises to `interpreter.approvals`: the stage that is being asked stands last in its chain's run; a vote
leaves the list of votes only with the run; `machine.settled` still knows who had been asked in a stage that is over,
when the state has long been left, so that a late answer is "already decided" and not "you were never asked".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from msgspec.structs import replace

from . import step_folding
from .events import (
    ApprovalDelegated,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalWithdrawn,
    ChainGranted,
    ChainRefused,
    ChainStarted,
    ChangesRequested,
    IncidentRaised,
    IncidentResolved,
    StageAsked,
    StageGranted,
    StageRefused,
    StageSkipped,
)
from .instance import ChainRun, StageRun, Vote
from .rounds import rounds_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from .instance import Instance, Machine, WorkItem

_V = TypeVar("_V")


def _with(mapping: Mapping[str, _V], key: str, value: _V) -> dict[str, _V]:
    return {**mapping, key: value}


def _without(mapping: dict[str, _V], key: str) -> dict[str, _V]:
    return {each: value for each, value in mapping.items() if each != key} if key in mapping else mapping


def _count(machine: Machine, counter: str, number: int) -> None:
    """Remember the highest number given."""
    if machine.counters.get(counter, 0) < number:
        machine.counters = _with(machine.counters, counter, number)


def _count_id(machine: Machine, counter: str, identifier: str) -> None:
    """The same from an id: `item/7` makes the counter 7."""
    _count(machine, counter, int(identifier.rpartition("/")[2]))


def _set_run(machine: Machine, run: ChainRun) -> None:
    machine.chains = {**machine.chains, run.step or run.state: run}


def _position(run: ChainRun, stage: str) -> int:
    """Where the stage stands, looked for from the end, where the one being asked is; -1 when it has not been reached."""
    for position in range(len(run.stages) - 1, -1, -1):
        if run.stages[position].id == stage:
            return position
    return -1


def _put_stage(run: ChainRun, position: int, stage: StageRun) -> tuple[StageRun, ...]:
    stages = run.stages
    if len(stages) == 1 and position == 0:
        return (stage,)
    if position < 0:
        return (*stages, stage)
    return (*stages[:position], stage, *stages[position + 1 :])


def _find(machine: Machine, place: str, stage: str) -> tuple[ChainRun, int, StageRun]:
    run = machine.chains[place]
    position = _position(run, stage)
    return run, position, run.stages[position]


def _put(machine: Machine, run: ChainRun, position: int, stage: StageRun) -> None:
    _set_run(machine, replace(run, stages=_put_stage(run, position, stage)))


def _less(items: tuple[WorkItem, ...], item: str) -> tuple[WorkItem, ...]:
    return tuple([each for each in items if each.id != item])


def people_asked(stage: StageRun) -> tuple[str, ...]:
    """Everyone who was asked in a stage or decided in it, each once, in the order of the approvers."""
    people: dict[str, None] = {}
    for seat in stage.seats:
        people.update(dict.fromkeys(seat.eligible))
    for vote in stage.votes:
        people[vote.user] = None
        if vote.principal is not None:
            people[vote.principal] = None
    for item in stage.items:
        people.update(dict.fromkeys(item.eligible))
        people.update(dict.fromkeys(item.delegated_by))
    return tuple(people)


def voters(stage: StageRun) -> tuple[str, ...]:
    """Everyone who decided in a stage, and in whose place that was, each once."""
    people = [person for vote in stage.votes for person in (vote.user, vote.principal) if person is not None]
    return tuple(dict.fromkeys(people))


# -- the chain ---------------------------------------------------------------------------------------------------------


def chain_started(instance: Instance, event: ChainStarted, at: datetime) -> None:
    """A first round knows nothing of earlier ones; a later one keeps what they granted, in this place or the one left."""
    machine = instance.machine
    run = ChainRun(event.chain, event.state, event.visit, event.round, "asking", step=event.step)
    before = machine.chains.get(run.place)
    if before is not None and before.visit == event.visit:
        run = replace(run, earlier_grants=before.earlier_grants, earlier_voters=before.earlier_voters)
    else:
        key = rounds_key(machine, event.chain, event.step)
        if event.round > 1:
            run = replace(
                run,
                earlier_grants=machine.earlier_grants.get(key, {}),
                earlier_voters=machine.earlier_voters.get(key, {}),
            )
        machine.rounds = _without(machine.rounds, key)
        machine.earlier_grants = _without(machine.earlier_grants, key)
        machine.earlier_voters = _without(machine.earlier_voters, key)
    _set_run(machine, run)
    _count(machine, "visit", event.visit)
    machine.settled = _without(machine.settled, event.chain)


def chain_granted(instance: Instance, event: ChainGranted, at: datetime) -> None:
    _end_chain(instance.machine, event.step or event.state, "granted")


def chain_refused(instance: Instance, event: ChainRefused, at: datetime) -> None:
    _end_chain(instance.machine, event.step or event.state, "refused")


def _end_chain(machine: Machine, place: str, status: Literal["granted", "refused"]) -> None:
    """What earlier rounds granted is of no more use: the next activation begins with a first round."""
    _set_run(machine, replace(machine.chains[place], status=status, earlier_grants={}, earlier_voters={}))


# -- stages ------------------------------------------------------------------------------------------------------------


def stage_asked(instance: Instance, event: StageAsked, at: datetime) -> None:
    """A stage begins to ask; given again for the same stage, its approvers were replaced and its votes stay."""
    machine = instance.machine
    run = machine.chains[event.step or event.state]
    position = _position(run, event.stage)
    if position < 0:
        stage = StageRun(id=event.stage, status="asking", seats=event.seats)
    else:
        stage = replace(run.stages[position], seats=event.seats)
    _set_run(machine, replace(run, stages=_put_stage(run, position, stage)))


def stage_skipped(instance: Instance, event: StageSkipped, at: datetime) -> None:
    machine = instance.machine
    run = machine.chains[event.step or event.state]
    watched = run.earlier_grants.get(event.stage) if event.reason == "unchanged" else None
    stage = StageRun(id=event.stage, status="skipped", watched_hash=watched)
    _set_run(machine, replace(run, stages=(*run.stages, stage)))


def stage_granted(instance: Instance, event: StageGranted, at: datetime) -> None:
    _settle_stage(instance.machine, event.step or event.state, event.stage, "granted", event.watched_hash or None)


def stage_refused(instance: Instance, event: StageRefused, at: datetime) -> None:
    _settle_stage(instance.machine, event.step or event.state, event.stage, "refused", None)


def _settle_stage(
    machine: Machine, place: str, stage: str, status: Literal["granted", "refused"], watched_hash: str | None
) -> None:
    run, position, before = _find(machine, place, stage)
    settled = replace(before, status=status, watched_hash=watched_hash)
    _set_run(machine, replace(run, status="asking", stages=_put_stage(run, position, settled)))
    _remember_people(machine, run.chain, settled)


def _remember_people(machine: Machine, chain: str, stage: StageRun) -> None:
    people = {**machine.settled.get(chain, {}), stage.id: people_asked(stage)}
    machine.settled = _with(machine.settled, chain, people)


# -- work items and decisions ------------------------------------------------------------------------------------------


def approval_requested(instance: Instance, event: ApprovalRequested, at: datetime) -> None:
    machine = instance.machine
    item = event.item
    run, position, stage = _find(machine, event.step or event.state, event.stage)
    _put(machine, run, position, replace(stage, items=(*stage.items, item), asked=_asked(stage, item)))
    _count_id(machine, "item", item.id)


def _asked(stage: StageRun, item: WorkItem) -> dict[str, int]:
    return {**stage.asked, f"{item.approver_type}:{item.approver}": item.slot}


def approval_granted(instance: Instance, event: ApprovalGranted, at: datetime) -> None:
    _count_vote(instance.machine, event, "approve")


def approval_rejected(instance: Instance, event: ApprovalRejected, at: datetime) -> None:
    _count_vote(instance.machine, event, "reject")


def _count_vote(
    machine: Machine, event: ApprovalGranted | ApprovalRejected, action: Literal["approve", "reject"]
) -> None:
    run, position, stage = _find(machine, event.step or event.state, event.stage)
    vote = Vote(
        item=event.item,
        user=event.user,
        action=action,
        seat=event.seat,
        principal=event.principal,
        weight=event.weight,
        group=event.group,
    )
    _put(machine, run, position, replace(stage, items=_less(stage.items, event.item), votes=(*stage.votes, vote)))


def changes_requested(instance: Instance, event: ChangesRequested, at: datetime) -> None:
    """
    The round ends; what it granted is remembered for the next one.

    A stage that was asked in this round and not granted loses an earlier grant: its approvers have looked at newer data
    and wanted something else, so that going back to the older data does not bring their consent back.
    """
    machine = instance.machine
    run = machine.chains[event.step or event.state]
    position = _position(run, event.stage)
    stage = run.stages[position]
    _remember_people(machine, run.chain, stage)
    stages = _put_stage(run, position, replace(stage, items=_less(stage.items, event.item)))
    grants = dict(run.earlier_grants)
    earlier_voters = dict(run.earlier_voters)
    for each in stages:
        if each.status == "granted" and each.watched_hash is not None:
            grants[each.id] = each.watched_hash
            earlier_voters[each.id] = voters(each)
        elif each.status != "skipped":
            grants.pop(each.id, None)
            earlier_voters.pop(each.id, None)
    _set_run(
        machine,
        replace(run, status="changes_requested", stages=stages, earlier_grants=grants, earlier_voters=earlier_voters),
    )


def approval_delegated(instance: Instance, event: ApprovalDelegated, at: datetime) -> None:
    machine = instance.machine
    replacement = event.replacement
    if replacement is None:  # never written by us; an item that passes on is there again under a new id
        return
    run, position, stage = _find(machine, event.step or event.state, event.stage)
    items = tuple([replacement if each.id == event.item else each for each in stage.items])
    _put(machine, run, position, replace(stage, items=items, asked=_asked(stage, replacement)))
    _count_id(machine, "item", replacement.id)


def approval_withdrawn(instance: Instance, event: ApprovalWithdrawn, at: datetime) -> None:
    machine = instance.machine
    run, position, stage = _find(machine, event.step or event.state, event.stage)
    _put(machine, run, position, replace(stage, items=_less(stage.items, event.item)))


# -- incidents ---------------------------------------------------------------------------------------------------------


def incident_raised(instance: Instance, event: IncidentRaised, at: datetime) -> None:
    """An incident of a stage makes it and its chain `stuck`; its open items can still be decided."""
    machine = instance.machine
    incident = event.incident
    machine.incidents = _with(machine.incidents, incident.id, incident)
    _count_id(machine, "incident", incident.id)
    if incident.stage is None:
        if incident.step is not None:
            step_folding.stick(machine, incident.step)
        return
    run = machine.chains.get(incident.step or incident.state or "")
    if run is None:
        return
    position = _position(run, incident.stage)
    stage = run.stages[position] if position >= 0 else StageRun(id=incident.stage, status="stuck")
    stages = _put_stage(run, position, replace(stage, status="stuck"))
    _set_run(machine, replace(run, status="stuck", stages=stages))


def incident_resolved(instance: Instance, event: IncidentResolved, at: datetime) -> None:
    machine = instance.machine
    incident = machine.incidents[event.incident]
    machine.incidents = _without(machine.incidents, event.incident)
    if incident.stage is not None:
        run = machine.chains.get(incident.step or incident.state or "")
        if event.action == "retry" and run is not None:
            _unstick(machine, run)
    elif incident.step is not None and incident.step in machine.steps:
        step_folding.unstick(machine, incident.step)


def _unstick(machine: Machine, run: ChainRun) -> None:
    """The stage is asked again, with its votes; one that had not been asked yet is gone, and is reached once more."""
    stages = tuple(
        [
            replace(stage, status="asking") if stage.status == "stuck" else stage
            for stage in run.stages
            if stage.status != "stuck" or stage.seats
        ]
    )
    _set_run(machine, replace(run, status="asking", stages=stages))


#: Event type -> what it changes.
APPLY: dict[type, Callable[[Instance, Any, datetime], None]] = {
    ChainStarted: chain_started,
    StageAsked: stage_asked,
    StageSkipped: stage_skipped,
    ApprovalRequested: approval_requested,
    ApprovalGranted: approval_granted,
    ApprovalRejected: approval_rejected,
    ChangesRequested: changes_requested,
    ApprovalDelegated: approval_delegated,
    ApprovalWithdrawn: approval_withdrawn,
    StageGranted: stage_granted,
    StageRefused: stage_refused,
    ChainGranted: chain_granted,
    ChainRefused: chain_refused,
    IncidentRaised: incident_raised,
    IncidentResolved: incident_resolved,
}
