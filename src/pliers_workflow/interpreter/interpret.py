"""Interpret one command: the single way in which an instance changes.

`interpret` is pure: the same chart, instance, command, facts and time give the same answer, in production, simulation,
replay and tests. Each order has a handler below, which checks who may do it, changes a draft, and lets the statechart
run to rest; `_finish` derives status and `current_state` once for the whole command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from pliers_workflow.definition.expressions import Budget, BudgetExceeded, ExpressionError
from pliers_workflow.definition.tree import ENGINE_PREFIXES, ENGINE_TRIGGERS

from . import approvals, firing, life, returning, statechart, steps
from .clocks import start_timer
from .commands import (
    BeginInstance,
    CancelInstance,
    CompleteStep,
    DeliverEvent,
    FailStep,
    FireTimer,
    FireTrigger,
    RecordDecision,
    ReplaceApprovers,
    ResolveIncident,
    ResumeInstance,
    StartInstance,
    SuspendInstance,
    UpdateData,
)
from .correlation import keep_keys
from .draft import Draft, Missing, Refused, Trigger, plain
from .editing import check_data, check_written, merge_patch, update_data
from .events import (
    ApprovalGranted,
    ApprovalRejected,
    ChangesRequested,
    StateChanged,
    StateEntered,
    StatusChanged,
    TitleChanged,
    TransitionTaken,
    WorkflowBegun,
    WorkflowStarted,
)
from .facts import Needs
from .folding import blank, seal
from .inbound import deliver_event
from .instance import Status
from .outcome import Outcome, Overrun
from .rejections import Reason, Rejection

if TYPE_CHECKING:
    from datetime import datetime

    from pliers_workflow.definition.chart import Chart

    from .commands import Command, Order
    from .facts import Facts
    from .instance import Instance

#: Bytes that an instance's data, and its context, may take as JSON.
DATA_MAX_BYTES = 256_000
#: Bytes that what an instance remembers of its steps may take as JSON.
STEPS_MAX_BYTES = 1_000_000
#: Characters of a title.
TITLE_MAX = 500
#: The order of the budget for a command in a batch: about 5 ms of work.
BUDGET_STEPS = 20_000

#: What can be done with an instance that waits for its turn.
_WHILE_PENDING = frozenset({BeginInstance, CancelInstance})
#: What can be done with a suspended instance: results that come meanwhile are kept.
_WHILE_SUSPENDED = frozenset({ResumeInstance, CancelInstance, CompleteStep, FailStep})
#: Rejections by which the order itself came too late, or from the wrong person; the others are the definition's fault.
_OVERTAKEN = frozenset({Reason.TIMER_GONE, Reason.STEP_GONE, Reason.NOT_ALLOWED})

_encoder = msgspec.json.Encoder(decimal_format="number")


def interpret(
    chart: Chart,
    instance: Instance | None,
    command: Command,
    facts: Facts,
    now: datetime,
    *,
    budget_steps: int = BUDGET_STEPS,
    refused: Rejection | None = None,
) -> Outcome | Rejection | Needs | Overrun:
    """
    Say what a command comes to.

    `instance` is None for a start and is never changed. `now` is the database's time; should it lie before the
    instance's last activity, that is taken. Answers `Needs` when facts are missing (ask again with them), `Overrun`
    when `budget_steps` are used up (ask again alone, with more).

    `refused`: it cannot take effect, which only whoever interprets it could tell. Where nobody would read of that
    (`is_unattended`) this says what happens instead.
    """
    order = command.order
    if instance is None:
        assert type(order) is StartInstance, "only a start has no instance"
        before = blank(order.instance_id, now)
    else:
        before = instance
        at_once = _refused_at_once(instance, command)
        if at_once is not None:
            return Rejection(at_once, at_once.message, _details(instance, command, at_once))
        if now < instance.last_activity_at:
            now = instance.last_activity_at
    draft = Draft(chart, before, actor=command.actor, facts=facts, now=now, budget=Budget(budget_steps))
    try:
        try:
            if refused is not None:
                raise Refused(refused.reason, explanation=refused.message)
            _HANDLERS[type(order)](draft, order)
            return _finish(draft, before)
        except Refused as refusal:
            unattended = _UNATTENDED.get(type(order))
            if unattended is None or refusal.reason in _OVERTAKEN or not _owed(order, before):
                return Rejection(refusal.reason, refusal.reason.message, refusal.details)
            # Nobody reads this rejection. What it rested on stays on record.
            looked_at = draft.looked_at
            draft = Draft(chart, before, actor=command.actor, facts=facts, now=now, budget=Budget(budget_steps))
            draft.looked_at = looked_at
            unattended(draft, order, refusal)
            _tell(draft)
            return _finish(draft, before, bounded=False)
    except Refused as refusal:  # it came too late
        return Rejection(refusal.reason, refusal.reason.message, refusal.details)
    except Missing as missing:
        return Needs(missing.keys, missing.scripts)
    except BudgetExceeded:
        return Overrun(budget_steps)


def is_unattended(order: Order) -> bool:
    """Whether nobody reads that the order was refused."""
    return type(order) in _UNATTENDED


def _owed(order: Order, before: Instance) -> bool:
    """Whether it must take effect all the same: a resumption does where results or attempts of steps wait for it."""
    return type(order) is not ResumeInstance or steps.wait_for_resumption(before)


def _tell(draft: Draft) -> None:
    """Do what is left to do about steps, without moving: a failure that a transition waits for needs a person, too."""
    steps.work_off(draft)
    while draft.internal:
        trigger = draft.internal.popleft()
        if trigger.step is not None:
            steps.not_taken(draft, trigger.step)
            steps.work_off(draft)


def _refused_at_once(instance: Instance, command: Command) -> Reason | None:
    """What the instance alone tells, in the order of `Reason`."""
    kind = type(command.order)
    if kind is StartInstance:
        return Reason.INSTANCE_EXISTS
    if command.expected_revision is not None and command.expected_revision != instance.revision:
        return Reason.REVISION_CONFLICT
    status = instance.status
    if instance.ended:
        return Reason.INSTANCE_ENDED
    if kind is BeginInstance or status is Status.PENDING:
        if status is not Status.PENDING:
            return Reason.INSTANCE_EXISTS
        return Reason.NOT_BEGUN if kind not in _WHILE_PENDING else None
    if status is Status.SUSPENDED:
        if kind not in _WHILE_SUSPENDED and not (kind is DeliverEvent and _is_awaited(command)):
            return Reason.SUSPENDED
    elif kind is ResumeInstance:
        return Reason.NOT_SUSPENDED
    return None


def _is_awaited(command: Command) -> bool:
    """A step waits for the event, which is kept with it as any result is."""
    order = command.order
    return isinstance(order, DeliverEvent) and order.action == "receive"


def _details(instance: Instance, command: Command, reason: Reason) -> dict[str, Any]:
    if reason is Reason.REVISION_CONFLICT:
        return {"revision": instance.revision, "expected": command.expected_revision}
    return {"status": str(instance.status)}


def _finish(draft: Draft, before: Instance, *, bounded: bool = True) -> Outcome:
    """
    Derive what holds for the command as a whole, and read the draft out.

    `bounded`: its data fit the schema, and what it remembers of steps has room; else it is `Refused`.
    """
    instance = draft.instance
    if not draft.running:
        life.complete(draft)
    if instance.current_state != before.current_state:
        draft.emit(StateChanged(before.current_state or None, instance.current_state, _cause(draft)))
    status = instance.status
    if status is not Status.WAITING or instance.machine.steps or instance.machine.incidents:
        _derive_status(draft, before)
    if instance.data is not before.data:
        _check_size("data", instance.data)
        if bounded and draft.unchecked:
            check_written(draft)
        if draft.chart.title:
            _set_title(draft)
    if instance.context is not before.context:
        _check_size("context", instance.context)
    if bounded and draft.chart.steps:
        machine = instance.machine
        _check_size("steps", [machine.steps, machine.outputs, machine.undo], STEPS_MAX_BYTES)
    keep_keys(draft, before)
    seal(instance, before.revision + 1, draft.now)
    return Outcome(instance, tuple(draft.events), tuple(draft.effects), draft.looked_at)


def _derive_status(draft: Draft, before: Instance) -> None:
    instance = draft.instance
    if instance.status is Status.SUSPENDED or instance.ended or not instance.configuration:
        return  # without a state it has not begun
    answered = before.status is Status.ESCALATED and any(type(event) in _ANSWERS for event in draft.events)
    status = life.status_of(instance, attended=answered)
    if status is not instance.status:
        draft.emit(StatusChanged(status.value))  # type: ignore[arg-type]  # one of those that follow from what is at work


def _cause(draft: Draft) -> str | None:
    """The trigger that moved the instance first; what followed from it is not the cause."""
    for event in draft.events:
        if type(event) is TransitionTaken and event.trigger is not None:
            return event.trigger
    return None


def _check_size(what: str, data: Any, limit: int = DATA_MAX_BYTES) -> None:
    size = len(_encoder.encode(data))
    if size > limit:
        raise Refused(Reason.DATA_TOO_LARGE, what=what, bytes=size, limit=limit)


def _set_title(draft: Draft) -> None:
    """Write the title anew from the definition's template; what is missing leaves its place empty."""
    pieces = [each if isinstance(each, str) else _text(draft, each) for each in draft.chart.title]
    title = "".join(pieces)[:TITLE_MAX]
    if title != draft.instance.title:
        draft.emit(TitleChanged(title))


def _text(draft: Draft, path: tuple[str, ...]) -> str:
    value = draft.scope(frozenset(path[:1]), draft.trigger)[path[0]]
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    value = plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else _encoder.encode(value).decode()


# -- start -------------------------------------------------------------------------------------------------------------


def _start(draft: Draft, order: StartInstance) -> None:
    chart, actor = draft.chart, draft.actor
    requester = order.requester if order.requester is not None else actor.user
    if requester is not None and requester != actor.user:
        user = draft.user(requester)
        if user is None or not user.active:
            raise Refused(Reason.UNKNOWN_USER, user=requester)
    draft.emit(
        WorkflowStarted(
            definition_id=order.definition_id,
            definition_name=chart.name,
            version=chart.version,
            data=order.data,
            context=order.context,
            requester=requester,
            created_by=actor.user,
            submission_id=order.submission_id,
            submission=order.submission,
            external_key=order.external_key,
            parent=order.parent,
            queued=order.queued,
        )
    )
    if order.parent is not None:
        steps.tell_parent_begun(draft)
    draft.allow(chart.start_access)
    if requester != actor.user:
        draft.allow(())
    check_data(draft, order.data)
    if not order.queued:
        _enter(draft)


def _begin(draft: Draft, _: BeginInstance) -> None:
    draft.allow(())
    draft.emit(WorkflowBegun())
    _enter(draft)


def _could_not_begin(draft: Draft, _: BeginInstance, refusal: Refused) -> None:
    draft.emit(WorkflowBegun())
    life.fail_for_good(draft, refusal.reason.value, refusal.reason.message)


def _enter(draft: Draft) -> None:
    chart = draft.chart
    if chart.workflow_clock is not None:
        clock = chart.workflow_clock
        assert clock.after_ms is not None
        start_timer(draft, kind="workflow", trigger=clock.trigger, budget_ms=clock.after_ms)
    statechart.enter_initial(draft)
    statechart.run_to_rest(draft)


# -- triggers ----------------------------------------------------------------------------------------------------------


def _fire(draft: Draft, order: FireTrigger) -> None:
    actor = draft.actor
    name = order.trigger
    if actor.user is not None and name.partition(".")[0] in ENGINE_TRIGGERS:
        # No permission stretches to this: `rejected` fired by hand would be a vote in the approvers' place.
        raise Refused(Reason.NOT_ALLOWED, trigger=name, allowed=[], explanation="only approvers' decisions raise it")
    if not actor.operates and name.startswith(ENGINE_PREFIXES):
        raise Refused(Reason.NOT_ALLOWED, trigger=name, allowed=["operator"], explanation="the engine raises it")
    draft.trigger = trigger = Trigger(name, order.data, actor.user, external=True)
    enabled = statechart.select_transitions(draft, trigger, None if actor.operates else _may_take(draft))
    if not enabled and not draft.internal:  # a guard's error may have raised `error.execution`: then that is worked off
        _fire_nothing(draft, trigger)
        return
    if order.target is not None:
        reached = statechart.entered_by(draft, enabled)
        if order.target not in reached:
            raise Refused(Reason.TARGET_NOT_REACHED, target=order.target, reached=sorted(reached))
    if enabled:
        statechart.microstep(draft, enabled)
    statechart.run_to_rest(draft)


def _may_take(draft: Draft) -> Callable[[Any], bool]:
    """Whether the actor may fire a transition; asked of the directory once for each set of subjects."""
    known: dict[tuple[str, ...], bool] = {}

    def may_take(transition: Any) -> bool:
        subjects = transition.access if transition.access is not None else draft.chart.advance_access
        answer = known.get(subjects)
        if answer is None:
            answer = known[subjects] = draft.is_subject(subjects, draft.actor.user)
        return answer

    return may_take


def _fire_nothing(draft: Draft, trigger: Trigger) -> None:
    """No transition is taken: let the requester resubmit, or say why not, in the order of `Reason`."""
    chart = draft.chart
    found = {
        transition: None
        for state in draft.active
        if state.kind in ("atomic", "final")
        for transition in statechart.candidates(chart, state, trigger.name)
    }
    if not found and trigger.name == "resubmit":
        place = _awaiting_changes(draft)
        if place is not None:
            draft.allow(("requester",))
            approvals.resubmit(draft, place)
            statechart.run_to_rest(draft)
            return
    if not found:
        draft.allow(chart.advance_access)
        raise Refused(Reason.UNKNOWN_TRIGGER, trigger=trigger.name, available=available_triggers(draft))
    operates, may_take = draft.actor.operates, _may_take(draft)
    open_to_actor = [each for each in found if operates or may_take(each)]
    if not open_to_actor:
        subjects: dict[str, None] = {}
        for each in found:
            subjects.update(dict.fromkeys(each.access if each.access is not None else chart.advance_access))
        raise Refused(Reason.NOT_ALLOWED, trigger=trigger.name, allowed=[*subjects, "operator"])
    first = open_to_actor[0]
    raise Refused(
        Reason.GUARD_FAILED,
        trigger=trigger.name,
        transition=first.id,
        explanation=dict(draft.explain(first.guard, trigger)),
    )


def _awaiting_changes(draft: Draft) -> str | None:
    """Where a chain waits for changes: of an active state first, else of a step."""
    chains = draft.instance.machine.chains
    for key in (*draft.instance.configuration, *chains):
        run = chains.get(key)
        if run is not None and run.status == "changes_requested":
            return key
    return None


def available_triggers(draft: Draft) -> list[str]:
    """What the actor could fire now: triggers of transitions open to them whose guard holds without event data."""
    operates, may_take = draft.actor.operates, _may_take(draft)
    available: dict[str, None] = {}
    for state in draft.active:
        for owner in (state, *state.ancestors):
            for transition in owner.transitions:
                if not transition.triggers or not (operates or may_take(transition)):
                    continue
                names = [
                    each
                    for each in transition.triggers
                    if each != "*" and each not in ENGINE_TRIGGERS and not each.startswith(ENGINE_PREFIXES)
                ]
                if names and any(each not in available for each in names) and _would_hold(draft, transition.guard):
                    available.update(dict.fromkeys(names))
    return list(available)


def _would_hold(draft: Draft, guard: Any) -> bool:
    # A script is not run only to make a rejection more helpful.
    if any(condition.script is not None for condition in guard):
        return True
    try:
        return draft.holds(guard, Trigger("", {}, draft.actor.user))
    except ExpressionError:
        return False


# -- approvals and data ------------------------------------------------------------------------------------------------


def _decide(draft: Draft, order: RecordDecision) -> None:
    approvals.record_decision(draft, order)
    statechart.run_to_rest(draft)


def _replace_approvers(draft: Draft, _: ReplaceApprovers) -> None:
    draft.allow(())
    if not approvals.replace_leavers(draft):
        raise Refused(Reason.APPROVERS_THERE)
    statechart.run_to_rest(draft)


_HANDLERS: dict[type, Callable[[Draft, Any], None]] = {
    StartInstance: _start,
    BeginInstance: _begin,
    FireTrigger: _fire,
    RecordDecision: _decide,
    ReplaceApprovers: _replace_approvers,
    UpdateData: update_data,
    SuspendInstance: life.suspend,
    ResumeInstance: life.resume,
    CancelInstance: life.cancel,
    FireTimer: firing.fire_timer,
    CompleteStep: returning.record_result,
    FailStep: returning.record_result,
    ResolveIncident: returning.resolve_incident,
    DeliverEvent: deliver_event,
}
#: Orders that nobody stands behind who could do anything about a refusal, or who could only try again: what happens
#: instead.
_UNATTENDED: dict[type, Callable[[Draft, Any, Refused], None]] = {
    BeginInstance: _could_not_begin,
    FireTimer: firing.could_not_fire,
    CompleteStep: returning.could_not_record,
    FailStep: returning.could_not_record,
    ResumeInstance: life.could_not_resume,
}
#: What answers an escalation: a decision, or that the instance moved.
_ANSWERS = frozenset({StateEntered, ApprovalGranted, ApprovalRejected, ChangesRequested})

__all__ = ["BUDGET_STEPS", "DATA_MAX_BYTES", "available_triggers", "interpret", "is_unattended", "merge_patch"]
