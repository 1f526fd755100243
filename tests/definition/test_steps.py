"""Steps in documents: what the checks find, what versions compare, what the diagram shows."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.diagram import mermaid
from pliers_workflow.definition.diff import compare
from pliers_workflow.definition.document import WorkflowDefinition
from pliers_workflow.definition.reading import read

CALL = {"type": "plugin", "id": "call", "pluginId": "some"}
WORK = {"type": "external", "topic": "refunds"}
AT = "/stateMachine/states/work/properties/steps"
CHAIN = {"id": "ok", "steps": [{"id": "only", "approvers": [{"type": "user", "identifier": "bob"}]}]}


def working(*steps: Any, more: Any = (), **rest: Any) -> dict[str, Any]:
    """A document whose state `work` does these steps."""
    return {
        "name": "example",
        "version": "1.0.0",
        "title": "Example",
        "stateMachine": {
            "states": {"work": {"properties": {"steps": list(steps)}}, "end": {"type": "final"}},
            "transitions": [{"from": "work", "to": "end"}, *more],
            "initialState": "work",
        },
        **rest,
    }


def found(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Pointer and code of each finding."""
    return [(finding.pointer, finding.code) for finding in read(document).findings]


def holding(*steps: Any, **rest: Any) -> dict[str, Any]:
    """A sequence that undoes its steps."""
    return {"type": "sequential", "id": "all", "rollbackOnFailure": True, "steps": list(steps), **rest}


def side_by_side(*branches: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """Branches, each with a step of its own unless it has some."""
    rows = [{"id": f"b{n}", "steps": [{**CALL, "id": f"call{n}"}], **branch} for n, branch in enumerate(branches)]
    return {"type": "parallel", "id": "both", "branches": rows, **rest}


FINDINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    # names and ids
    "a name that leads nowhere": (working("fetch"), f"{AT}/0", "unknown_step"),
    "one inside a branch": (working(side_by_side({"steps": ["fetch"]})), f"{AT}/0/branches/0/steps/0", "unknown_step"),
    "a chain that is not there": (working({"type": "approval", "chainId": "ok"}), f"{AT}/0/chainId", "unknown_chain"),
    "a timeout of no step": (working(CALL, timeoutConfig={"stepTimeouts": {"cal": 5}}), "/timeoutConfig/stepTimeouts/cal", "unknown_step"),
    "a timeout said twice": (working({**CALL, "timeoutMinutes": 5}, timeoutConfig={"stepTimeouts": {"call": 5}}), "/timeoutConfig/stepTimeouts/call", "duplicate_id"),
    "a failure of no step": (working(CALL, more=[{"from": "work", "to": "end", "trigger": "error.step.cal"}]), "/stateMachine/transitions/1/trigger", "unknown_step"),
    "an id given twice": (working(CALL, CALL), f"{AT}/1/id", "duplicate_id"),
    "a named step used twice in a state": (working("call", "call", steps={"call": {**CALL}}), "/steps/call", "duplicate_id"),
    "a branch's id given twice": (working(side_by_side({"id": "x"}, {"id": "x"})), f"{AT}/0/branches/1/id", "duplicate_id"),
    "a step that contains itself": (working("a", steps={"a": {"type": "sequential", "steps": ["a"]}}), "/steps/a", "step_cycle"),
    "a step that nothing uses": (working(CALL, steps={"other": CALL}), "/steps/other", "unused"),
    # keys that mean something
    "a retry where nothing is asked": (working({"type": "wait", "durationMinutes": 1, "retryPolicy": {}}), f"{AT}/0/retryPolicy", "retry_impossible"),
    "a retry that is not wanted": (working({"type": "sub_workflow", "workflowId": "x", "retryPolicy": {}}), f"{AT}/0/retryPolicy", "retry_impossible"),
    "a time for what takes none": (working({"type": "emit", "eventType": "x", "timeoutMinutes": 1}), f"{AT}/0/timeoutMinutes", "misplaced"),
    "a field inside another that is set": (working({"type": "assign", "assignments": {"data.f.g": "1", "f": "{}"}}), f"{AT}/0/assignments/data.f.g", "bad_step"),
    "a field that is set twice": (working({**CALL, "outputMapping": {"f": "1", "data.f": "2"}}), f"{AT}/0/outputMapping/data.f", "bad_step"),
    "a wait for nothing": (working({"type": "wait"}), f"{AT}/0", "bad_step"),
    "a wait for two things": (working({"type": "wait", "durationMinutes": 1, "until": "now"}), f"{AT}/0", "bad_step"),
    "custom without condition": (working(side_by_side({}, waitStrategy="custom")), f"{AT}/0/completionCondition", "bad_step"),
    "a condition that nobody asks": (working(side_by_side({}, completionCondition="true")), f"{AT}/0/completionCondition", "bad_step"),
    "a loop's element called data": (working({"type": "for_each", "items": "[1]", "itemName": "data", "steps": [CALL]}), f"{AT}/0/itemName", "bad_step"),
    "a weight that nobody asks": (working(side_by_side({"weight": 2}, {})), f"{AT}/0/branches/0/weight", "weight_ignored"),
    "a branch that decides alone": (working(side_by_side({"weight": 3}, {}, {}, waitStrategy="majority")), f"{AT}/0/branches/0/weight", "one_branch_decides"),
    "nobody waits for a failure": (working({"type": "sub_workflow", "workflowId": "x", "waitForCompletion": False, "failureHandling": "continue"}), f"{AT}/0/failureHandling", "misplaced"),
    "no version": (working({"type": "sub_workflow", "workflowId": "x", "version": "latest"}), f"{AT}/0/version", "bad_format"),
    "a workflow that starts itself": (working({"type": "sub_workflow", "workflowId": "example"}), f"{AT}/0/workflowId", "endless_recursion"),
    "an undoing that nobody asks for": (working({**CALL, "compensation": {"type": "emit", "eventType": "x"}}), f"{AT}/0/compensation", "compensation_ignored"),
    "nothing to undo": (working(holding(CALL)), f"{AT}/0/rollbackOnFailure", "compensation_ignored"),
    "an undoing that may never end": (working(holding({**CALL, "compensation": WORK})), f"{AT}/0/steps/0/compensation", "compensation_unlimited"),
    "one that does inside": (working(holding({**CALL, "compensation": {"type": "sequential", "steps": ["ask"]}}), steps={"ask": WORK}), f"{AT}/0/steps/0/compensation", "compensation_unlimited"),
    # expressions
    "no CEL": (working({**CALL, "inputMapping": {"a": "1 +"}}), f"{AT}/0/inputMapping/a", "bad_expression"),
    "a step that is not there": (working({**CALL, "inputMapping": {"a": "steps.cal.output"}}), f"{AT}/0/inputMapping/a", "expression_mismatch"),
    "an item outside of loops": (working({**CALL, "inputMapping": {"a": "item"}}), f"{AT}/0/inputMapping/a", "expression_mismatch"),
    "an output before it is there": (working({**CALL, "inputMapping": {"a": "output"}}), f"{AT}/0/inputMapping/a", "expression_mismatch"),
    "a trigger's data in a step": (working({**CALL, "inputMapping": {"a": "event.data"}}), f"{AT}/0/inputMapping/a", "expression_mismatch"),
    "steps of a loop from outside": (working({"type": "for_each", "items": "[1]", "steps": [CALL]}, {"type": "assign", "assignments": {"a": "steps.call.output"}}), f"{AT}/1/assignments/a", "expression_mismatch"),
    "a loop over no list": (working({"type": "for_each", "items": "'a'", "steps": [CALL]}), f"{AT}/0/items", "expression_mismatch"),
    "a condition of no truth": (working({**CALL, "condition": "1 + 1"}), f"{AT}/0/condition", "expression_mismatch"),
    "a branch that is not there": (working(side_by_side({}, waitStrategy="custom", completionCondition="branches.x.status == 'failed'")), f"{AT}/0/completionCondition", "expression_mismatch"),
    "braces that do not pair": (working({"type": "http", "url": "https://x/{data.a"}), f"{AT}/0/url", "bad_template"),
    "no CEL in braces": (working({"type": "http", "url": "https://x/{1 +}"}), f"{AT}/0/url", "bad_expression"),
    "no script": (working({"type": "script", "script": "x = 1"}), f"{AT}/0/script", "bad_script"),
    "a field the schema rules out": (working({"type": "assign", "assignments": {"x": "1"}}, dataSchema={"type": "object", "properties": {"y": {}}, "additionalProperties": False}), f"{AT}/0/assignments/x", "unknown_field"),
}  # fmt: skip


@pytest.mark.parametrize("case", FINDINGS)
def test_findings(case: str) -> None:
    """Each mistake gives one finding, at its place."""
    document, at, code = FINDINGS[case]
    assert found(document) == [(at, code)]


FINE = {
    "an undoing with a time of its own": working(
        holding(
            {**CALL, "id": "a", "compensation": {**WORK, "timeoutMinutes": 60}},
            {**CALL, "id": "b", "compensation": {"type": "sequential", "timeoutMinutes": 60, "steps": [{**WORK, "id": "c"}]}},
            {**CALL, "id": "d", "compensation": {**WORK, "id": "e"}},
        ),
        timeoutConfig={"stepTimeouts": {"e": 60}},
    ),
    "a name in several states": working("call", steps={"call": CALL}),
    "names inside loops": working(
        {"type": "for_each", "items": "data.l", "itemName": "line", "indexName": "at", "steps": [
            {**CALL, "inputMapping": {"a": "line.x", "b": "at"}},
            {"type": "assign", "assignments": {"x": "steps.call.output.y + steps.before.output"}, "outputMapping": {"z": "output"}},
        ]},
        {"type": "wait", "id": "before", "durationMinutes": 1},
    ),
    "an undoing that sees what it undoes": working(
        holding({**CALL, "compensation": {"type": "plugin", "pluginId": "x", "inputMapping": {"a": "output.id"}}})
    ),
    "a named step inside a loop": working(
        {"type": "for_each", "items": "[1]", "steps": ["call"]}, steps={"call": {**CALL, "inputMapping": {"a": "item"}}}
    ),
    "guards that look at steps": working(
        CALL, more=[{"from": "work", "to": "end", "trigger": "x", "condition": "has(steps.call) && steps.call.status == 'failed'"}]
    ),
    "recursion under a condition": working({"type": "sub_workflow", "workflowId": "example", "condition": "data.n > 0"}),
    "the failure of an undoing": working(
        holding({**CALL, "compensation": {"type": "emit", "eventType": "x"}}),
        more=[{"from": "work", "to": "end", "trigger": "error.step.call-undo"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FINE)
def test_nothing_to_say(case: str) -> None:
    """What is right gives no finding, and compiles."""
    reading = read(FINE[case])
    assert reading.findings == ()
    assert reading.definition is not None
    compile_definition(reading.definition)


def test_a_named_step_is_told_once_of_each_mistake() -> None:
    """However many states use it."""
    document = working("call", steps={"call": {**CALL, "inputMapping": {"a": "nothing"}}})
    document["stateMachine"]["states"]["more"] = {"properties": {"steps": ["call"]}}
    document["stateMachine"]["transitions"][0]["to"] = "more"
    document["stateMachine"]["transitions"].append({"from": "more", "to": "end"})
    assert found(document) == [("/steps/call/inputMapping/a", "expression_mismatch")]


def test_names_that_use_names_cannot_explode() -> None:
    """Twelve names, each of which uses the one before four times, would be sixteen million steps."""
    steps: dict[str, Any] = {"n0": {"type": "wait", "durationMinutes": 1}}
    for number in range(1, 13):
        steps[f"n{number}"] = {"type": "sequential", "steps": [f"n{number - 1}"] * 4}
    codes = {code for _, code in found(working("n12", steps=steps))}
    assert "too_large" in codes


@pytest.mark.parametrize("key", ["final", "choice"])
def test_states_where_no_time_passes_have_no_steps(key: str) -> None:
    """A final state has ended, a choice is left at once."""
    document = working(CALL)
    state = {"type": key, "properties": {"steps": [{**CALL}]}}
    document["stateMachine"]["states"]["end" if key == "final" else "pick"] = state
    if key == "choice":
        document["stateMachine"]["transitions"] += [{"from": "pick", "to": "end"}]
    assert f"{key}_with_content" in [code for _, code in found(document)]


# -- what the compiler says of outputs -----------------------------------------------------------------------------------


def test_outputs_are_kept_and_handed_up_only_where_they_are_needed() -> None:
    """A step's, where an expression reads it; what it holds gives its own up only where its output is wanted."""
    document = working(
        {**CALL, "id": "read"},
        {**CALL, "id": "unread"},
        side_by_side({"steps": [{**CALL, "id": "x"}, {**CALL, "id": "y"}]}, outputMapping={"all": "output"}),
        {"type": "for_each", "items": "[1]", "steps": [{**CALL, "id": "z"}]},
        {"type": "assign", "assignments": {"a": "steps.read.output"}},
    )
    reading = read(document)
    assert reading.definition is not None
    steps = {step.id: step for step in compile_definition(reading.definition).steps.values()}
    assert [id for id, step in steps.items() if step.kept] == ["read"]
    assert [id for id, step in steps.items() if step.collected] == ["work/both/b0/", "y"] or [
        step.id for step in steps.values() if step.collected
    ] == ["work/2/b0/", "y"]


# -- versions ----------------------------------------------------------------------------------------------------------


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str]]:
    """Pointer and change of each difference."""
    one, other = WorkflowDefinition.model_validate(old), WorkflowDefinition.model_validate(new)
    return [(entry.pointer, entry.change) for entry in compare(one, other).entries]


NEXT = {**CALL, "id": "next"}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ([CALL], [(f"{AT}/1", "major")]),
        ([CALL, NEXT, {**CALL, "id": "third"}], [(f"{AT}/2", "minor")]),
        ([CALL, {"type": "wait", "id": "next", "durationMinutes": 1}], [(f"{AT}/1/type", "major")]),
        ([CALL, {**NEXT, "pluginId": "other"}], [(f"{AT}/1/pluginId", "minor")]),
        ([CALL, {**NEXT, "name": "Next", "description": "more"}], [(f"{AT}/1/name", "patch"), (f"{AT}/1/description", "patch")]),
        ([NEXT, CALL], [(f"{AT}/0", "minor")]),
        ([CALL, NEXT, {"type": "wait", "durationMinutes": 1}], [(f"{AT}/2", "minor")]),
        ([CALL, holding(NEXT)], [(f"{AT}/1", "minor")]),
        ([CALL, {**NEXT, "continueOnError": True}], [(f"{AT}/1/continueOnError", "minor")]),
    ],
)  # fmt: skip
def test_what_a_change_of_steps_means(new: list[Any], expected: list[tuple[str, str]]) -> None:
    """A step that is gone or of another type breaks what runs; another configuration is minor, texts are patch."""
    assert changes(working(CALL, NEXT), working(*new)) == expected


def test_branches_and_named_steps_are_compared_too() -> None:
    """A branch that is gone is major, another weight minor; a named step that is gone is major."""
    old = working(side_by_side({}, {"steps": ["named"]}), steps={"named": CALL})
    gone = working(side_by_side({}), steps={"named": CALL})
    assert (f"{AT}/0/branches", "major") in changes(old, gone)
    weighed = working(side_by_side({"weight": 2}, {"steps": ["named"]}), steps={"named": CALL})
    assert changes(old, weighed) == [(f"{AT}/0/branches/0", "minor")]
    assert ("/steps/named", "major") in changes(old, working(side_by_side({}, {"steps": [CALL]})))
    other = working(side_by_side({}, {"steps": ["named"]}), steps={"named": {**CALL, "pluginId": "other"}})
    assert changes(old, other) == [("/steps/named/pluginId", "minor")]


# -- diagram -----------------------------------------------------------------------------------------------------------


def test_the_diagram_tells_the_steps_of_a_state() -> None:
    """One line each in the note beside it, those inside others indented."""
    document = working(
        "fetch",
        side_by_side({"name": "Legal"}, {"steps": [{"type": "approval", "chainId": "ok"}]}),
        {
            "type": "conditional",
            "condition": "data.n > 1",
            "trueBranch": {"steps": [{"type": "wait", "durationMinutes": 5}]},
        },
        steps={"fetch": {"type": "http", "url": "https://example.com/{data.n}", "name": "Fetch"}},
        approvalChains=[CHAIN],
    )
    reading = read(document)
    assert reading.definition is not None
    drawn = [line.strip() for line in mermaid(reading.definition).splitlines()]
    assert drawn[drawn.index("note right of work") + 1 : drawn.index("end note")] == [
        "Steps#58;",
        "1. Fetch (GET https#58;//example.com/#123;data.n#125;)",
        "2. both (parallel, all)",
        "· branch Legal",
        "· · 1. call0 (plugin some)",
        "· branch b1",
        "· · 1. approval ok",
        "3. conditional",
        "· if true",
        "· · 1. wait 5 min",
    ]


def test_names_that_use_names_cannot_be_nested_without_end() -> None:
    """A thousand names, each of which uses the one before."""
    steps: dict[str, Any] = {"n0": {"type": "wait", "durationMinutes": 1}}
    for number in range(1, 1000):
        steps[f"n{number}"] = {"type": "sequential", "rollbackOnFailure": True, "steps": [f"n{number - 1}"]}
    codes = {code for _, code in found(working("n999", steps=steps))}
    assert "too_deep" in codes
