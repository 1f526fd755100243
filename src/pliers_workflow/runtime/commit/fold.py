"""Folding: what the commands of one instance come to within one batch.

Each command is interpreted on what the one before left, has its own history row and its own answer; the instance is
written once, and its work items, jobs and incidents are netted, because one statement cannot insert and update the same
row: what is opened and settled within one fold is one settled row, a job that is scheduled and cancelled is none.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from pliers_workflow.interpreter.commands import FireTimer, Order, Trace
from pliers_workflow.interpreter.effects import (
    AwaitEvent,
    CancelStep,
    CancelTimer,
    CloseIncident,
    Effect,
    OpenIncident,
    OpenWorkItem,
    ScheduleStep,
    ScheduleTimer,
    SendOrder,
    SetCorrelationKeys,
    SettleWorkItem,
    StartChild,
    StopAwaiting,
)
from pliers_workflow.storage.formats import FORMAT

from ..answers import Accepted, Answer
from ..jobs.payloads import child_job, order_job, step_job, timer_job
from .history import encode_record, first_hash, next_hash

if TYPE_CHECKING:
    from pliers_workflow.interpreter.instance import Incident, Instance
    from pliers_workflow.interpreter.outcome import Outcome
    from pliers_workflow.storage.batch_writes import BatchWrites, Job
    from pliers_workflow.storage.instances import Loaded

    from .queue import Key, Pending

#: Facts that come from the directory, by the first word of their key.
_DIRECTORY: Final = ("user:", "username:", "role:", "group:")


class _Row:
    """A history row of this fold."""

    __slots__ = ("at", "from_state", "hash", "outcome", "pending", "previous_hash", "record")

    def __init__(
        self,
        pending: Pending,
        outcome: Outcome,
        from_state: str | None,
        record: bytes,
        previous_hash: bytes,
        hash_: bytes,
    ) -> None:
        self.pending = pending
        self.outcome = outcome
        self.from_state = from_state
        self.record = record
        self.previous_hash = previous_hash
        self.hash = hash_
        self.at = outcome.instance.last_activity_at


class Fold:
    """One instance in one batch."""

    __slots__ = (
        "answers", "asking", "awaited", "base", "deferred", "directory_revision", "dropped", "format", "hash", "incidents", "instance",
        "jobs", "key", "keys", "next", "now", "opened", "parked", "pendings", "resolved", "rests_on_directory", "rounds", "rows", "settled",
        "unawaited",
    )  # fmt: skip

    def __init__(self, key: Key, pendings: list[Pending], loaded: Loaded, format: int = FORMAT) -> None:
        self.key = key
        #: in which machine and records are written
        self.format = format
        self.pendings = pendings
        self.base = loaded.instance
        self.instance: Instance | None = loaded.instance
        self.hash = loaded.history_hash or first_hash(key[1])
        self.now = loaded.now
        self.directory_revision = loaded.directory_revision
        self.rests_on_directory = False
        #: position of the command to be interpreted next
        self.next = 0
        #: position of the command that asked for directory facts last, and how often it did so in this batch
        self.asking = 0
        self.rounds = 0
        self.rows: list[_Row] = []
        #: answers that are given when the batch is committed
        self.answers: list[tuple[Pending, Answer]] = []
        #: left for a later batch, in order
        self.deferred: list[Pending] = []
        #: what the first of the deferred waits for, where that is fetched outside the batch
        self.parked: object | None = None
        self.opened: dict[str, tuple[OpenWorkItem, datetime, SettleWorkItem | None, datetime | None]] = {}
        self.settled: dict[str, tuple[SettleWorkItem, datetime]] = {}
        #: jobs by name, to be written new or anew, and names of those to be dropped
        self.jobs: dict[str, tuple[Job, datetime]] = {}
        self.dropped: set[str] = set()
        self.incidents: dict[str, tuple[Incident, datetime, CloseIncident | None, datetime | None]] = {}
        self.resolved: dict[str, tuple[CloseIncident, datetime]] = {}
        #: correlation keys, where they changed
        self.keys: dict[str, str] | None = None
        self.awaited: dict[str, AwaitEvent] = {}
        self.unawaited: set[str] = set()

    @property
    def revision(self) -> int:
        """The revision that this fold was read at."""
        return self.base.revision if self.base is not None else 0

    def accept(self, pending: Pending, outcome: Outcome) -> None:
        """A command's outcome becomes part of the batch."""
        before, after = self.instance, outcome.instance
        assert after.revision == (before.revision if before is not None else 0) + 1, "a command is one revision"
        at = after.last_activity_at
        record = encode_record(
            after.id, after.revision, at, pending.command, outcome.events, outcome.facts, format=self.format
        )
        after.machine.format = self.format
        hash_ = next_hash(self.hash, record)
        from_state = (before.current_state or None) if before is not None else None
        self.rows.append(_Row(pending, outcome, from_state, record, self.hash, hash_))
        self.answers.append((pending, Accepted(after, after.revision, outcome.events, at)))
        self.hash = hash_
        self.instance = after
        for effect in outcome.effects:
            self._owe(effect, at, pending.command.trace)
        order = pending.command.order
        if type(order) is FireTimer and order.timer not in after.machine.timers:
            self._cancel_timer(order.timer)
        if not self.rests_on_directory:
            for fact in outcome.facts:
                if fact.startswith(_DIRECTORY):
                    self.rests_on_directory = True
                    break

    def defer(self) -> None:
        """Leave the next command and all after it for a later batch."""
        self.deferred = self.pendings[self.next :]
        self.pendings = self.pendings[: self.next]

    def _owe(self, effect: Effect, at: datetime, trace: Trace | None) -> None:
        assert self.instance is not None
        match effect:
            case OpenWorkItem():
                self.opened[effect.item.id] = (effect, at, None, None)
            case SettleWorkItem():
                opened = self.opened.get(effect.item)
                if opened is not None:
                    self.opened[effect.item] = (opened[0], opened[1], effect, at)
                else:
                    self.settled[effect.item] = (effect, at)
            case ScheduleTimer():
                self._schedule(timer_job(effect.timer, trace), at)
            case CancelTimer():
                self._cancel_timer(effect.timer)
            case ScheduleStep():
                self._schedule(step_job(effect, self.instance, trace), at)
            case CancelStep():
                self._drop(effect.step)
            case SendOrder():
                self._schedule(order_job(effect, self.instance, at, trace), at)
            case StartChild():
                self._schedule(child_job(effect, self.instance, at, trace), at)
            case OpenIncident():
                self.incidents[effect.incident.id] = (effect.incident, at, None, None)
            case CloseIncident():
                raised = self.incidents.get(effect.incident)
                if raised is not None:
                    self.incidents[effect.incident] = (raised[0], raised[1], effect, at)
                else:
                    self.resolved[effect.incident] = (effect, at)
            case SetCorrelationKeys():
                self.keys = effect.keys
            case AwaitEvent():
                self.awaited[effect.step] = effect
                self.unawaited.discard(effect.step)
            case StopAwaiting():
                self.awaited.pop(effect.step, None)
                self.unawaited.add(effect.step)
            case _:
                raise AssertionError(f"nobody does {type(effect).__name__}")

    def _schedule(self, job: Job, at: datetime) -> None:
        self.jobs[job.name] = (job, at)
        self.dropped.discard(job.name)

    def _cancel_timer(self, timer: str) -> None:
        if self.base is not None and timer in self.base.machine.timers:
            self._drop(timer)
        else:
            self.jobs.pop(timer, None)

    def _drop(self, name: str) -> None:
        self.jobs.pop(name, None)
        if self.base is not None:
            self.dropped.add(name)

    def write(self, writes: BatchWrites) -> None:
        """Collect the rows of this fold."""
        tenant_id, instance_id = self.key
        assert self.instance is not None
        writes.instance(
            tenant_id, self.base, self.instance, self.hash, self.directory_revision if self.rests_on_directory else None
        )
        for row in self.rows:
            command, after = row.pending.command, row.outcome.instance
            writes.history(
                tenant_id, instance_id, after.revision, command.id, _tag(command.order), row.from_state,
                after.current_state or None, row.record, row.at, command.actor.user, row.previous_hash, row.hash,
            )  # fmt: skip
            request = row.pending.request
            if request is not None:
                writes.key(
                    tenant_id, request.principal, request.route, request.key, request.body_hash, instance_id,
                    after.revision, command.id, request.ttl,
                )  # fmt: skip
        for opened in self.opened.values():
            writes.open(tenant_id, instance_id, *opened)
        for settlement, at in self.settled.values():
            writes.settle(tenant_id, instance_id, settlement, at)
        for job, at in self.jobs.values():
            writes.job(tenant_id, instance_id, job, at)
        for name in self.dropped:
            writes.drop(tenant_id, instance_id, name)
        for raised in self.incidents.values():
            writes.incident(tenant_id, instance_id, self.instance.definition_name, *raised)
        for resolution, at in self.resolved.values():
            writes.resolve(tenant_id, instance_id, resolution, at)
        self._write_keys(writes)

    def _write_keys(self, writes: BatchWrites) -> None:
        """The keys by which events find this instance: what is new or other, and what is gone."""
        tenant_id, instance_id = self.key
        assert self.instance is not None
        at = self.instance.last_activity_at
        workflow = self.instance.definition_name
        if self.keys is not None:
            before = self.base.machine.correlation if self.base is not None else {}
            for name, key in self.keys.items():
                if before.get(name) != key:
                    writes.correlate(tenant_id, instance_id, name, key, None, workflow, at)
            for name in before.keys() - self.keys.keys():
                writes.uncorrelate(tenant_id, instance_id, name)
        for step, effect in self.awaited.items():
            key = f"{effect.by}:{effect.key}"
            writes.correlate(tenant_id, instance_id, step, key, effect.event_type, workflow, at)
        for step in self.unawaited:
            writes.uncorrelate(tenant_id, instance_id, step)


def _tag(order: Order) -> str:
    """The order's name on the wire, which is the history's action type."""
    tag = order.__struct_config__.tag
    assert isinstance(tag, str)
    return tag
