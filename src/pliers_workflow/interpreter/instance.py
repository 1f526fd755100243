"""An instance: one run of a definition, as the interpreter sees it.

`apply` of `interpreter.folding` is the only code that changes one, event by event, always on a copy: containers in it
are replaced, never mutated. What the database calls the `machine` is the part below that name here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct

from .commands import Parent
from .step_runs import Ended, StepRun, Undo


class Status(StrEnum):
    """The lifecycle of an instance (spec: Workflow Instance States; design §5)."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ESCALATED = "escalated"


class Timer(Struct, frozen=True, omit_defaults=True):
    """A clock with a budget: it fires when `used_ms` reaches `budget_ms`; time while it is paused does not count."""

    #: counts up inside the instance: `timer/7`
    id: str
    kind: Literal["state", "workflow", "stage", "send", "step", "wait", "retry"]
    #: what it raises when it fires; of kind `step`, `wait` and `retry` only a name: the step's run ends, or is tried again
    trigger: str
    budget_ms: int
    #: when it was started or resumed last
    started_at: datetime
    #: when it fires; None while paused
    due_at: datetime | None
    #: spent before `started_at`
    used_ms: int = 0
    #: the state it belongs to; leaving the state cancels it
    state: str | None = None
    #: kind `stage`: the chain visit it belongs to, and the stage
    visit: int | None = None
    stage: str | None = None
    #: kinds `step`, `wait` and `retry`: the step's run, and the attempt whose time it is; a stage's, where a step asks it
    step: str | None = None
    attempt: int = 1
    #: kind `send`: the name `cancel` knows it by, and the event's data
    send_id: str | None = None
    data: Any = None
    paused_at: datetime | None = None
    #: a business calendar's key (comes with a later release; None: plain time)
    calendar: str | None = None


class WorkItem(Struct, frozen=True, omit_defaults=True):
    """One entry in inboxes: a person asked, or a role or group of which somebody is asked.

    A role of which several must decide is asked again with the next `slot` when one of its members has decided.
    """

    #: counts up inside the instance: `item/3`
    id: str
    #: position in the stage's approvers
    seat: int
    approver_type: Literal["user", "role", "group"]
    #: user id, or the role's or group's key
    approver: str
    slot: int = 1
    #: who may decide it: the one user, or the members at the moment the stage was asked (frozen); empty in later slots
    #: of a role or group, where it is the seat's members who have not decided yet
    eligible: tuple[str, ...] = ()
    #: the person in whose place the present one was asked, by delegation
    principal: str | None = None
    #: everyone it has passed through by delegation; delegation back to one of them is refused
    delegated_by: tuple[str, ...] = ()
    opened_at: datetime | None = None


class Vote(Struct, frozen=True, omit_defaults=True):
    """A decision that counts."""

    item: str
    #: who decided
    user: str
    action: Literal["approve", "reject"]
    seat: int
    #: in whose place, where that is another
    principal: str | None = None
    weight: int = 1
    group: str | None = None


class StageRun(Struct, frozen=True, omit_defaults=True):
    """A stage that is being asked, or was."""

    id: str
    status: Literal["asking", "granted", "refused", "skipped", "stuck"]
    #: open work items
    items: tuple[WorkItem, ...] = ()
    votes: tuple[Vote, ...] = ()
    #: approvers as resolved when the stage was asked: type, identifier (user id or key), eligible users
    seats: tuple[Seat, ...] = ()
    #: hash of the watched fields' values when the stage was granted
    watched_hash: str | None = None
    #: everyone asked so far, `user:ID`, `role:KEY` or `group:KEY`, with the last slot given
    asked: dict[str, int] = {}


class Seat(Struct, frozen=True, omit_defaults=True):
    """One approver of a stage, resolved."""

    approver_type: Literal["user", "role", "group"]
    #: user id, or role or group key; the username where there is no such user
    approver: str
    #: who may decide, frozen; empty: nobody was to be had, nor any fallback
    eligible: tuple[str, ...]
    #: position in the definition's approvers of the stage (a dynamic one may give several seats)
    entry: int = 0
    #: whom it stands in for, as `user:NAME`, `role:KEY` or `group:KEY`
    instead_of: str | None = None


class ChainRun(Struct, frozen=True, omit_defaults=True):
    """An approval chain at work in a state, or in a step."""

    chain: str
    #: the state, or the one that the step is part of (empty: none)
    state: str
    #: counts chain activations of the instance
    visit: int
    #: counts rounds of changes of this chain, from 1
    round: int
    status: Literal["asking", "granted", "refused", "changes_requested", "stuck"]
    stages: tuple[StageRun, ...] = ()
    #: the step run that asks, where it is not the state itself
    step: str | None = None
    #: what earlier rounds of it granted: stage id -> watched hash; and who voted in those stages, by user id
    earlier_grants: dict[str, str] = {}
    earlier_voters: dict[str, tuple[str, ...]] = {}

    @property
    def place(self) -> str:
        """The key by which the machine knows it."""
        return self.step or self.state


class Incident(Struct, frozen=True, omit_defaults=True):
    """The instance is intact, but cannot go on here until someone resolves it."""

    #: counts up inside the instance: `incident/1`
    id: str
    code: str
    message: str
    state: str | None = None
    stage: str | None = None
    raised_at: datetime | None = None
    #: the step run that failed: `step/7`, and the step's id in the definition
    step: str | None = None
    step_id: str | None = None
    #: the same for incidents of one cause: definition, place and code, without what differs from case to case
    fingerprint: str = ""
    #: attempts made before it was raised
    attempts: int = 0
    details: dict[str, Any] = {}


class Machine(Struct, omit_defaults=True):
    """The interpreter's own state, kept in `workflow_instances.machine`."""

    #: format of this record; a newer one than known is refused
    format: int = 1
    #: last number given to timers, items, incidents, visits
    counters: dict[str, int] = {}
    #: what history states remember: state ids by history state id
    history: dict[str, tuple[str, ...]] = {}
    timers: dict[str, Timer] = {}
    #: by state id, or by the run of the step that asks
    chains: dict[str, ChainRun] = {}
    #: of chains that were left when changes had been requested, until the next round begins: the stages that earlier
    #: rounds granted, by chain id (of a step's: with the step's place): stage id -> watched hash
    earlier_grants: dict[str, dict[str, str]] = {}
    #: who voted in those stages: by the same -> stage id -> user ids
    earlier_voters: dict[str, dict[str, tuple[str, ...]]] = {}
    #: their last round, by the same
    rounds: dict[str, int] = {}
    #: who had been asked in the settled stages of a chain's last round: chain id -> stage id -> user ids
    settled: dict[str, dict[str, tuple[str, ...]]] = {}
    incidents: dict[str, Incident] = {}
    #: the status before it was suspended
    resumes_to: Status | None = None
    #: step runs at work, by id
    steps: dict[str, StepRun] = {}
    #: the run that is the work of a state, by state id, until it is done
    working: dict[str, str] = {}
    #: what expressions see as `steps`: by state, or by the run of a loop's element; then by step id
    outputs: dict[str, dict[str, Ended]] = {}
    #: what can be compensated, by its number
    undo: dict[str, Undo] = {}
    #: the sub-workflow step for which it runs
    parent: Parent | None = None
    #: the status is `failed` because of incidents that nobody has resolved yet: it has not ended
    halted: bool = False
    #: the keys by which events from outside find it, by name
    correlation: dict[str, str] = {}


class Instance(Struct, omit_defaults=False):
    """One run of a definition."""

    id: str
    definition_id: str
    definition_name: str
    version: str
    #: `seq` of the last history row; 0 before the first
    revision: int
    status: Status
    #: ids of all active states, in document order
    configuration: tuple[str, ...]
    #: the innermost active state that is not inside a region of a parallel state
    current_state: str
    previous_state: str | None
    data: dict[str, Any]
    context: dict[str, Any]
    machine: Machine
    #: the person for whom it runs: the submission's submitter, else the starter (a user id)
    requester: str | None
    #: who started it (a user id); None: the engine
    created_by: str | None
    created_at: datetime
    #: the time of the last command that changed it; never goes back
    last_activity_at: datetime
    #: the submission's id and data at the start, where there is one
    submission_id: str | None = None
    submission: dict[str, Any] = {}
    external_key: str | None = None
    title: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    #: when it ended as cancelled
    cancelled_at: datetime | None = None
    #: the earliest due timer
    timeout_at: datetime | None = None
    #: the one user who is asked now, where it is just one
    assigned_to: str | None = None

    @property
    def parent(self) -> Parent | None:
        """The sub-workflow step for which it runs, where one started it."""
        return self.machine.parent

    @property
    def ended(self) -> bool:
        """Nothing moves it any more. One that is `failed` until somebody resolves its incidents has not ended."""
        status = self.status
        return (
            status is Status.COMPLETED
            or status is Status.CANCELLED
            or (status is Status.FAILED and not self.machine.halted)
        )
