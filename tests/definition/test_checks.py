"""What a document means: one table of broken documents, and the finding that each must give."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.definition.reading import read
from tests.definition.documents import approving, chain, document, small, with_schema


def go(source: str, target: Any, trigger: str | None = "go", **more: Any) -> dict[str, Any]:
    """A transition."""
    return {"from": source, "to": target, **({"trigger": trigger} if trigger else {}), **more}


def doc(states: dict[str, Any], *transitions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return document(states, list(transitions), **more)


def acting(*actions: Any, **more: Any) -> dict[str, Any]:
    """The small document with actions on its transition."""
    made = small(**more)
    made["stateMachine"]["transitions"][0]["actions"] = list(actions)
    return made


def guarded(condition: Any, **more: Any) -> dict[str, Any]:
    """The small document with a condition on its transition."""
    made = small(**more)
    made["stateMachine"]["transitions"][0]["condition"] = condition
    return made


def nested(*substates: dict[str, Any], **state: Any) -> dict[str, Any]:
    """A document whose state `a` has substates and can be left."""
    return doc({"a": {"substates": list(substates), **state}, "z": "final"}, go("a", "z"))


STATES = "/stateMachine/states"
MOVES = "/stateMachine/transitions"
STAGE = "/approvalChains/0/steps/0"
REGIONS = {
    "type": "parallel",
    "substates": [{"id": "r", "substates": [{"id": "r1"}]}, {"id": "s", "substates": [{"id": "s1"}]}],
}
CLOSED = {"type": "object", "properties": {"amount": {"type": "number"}}, "additionalProperties": False}

ERRORS: dict[str, tuple[dict[str, Any], str, str]] = {
    # -- names
    "unknown target": (doc({"a": {}}, go("a", "b")), f"{MOVES}/0/to", "unknown_state"),
    "unknown source": (doc({"a": {}}, go("b", "a")), f"{MOVES}/0/from", "unknown_state"),
    "unknown second target": (doc({"a": {}}, go("a", ["a", "b"])), f"{MOVES}/0/to/1", "unknown_state"),
    "unknown initial": (doc({"a": {}}, initial="b"), "/stateMachine/initialState", "unknown_state"),
    "unknown initial target": (doc({"a": {}}, initial={"target": ["b"]}), "/stateMachine/initialState/target/0", "unknown_state"),
    "unknown final": (small(finalStates=["z", "y"]), "/stateMachine/finalStates/1", "unknown_state"),
    "unknown timed state": (small(timeoutConfig={"stateTimeouts": {"b": 5}}), "/timeoutConfig/stateTimeouts/b", "unknown_state"),
    "unknown default substate": (nested({"id": "b"}, properties={"initial": "c"}), f"{STATES}/a/properties/initial", "unknown_state"),
    "unknown guard": (doc({"a": {}}, go("a", "a", guards=["g"])), f"{MOVES}/0/guards/0", "unknown_guard"),
    "unknown dependency": (
        small(guards={"g": {"condition": "true", "dependencies": ["h"]}}), "/stateMachine/guards/g/dependencies/0", "unknown_guard"),
    "unknown action": (acting("act"), f"{MOVES}/0/actions/0", "unknown_action"),
    "unknown action inside": (
        acting({"type": "if", "branches": [{"actions": ["act"]}]}), f"{MOVES}/0/actions/0/branches/0/actions/0", "unknown_action"),
    "unknown chain": (doc({"a": {"properties": {"approvalChain": "c"}}}), f"{STATES}/a/properties/approvalChain", "unknown_chain"),
    "same guard and condition": (
        small(guards={"g": {"condition": "true"}}, conditions={"g": {"type": "complex", "expression": "true"}}),
        "/conditions/g", "duplicate_id"),
    "guards in a circle": (
        small(guards={"g": {"condition": "true", "dependencies": ["h"]}, "h": {"condition": "true", "dependencies": ["g"]}}),
        "/stateMachine/guards/g/dependencies", "dependency_cycle"),
    "actions in a circle": (
        small(actions={"x": {"type": "foreach", "array": "[1]", "item": "i", "actions": ["x"]}}),
        "/stateMachine/actions/x", "action_cycle"),
    "state id twice": (nested({"id": "b"}, {"id": "b"}), f"{STATES}/a/substates/1/id", "duplicate_id"),
    "state id twice, once at the top": (nested({"id": "z"}), f"{STATES}/z", "duplicate_id"),
    "transition id twice": (doc({"a": {}}, go("a", "a", id="t"), go("a", "a", "x", id="t")), f"{MOVES}/1/id", "duplicate_id"),
    "chain id twice": (approving(chain(), chain()), "/approvalChains/1/id", "duplicate_id"),
    "stage id twice": (
        approving({"id": "c", "steps": chain()["steps"] * 2}), "/approvalChains/0/steps/1/id", "duplicate_id"),
    "key and id disagree": (doc({"a": {"id": "b"}}), f"{STATES}/a/id", "id_mismatch"),
    "substate without id": (nested({}), f"{STATES}/a/substates/0/id", "missing"),
    # -- states
    "final with transition": (doc({"a": {}, "z": "final"}, go("a", "z"), go("z", "a")), f"{MOVES}/1/from", "final_with_content"),
    "final with substates": (
        doc({"a": {}, "z": {"type": "final", "substates": [{"id": "b"}]}}, go("a", "z")), f"{STATES}/z/substates", "final_with_content"),
    "final region": (
        doc({"a": {"type": "parallel", "substates": [{"id": "b", "type": "final"}, {"id": "c"}]}, "z": "final"}, go("a", "z")),
        f"{STATES}/a/substates/0", "final_in_parallel"),
    "listed and not final": (small(finalStates=["z", "a"]), "/stateMachine/finalStates/1", "final_states_disagree"),
    "final and not listed": (small(finalStates=[]), "/stateMachine/finalStates", "final_states_disagree"),
    "history at the top": (doc({"a": {}, "h": {"type": "history", "properties": {"initial": "a"}}}), f"{STATES}/h", "history_at_top"),
    "history without default": (nested({"id": "b"}, {"id": "h", "type": "history"}), f"{STATES}/a/substates/1/properties", "history_without_default"),
    "history with default elsewhere": (
        nested({"id": "b"}, {"id": "h", "type": "history", "properties": {"initial": "z"}}),
        f"{STATES}/a/substates/1/properties/initial", "initial_outside"),
    "history with transition": (
        doc({"a": {"substates": [{"id": "b"}, {"id": "h", "type": "history", "properties": {"initial": "b"}}]}}, go("h", "a")),
        f"{MOVES}/0/from", "history_with_content"),
    "memory of an ordinary state": (doc({"a": {"properties": {"history": "deep"}}}), f"{STATES}/a/properties/history", "misplaced"),
    "done data of an ordinary state": (doc({"a": {"properties": {"doneData": "1"}}}), f"{STATES}/a/properties/doneData", "misplaced"),
    "default outside": (nested({"id": "b"}, properties={"initial": "z"}), f"{STATES}/a/properties/initial", "initial_outside"),
    "no default": (
        nested({"id": "h", "type": "history", "properties": {"initial": "h"}}), f"{STATES}/a", "no_default_substate"),
    "parallel without regions": (doc({"a": "parallel"}), f"{STATES}/a", "parallel_without_regions"),
    "choice without default": (
        doc({"a": "choice", "z": "final"}, go("a", "z", None, condition="data.x > 1")), f"{STATES}/a", "choice_without_default"),
    "choice that waits": (
        doc({"a": "choice", "z": "final"}, go("a", "z", None), go("a", "z")), f"{MOVES}/1/trigger", "choice_with_trigger"),
    "choice with a clock": (
        doc({"a": {"type": "choice", "timeouts": [{"afterMinutes": 1}]}, "z": "final"}, go("a", "z", None)),
        f"{STATES}/a/timeouts", "choice_with_content"),
    # -- transitions
    "targets beside each other": (doc({"a": {}, "b": {}, "c": {}}, go("a", ["b", "c"])), f"{MOVES}/0/to", "targets_not_in_regions"),
    "targets in one region": (
        doc({"a": {}, "p": {"type": "parallel", "substates": [{"id": "r", "substates": [{"id": "r1"}, {"id": "r2"}]}, {"id": "s"}]}},
            go("a", ["r1", "r2"])), f"{MOVES}/0/to", "targets_not_in_regions"),
    "several starts": (doc({"a": {}, "b": {}}, initial=["a", "b"]), "/stateMachine/initialState", "targets_not_in_regions"),
    "empty trigger": (doc({"a": {}}, go("a", "a", " ")), f"{MOVES}/0/trigger", "bad_trigger"),
    "raising two words": (acting({"type": "raise", "trigger": "a b"}), f"{MOVES}/0/actions/0/trigger", "bad_trigger"),
    "never taken": (doc({"a": {}, "y": "final", "z": "final"}, go("a", "y"), go("a", "z")), f"{MOVES}/1", "never_taken"),
    "never taken for its priority": (
        doc({"a": {}, "y": "final", "z": "final"}, go("a", "y"), go("a", "z", priority=1)), f"{MOVES}/0", "never_taken"),
    "eventless circle": (doc({"a": {}, "b": {}}, go("a", "b", None), go("b", "a", None)), f"{MOVES}/0", "eventless_loop"),
    "eventless self": (doc({"a": {}}, go("a", "a", None)), f"{MOVES}/0", "eventless_loop"),
    "eventless and nowhere": (doc({"a": {}}, {"from": "a"}), f"{MOVES}/0", "eventless_loop"),
    "eventless into itself": (
        doc({"a": {"substates": [{"id": "b"}]}}, go("a", "b", None)), f"{MOVES}/0", "eventless_loop"),
    "dead end": (doc({"a": {}, "b": {}, "z": "final"}, go("a", "b"), go("a", "z", "x")), f"{STATES}/b", "dead_end"),
    "waiting for what its own end would raise": (
        doc({"a": {"substates": [{"id": "b"}, {"id": "e", "type": "final"}]}, "z": "final"}, go("a", "z", "done.state.a")),
        f"{STATES}/a/substates/0", "dead_end"),
    # -- time
    "two clocks of one name": (
        doc({"a": {"timeouts": [{"afterMinutes": 1}, {"afterMinutes": 2}]}}, go("a", "a", "timeout")),
        f"{STATES}/a/timeouts/1", "duplicate_id"),
    "a clock given twice": (
        doc({"a": {"timeouts": [{"afterMinutes": 1}]}}, go("a", "a", "timeout"), timeoutConfig={"stateTimeouts": {"a": 5}}),
        "/timeoutConfig/stateTimeouts/a", "duplicate_id"),
    "a final state's clock": (small(timeoutConfig={"stateTimeouts": {"z": 5}}), "/timeoutConfig/stateTimeouts/z", "misplaced"),
    "a clock that raises two words": (
        doc({"a": {"timeouts": [{"afterMinutes": 1, "trigger": "x y"}]}}), f"{STATES}/a/timeouts/0/trigger", "bad_trigger"),
    "a clock with a text": (doc({"a": {"timeouts": [{"afterMinutes": "'soon'"}]}}, go("a", "a", "timeout")),
        f"{STATES}/a/timeouts/0/afterMinutes", "expression_mismatch"),
    # -- approvals
    "refusal unhandled": (
        doc({"a": {"properties": {"approvalChain": "c"}}, "z": "final"}, go("a", "z", "approved"), approvalChains=[chain()]),
        f"{STATES}/a/properties/approvalChain", "rejection_unhandled"),
    "grant unhandled": (
        doc({"a": {"properties": {"approvalChain": "c"}}, "z": "final"}, go("a", "z", "rejected"), approvalChains=[chain()]),
        f"{STATES}/a/properties/approvalChain", "approval_unhandled"),
    "conditional without condition": (approving(chain(type="conditional")), f"{STAGE}/condition", "stage_without_condition"),
    "condition unasked": (approving(chain(condition="true")), f"{STAGE}/type", "condition_not_conditional"),
    "too many voices": (
        approving(chain(requirements={"minimumApprovals": 2})), f"{STAGE}/requirements/minimumApprovals", "quorum_unreachable"),
    "one person twice": (
        approving({"id": "c", "configuration": {"distinctApprovers": True},
                   "steps": [{**chain()["steps"][0], "id": name} for name in ("s", "t")]}),
        "/approvalChains/0/steps/1/approvers", "quorum_unreachable"),
    "no fallback": (
        approving(chain(requirements={"timeoutMinutes": 5}, onTimeout="fallback")), f"{STAGE}/onTimeout", "fallback_missing"),
    "no clock": (approving(chain(onTimeout="refuse")), f"{STAGE}/onTimeout", "timeout_missing"),
    "escalation": (approving(chain(escalation={"x": 1})), f"{STAGE}/escalation", "not_supported_yet"),
    # -- expressions
    "broken expression": (guarded("data.x >"), f"{MOVES}/0/condition", "bad_expression"),
    "a condition that is no boolean": (guarded("1 + 1"), f"{MOVES}/0/condition", "expression_mismatch"),
    "unknown root": (guarded("dta.x > 1"), f"{MOVES}/0/condition", "expression_mismatch"),
    "unknown field": (guarded("data.amuont > 1", dataSchema=CLOSED), f"{MOVES}/0/condition", "expression_mismatch"),
    "wrong type": (guarded("data.amount == 'x'", dataSchema=CLOSED), f"{MOVES}/0/condition", "expression_mismatch"),
    "broken complex": (guarded({"type": "complex", "expression": "("}), f"{MOVES}/0/condition/expression", "bad_expression"),
    "complex without expression": (guarded({"type": "complex"}), f"{MOVES}/0/condition/expression", "bad_condition"),
    "simple without operator": (guarded({"type": "simple", "field": "x"}), f"{MOVES}/0/condition/operator", "bad_condition"),
    "simple with script": (
        guarded({"type": "simple", "field": "x", "operator": "exists", "script": "1"}), f"{MOVES}/0/condition/script", "bad_condition"),
    "simple with wrong value": (
        guarded({"type": "simple", "field": "x", "operator": "in", "value": 5}), f"{MOVES}/0/condition", "bad_condition"),
    "broken script": (guarded({"type": "script", "script": "if:"}), f"{MOVES}/0/condition/script", "bad_script"),
    "script without answer": (guarded({"type": "script", "script": "x = 1"}), f"{MOVES}/0/condition/script", "bad_script"),
    "broken guard": (small(guards={"g": {"condition": "("}}), "/stateMachine/guards/g/condition", "bad_expression"),
    "broken named condition": (
        small(conditions={"g": {"type": "complex", "expression": "("}}), "/conditions/g/expression", "bad_expression"),
    "broken branch": (
        acting({"type": "if", "branches": [{"condition": "("}]}), f"{MOVES}/0/actions/0/branches/0/condition", "bad_expression"),
    "broken value": (acting({"type": "assign", "field": "x", "value": "("}), f"{MOVES}/0/actions/0/value", "bad_expression"),
    "broken payload": (acting({"type": "raise", "trigger": "go", "data": {"a/b": "("}}), f"{MOVES}/0/actions/0/data/a~1b", "bad_expression"),
    "broken delay": (acting({"type": "send", "trigger": "go", "delayMinutes": "("}), f"{MOVES}/0/actions/0/delayMinutes", "bad_expression"),
    "broken list": (acting({"type": "foreach", "array": "(", "item": "x"}), f"{MOVES}/0/actions/0/array", "bad_expression"),
    "broken named action": (small(actions={"x": [{"type": "log", "value": "("}]}), "/stateMachine/actions/x/0/value", "bad_expression"),
    "broken stage condition": (approving(chain(type="conditional", condition="(")), f"{STAGE}/condition", "bad_expression"),
    "broken approver": (
        approving(chain(approvers=[{"type": "user", "identifier": "ada", "fallback": [{"type": "dynamic", "identifier": "("}]}])),
        f"{STAGE}/approvers/0/fallback/0/identifier", "bad_expression"),
    "broken title": (small(display={"title": "a {b"}), "/display/title", "bad_template"),
    "title of no path": (small(display={"title": "{a + b}"}), "/display/title", "bad_template"),
    "title of an unknown field": (small(display={"title": "{data.b}"}, dataSchema=CLOSED), "/display/title", "unknown_field"),
    "column of an unknown field": (small(display={"fields": ["b"]}, dataSchema=CLOSED), "/display/fields/0", "unknown_field"),
    "assigning an unknown field": (
        acting({"type": "assign", "field": "b", "value": "1"}, dataSchema=CLOSED), f"{MOVES}/0/actions/0/field", "unknown_field"),
    "watching an unknown field": (
        approving(chain(watchedFields=["b"]), dataSchema=CLOSED), f"{STAGE}/watchedFields/0", "unknown_field"),
    "watching the context": (approving(chain(watchedFields=["context.b"])), f"{STAGE}/watchedFields/0", "unknown_field"),
    # -- data schema
    "no schema": (with_schema({"type": "object", "properties": {"a": {"type": "objekt"}}}), "/dataSchema/properties/a/type", "bad_schema"),
    "schema of a list": (with_schema({"type": "array"}), "/dataSchema/type", "schema_not_object"),
    "schema of anything": (with_schema({"properties": {}}), "/dataSchema", "schema_not_object"),
    "another dialect": (
        with_schema({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}), "/dataSchema/$schema", "bad_schema"),
    "remote reference": (
        with_schema({"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}),
        "/dataSchema/properties/a/$ref", "remote_reference"),
    "reference to a file": (
        with_schema({"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}),
        "/dataSchema/properties/a/$ref", "remote_reference"),
    "reference to nothing": (
        with_schema({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}), "/dataSchema/properties/a/$ref", "bad_schema"),
    "endless reference": (with_schema({"type": "object", "$ref": "#"}), "/dataSchema", "endless_reference"),
    "endless alternatives": (
        with_schema({"type": "object", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
        "/dataSchema/$defs/a", "endless_reference"),
    "multiplying alternatives": (
        with_schema({"type": "object", "$defs": {
            "d0": {"type": "object"},
            **{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2} for n in range(1, 40)}}}),
        "/dataSchema", "too_large"),
    "look-around": (
        with_schema({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}}), "/dataSchema", "bad_schema"),
}  # fmt: skip

WARNINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "guard unused": (small(guards={"g": {"condition": "true"}}), "/stateMachine/guards/g", "unused"),
    "condition unused": (small(conditions={"g": {"type": "complex", "expression": "true"}}), "/conditions/g", "unused"),
    "action unused": (small(actions={"x": {"type": "log"}}), "/stateMachine/actions/x", "unused"),
    "chain unused": (small(approvalChains=[chain()]), "/approvalChains/0", "unused"),
    "nothing to cancel": (acting({"type": "cancel", "sendId": "s"}), f"{MOVES}/0/actions/0/sendId", "unknown_send_id"),
    "initial elsewhere": (doc({"a": {}, "b": "initial"}, go("a", "b"), go("b", "a")), f"{STATES}/b/type", "initial_disagrees"),
    "two initial substates": (
        nested({"id": "b", "type": "initial"}, {"id": "c", "type": "initial"}), f"{STATES}/a/substates/1/type", "several_initial"),
    "one region": (doc({"a": {"type": "parallel", "substates": [{"id": "b"}]}}), f"{STATES}/a", "parallel_without_regions"),
    "initial of a leaf": (doc({"a": {"properties": {"initial": "a"}}}), f"{STATES}/a/properties/initial", "initial_unused"),
    "guards overlap": (
        doc({"a": {}, "z": "final"}, go("a", "z", condition="data.x > 1"), go("a", "a", condition="data.y > 1")),
        f"{MOVES}/1", "overlap_without_priority"),
    "wildcard first": (doc({"a": {}, "z": "final"}, go("a", "z", "*"), go("a", "z")), f"{MOVES}/1", "never_taken"),
    "unreachable": (doc({"a": {}, "b": {}, "z": "final"}, go("a", "z"), go("b", "z")), f"{STATES}/b", "unreachable_state"),
    "dead end where nothing ends": (doc({"a": {}, "b": {}}, go("a", "b")), f"{STATES}/b", "dead_end"),
    "join without ends": (
        doc({"a": REGIONS, "z": "final"}, go("a", "z", "done.state.a"), go("a", "z", "x")), f"{MOVES}/0/trigger", "join_never_completes"),
    "join of a leaf": (doc({"a": {}, "z": "final"}, go("a", "z", "done.state.a x")), f"{MOVES}/0/trigger", "join_never_completes"),
    "raised for nobody": (acting({"type": "raise", "trigger": "x"}), f"{MOVES}/0/actions/0/trigger", "unhandled_trigger"),
    "timeout for nobody": (
        doc({"a": {"timeouts": [{"afterMinutes": 1}]}, "z": "final"}, go("a", "z")), f"{STATES}/a/timeouts/0", "timeout_unhandled"),
    "stage timeout for nobody": (
        approving(chain(requirements={"timeoutMinutes": 5})), f"{STAGE}/requirements/timeoutMinutes", "timeout_unhandled"),
    "type and approvers disagree": (approving(chain(type="role")), f"{STAGE}/type", "stage_type_disagrees"),
    "approver twice": (
        approving(chain(approvers=[{"type": "user", "identifier": "ada"}] * 2)), f"{STAGE}/approvers/1", "duplicate_approver"),
    "minimum ignored": (
        approving(chain(requirements={"minimumApprovals": 5, "unanimousRequired": True})),
        f"{STAGE}/requirements/minimumApprovals", "minimum_ignored"),
    "perhaps nobody": (
        approving(chain(approvers=[{"type": "dynamic", "identifier": "requester.manager"}])), f"{STAGE}/approvers", "approvers_may_be_empty"),
    "timeout without script": (
        small(guards={"g": {"condition": "true", "timeout": 5}}), "/stateMachine/guards/g/timeout", "timeout_without_script"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """Each of these mistakes keeps its document from being used, and is told where it is."""
    broken, pointer, code = ERRORS[name]
    reading = read(broken)
    assert (pointer, code) in [(finding.pointer, finding.code) for finding in reading.errors], reading.findings
    assert reading.definition is None


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings(name: str) -> None:
    """Each of these oddities is told, and its document can be used all the same."""
    odd, pointer, code = WARNINGS[name]
    reading = read(odd)
    assert (pointer, code) in [(finding.pointer, finding.code) for finding in reading.findings], reading.findings
    assert reading.errors == ()
    assert reading.definition is not None


FINE: dict[str, dict[str, Any]] = {
    "a guarded way before the default": doc(
        {"a": {}, "y": "final", "z": "final"}, go("a", "y", condition="data.x > 1"), go("a", "z")
    ),
    "conditions that exclude each other": doc(
        {"a": {}, "y": "final", "z": "final"},
        go("a", "y", condition="data.x > 1000"),
        go("a", "z", condition="data.x <= 1000"),
    ),
    "one field asked for two values": doc(
        {"a": {}, "y": "final", "z": "final"},
        go("a", "y", condition="data.x == 'a'"),
        go("a", "z", condition="data.x == 'b'"),
    ),
    "a priority between overlapping guards": doc(
        {"a": {}, "y": "final", "z": "final"},
        go("a", "y", condition="data.x > 1"),
        go("a", "z", condition="data.y > 1", priority=1),
    ),
    "an eventless circle with a way out asked first": doc(
        {"a": {}, "z": "final"},
        go("a", "z", None, condition="data.x > 3"),
        go("a", "a", None, actions=[{"type": "assign", "field": "x", "value": "data.x + 1"}]),
    ),
    "a circle through an approval": doc(
        {"a": {"properties": {"approvalChain": "c"}}, "z": "final"},
        go("a", "a", None),
        go("a", "z", "rejected"),
        approvalChains=[chain()],
    ),
    "outcomes handled by the state around": doc(
        {"a": {"substates": [{"id": "b", "properties": {"approvalChain": "c"}}]}, "z": "final"},
        go("a", "z", "approved rejected"),
        approvalChains=[chain()],
    ),
    "a region left through another one": doc(
        {"a": {"type": "parallel", "substates": [{"id": "r"}, {"id": "s"}]}, "z": "final"}, go("s", "z")
    ),
    "targets in different regions": doc({"a": {}, "p": REGIONS, "z": "final"}, go("a", ["r1", "s1"]), go("p", "z")),
    "a recursive data schema": with_schema(
        {"type": "object", "properties": {"child": {"$ref": "#"}, "x-pii": {"type": "string"}}}
    ),
    "a field named x-pii": with_schema({"type": "object", "properties": {"x-pii": {"type": "string"}}}),
    "no data schema": with_schema({}),
    "empty keys of later releases": small(
        steps=[], sla=None, eventHooks={}, timeoutConfig={"stepTimeouts": {}, "escalationRules": []}
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_nothing_to_say(name: str) -> None:
    """These documents are as they should be: not even a warning."""
    assert read(FINE[name]).findings == ()


def test_every_code_of_the_tables_has_a_hint_or_says_it_all() -> None:
    """A message is a sentence: it begins with a capital, a number or a quoted name, and ends with a full stop."""
    for broken, *_ in [*ERRORS.values(), *WARNINGS.values()]:
        for finding in read(broken).findings:
            assert finding.message[0].isupper() or finding.message[0] in '`0123456789"{', finding
            assert finding.message.endswith((".", "?", "!")), finding
