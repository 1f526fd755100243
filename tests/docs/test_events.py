"""Every type of event is in the table of what the world is told, and can be told as the table says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import msgspec.inspect as types
import pytest

from pliers_workflow.interpreter.commands import Actor, SuspendInstance
from pliers_workflow.interpreter.events import Event
from pliers_workflow.runtime.commit.history import FORMAT, Record, RecordedCommand
from pliers_workflow.runtime.feed import Envelope, LoggedRow
from pliers_workflow.runtime.feed.cloudevents import EventMaker
from pliers_workflow.runtime.feed.envelope import type_of
from pliers_workflow.runtime.feed.published import RULES, is_told

INSTANCE = "019cabd8-3800-7bc6-8000-0000000000ff"
NOW = datetime(2026, 3, 2, tzinfo=UTC)
CLASSES = {each.__struct_config__.tag: each for each in get_args(Event)}


def sample(type_: types.Type) -> Any:
    """A value of a type, with every field filled."""
    match type_:
        case types.StructType(fields=fields):
            return {each.encode_name: sample(each.type) for each in fields} | (
                {type_.tag_field: type_.tag} if type_.tag_field else {}
            )
        case types.UnionType(types=members):
            return sample(members[0])
        case types.LiteralType(values=values):
            return values[0]
        case types.VarTupleType(item_type=item) | types.ListType(item_type=item):
            return [sample(item)]
        case types.DictType(value_type=value):
            return {"key": sample(value)}
        case types.IntType():
            return 3
        case types.BoolType():
            return True
        case types.DateTimeType():
            return NOW
        case types.StrType() | types.AnyType() | types.EnumType():
            return "text"
        case types.NoneType():
            return None
    raise AssertionError(f"say what a sample of {type_} is")


def envelope(event: Any) -> Envelope:
    command = RecordedCommand("c", Actor("someone"), SuspendInstance())
    record = Record(FORMAT, INSTANCE, 4, NOW, command, (event,))
    text = msgspec.json.encode(record, order="deterministic").decode()
    row = LoggedRow(7, "default", INSTANCE, 4, "before", "after", text, "id", "expense_report", "1.0.0")
    return row.envelopes[0]


def test_every_type_is_in_the_table() -> None:
    """A new type of event says whether the world is told of it."""
    missing = CLASSES.keys() - RULES.keys()
    assert not missing, f"add {sorted(missing)} to RULES in runtime/feed/published.py, and run tools/reference_pages.py"


@pytest.mark.parametrize("type_", sorted(CLASSES))
def test_every_type_can_be_told(type_: str) -> None:
    """An event of each type makes a CloudEvent with the fields that the table names, or none where it is not published."""
    event = msgspec.convert(sample(types.type_info(CLASSES[type_])), CLASSES[type_])
    assert type_of(event) == type_
    told = envelope(event)
    maker = EventMaker("https://workflows.example.com/")
    made, full = maker.event(told, with_data=False), maker.event(told, with_data=True)
    rule = RULES[type_]
    if not is_told(type_):
        assert made is None is full
        return
    assert made is not None
    assert full is not None
    assert (made.id, made.subject, made.workflowseq) == (f"{INSTANCE}/4/0", INSTANCE if not rule.custom else "text", 4)
    assert made.source == "https://workflows.example.com/api/v1/tenants/default"
    if not rule.custom:
        assert made.type == type_
        assert (rule.told or {}).keys() <= made.data.keys()
        assert made.data.keys() | rule.with_data.keys() == full.data.keys()
        assert not (rule.with_data.keys() & made.data.keys())
    assert msgspec.json.decode(maker.encoded(told, with_data=True))["specversion"] == "1.0"
    assert maker.encoded(told, with_data=True) is maker.encoded(told, with_data=True), "it is encoded once"
