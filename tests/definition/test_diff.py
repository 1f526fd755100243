"""What a change between two versions means to those who rely on the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pliers_workflow.definition.diff import compare
from pliers_workflow.definition.document import WorkflowDefinition
from pliers_workflow.definition.reading import read
from pliers_workflow.definition.schema_diff import compare_schemas
from tests.charts import NAMES, definition, load


def after(change: Callable[[dict[str, Any]], object]) -> tuple[WorkflowDefinition, WorkflowDefinition]:
    document = load("expense_report")
    change(document)
    return definition("expense_report"), WorkflowDefinition.model_validate(document)


def states(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["stateMachine"]["states"]
    return found


def moves(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["stateMachine"]["transitions"]
    return found


def stages(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["approvalChains"][0]["steps"]
    return found


def fields(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["dataSchema"]["properties"]
    return found


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "nothing": (lambda d: None, "none", ""),
    "version": (lambda d: d.update(version="9.0.0"), "none", ""),
    "order of keys": (lambda d: d.update({key: d.pop(key) for key in sorted(d)}), "none", ""),
    "title": (lambda d: d.update(title="Other"), "patch", "/title"),
    "metadata": (lambda d: d.update(metadata={"a": 1}), "patch", "/metadata"),
    "layout": (lambda d: d.update(layout={"draft": 1}), "patch", "/layout"),
    "state's name": (lambda d: states(d)["draft"].update(name="Begin"), "patch", "/stateMachine/states/draft/name"),
    "stage's name": (lambda d: stages(d)[0].update(name="Boss"), "patch", "/approvalChains/0/steps/0/name"),
    "text of a field": (lambda d: fields(d)["amount"].update(title="Sum"), "patch", "/dataSchema/properties/amount/title"),
    "new state": (lambda d: states(d).update(archived={}), "minor", "/stateMachine/states/archived"),
    "new transition": (
        lambda d: moves(d).append({"from": "approved", "to": "rejected", "trigger": "x"}), "minor", "/stateMachine/transitions/7"),
    "new stage": (lambda d: stages(d).append({**stages(d)[0], "id": "cfo"}), "minor", "/approvalChains/0/steps/2"),
    "new condition": (lambda d: moves(d)[1].update(condition="data.amount > 5"), "minor", "/stateMachine/transitions/1/condition"),
    "one more trigger": (lambda d: moves(d)[1].update(trigger="withdraw drop"), "minor", "/stateMachine/transitions/1/trigger"),
    "other timeout": (
        lambda d: states(d)["manager_review"]["timeouts"][0].update(afterMinutes=5), "minor", "/stateMachine/states/manager_review/timeouts"),
    "other approvers": (
        lambda d: stages(d)[1].update(approvers=[{"type": "user", "identifier": "ada"}]), "minor", "/approvalChains/0/steps/1/approvers"),
    "other action": (
        lambda d: d["stateMachine"]["actions"]["count_round"].update(value="1"), "minor", "/stateMachine/actions/count_round"),
    "new field": (lambda d: fields(d).update(note={"type": "string"}), "minor", "/dataSchema/properties/note"),
    "order of transitions of one state": (lambda d: moves(d).insert(0, moves(d).pop(1)), "minor", "/stateMachine/transitions"),
    "order of transitions of different states": (lambda d: moves(d).insert(0, moves(d).pop(6)), "none", ""),
    "name": (lambda d: d.update(name="other"), "major", "/name"),
    "state removed": (lambda d: states(d).pop("approved"), "major", "/stateMachine/states/approved"),
    "state renamed": (lambda d: states(d).update(ok=states(d).pop("approved")), "major", "/stateMachine/states/approved"),
    "state of another kind": (lambda d: states(d)["approved"].update(type="final"), "major", "/stateMachine/states/approved/type"),
    "transition removed": (lambda d: moves(d).pop(1), "major", "/stateMachine/transitions/1"),
    "transition leads elsewhere": (lambda d: moves(d)[1].update(to="paid"), "major", "/stateMachine/transitions/1/to"),
    "trigger renamed": (lambda d: moves(d)[1].update(trigger="drop"), "major", "/stateMachine/transitions/1/trigger"),
    "chain removed": (lambda d: d.update(approvalChains=[]), "major", "/approvalChains/0"),
    "stage removed": (lambda d: stages(d).pop(0), "major", "/approvalChains/0/steps"),
    "field required": (lambda d: d["dataSchema"]["required"].append("purpose"), "major", "/dataSchema/required"),
    "field removed": (lambda d: fields(d).pop("purpose"), "major", "/dataSchema/properties/purpose"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name: str) -> None:
    """Each change has its level and its place; the whole is as great as its greatest part."""
    change, level, pointer = CHANGES[name]
    difference = compare(*after(change))
    assert difference.change == level, difference
    if pointer:
        assert (pointer, level) in [(entry.pointer, entry.change) for entry in difference.entries], difference.entries


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_does_not_differ_from_itself(name: str) -> None:
    """Reading a document twice gives definitions without a difference."""
    again = read(load(name)).definition
    assert again is not None
    assert compare(definition(name), again).entries == ()


SCHEMAS: list[tuple[Any, Any, str | None]] = [
    ({"type": "integer"}, {"type": "number"}, "minor"),
    ({"type": "number"}, {"type": "integer"}, "major"),
    ({"type": "string"}, {"type": ["string", "null"]}, "minor"),
    ({"type": ["string", "null"]}, {"type": "string"}, "major"),
    ({}, {"type": "string"}, "major"),
    ({"type": "string"}, {}, "minor"),
    ({"maximum": 5}, {"maximum": 6}, "minor"),
    ({"maximum": 5}, {"maximum": 4}, "major"),
    ({"minLength": 5}, {"minLength": 4}, "minor"),
    ({"minLength": 5}, {"minLength": 6}, "major"),
    ({}, {"maxItems": 5}, "major"),
    ({"maxItems": 5}, {}, "minor"),
    ({"enum": ["a"]}, {"enum": ["a", "b"]}, "minor"),
    ({"enum": ["a", "b"]}, {"enum": ["b"]}, "major"),
    ({"enum": [1]}, {"enum": [True]}, "major"),
    ({"pattern": "a"}, {"pattern": "b"}, "major"),
    ({"pattern": "a"}, {}, "minor"),
    ({"additionalProperties": False}, {}, "minor"),
    ({}, {"additionalProperties": False}, "major"),
    ({"additionalProperties": False}, {"additionalProperties": True}, "minor"),
    ({"items": {"type": "integer"}}, {"items": {"type": "number"}}, "minor"),
    ({"required": ["a", "b"]}, {"required": ["a"]}, "minor"),
    ({"$defs": {"a": {"type": "number"}}}, {"$defs": {"a": {"type": "integer"}}}, "major"),
    ({"description": "a"}, {"description": "b"}, "patch"),
    ({"anyOf": [{}]}, {"anyOf": [{}, {}]}, "major"),
    ({"multipleOf": 1}, {"multipleOf": 1.0}, None),
]


@pytest.mark.parametrize(("old", "new", "level"), SCHEMAS, ids=str)
def test_schemas(old: Any, new: Any, level: str | None) -> None:
    """Refusing what was accepted is major, accepting more is minor, other words are a patch."""
    changes = {change for _, change, _ in compare_schemas(old, new)}
    assert changes == ({level} if level else set())
