"""CloudEvents: what we send is what the standard's own library reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pliers_workflow.interpreter import events as e
from pliers_workflow.runtime.feed import published
from pliers_workflow.runtime.feed.cloudevents import EventMaker
from tests.docs.test_events import INSTANCE, NOW, envelope


def test_the_library_reads_it() -> None:
    """Attributes, extensions and data as the `cloudevents` library understands them."""
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    told = envelope(e.StateChanged("manager_review", "paid", "approved"))
    read = JSONFormat().read(CloudEvent, EventMaker("https://w.example.com").encoded(told, with_data=False))
    assert (read.get_id(), read.get_type(), read.get_subject()) == (
        f"{INSTANCE}/4/0",
        "workflow.state.changed",
        INSTANCE,
    )
    assert read.get_time() == NOW
    assert read.get_datacontenttype() == "application/json"
    assert {name: read.get_extension(name) for name in ("workflowname", "workflowversion", "workflowseq")} == {
        "workflowname": "expense_report",
        "workflowversion": "1.0.0",
        "workflowseq": 4,
    }
    assert read.get_data() == {
        "workflowInstanceId": INSTANCE,
        "workflowId": "expense_report",
        "workflowVersion": "1.0.0",
        "executedBy": "someone",
        "fromState": "manager_review",
        "toState": "paid",
        "trigger": "approved",
        "triggeredBy": "someone",
    }


def test_what_people_entered_is_for_those_who_ask() -> None:
    """Values and comments are told with data only; names of what changed always."""
    maker = EventMaker("")
    told = envelope(e.DataChanged(set={"salary": 90_000}, removed=("bonus",)))
    made, full = maker.event(told, with_data=False), maker.event(told, with_data=True)
    assert made is not None
    assert full is not None
    assert (made.data["changed"], made.data["removed"]) == (["salary"], ("bonus",))
    assert "90000" not in str(made)
    assert full.data["values"] == {"salary": 90_000}
    assert made.source == "/api/v1/tenants/default"
    decided = envelope(
        e.ApprovalGranted("review", "chain", "manager", "item/1", "ada", comments="because of the merger")
    )
    assert b"merger" not in maker.encoded(decided, with_data=False)
    assert b"merger" in maker.encoded(decided, with_data=True)


def test_an_event_of_the_workflows_own_is_sent_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step emits goes out under its own type, subject and data."""

    class Emitted(msgspec.Struct, frozen=True, tag="workflow.event.emitted", tag_field="type"):
        event_type: str
        subject: str | None = None
        data: Any = None

    monkeypatch.setitem(published.RULES, "workflow.event.emitted", published.Rule("a step told the world", custom=True))  # type: ignore[misc]
    told = envelope(e.TitleChanged("x"))
    told.event = Emitted("order.placed", None, {"order": 7})  # type: ignore[assignment]
    made = EventMaker("").event(told, with_data=False)
    assert made is not None
    assert (made.type, made.subject, made.data, made.id) == ("order.placed", INSTANCE, {"order": 7}, f"{INSTANCE}/4/0")
