"""One instance's history against its model, and against the answers that its callers got.

Every accepted command is in the history once, at the revision that was answered; nothing else is there but what the
engine does by itself; and what was refused could be refused: somewhere between the moment it was sent and the moment of
its answer the model stood in a state that does not allow it. (What was refused is not in the history, with one exception:
see `_refused_before`.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from .caller import Call
from .histories import Found
from .model import Disagreement, Model, Row
from .people import Cast
from .workflows import Kind

#: What is sent here is answered when it is kept, and has its effect later.
_EVENTS: Final = "/api/v1/events"
#: The database's clock and ours are one machine's; its reading is rounded.
_SAME_TIME = timedelta(milliseconds=50)


class Judgement(Struct, frozen=True):
    """What is wrong with an instance, a sentence each; how late its timers fired, in seconds; and what it has started."""

    faults: list[str]
    lateness: list[float] = []
    #: marks of instances
    children: list[str] = []
    #: what must have been done outside: the attempt, what, and by when
    favours: list[tuple[str, str, datetime]] = []


def judge(
    kind: Kind, instance_id: str, rows: Sequence[Row], calls: Sequence[Call], found: Found, cast: Cast
) -> Judgement:
    """Judge one instance."""
    try:
        model = kind.model(rows[0])
    except Disagreement as error:
        return Judgement([f"row 1 {error}"])
    faults = list(_faults(model, instance_id, rows, calls, found, cast))
    return Judgement(faults, model.lateness, model.children, model.favours)


def _faults(
    model: Model, instance_id: str, rows: Sequence[Row], calls: Sequence[Call], found: Found, cast: Cast
) -> Iterator[str]:
    stages: list[Model] = [model.copy()]
    for row in rows[1:]:
        try:
            model.apply(row)
        except Disagreement as error:
            yield f"row {row.seq} ({_deed(row)}) {error}"
            return
        stages.append(model.copy())
    yield from _end(model, instance_id, found)
    by_mark = Counter(row.mark for row in rows if row.mark)
    for mark, count in by_mark.items():
        if count > 1:
            yield f"the call {mark} is in the history {count} times"
    names = {call.name for call in calls}
    for row in rows[1:]:  # what began it is looked at with all the others
        if row.mark and row.mark not in names:
            yield f"row {row.seq} ({_deed(row)}) was made by no call of ours: {row.mark}"
        elif row.mark == "" and row.deed.user:
            yield f"row {row.seq} ({_deed(row)}) is a person's and bears no key"
    for call in calls:
        row_of_call = next((row for row in rows if row.mark == call.name), None)
        if call.status == 0:
            continue  # told as a fault by the caller already
        if call.ok:
            yield from _accepted(call, row_of_call, stages, found, cast)
        elif row_of_call is not None:
            if not _refused_before(call, row_of_call, rows, stages):
                yield f"{call.key} was refused ({_refusal(call)}), and is in the history as row {row_of_call.seq}"
        elif not _may_be_refused(call, rows, stages):
            yield f"{call.key} ({call.deed.kind} {call.deed.name} by {call.deed.user}) was refused ({_refusal(call)}), and nothing was in its way"


def _end(model: Model, instance_id: str, found: Found) -> Iterator[str]:
    """The row of the instance against the model, and that it has come to its end."""
    instance = found.instances[instance_id]
    stands = (instance.status.value, instance.current_state, list(instance.configuration))
    if stands != (model.standing, model.state, model.configuration):
        yield f"stands at {stands}, the model at {(model.standing, model.state, model.configuration)}"
    differs = {
        name: (instance.data.get(name), value) for name, value in model.data.items() if instance.data.get(name) != value
    }
    if differs:
        yield f"its data differ from the model's (found, expected): {differs}"
    if not model.ended:
        yield f"has not come to its end: {model.describe()}"


def _accepted(call: Call, row: Row | None, stages: Sequence[Model], found: Found, cast: Cast) -> Iterator[str]:
    if row is None:
        yield f"{call.key} ({call.deed.kind} {call.deed.name}) was accepted, and is not in the history"
        return
    if call.path != _EVENTS and call.deed.kind != "submit":
        if (row.deed.kind, row.deed.name, row.deed.user) != (call.deed.kind, call.deed.name, call.deed.user):
            yield f"{call.key} ordered {call.deed}, and row {row.seq} says {row.deed}"
        model = stages[row.seq - 1]
        answered = call.answer["revision"], call.answer["currentState"], call.answer["status"]
        if answered != (row.seq, model.state, model.standing):
            yield f"{call.key} was answered {answered}, and row {row.seq} is {(row.seq, model.state, model.standing)}"
    record = found.keys.get((cast.ids[call.deed.user], call.key))
    if record is None:
        yield f"there is no idempotency record of {call.key}"
    elif (
        call.path != _EVENTS
        and call.deed.kind != "submit"
        and (record["seq"], record["command_id"]) != (row.seq, row.command_id)
    ):
        yield f"the idempotency record of {call.key} is {dict(record)}, its row is {row.seq}, {row.command_id}"


def _refused_before(call: Call, row: Row, rows: Sequence[Row], stages: Sequence[Model]) -> bool:
    """
    Whether a call was refused and took effect after that, which is nobody's fault.

    A refusal keeps nothing. Where a call was sent again because nobody answered, the second may be refused while the
    first still waits at a node that is frozen or has lost its database, and be accepted when its time has come. But the
    refusal must be good without that: whoever is refused because their own command was there already was forgotten.
    """
    before = row.seq - 1
    return call.unanswered > 0 and _may_be_refused(call, rows[:before], stages[:before])


def _may_be_refused(call: Call, rows: Sequence[Row], stages: Sequence[Model]) -> bool:
    assert call.answered_at is not None
    latest = call.answered_at + _SAME_TIME
    if rows and call.known_revision == 0 and call.sent_at <= rows[0].at + _SAME_TIME:
        return True  # there was no such instance yet
    return any(
        model.may_refuse(call.deed)
        for row, model in zip(rows, stages, strict=True)
        if row.seq >= call.known_revision and row.at <= latest
    )


def _deed(row: Row) -> str:
    return " ".join(part for part in (row.deed.kind, row.deed.name or row.trigger, row.deed.user) if part)


def _refusal(call: Call) -> str:
    code = call.answer.get("code") if isinstance(call.answer, dict) else None
    return f"{call.status} {code}"
