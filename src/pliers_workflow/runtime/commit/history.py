"""History rows: how a command and what came of it are written down, hashed, and read again.

A row's `execution_data` is this record in canonical JSON, and `hash` is SHA-256 over the hash of the row before and those
very bytes; the first row of an instance continues from the instance's id. What the events repeat (the data a start or an
edit brought) is left out of the order, so nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from pliers_workflow.interpreter.commands import (
    Actor,
    Command,
    CompleteStep,
    DeliverEvent,
    FailStep,
    Order,
    ResolveIncident,
    StartInstance,
    Trace,
    UpdateData,
)
from pliers_workflow.interpreter.events import Event
from pliers_workflow.interpreter.facts import Fact
from pliers_workflow.interpreter.folding import fold
from pliers_workflow.interpreter.instance import Instance
from pliers_workflow.storage.formats import FORMAT, NewerFormat


class RecordedCommand(Struct, frozen=True, omit_defaults=True):
    """The command of a row: who ordered what."""

    id: str
    actor: Actor
    order: Order
    trace: Trace | None = None


class Record(Struct, frozen=True, omit_defaults=True):
    """What a history row says."""

    format: int
    instance: str
    seq: int
    at: datetime
    command: RecordedCommand
    events: tuple[Event, ...]
    #: facts that were looked at; their keys say what they are (`interpreter.facts`)
    facts: dict[str, Any] = {}


_encoder: Final = msgspec.json.Encoder(order="deterministic", decimal_format="number")
_decoder: Final = msgspec.json.Decoder(Record, float_hook=Decimal)


def encode_record(
    instance_id: str,
    seq: int,
    at: datetime,
    command: Command,
    events: tuple[Event, ...],
    facts: dict[str, Fact],
    *,
    format: int = FORMAT,
) -> bytes:
    """The canonical bytes of a history row, in the format that the nodes agreed on."""
    strip = _REPEATED.get(type(command.order))
    order = command.order if strip is None else strip(command.order)
    return _encoder.encode(
        Record(
            format,
            instance_id,
            seq,
            at,
            RecordedCommand(command.id, command.actor, order, command.trace),
            events,
            facts,
        )
    )


#: What a row's events repeat of its order is left out of the order.
_REPEATED: Final[dict[type, Callable[[Any], Order]]] = {
    StartInstance: lambda order: StartInstance(order.instance_id, order.definition_id, {}, depth=order.depth),
    UpdateData: lambda order: UpdateData(),
    CompleteStep: lambda order: CompleteStep(order.step, order.attempt),
    FailStep: lambda order: replace(order, message="", details={}),
    ResolveIncident: lambda order: replace(order, patch=None, output=None),
    DeliverEvent: lambda order: (
        replace(order, event=replace(order.event, data=None)) if order.action == "receive" else order
    ),
}


def decode_record(record: str | bytes) -> Record:
    """A history row's record. Raises `NewerFormat`, and `msgspec.DecodeError` for what is none."""
    try:
        decoded = _decoder.decode(record)
    except msgspec.ValidationError:
        if _format_of(record) <= FORMAT:
            raise
        raise NewerFormat(_too_new(_format_of(record))) from None
    if decoded.format > FORMAT:
        raise NewerFormat(_too_new(decoded.format))
    return decoded


class _Numbered(Struct):
    """What a record of any format says of itself."""

    format: int = 1


_numbered: Final = msgspec.json.Decoder(_Numbered)


def _format_of(record: str | bytes) -> int:
    return _numbered.decode(record).format


def _too_new(format: int) -> str:
    return f"a record has format {format}, and this node reads up to {FORMAT}"


def first_hash(instance_id: str) -> bytes:
    """What the hash of an instance's first row continues from."""
    return sha256(instance_id.encode()).digest()


def next_hash(previous: bytes, record: bytes) -> bytes:
    """The hash of a row."""
    return sha256(previous + record).digest()


def fold_records(records: Iterable[Record]) -> Instance | None:
    """The instance that an unbroken run of its records, from the first, comes to."""
    instance: Instance | None = None
    for record in records:
        instance = fold(instance, record.events, seq=record.seq, at=record.at, instance_id=record.instance)
        if instance is not None:
            instance.machine.format = record.format
    return instance


class BrokenChain(Exception):
    """A history row does not follow from the one before; the log was changed behind the engine's back."""


def verify_chain(instance_id: str, rows: Iterable[tuple[int, str | bytes, bytes, bytes]]) -> int:
    """
    Check the hash chain of one instance's rows `(seq, record, previous_hash, hash)`, from the first, in order.

    Returns how many rows were checked. Raises `BrokenChain` naming the first row that does not fit.
    """
    previous, checked = first_hash(instance_id), 0
    for seq, record, previous_hash, hash_ in rows:
        data = record.encode() if isinstance(record, str) else record
        if seq != checked + 1:
            raise BrokenChain(f"instance {instance_id}: row {checked + 1} is missing")
        if previous_hash != previous or next_hash(previous, data) != hash_:
            raise BrokenChain(f"instance {instance_id}: row {seq} was changed")
        previous, checked = hash_, checked + 1
    return checked
