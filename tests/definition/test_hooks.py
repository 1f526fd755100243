"""Event hooks in definitions: what is wrong is found with its place, what changed counts, and rules are whole."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.diff import compare
from pliers_workflow.definition.document import WorkflowDefinition
from pliers_workflow.definition.listening import (
    EVENT_KEY,
    FilterRule,
    Rule,
    listeners,
    patterns,
    receiver_id,
    type_matches,
)
from pliers_workflow.definition.reading import read
from tests.definition.documents import small

START: dict[str, Any] = {"id": "start", "eventType": "order.placed", "action": {"type": "start_workflow"}}
GO: dict[str, Any] = {
    "id": "go",
    "eventType": "order.paid",
    "correlationKey": "event.data.id",
    "action": {"type": "advance_state", "trigger": "go"},
}
KEY = {"name": "order", "key": "data.id"}
NOTE: dict[str, Any] = {
    "id": "note",
    "eventType": "order.*",
    "correlationKey": "event.subject",
    "actions": [{"type": "log", "value": "event.data"}],
}


def hooks(*triggers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A valid document with event hooks; a key is declared unless told otherwise."""
    return small(eventHooks={"triggers": list(triggers), "correlation": [KEY], **more})


def found(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Severity, place below `eventHooks`, and code."""
    return [(one.severity, one.pointer.removeprefix("/eventHooks"), one.code) for one in read(document).findings]


def test_what_is_right_is_not_complained_about() -> None:
    """Starts without keys, advances, handlers and filters, as the guide has them."""
    assert (
        found(hooks(START, GO, handlers=[NOTE], filters=[{"source": "/shop/*", "condition": "event.data.x > 1"}])) == []
    )
    assert found(hooks(START, correlation=[])) == []


WRONG: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    (hooks(GO, GO), [("error", "/triggers/1/id", "duplicate_id")]),
    (hooks(GO, handlers=[{**NOTE, "id": "go"}]), [("error", "/handlers/0/id", "duplicate_id")]),
    (hooks(GO, correlation=[KEY, KEY]), [("error", "/triggers/0/correlation", "missing"), ("error", "/correlation/1/name", "duplicate_id")]),
    (hooks(GO, correlation=[]), [("error", "/triggers/0/correlation", "missing")]),
    (hooks({**GO, "correlation": "ordr"}), [("error", "/triggers/0/correlation", "unknown_key_name"), ("warning", "/correlation/0", "unused")]),
    (hooks({key: value for key, value in GO.items() if key != "correlationKey"}), [("error", "/triggers/0/correlationKey", "missing")]),
    (hooks({**START, "correlationKey": "event.id"}, correlation=[]), [("error", "/triggers/0/correlationKey", "misplaced")]),
    (hooks(START), [("warning", "/correlation/0", "unused")]),
    (hooks({**START, "action": {"type": "start_workflow", "trigger": "go"}}, correlation=[]), [("error", "/triggers/0/action/trigger", "misplaced")]),
    (hooks({**START, "eventType": "workflow.*"}, correlation=[]), [("error", "/triggers/0/eventType", "endless_starts")]),
    (hooks({**START, "action": {"type": "start_workflow", "version": "first"}}, correlation=[]), [("error", "/triggers/0/action/version", "bad_format")]),
    (hooks({**GO, "action": {"type": "advance_state", "targetState": "zz"}}), [("error", "/triggers/0/action/targetState", "unknown_state")]),
    (hooks({**GO, "action": {"type": "advance_state", "trigger": "two words"}}), [("error", "/triggers/0/action/trigger", "bad_trigger")]),
    (hooks({**GO, "action": {"type": "advance_state", "trigger": "approved"}}), [("error", "/triggers/0/action/trigger", "bad_trigger")]),
    (hooks({**GO, "action": {"type": "advance_state", "trigger": "timeout.a"}}), [("error", "/triggers/0/action/trigger", "bad_trigger")]),
    (hooks({**GO, "action": {"type": "advance_state", "trigger": "stop"}}), [("warning", "/triggers/0/action/trigger", "unhandled_trigger")]),
    (hooks({**GO, "action": {"type": "advance_state"}}), [("warning", "/triggers/0/action", "unhandled_trigger")]),
    (hooks({**GO, "action": {"type": "advance_state", "trigger": "go", "targetState": "a"}}), [("warning", "/triggers/0/action/targetState", "unhandled_trigger")]),
    (hooks({**GO, "action": {"type": "execute_step"}}), [("error", "/triggers/0/action/stepId", "missing")]),
    (hooks({**GO, "action": {"type": "execute_step", "stepId": "s"}}), [("error", "/triggers/0/action/stepId", "unknown_step")]),
    (hooks({**GO, "condition": "data.id == 1"}), [("error", "/triggers/0/condition", "expression_mismatch")]),
    (hooks({**GO, "condition": "event.id"}), [("error", "/triggers/0/condition", "expression_mismatch")]),
    (hooks({**GO, "correlationKey": "event."}), [("error", "/triggers/0/correlationKey", "bad_expression")]),
    (hooks({**GO, "delayMinutes": "event.id"}), [("error", "/triggers/0/delayMinutes", "expression_mismatch")]),
    (hooks({**GO, "delayMinutes": -1}), [("error", "/triggers/0/delayMinutes", "out_of_range")]),
    (hooks({**GO, "action": {"type": "advance_state", "trigger": "go", "parameters": {"x": "user.id"}}}), [("error", "/triggers/0/action/parameters/x", "expression_mismatch")]),
    (hooks({**START, "action": {"type": "start_workflow", "parameters": {"a b": "1"}}}, correlation=[]), [("error", "/triggers/0/action/parameters/a b", "bad_format")]),
    (hooks(GO, correlation=[{"name": "order", "key": "event.data.id"}]), [("error", "/correlation/0/key", "expression_mismatch")]),
    (hooks(GO, handlers=[{**NOTE, "actions": ["nothing"]}]), [("error", "/handlers/0/actions/0", "unknown_action")]),
    (hooks(GO, handlers=[{**NOTE, "actions": []}]), [("error", "/handlers/0/actions", "out_of_range")]),
    (hooks(GO, filters=[{"condition": "1 + 1"}]), [("error", "/filters/0/condition", "expression_mismatch")]),
    (hooks({**GO, "eventType": "order.*.paid"}), [("error", "/triggers/0/eventType", "bad_format")]),
    (hooks({**GO, "eventType": ""}), [("error", "/triggers/0/eventType", "bad_format")]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_found(document: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    """Each mistake gives its finding, at its place, and no other."""
    assert sorted(found(document)) == sorted(expected)


def test_the_type_of_an_event_may_be_what_transitions_wait_for() -> None:
    """Without `trigger` the event's type is fired: a transition that could take one of its types is enough."""
    document = hooks({**GO, "eventType": "go.*", "action": {"type": "advance_state"}})
    assert found(document) == []
    document["stateMachine"]["transitions"][0]["trigger"] = "go.on"
    assert found(document) == []


CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (hooks(GO), hooks(GO), "none"),
    (hooks(GO), hooks(GO, START), "minor"),
    (hooks(GO, START), hooks(GO), "major"),
    (hooks(GO), hooks({**GO, "eventType": "other"}), "major"),
    (hooks(GO), hooks({**GO, "eventType": "order.*"}), "minor"),
    (hooks(GO), hooks({**GO, "priority": 5}), "minor"),
    (hooks(GO, handlers=[NOTE]), hooks(GO), "major"),
    (hooks(GO), hooks(GO, correlation=[{**KEY, "key": "data.other"}]), "minor"),
    (hooks({**GO, "correlation": "order"}, correlation=[KEY, {"name": "b", "key": "data.b"}]), hooks({**GO, "correlation": "order"}), "major"),
    (hooks(GO), hooks(GO, filters=[{"source": "/a"}]), "minor"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "change"), CHANGES, ids=range(len(CHANGES)))
def test_what_changed_counts(old: dict[str, Any], new: dict[str, Any], change: str) -> None:
    """What senders of events or living instances relied on is gone: major; everything else: minor."""
    assert compare(definition(old), definition(new)).change == change


def definition(document: dict[str, Any]) -> WorkflowDefinition:
    """A document's definition."""
    made = read(document).definition
    assert made is not None
    return made


def test_rules_are_whole_by_themselves() -> None:
    """A listener carries filters, key and mapping; names that follow from the definition are filled in."""
    slow = {**GO, "delayMinutes": 1.5, "priority": 3}
    start, go, note = listeners(definition(hooks(START, slow, handlers=[NOTE], filters=[{"source": "/s"}])))
    filters = (FilterRule(source="/s"),)
    assert start.rule == Rule(action="start_workflow", filters=filters)
    assert go.rule == Rule(
        action="advance_state", filters=filters, correlation="order", key="event.data.id", trigger="go", delay_ms=90_000
    )
    assert (go.id, go.event_type, go.priority, go.place) == ("go", "order.paid", 3, 1)
    assert note.rule == Rule(action="handle", filters=filters, correlation="order", key="event.subject")


def test_receive_steps_listen_too() -> None:
    """One listener for each type and place of the key, however many steps wait; steps that only an event runs included."""
    document = hooks(START, {**GO, "action": {"type": "execute_step", "stepId": "wait"}})
    step = {"type": "receive", "eventType": "order.paid", "correlationKey": "data.id"}
    document["stateMachine"]["states"]["a"]["properties"] = {
        "steps": [{"type": "sequential", "steps": [step, step, {**step, "eventKey": "event.data.id"}]}]
    }
    document["steps"] = {"wait": {**step, "eventType": "order.*"}}
    found = [one for one in listeners(definition(document)) if one.rule.action == "receive"]
    assert [(one.event_type, one.rule.key) for one in found] == [
        ("order.paid", EVENT_KEY), ("order.paid", "event.data.id"), ("order.*", EVENT_KEY),
    ]  # fmt: skip
    assert len({one.id for one in found}) == 3
    assert found[0].id.rpartition("/")[0] == found[2].id.rpartition("/")[0] == receiver_id(None)


def test_where_an_event_carries_its_key_is_checked() -> None:
    """`eventKey` sees the event and nothing else."""
    document = small()
    step = {"type": "receive", "eventType": "order.paid", "correlationKey": "data.id", "eventKey": "data.id"}
    document["stateMachine"]["states"]["a"]["properties"] = {"steps": [step]}
    findings = [(one.pointer, one.code) for one in read(document).findings if one.severity == "error"]
    assert findings == [("/stateMachine/states/a/properties/steps/0/eventKey", "expression_mismatch")]


def test_patterns_are_those_that_match() -> None:
    """What an event is looked up by is exactly what matches its type."""
    known = ["a", "a.*", "a.b", "a.b.*", "a.b.c", "a.b.c.*", "*", "ab", "ab.*", "b", "a.bc.*"]
    for event_type in ("a", "a.b", "a.b.c", "ab"):
        assert {one for one in known if type_matches(one, event_type)} == set(patterns(event_type)) & set(known)


def test_a_chart_knows_keys_and_handlers() -> None:
    """The interpreter finds them by name; a key that rests on more than the data is worked out after each command."""
    chart = compile_definition(definition(hooks(GO, handlers=[NOTE])))
    assert [name for name, _ in chart.correlation] == ["order"]
    assert (chart.keys_move, chart.listens, list(chart.handlers)) == (False, True, ["note"])
    moving = compile_definition(definition(hooks(GO, correlation=[{"name": "order", "key": "instance.current_state"}])))
    assert moving.keys_move


def test_a_submission_is_a_key_of_its_own() -> None:
    """Who listens for submissions needs no key, and instances have it beside those that are declared; others still need one."""
    edited = {**GO, "id": "edited", "eventType": "submission.updated"}
    del edited["correlationKey"]
    noted = {**NOTE, "id": "noted", "eventType": "submission.*"}
    del noted["correlationKey"]
    assert found(hooks(GO, edited, handlers=[noted])) == []
    assert found(hooks(edited, correlation=[])) == []
    definition = read(hooks(GO, edited, handlers=[noted])).definition
    assert definition is not None
    rules = {one.id: (one.rule.correlation, one.rule.key) for one in listeners(definition)}
    assert rules == {
        "go": ("order", "event.data.id"),
        "edited": ("@submission", "event.subject"),
        "noted": ("@submission", "event.subject"),
    }
    chart = compile_definition(definition)
    assert [name for name, _ in chart.correlation] == ["order", "@submission"]
    assert not chart.keys_move
    by_key = {**edited, "correlation": "order", "correlationKey": "event.data.id"}
    other = read(hooks(by_key)).definition
    assert other is not None
    assert [name for name, _ in compile_definition(other).correlation] == ["order"]
    assert found(hooks({**edited, "correlation": "order"})) == [("error", "/triggers/0/correlationKey", "missing")]
    bare = {name: value for name, value in NOTE.items() if name != "correlationKey"}
    assert found(hooks(handlers=[bare])) == [("error", "/handlers/0/correlationKey", "missing")]
