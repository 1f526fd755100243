"""Instances as the commit of a batch reads them: in one statement, decoded into the interpreter's `Instance`.

How they are written is in `batch_writes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.instance import Instance, Machine, Status

from . import queries
from .formats import FORMAT, NewerFormat
from .parts import integers, texts

if TYPE_CHECKING:
    import asyncpg

_sql: Final = queries.load("instances")
_decode_map: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_decode_machine: Final = msgspec.json.Decoder(Machine, float_hook=Decimal).decode
_status: Final = {status.value: status for status in Status}

Key = tuple[str, str]
"""Tenant id and instance id."""


class _Numbered(Struct):
    """What a machine of any format says of itself."""

    format: int = 1


_decode_format: Final = msgspec.json.Decoder(_Numbered).decode


class Loaded(Struct):
    """An instance as read for a batch, or that there is none, with its tenant's clock and directory revision."""

    now: datetime
    directory_revision: int
    instance: Instance | None
    history_hash: bytes
    #: the instance is there, and this node cannot read it
    unreadable: NewerFormat | None = None


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
    in `recent` (instance and history hash as this node left them) is not sent again when it still stands so. Raises
    `Unstorable` for a key with control characters.
    """
    recent = recent or {}
    known_at = [recent[key][0].revision if key in recent else 0 for key in keys]
    rows = await connection.fetch(_sql.load_batch, *_columns(keys, 2), integers(known_at), *_columns(requests, 4))
    loaded: dict[Key, Loaded] = {}
    known: dict[int, KnownKey] = {}
    now: datetime | None = None
    for row in rows:
        position = row[1] - 1
        if row[0] == "k":
            known[position] = KnownKey(row["key_instance"], row["key_seq"], row["key_body"])
            continue
        key = keys[position]
        if row[2] != now:
            now = row[2]  # one object for all rows that share it: `parts` writes out one object once
        if row[7] is None:
            loaded[key] = Loaded(now, row[3], None, b"")
        elif row[7] == known_at[position]:
            loaded[key] = Loaded(now, row[3], *recent[key])
        else:
            try:
                loaded[key] = Loaded(now, row[3], _instance(key[1], row), row[8])
            except NewerFormat as error:
                loaded[key] = Loaded(now, row[3], None, b"", error)
    return loaded, known


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    return [texts(column) for column in zip(*rows, strict=True)] if rows else [""] * width


def _instance(instance_id: str, row: Any) -> Instance:
    (
        _, _, _, _, definition_id, definition_name, version, revision, _, status, configuration, current_state,
        previous_state, data, context, submission, machine, requester, created_by, created_at, last_activity_at,
        submission_id, external_key, title, started_at, completed_at, failed_at, cancelled_at, timeout_at, assigned_to,
        *_,
    ) = row  # fmt: skip
    try:
        decoded = _decode_machine(machine)
    except msgspec.ValidationError:
        if _decode_format(machine).format <= FORMAT:
            raise
        decoded = Machine(format=_decode_format(machine).format)
    if decoded.format > FORMAT:
        raise NewerFormat(f"instance {instance_id} has format {decoded.format}, and this node reads up to {FORMAT}")
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
