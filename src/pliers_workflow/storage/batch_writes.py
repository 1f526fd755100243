"""What the commit of a batch writes, in one statement.

Rows are collected part by part in a `BatchWrites`; several commands of one instance have been folded and netted before
they come here. The statement is put together from the parts that have rows (`parts`, `queries/save_batch.sql`), which
says also how to add a part.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from . import identity, queries
from .parts import ComposedStatement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import asyncpg

    from pliers_workflow.interpreter.effects import CloseIncident, OpenWorkItem, SettleWorkItem
    from pliers_workflow.interpreter.instance import Incident, Instance

#: The parts that a batch may have, in groups that are sent together, in the order of their sections. `changed` and
#: `created` are the instances, without one of which there is no batch; the others are written for these only.
PARTS: Final = (
    ("changed",),
    ("created",),
    ("history",),
    ("opened", "settled"),
    ("jobs", "dropped"),
    ("incidents", "resolved", "correlated", "uncorrelated"),
    ("keys",),
)


def _frame(chosen: Sequence[str]) -> Iterator[str]:
    instances = [name for name in chosen if name in ("changed", "created")]
    assert instances, "a batch writes instances"
    yield "writer"
    yield from instances
    yield f"saved_from_{instances[0] if len(instances) == 1 else 'both'}"
    yield from chosen[len(instances) :]


_statement: Final = ComposedStatement(vars(queries.load("save_batch")), PARTS, _frame)
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class _Infinity:
    """When a job is due that is paused, as PostgreSQL writes it."""

    def isoformat(self) -> str:
        return "infinity"


_PAUSED: Final = _Infinity()


class Job(Struct, frozen=True, kw_only=True):
    """A row of `workflow_jobs` to be written, new or anew."""

    #: one of the kinds in the table's check
    kind: str
    #: unique in its instance: `timer/7`, `step/2`
    name: str
    #: None: paused
    due_at: datetime | None
    #: lower first
    priority: int = 0
    #: who serves it, where that is not the engine itself
    queue: str | None = None
    definition_name: str | None = None
    #: encoded as JSON
    payload: Any = None
    #: of a clock: {budget, used, calendar, paused_at}
    clock: dict[str, Any] | None = None


class BatchWrites:
    """The rows of one batch, collected for `save`; idempotency keys are kept for `key_ttl`."""

    def __init__(self, key_ttl: timedelta) -> None:
        self._key_ttl = math.ceil(key_ttl.total_seconds())
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for group in PARTS for name in group}

    def instance(
        self,
        tenant_id: str,
        before: Instance | None,
        after: Instance,
        history_hash: bytes,
        directory_revision: int | None,
    ) -> None:
        """The instance as it is after all its commands; `directory_revision` None: it rests on no directory fact."""
        data = None if before is not None and before.data is after.data else _encode(after.data).decode()
        context = None if before is not None and before.context is after.context else _encode(after.context).decode()
        machine = _encode(after.machine).decode()
        # an instance that has not begun is in no state
        configuration = " ".join(after.configuration) or None
        current_state = after.current_state or None
        timeout_at = None if after.ended else after.timeout_at
        if before is not None:
            self._rows["changed"].append((
                tenant_id, after.id, before.revision, after.revision, directory_revision, history_hash,
                after.status.value, current_state, after.previous_state, configuration, data, context, machine,
                after.last_activity_at, timeout_at, after.failed_at, after.assigned_to, after.title,
            ))  # fmt: skip
        else:
            self._rows["created"].append((
                tenant_id, after.id, after.revision, directory_revision, history_hash, after.status.value,
                current_state, after.previous_state, configuration, data, context, machine,
                after.last_activity_at, timeout_at, after.failed_at, after.assigned_to, after.title, after.definition_id,
                after.definition_name, after.version, after.submission_id, _encode(after.submission).decode(),
                after.external_key, after.requester, after.created_by, after.created_at, after.started_at,
                None if after.parent is None else after.parent.instance,
                None if after.parent is None else after.parent.step,
            ))  # fmt: skip

    def history(
        self, tenant_id: str, instance_id: str, seq: int, command_id: str, action_type: str, from_state: str | None,
        to_state: str | None, record: bytes, executed_at: datetime, executed_by: str | None, previous_hash: bytes, hash_: bytes,
    ) -> None:  # fmt: skip
        """One history row."""
        self._rows["history"].append((
            tenant_id, instance_id, seq, identity.history_id(instance_id, seq), command_id, action_type, from_state,
            to_state, record.decode(), executed_at, executed_by, previous_hash, hash_,
        ))  # fmt: skip

    def open(
        self, tenant_id: str, instance_id: str, effect: OpenWorkItem, created_at: datetime,
        settlement: SettleWorkItem | None, settled_at: datetime | None,
    ) -> None:  # fmt: skip
        """A new work item; with its settlement where one fold opened and settled it."""
        item = effect.item
        if settlement is None:
            decision: tuple[Any, ...] = (None, None, None, None, None, None, 1, None)
        else:
            decision = _decision(settlement, settled_at)
        self._rows["opened"].append((
            tenant_id, identity.approval_id(instance_id, item.id), instance_id, item.id, effect.chain, effect.stage,
            effect.visit, effect.round, item.approver_type, item.approver, item.slot, item.principal, effect.timeout_at,
            created_at, *decision,
        ))  # fmt: skip

    def settle(self, tenant_id: str, instance_id: str, effect: SettleWorkItem, settled_at: datetime) -> None:
        """An open work item's end."""
        self._rows["settled"].append((
            tenant_id, instance_id, effect.item, *_decision(effect, settled_at), effect.principal,
        ))  # fmt: skip

    def job(self, tenant_id: str, instance_id: str, job: Job, created_at: datetime) -> None:
        """A job, new or anew: one of the same name loses its lease, its attempts and its error."""
        self._rows["jobs"].append((
            tenant_id, identity.job_id(instance_id, job.name), instance_id, job.kind, job.name, job.due_at or _PAUSED,
            job.priority, job.queue, job.definition_name,
            None if job.payload is None else _encode(job.payload).decode(),
            None if job.clock is None else _encode(job.clock).decode(), created_at,
        ))  # fmt: skip

    def drop(self, tenant_id: str, instance_id: str, name: str) -> None:
        """A job that is not needed any more."""
        self._rows["dropped"].append((tenant_id, instance_id, identity.job_id(instance_id, name)))

    def incident(
        self, tenant_id: str, instance_id: str, workflow_name: str, incident: Incident, raised_at: datetime,
        resolution: CloseIncident | None, resolved_at: datetime | None,
    ) -> None:  # fmt: skip
        """A new incident; with its resolution where one fold raised and resolved it."""
        self._rows["incidents"].append((
            tenant_id, instance_id, incident.id, workflow_name, incident.code, incident.fingerprint, incident.message,
            incident.state, incident.stage, incident.step, incident.step_id, incident.attempts,
            _encode(incident.details).decode() if incident.details else None, incident.raised_at or raised_at,
            *_resolution(resolution, resolved_at),
        ))  # fmt: skip

    def resolve(self, tenant_id: str, instance_id: str, effect: CloseIncident, resolved_at: datetime) -> None:
        """An open incident's end."""
        self._rows["resolved"].append((tenant_id, instance_id, effect.incident, *_resolution(effect, resolved_at)))

    def key(
        self, tenant_id: str, principal: str, route: str, key: str, body_hash: bytes, instance_id: str, seq: int,
        command_id: str, ttl: int | None = None,
    ) -> None:  # fmt: skip
        """An idempotency key that a command of this batch came with, kept for `ttl` seconds or as long as all are."""
        self._rows["keys"].append((
            tenant_id, principal, route, key, body_hash, instance_id, seq, command_id, ttl or self._key_ttl,
        ))  # fmt: skip

    def correlate(
        self, tenant_id: str, instance_id: str, name: str, key: str, event_type: str | None, workflow: str,
        created_at: datetime,
    ) -> None:  # fmt: skip
        """A key by which events find an instance, new or another one than before."""
        self._rows["correlated"].append((tenant_id, instance_id, name, key, event_type, workflow, created_at))

    def uncorrelate(self, tenant_id: str, instance_id: str, name: str) -> None:
        """A key that an instance has no more."""
        self._rows["uncorrelated"].append((tenant_id, instance_id, name))

    def statement(self) -> tuple[str, list[Any]]:
        """The statement that writes all this, and its parameters. Raises `Unstorable`."""
        return _statement.of(self._rows)


def _decision(effect: SettleWorkItem, settled_at: datetime | None) -> tuple[Any, ...]:
    """Columns action, comments, decision_data, decided_by, decided_at, delegated_to, weight, group_key."""
    return (
        effect.action, effect.comments, _encode(effect.decision_data).decode() if effect.decision_data else None,
        effect.decided_by, settled_at, effect.delegated_to, effect.weight, effect.group,
    )  # fmt: skip


def _resolution(effect: CloseIncident | None, resolved_at: datetime | None) -> tuple[Any, ...]:
    """Columns resolved_at, action, reason, resolved_by."""
    return (None,) * 4 if effect is None else (resolved_at, effect.action, effect.reason, effect.user)


async def save(connection: asyncpg.Connection[Any], writes: BatchWrites) -> frozenset[str]:
    """
    Write a batch in one statement; the ids of the instances that were written. The others were overtaken.

    Raises asyncpg's errors: `UniqueViolationError` for an idempotency or external key that was taken meanwhile.
    """
    text, parameters = writes.statement()
    row = await connection.fetchrow(text, *parameters)
    return frozenset(row[0] or ()) if row is not None else frozenset()
