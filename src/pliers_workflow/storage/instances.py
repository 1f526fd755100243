"""Instances as the commit of a batch reads and writes them: one statement each way.

Reading decodes rows into the interpreter's `Instance`. Writing collects rows column by column in a `BatchWrites` and
hands them to PostgreSQL as arrays; several commands of one instance have been folded and netted before they come here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.instance import Instance, Machine, Status

from . import identity, queries

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.interpreter.effects import OpenWorkItem, SettleWorkItem
    from pliers_workflow.interpreter.instance import Timer

_sql: Final = queries.load("instances")
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
_decode_map: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_decode_machine: Final = msgspec.json.Decoder(Machine, float_hook=Decimal).decode
_status: Final = {status.value: status for status in Status}

#: Format of `workflow_instances.machine` that this code writes and the highest it reads.
MACHINE_FORMAT: Final = 1

Key = tuple[str, str]
"""Tenant id and instance id."""


class NewerFormat(Exception):
    """The instance was written by a newer release than this node runs; let a newer node handle it."""


class Loaded(Struct):
    """An instance as read for a batch, or that there is none, with its tenant's clock and directory revision."""

    now: datetime
    directory_revision: int
    instance: Instance | None
    history_hash: bytes


class KnownKey(Struct, frozen=True):
    """An idempotency key that was used before, and the history row it stands for."""

    instance_id: str | None
    seq: int | None
    body_hash: bytes


async def load(
    connection: asyncpg.Connection[Any],
    keys: Sequence[Key],
    requests: Sequence[tuple[str, str, str, str]],
    recent: Mapping[Key, tuple[Instance, bytes]] | None = None,
) -> tuple[dict[Key, Loaded], dict[int, KnownKey]]:
    """
    Read a batch: instances by key, and which of the `requests` (tenant, principal, route, key) are known, by position.

    A key whose tenant does not exist is missing from the answer; an instance that does not exist is None in it. What is
    in `recent` (instance and history hash as this node left them) is not sent again when it still stands so.
    """
    recent = recent or {}
    columns = list(zip(*requests, strict=True)) if requests else [(), (), (), ()]
    known_at = [recent[key][0].revision if key in recent else 0 for key in keys]
    rows = await connection.fetch(
        _sql.load_batch, [key[0] for key in keys], [key[1] for key in keys], known_at, *columns
    )
    loaded: dict[Key, Loaded] = {}
    known: dict[int, KnownKey] = {}
    for row in rows:
        position = row[1] - 1
        if row[0] == "k":
            known[position] = KnownKey(row["key_instance"], row["key_seq"], row["key_body"])
            continue
        key = keys[position]
        if row[7] is None:
            loaded[key] = Loaded(row[2], row[3], None, b"")
        elif row[7] == known_at[position]:
            loaded[key] = Loaded(row[2], row[3], *recent[key])
        else:
            loaded[key] = Loaded(row[2], row[3], _instance(key[1], row), row[8])
    return loaded, known


def _instance(instance_id: str, row: Any) -> Instance:
    (
        _, _, _, _, definition_id, definition_name, version, revision, _, status, configuration, current_state,
        previous_state, data, context, submission, machine, requester, created_by, created_at, last_activity_at,
        submission_id, external_key, title, started_at, completed_at, failed_at, cancelled_at, timeout_at, assigned_to,
        *_,
    ) = row  # fmt: skip
    decoded = _decode_machine(machine)
    if decoded.format > MACHINE_FORMAT:
        raise NewerFormat(f"instance {instance_id} has format {decoded.format}; this node reads up to {MACHINE_FORMAT}")
    return Instance(
        id=instance_id,
        definition_id=definition_id,
        definition_name=definition_name,
        version=version,
        revision=revision,
        status=_status[status],
        configuration=tuple(configuration),
        current_state=current_state,
        previous_state=previous_state,
        data=_decode_map(data),
        context={} if context == "{}" else _decode_map(context),
        machine=decoded,
        requester=requester,
        created_by=created_by,
        created_at=created_at,
        last_activity_at=last_activity_at,
        submission_id=submission_id,
        submission={} if submission == "{}" else _decode_map(submission),
        external_key=external_key,
        title=title,
        started_at=started_at,
        completed_at=completed_at,
        failed_at=failed_at,
        cancelled_at=cancelled_at,
        timeout_at=timeout_at,
        assigned_to=assigned_to,
    )


async def lock(connection: asyncpg.Connection[Any], keys: Sequence[Key]) -> None:
    """Wait for the locks of these instances, inside a transaction."""
    await connection.execute(_sql.lock_batch, [key[0] for key in keys], [key[1] for key in keys])


async def applied(
    connection: asyncpg.Connection[Any], commands: Sequence[tuple[str, str, int, str]]
) -> dict[tuple[str, str], int]:
    """Which of these commands (tenant, instance, base revision, command id) are in the history: (instance, id) -> seq."""
    rows = await connection.fetch(_sql.applied_commands, *zip(*commands, strict=True))
    return {(row["instance_id"], row["command_id"]): row["seq"] for row in rows}


class HistoryLine(Struct, frozen=True):
    """A stored history row."""

    seq: int
    command_id: str
    record: str
    executed_at: datetime
    previous_hash: bytes
    hash: bytes


async def history_until(
    connection: asyncpg.Connection[Any], tenant_id: str, instance_id: str, seq: int
) -> list[HistoryLine]:
    """The instance's history rows from the first to `seq`."""
    rows = await connection.fetch(_sql.history_until, tenant_id, instance_id, seq)
    return [HistoryLine(*row) for row in rows]


class _Infinity:
    """When a paused timer is due, as PostgreSQL writes it."""

    def isoformat(self) -> str:
        return "infinity"


_PAUSED: Final = _Infinity()


class Unstorable(ValueError):
    """A value holds a character by which columns are joined; nothing of the batch was sent."""


#: Between the values of a joined column, and for null; see `split_column` in migration 0003. JSON holds neither raw.
_SEPARATOR: Final = "\x1f"
_NULL: Final = "\x1a"

#: The columns of each part of `save_batch`, in the order of its parameters: text, integer, instant, bytes; free text,
#: which may hold anything, is sent as an array.
_PARTS: Final = (
    "ssiiibsssssssttsfi",
    "ssiibsssssssttsfsssssfsstt",
    "ssisssssstsbb",
    "ssssssiissisttsfsstsif",
    "ssssfsstsifs",
    "sssstst",
    "sss",
    "ssssbsis",
)


def _column(kind: str, values: tuple[Any, ...]) -> Any:
    if kind == "f":
        return values
    if kind == "s":
        texts = [_NULL if value is None else value for value in values]
        joined = _SEPARATOR.join(texts)
        if joined.count(_SEPARATOR) != len(texts) - 1 or joined.count(_NULL) != values.count(None) or not joined:
            raise Unstorable("an id or a key holds a control character, or nothing")
        return joined
    if kind == "i":
        return _SEPARATOR.join([_NULL if value is None else str(value) for value in values])
    if kind == "t":
        return _SEPARATOR.join([_NULL if value is None else value.isoformat() for value in values])
    return _SEPARATOR.join(["\\x" + value.hex() for value in values])


class BatchWrites:
    """The rows of one batch, collected for `save`."""

    def __init__(self) -> None:
        self._changed: list[tuple[Any, ...]] = []
        self._created: list[tuple[Any, ...]] = []
        self._logged: list[tuple[Any, ...]] = []
        self._opened: list[tuple[Any, ...]] = []
        self._settled: list[tuple[Any, ...]] = []
        self._scheduled: list[tuple[Any, ...]] = []
        self._dropped: list[tuple[Any, ...]] = []
        self._keyed: list[tuple[Any, ...]] = []

    def __bool__(self) -> bool:
        return bool(self._logged)

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
        configuration = " ".join(after.configuration)
        timeout_at = None if after.status.ended else after.timeout_at
        if before is not None:
            self._changed.append((
                tenant_id, after.id, before.revision, after.revision, directory_revision, history_hash,
                after.status.value, after.current_state, after.previous_state, configuration, data, context, machine,
                after.last_activity_at, timeout_at, after.assigned_to, after.title, len(self._changed),
            ))  # fmt: skip
        else:
            self._created.append((
                tenant_id, after.id, after.revision, directory_revision, history_hash, after.status.value,
                after.current_state, after.previous_state, configuration, data, context, machine,
                after.last_activity_at, timeout_at, after.assigned_to, after.title, after.definition_id,
                after.definition_name, after.version, after.submission_id, _encode(after.submission).decode(),
                after.external_key, after.requester, after.created_by, after.created_at, after.started_at,
            ))  # fmt: skip

    def history(
        self, tenant_id: str, instance_id: str, seq: int, command_id: str, action_type: str, from_state: str | None,
        to_state: str, record: bytes, executed_at: datetime, executed_by: str | None, previous_hash: bytes, hash_: bytes,
    ) -> None:  # fmt: skip
        """One history row."""
        self._logged.append((
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
        self._opened.append((
            tenant_id, identity.approval_id(instance_id, item.id), instance_id, item.id, effect.chain, effect.stage,
            effect.visit, effect.round, item.approver_type, item.approver, item.slot, item.principal, effect.timeout_at,
            created_at, *decision,
        ))  # fmt: skip

    def settle(self, tenant_id: str, instance_id: str, effect: SettleWorkItem, settled_at: datetime) -> None:
        """An open work item's end."""
        self._settled.append((tenant_id, instance_id, effect.item, *_decision(effect, settled_at), effect.principal))

    def schedule(self, tenant_id: str, instance_id: str, timer: Timer, created_at: datetime) -> None:
        """A timer's job, new or anew."""
        clock = {
            "budget": timer.budget_ms,
            "used": timer.used_ms,
            "calendar": timer.calendar,
            "paused_at": timer.paused_at,
        }
        self._scheduled.append((
            tenant_id, identity.job_id(instance_id, timer.id), instance_id, timer.id, timer.due_at or _PAUSED,
            _encode(clock).decode(), created_at,
        ))  # fmt: skip

    def drop(self, tenant_id: str, instance_id: str, timer_id: str) -> None:
        """A timer's job that is not needed any more."""
        self._dropped.append((tenant_id, instance_id, identity.job_id(instance_id, timer_id)))

    def key(
        self, tenant_id: str, principal: str, route: str, key: str, body_hash: bytes, instance_id: str, seq: int,
        command_id: str,
    ) -> None:  # fmt: skip
        """An idempotency key that a command of this batch came with."""
        self._keyed.append((tenant_id, principal, route, key, body_hash, instance_id, seq, command_id))

    def parameters(self) -> list[Any]:
        """The columns of `save_batch`, in its order. Raises `Unstorable`."""
        parameters: list[Any] = []
        parts = (
            self._changed, self._created, self._logged, self._opened, self._settled, self._scheduled, self._dropped,
            self._keyed,
        )  # fmt: skip
        for rows, kinds in zip(parts, _PARTS, strict=True):
            if rows:
                parameters.extend(map(_column, kinds, zip(*rows, strict=True)))
            else:
                parameters.extend([() if kind == "f" else "" for kind in kinds])
        return parameters


def _decision(effect: SettleWorkItem, settled_at: datetime | None) -> tuple[Any, ...]:
    """Columns action, comments, decision_data, decided_by, decided_at, delegated_to, weight, group_key."""
    return (
        effect.action, effect.comments, _encode(effect.decision_data).decode() if effect.decision_data else None,
        effect.decided_by, settled_at, effect.delegated_to, effect.weight, effect.group,
    )  # fmt: skip


async def save(connection: asyncpg.Connection[Any], writes: BatchWrites, *, key_ttl: timedelta) -> frozenset[str]:
    """
    Write a batch in one statement; the ids of the instances that were written. The others were overtaken.

    Raises asyncpg's errors: `UniqueViolationError` for an idempotency or external key that was taken meanwhile.
    """
    row = await connection.fetchrow(_sql.save_batch, *writes.parameters(), key_ttl)
    return frozenset(row[0] or ()) if row is not None else frozenset()
