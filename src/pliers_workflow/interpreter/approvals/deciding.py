"""Who may decide, and recording what they decided.

A request is refused for the first reason that holds, in `Reason`'s order. Two departures serve the person who reads it:
somebody who was asked and comes late hears `already_decided`, even where nothing is open any more; and
`not_an_approver` is said only when nothing more precise can be.

The right to decide was frozen when the stage was asked, and is looked at again now: the one fact about the actor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ..draft import Refused
from ..effects import OpenWorkItem, SettleWorkItem
from ..events import ApprovalDelegated, ApprovalGranted, ApprovalRejected, ChangesRequested
from ..facts import User
from ..instance import Vote, WorkItem
from ..rejections import Reason
from ..verdict import Verdict
from .counting import judge, spoken
from .items import Cause, due_at, next_slot, open_stage, place_of, resolve_incidents, run_of, stage_of, stop_asking
from .leaving import replace_beside
from .resolving import deciders_elsewhere
from .settling import holds_right, raise_result, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pliers_workflow.definition.chart import Chain, Stage

    from ..commands import RecordDecision
    from ..draft import Draft
    from ..instance import ChainRun, Seat, StageRun
    from .items import Place

_PRECEDENCE = {reason: position for position, reason in enumerate(Reason)}


def record_decision(draft: Draft, decision: RecordDecision) -> None:
    """Record what an approver did, and act on it. Raises `Refused`, and `Missing` while facts are."""
    actor = draft.actor.user
    passes_on = decision.action == "delegate"
    if passes_on:
        _expect_active(draft, actor, decision.delegate_to)
    place, stage, item = _item_to_decide(draft, actor, decision)
    assert actor is not None  # the engine is never asked
    chain = place.chain
    if passes_on:
        assert decision.delegate_to is not None
        _check_delegation(draft, chain, place, stage, item, actor, decision.delegate_to)
        _delegate(draft, place, stage, item, actor, decision)
        return
    if stage.comments_required and not (decision.comments and decision.comments.strip()):
        raise Refused(Reason.COMMENTS_REQUIRED, stage=stage.id)
    if decision.action == "request_changes":
        if not chain.request_changes:
            raise Refused(Reason.REQUEST_CHANGES_FORBIDDEN, chain=chain.id)
        _request_changes(draft, place, stage, item, actor, decision)
        return
    _vote(draft, place, stage, item, actor, decision)


def _expect_active(draft: Draft, actor: str | None, delegatee: str | None) -> None:
    """An item is passed to an active person. Asks for the actor's fact in the same round."""
    draft.require(tuple([f"user:{person}" for person in (actor, delegatee) if person is not None]))
    person = None if delegatee is None else draft.fact("user:" + delegatee)
    if not (isinstance(person, User) and person.active):
        raise Refused(Reason.UNKNOWN_USER, user=delegatee)


# -- which item --------------------------------------------------------------------------------------------------------


def _item_to_decide(draft: Draft, actor: str | None, decision: RecordDecision) -> tuple[Place, Stage, WorkItem]:
    """The one open item the actor can decide. Raises `Refused`."""
    open_runs = _open_stages(draft)
    named = open_runs
    if decision.stage is not None or decision.item is not None:
        named = [each for each in open_runs if _is_named(each[1], decision)]
    if not named:
        if _took_part(draft, actor, decision, open_runs):
            raise Refused(Reason.ALREADY_DECIDED)
        if not open_runs:
            raise Refused(Reason.NOTHING_TO_DECIDE)
        raise Refused(
            Reason.UNKNOWN_STAGE,
            open=[{"stage": asked.id, "items": [item.id for item in asked.items]} for _, asked in open_runs],
        )
    found: list[tuple[Place, Stage, WorkItem]] = []
    reasons: list[tuple[Reason, str]] = []
    for run, asked in named:
        place = place_of(draft, run)
        stage = place.chain.stage_by_id[asked.id]
        standing = _standing(draft, actor, place, stage, run, asked, decision.item)
        if isinstance(standing, WorkItem):
            found.append((place, stage, standing))
        else:
            reasons.append((standing, stage.id))
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(Reason.AMBIGUOUS_STAGE, stages=[stage.id for _, stage, _ in found])
    if all(reason is Reason.NOT_AN_APPROVER for reason, _ in reasons) and _took_part(draft, actor, decision, ()):
        raise Refused(Reason.ALREADY_DECIDED)
    reason, stage_id = min(reasons, key=lambda each: (each[0] is Reason.NOT_AN_APPROVER, _PRECEDENCE[each[0]]))
    raise Refused(reason, stage=stage_id)


def _open_stages(draft: Draft) -> list[tuple[ChainRun, StageRun]]:
    """The stages that are being asked: those of states in document order, then those of steps as they began."""
    chains = draft.instance.machine.chains
    found = []
    for state in draft.instance.configuration:
        run = chains.get(state)
        if run is not None:
            stage = open_stage(run)
            if stage is not None:
                found.append((run, stage))
    for run in chains.values():
        if run.step is not None:
            stage = open_stage(run)
            if stage is not None:
                found.append((run, stage))
    return found


def _is_named(asked: StageRun, decision: RecordDecision) -> bool:
    """Whether the decision can mean this stage: by its stage, by an item open in it, or by one that was voted on."""
    if decision.stage is not None and asked.id != decision.stage:
        return False
    item = decision.item
    return (
        item is None or any(each.id == item for each in asked.items) or any(vote.item == item for vote in asked.votes)
    )


def _took_part(
    draft: Draft, actor: str | None, decision: RecordDecision, open_runs: Sequence[tuple[ChainRun, StageRun]]
) -> bool:
    """Whether the actor was asked in a settled stage that the decision can mean, or has spoken through another item."""
    for stages in draft.instance.machine.settled.values():
        for stage_id, people in stages.items():
            if decision.stage in (None, stage_id) and actor in people:
                return True
    return any(decision.stage in (None, asked.id) and actor in spoken(asked) for _, asked in open_runs)


def _standing(
    draft: Draft, actor: str | None, place: Place, stage: Stage, run: ChainRun, asked: StageRun, wanted: str | None
) -> WorkItem | Reason:
    """The item that the actor can decide in a stage, or why there is none."""
    if actor is None:
        return Reason.NOT_AN_APPROVER
    gone = spoken(asked)
    if actor in gone:
        return Reason.ALREADY_DECIDED
    items = [item for item in asked.items if actor in (item.eligible or asked.seats[item.seat].eligible)]
    meant = items if wanted is None else _items_meant(asked, items, wanted)
    person = draft.fact("user:" + actor)
    if not meant:
        return _why_not_asked(draft, actor, person, place, stage, run, asked)
    if isinstance(person, User):
        meant = [item for item in meant if holds_right(person, item.approver_type, item.approver)]
        items = [item for item in items if holds_right(person, item.approver_type, item.approver)]
    if not meant or not isinstance(person, User):
        return Reason.NOT_AN_APPROVER
    chain = place.chain
    if actor == draft.instance.requester and not stage.self_approval:
        return Reason.SELF_APPROVAL_FORBIDDEN
    if chain.distinct_approvers and actor in deciders_elsewhere(draft, chain, stage, run):
        return Reason.DECIDED_IN_OTHER_STAGE
    return meant[0] if len(items) == 1 else _best(stage, asked, [*meant, *items], actor)


def _items_meant(asked: StageRun, items: list[WorkItem], wanted: str) -> list[WorkItem]:
    """
    The item named; where it has been decided, the one of the same role that took its place.

    Two members of a role who decide the same item at the same instant are both counted while both are needed.
    """
    meant = [item for item in items if item.id == wanted]
    if not meant:
        seats = {vote.seat for vote in asked.votes if vote.item == wanted}
        meant = [item for item in items if item.seat in seats and not item.delegated_by]
    return meant


def _why_not_asked(
    draft: Draft, actor: str, person: Any, place: Place, stage: Stage, run: ChainRun, asked: StageRun
) -> Reason:
    """Why somebody holds no open item of a stage."""
    voted = {vote.seat for vote in asked.votes}
    open_seats = {item.seat for item in asked.items}
    for position, seat in enumerate(asked.seats):
        if position in voted and position not in open_seats and actor in seat.eligible:
            return Reason.ALREADY_DECIDED  # a colleague was faster
    if isinstance(person, User) and person.active and _would_be_asked(person, stage, asked.seats):
        if actor == draft.instance.requester and not stage.self_approval:
            return Reason.SELF_APPROVAL_FORBIDDEN
        chain = place.chain
        if chain.distinct_approvers and actor in deciders_elsewhere(draft, chain, stage, run):
            return Reason.DECIDED_IN_OTHER_STAGE
    return Reason.NOT_AN_APPROVER


def _would_be_asked(person: User, stage: Stage, seats: tuple[Seat, ...]) -> bool:
    """Whether a person would be among the approvers, were they not barred from this stage."""
    called = {f"user:{person.id}", f"user:{person.username}"}
    called.update([f"role:{role}" for role in person.roles], [f"group:{group}" for group in person.groups])
    return any(f"{each.type}:{each.identifier}" in called for each in stage.approvers) or any(
        f"{seat.approver_type}:{seat.approver}" in called or seat.instead_of in called for seat in seats
    )


def _best(stage: Stage, asked: StageRun, items: list[WorkItem], actor: str) -> WorkItem:
    """
    Of several items of one stage that the actor can decide, the one where the vote helps.

    That is the first, unless nobody would be left for the seat of another then: whoever sits in two committees speaks
    for the one that has nobody else.
    """
    for item in items:
        rest = tuple([each for each in asked.items if each is not item])
        vote = Vote(item.id, actor, "approve", item.seat, principal=item.principal)
        after = replace(asked, items=rest, votes=(*asked.votes, vote))
        if judge(stage, after) is not Verdict.IMPOSSIBLE:
            return item
    return items[0]


# -- what they did -----------------------------------------------------------------------------------------------------


def _told(
    place: Place, stage: Stage, item: WorkItem, actor: str, decision: RecordDecision, group: str | None
) -> dict[str, Any]:
    """What the event of every decision tells: where it was made, by whom, in whose place, and with which words."""
    return {
        "state": place.state,
        "step": place.step,
        "chain": place.chain.id,
        "stage": stage.id,
        "item": item.id,
        "user": actor,
        "seat": item.seat,
        "principal": item.principal,
        "comments": decision.comments,
        "attachments": decision.attachments,
        "data": decision.data,
        "group": group,
    }


def _vote(draft: Draft, place: Place, stage: Stage, item: WorkItem, actor: str, decision: RecordDecision) -> None:
    approves = decision.action == "approve"
    seat = stage_of(draft.instance, place.key).seats[item.seat]
    group = None if seat.approver_type == "user" else seat.approver
    event = ApprovalGranted if approves else ApprovalRejected
    draft.emit(event(**_told(place, stage, item, actor, decision, group)))
    _close(draft, item, actor, decision, group)
    settle(draft, place, stage, _cause(draft, seat, actor, item, decision), item.seat)
    replace_beside(draft, place.key, actor)


def _request_changes(
    draft: Draft, place: Place, stage: Stage, item: WorkItem, actor: str, decision: RecordDecision
) -> None:
    """End the round: nobody else is asked until the requester has made the changes."""
    seat = stage_of(draft.instance, place.key).seats[item.seat]
    group = None if seat.approver_type == "user" else seat.approver
    draft.emit(ChangesRequested(**_told(place, stage, item, actor, decision, group)))
    _close(draft, item, actor, decision, group)
    stop_asking(draft, place.key, "changes_requested")
    resolve_incidents(draft, place.key, "changes_requested")
    raise_result(draft, "changes_requested", place, stage.id, _cause(draft, seat, actor, item, decision))


def _delegate(draft: Draft, place: Place, stage: Stage, item: WorkItem, actor: str, decision: RecordDecision) -> None:
    """Pass the item on: the old one is settled, the new one keeps in whose place it is decided."""
    run = run_of(draft.instance, place.key)
    asked = run.stages[-1]
    seat = asked.seats[item.seat]
    delegatee = decision.delegate_to
    assert delegatee is not None
    replacement = WorkItem(
        id=f"item/{draft.number('item')}",
        seat=item.seat,
        approver_type="user",
        approver=delegatee,
        slot=next_slot(asked, f"user:{delegatee}"),
        eligible=(delegatee,),
        principal=item.principal or actor,
        delegated_by=(*item.delegated_by, actor),
        opened_at=draft.now,
    )
    group = None if seat.approver_type == "user" else seat.approver
    draft.emit(
        ApprovalDelegated(
            **_told(place, stage, item, actor, decision, group), delegate_to=delegatee, replacement=replacement
        )
    )
    _close(draft, item, actor, decision, group)
    draft.owe(OpenWorkItem(run.chain, stage.id, run.visit, run.round, replacement, due_at(draft, place.key, stage.id)))
    replace_beside(draft, place.key, actor)


def _check_delegation(
    draft: Draft, chain: Chain, place: Place, stage: Stage, item: WorkItem, actor: str, delegatee: str
) -> None:
    """Raises `Refused` where the item cannot be passed to that person."""
    run = run_of(draft.instance, place.key)
    asked = run.stages[-1]
    if delegatee == draft.instance.requester and not stage.self_approval:
        raise Refused(Reason.SELF_APPROVAL_FORBIDDEN, stage=stage.id, user=delegatee)
    if chain.distinct_approvers and delegatee in deciders_elsewhere(draft, chain, stage, run):
        raise Refused(Reason.DECIDED_IN_OTHER_STAGE, stage=stage.id, user=delegatee)
    if not chain.delegation:
        raise Refused(Reason.DELEGATION_FORBIDDEN, chain=chain.id)
    if delegatee == actor or _has_a_part(asked, delegatee):
        raise Refused(Reason.DELEGATION_LOOP, stage=stage.id, user=delegatee)


def _has_a_part(asked: StageRun, person: str) -> bool:
    """Whether somebody has been asked in a stage, will be, or has spoken in it: nobody gets a second voice."""
    return (
        f"user:{person}" in asked.asked
        or person in spoken(asked)
        or any(person in seat.eligible for seat in asked.seats)
    )


def _close(draft: Draft, item: WorkItem, actor: str, decision: RecordDecision, group: str | None) -> None:
    """The item is answered; what the decision brought along goes with it."""
    extra: dict[str, Any] = {}
    if decision.data:
        extra["data"] = decision.data
    if decision.attachments:
        extra["attachments"] = list(decision.attachments)
    draft.owe(
        SettleWorkItem(
            item=item.id,
            action=decision.action,
            decided_by=actor,
            principal=item.principal,
            comments=decision.comments,
            decision_data=extra,
            delegated_to=decision.delegate_to if decision.action == "delegate" else None,
            group=group,
        )
    )


def _cause(draft: Draft, seat: Seat, actor: str, item: WorkItem, decision: RecordDecision) -> Cause:
    """
    The answer as the chart's transitions see it.

    The approver is the role or group in whose name it was given; a person goes by username, as in definitions.
    """
    identifier = seat.approver
    if seat.approver_type == "user":
        person = draft.fact("user:" + actor)
        identifier = person.username if isinstance(person, User) else actor
    assert decision.action != "delegate"
    return Cause(
        action=decision.action,
        user=actor,
        principal=item.principal,
        approver={"type": seat.approver_type, "identifier": identifier},
        comments=decision.comments,
        data=decision.data,
    )
