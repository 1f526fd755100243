"""Which events the world is told of, and what they say: one table.

An event says what happened and where: ids, states, names, people's ids. What people have written or entered (data, comments,
reasons, messages of errors) is told only to those who asked for it (`with_data`). What only the interpreter needs to fold is
told to nobody. A type that is not in here is told to nobody either; a test holds that none is missing.

`docs/reference/events.md` is made from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

if TYPE_CHECKING:
    from .envelope import Envelope

Fields = Mapping[str, Callable[["Envelope"], Any]]
"""What stands under which name of an event's `data`."""


class Rule(Struct, frozen=True):
    """What is told of a type of event."""

    #: when it happens, for the reference
    about: str
    #: None: it is told to nobody
    told: Fields | None = None
    #: told to those who asked for data, too
    with_data: Fields = {}
    #: it is sent under a type, a subject and data of the workflow's own: `event_type`, `subject` and `data`
    custom: bool = False


def camel(name: str) -> str:
    """
    A name as it stands on the wire.

    >>> camel("from_state")
    'fromState'
    """
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def fields(*names: str, **paths: str | Callable[[Envelope], Any]) -> Fields:
    """Fields of the event under their own names; by keyword, what stands elsewhere: a path in the event, or what it gives."""
    found: dict[str, Callable[[Envelope], Any]] = {camel(name): _of(name) for name in names}
    found.update({camel(name): path if callable(path) else _of(path) for name, path in paths.items()})
    return found


def _of(path: str) -> Callable[[Envelope], Any]:
    get = attrgetter(path)
    return lambda envelope: get(envelope.event)


def _internal(about: str) -> Rule:
    return Rule(about)


def _item(envelope: Envelope) -> dict[str, Any]:
    item: Any = envelope.event.item  # type: ignore[union-attr]  # of those events that have one
    return {"type": item.approver_type, "identifier": item.approver}


def _by(envelope: Envelope) -> str | None:
    return envelope.user


def _code(envelope: Envelope) -> str | None:
    failure: Any = envelope.event.failure  # type: ignore[union-attr]  # of those events that have one
    return None if failure is None else failure.code


_DECIDED: Final = fields("state", "chain", "stage", "item", "user", "principal", "weight", "group")
_SAID: Final = fields("comments", "attachments", decision_data="data")
_REASON: Final = fields("reason")

_RUN: Final = fields(
    step="run.id",
    step_id="run.step_id",
    step_type="run.type",
    state="run.state",
    parent="run.parent",
    branch="run.branch",
    index="run.index",
    attempt="run.attempt",
)

#: By type. What every event's data begin with is put before (`common`).
RULES: Final[Mapping[str, Rule]] = {
    "workflow.started": Rule(
        "an instance was started; `queued`: it waits for its turn",
        fields(
            "requester",
            "submission_id",
            "external_key",
            "queued",
            started_by="created_by",
            initial_state=lambda envelope: envelope.row.to_state,
        ),
        fields("data", "context", "submission"),
    ),
    "workflow.begun": Rule(
        "an instance that was queued has begun",
        {"initialState": lambda envelope: envelope.row.to_state},
    ),
    "workflow.state.entered": Rule("a state has become active", fields("state")),
    "workflow.state.exited": Rule("a state is not active any more", fields("state")),
    "workflow.state.changed": Rule(
        "the current state is another one than before the command",
        fields("from_state", "to_state", "trigger", triggered_by=_by),
    ),
    "workflow.transition.taken": Rule("a transition was taken", fields("transition", "source", "targets", "trigger")),
    "workflow.data.changed": Rule(
        "fields of the instance's data or context were set or removed; `changed` and `removed` name them",
        fields("root", "removed", "replaced", changed=lambda envelope: list(envelope.event.set)),  # type: ignore[union-attr]
        fields(values="set"),
    ),
    "workflow.correlation.changed": _internal("events from outside find it by other keys"),
    "workflow.title.changed": _internal("it is called otherwise; read the instance"),
    "workflow.note.logged": _internal("an action `log` was run"),
    "workflow.trigger.raised": _internal("a trigger took effect from within"),
    "workflow.error.occurred": Rule(
        "an expression or an action failed, and the workflow handles it or passes over it",
        fields("source", "state"),
        fields("message"),
    ),
    "workflow.timer.scheduled": _internal("a clock was started"),
    "workflow.timer.cancelled": _internal("a clock is not needed any more"),
    "workflow.timeout.occurred": Rule(
        "a time was up: of a state, a stage, the workflow, or a delayed trigger",
        fields("timer", "kind", "trigger", "due_at", "state", "stage"),
    ),
    "workflow.approval.chain_started": Rule("an approval chain began", fields("chain", "state", "visit", "round")),
    "workflow.approval.stage_asked": _internal("a stage froze its voters; the requests follow one by one"),
    "workflow.approval.stage_skipped": Rule("a stage is not asked, and why", fields("state", "stage", "reason")),
    "workflow.approval.requested": Rule(
        "a person, a role or a group was asked to decide",
        fields(
            "state",
            "chain",
            "stage",
            "visit",
            "round",
            "timeout_at",
            item="item.id",
            approver=_item,
            eligible="item.eligible",
            principal="item.principal",
        ),
    ),
    "workflow.approval.granted": Rule("one approver approved", _DECIDED, _SAID),
    "workflow.approval.rejected": Rule("one approver rejected", _DECIDED, _SAID),
    "workflow.approval.changes_requested": Rule("one approver wants changes", _DECIDED, _SAID),
    "workflow.approval.delegated": Rule(
        "a work item was passed to another person", {**_DECIDED, **fields("delegate_to")}, _SAID
    ),
    "workflow.approval.withdrawn": Rule(
        "a work item is not needed any more", fields("state", "stage", "item", "reason")
    ),
    "workflow.approval.stage_granted": Rule("a stage was granted", fields("state", "stage")),
    "workflow.approval.stage_refused": Rule("a stage was refused", fields("state", "stage")),
    "workflow.approval.chain_granted": Rule("an approval chain was granted", fields("chain", "state")),
    "workflow.approval.chain_refused": Rule("an approval chain was refused", fields("chain", "state")),
    "workflow.incident.raised": Rule(
        "the instance cannot go on until somebody resolves this",
        fields(
            incident="incident.id",
            code="incident.code",
            state="incident.state",
            stage="incident.stage",
            step="incident.step",
            step_id="incident.step_id",
            attempts="incident.attempts",
        ),
        fields(message="incident.message"),
    ),
    "workflow.incident.resolved": Rule("an incident is no more", fields("incident", "action"), _REASON),
    "workflow.step.started": Rule("a step began", _RUN, fields("input")),
    "workflow.step.skipped": Rule(
        "a step was not begun, because its condition is false", fields("step_id", "state", "branch", "index")
    ),
    "workflow.step.completed": Rule(
        "a step is over; `failedWith`: it failed, and that was passed over",
        fields("step", "step_id", "state", "attempt", failed_with=_code),
        fields("output"),
    ),
    "workflow.step.failed": Rule(
        "an attempt of a step failed; without `retryAt` it was the last",
        fields("step", "step_id", "state", "attempt", "retry_at", code="failure.code", attempts="failure.attempts"),
        fields(message="failure.message", details="failure.details"),
    ),
    "workflow.step.held": _internal("a result is kept until it can take effect"),
    "workflow.step.retried": Rule("a step was begun anew", _RUN, fields("input")),
    "workflow.step.cancelled": Rule("a step is not needed any more", fields("step", "step_id", "reason")),
    "workflow.step.branch_failed": Rule(
        "a branch of a `parallel` failed, and the others decide", fields("step", "branch", code="failure.code")
    ),
    "workflow.step.rollback_started": Rule(
        "a step failed, and those that had completed before it are compensated",
        fields("step", "step_id", code="failure.code"),
    ),
    "workflow.step.compensated": Rule("a completed step was undone", fields("step", "step_id", failed_with=_code)),
    "workflow.event.emitted": Rule("a step `emit` was run", custom=True),
    "workflow.escalation.triggered": Rule("the instance asks for attention", fields("reason"), fields("data")),
    "workflow.status.changed": Rule(
        "the status is another one: `pending`, `running`, `waiting`, `escalated`, or `failed` until somebody resolves its incidents",
        fields("status"),
    ),
    "workflow.suspended": Rule("somebody suspended the instance", {}, _REASON),
    "workflow.resumed": Rule("somebody resumed the instance", {}, _REASON),
    "workflow.completed": Rule("the instance has ended well, in this final state", fields("state")),
    "workflow.failed": Rule("the instance has failed", fields("code"), fields("message")),
    "workflow.cancelled": Rule("somebody cancelled the instance", {}, _REASON),
}


def common(envelope: Envelope) -> dict[str, Any]:
    """What the data of every event of ours begin with."""
    row = envelope.row
    return {
        "workflowInstanceId": row.instance_id,
        "workflowId": row.definition_name,
        "workflowVersion": row.version,
        "executedBy": envelope.user,
    }


def is_told(type_: str) -> bool:
    """Whether the world is told of events of this type at all."""
    rule = RULES.get(type_)
    return rule is not None and (rule.told is not None or rule.custom)


def said(envelope: Envelope, *, with_data: bool) -> dict[str, Any]:
    """The data of an event that the world is told of."""
    rule = RULES[envelope.type]
    told = common(envelope)
    for name, get in (rule.told or {}).items():
        told[name] = get(envelope)
    if with_data:
        for name, get in rule.with_data.items():
            told[name] = get(envelope)
    return told


def reference() -> list[tuple[str, str, str, str]]:
    """Type, when it happens, what its data say, and what more to those who asked for data: a row of the reference each."""
    rows: list[tuple[str, str, str, str]] = []
    for type_, rule in RULES.items():
        if rule.custom:
            rows.append((type_, rule.about, "whatever the step says", ""))
        elif rule.told is None:
            rows.append((type_, rule.about, "*not published*", ""))
        else:
            rows.append((type_, rule.about, _names(rule.told), _names(rule.with_data)))
    return rows


def _names(names: Fields) -> str:
    return ", ".join(f"`{name}`" for name in names)
