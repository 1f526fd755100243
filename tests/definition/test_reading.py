"""Reading a document: shape, limits, and that no JSON value whatever makes it raise."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pliers_workflow.definition.canonical import canonical, content_hash
from pliers_workflow.definition.findings import CODES, RUNNABLE, Findings
from pliers_workflow.definition.reading import read
from pliers_workflow.definition.shape import check_shape
from tests.charts import NAMES, load
from tests.definition.documents import approving, small
from tests.definition.documents import document as nowhere


def found(document: object) -> list[tuple[str, str]]:
    return [(finding.pointer, finding.code) for finding in read(document).errors]


@pytest.mark.parametrize("name", NAMES)
def test_named_charts_are_without_findings(name: str) -> None:
    """The charts that everyone reuses are read without a single finding, warnings included."""
    assert read(load(name)).findings == ()


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small document with something else at a path; `...` takes it away."""
    document = small()
    *outer, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = document
    for part in outer:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


S = "stateMachine"
SHAPES: list[tuple[str, Any, str, str]] = [
    # path, value there, pointer, code
    ("version", ..., "/version", "missing"),
    ("stateMachine", ..., "/stateMachine", "missing"),
    ("version", "1.0", "/version", "bad_format"),
    ("version", "1.0.0+build", "/version", "bad_format"),
    ("name", "Expense Report", "/name", "bad_format"),
    ("name", "health", "/name", "reserved_name"),
    ("name", "bulk-update", "/name", "reserved_name"),
    ("name", "a3bb189e-8bf9-3888-9912-ace4e6543002", "/name", "reserved_name"),
    ("titel", "T", "/titel", "unknown_key"),
    ("state_machine", {}, "/state_machine", "unknown_key"),
    ("title", "", "/title", "out_of_range"),
    ("title", 5, "/title", "wrong_type"),
    ("title", "x" * 501, "/title", "out_of_range"),
    ("stateMachine", [], "/stateMachine", "wrong_type"),
    (f"{S}/states", {}, f"/{S}/states", "out_of_range"),
    (f"{S}/states/a/type", "start", f"/{S}/states/a/type", "unknown_value"),
    (f"{S}/states/a/type", 7, f"/{S}/states/a/type", "unknown_value"),
    (f"{S}/states/a b", {}, f"/{S}/states/a b", "bad_format"),
    (f"{S}/states/a~1b", {}, f"/{S}/states/a~01b", "bad_format"),
    (f"{S}/initialState", 5, f"/{S}/initialState", "wrong_type"),
    (f"{S}/initialState", {"target": []}, f"/{S}/initialState/target", "out_of_range"),
    (f"{S}/transitions/0/from", ..., f"/{S}/transitions/0/from", "missing"),
    (f"{S}/transitions/0/to", {"x": 1}, f"/{S}/transitions/0/to", "wrong_type"),
    (f"{S}/transitions/0/to", ["z", 1], f"/{S}/transitions/0/to/1", "wrong_type"),
    (f"{S}/transitions/0/priority", "5", f"/{S}/transitions/0/priority", "wrong_type"),
    (f"{S}/transitions/0/priority", True, f"/{S}/transitions/0/priority", "wrong_type"),
    (f"{S}/transitions/0/condition", 5, f"/{S}/transitions/0/condition", "wrong_type"),
    (f"{S}/transitions/0/condition", {"type": "simple", "field": "x", "opertor": "exists"}, f"/{S}/transitions/0/condition/opertor", "unknown_key"),
    (f"{S}/transitions/0/condition", {"field": "x"}, f"/{S}/transitions/0/condition/type", "missing"),
    (f"{S}/transitions/0/actions", [{"type": "asign"}], f"/{S}/transitions/0/actions/0/type", "unknown_value"),
    (f"{S}/transitions/0/actions", [{"field": "x"}], f"/{S}/transitions/0/actions/0/type", "missing"),
    (f"{S}/transitions/0/actions", [5], f"/{S}/transitions/0/actions/0", "wrong_type"),
    (f"{S}/transitions/0/actions", ["No Name"], f"/{S}/transitions/0/actions/0", "bad_format"),
    (f"{S}/transitions/0/actions", [{"type": "assign", "value": "1"}], f"/{S}/transitions/0/actions/0/field", "missing"),
    (f"{S}/transitions/0/access", ["boss"], f"/{S}/transitions/0/access/0", "bad_format"),
    (f"{S}/actions", {"x": [{"type": "foo"}]}, f"/{S}/actions/x/0/type", "unknown_value"),
    (f"{S}/actions", {"x": "y"}, f"/{S}/actions/x", "wrong_type"),
    (f"{S}/states/a/timeouts", [{"afterMinutes": -1}], f"/{S}/states/a/timeouts/0/afterMinutes", "out_of_range"),
    (f"{S}/states/a/timeouts", [{"afterMinutes": True}], f"/{S}/states/a/timeouts/0/afterMinutes", "wrong_type"),
    (f"{S}/states/a/timeouts", [{}], f"/{S}/states/a/timeouts/0/afterMinutes", "missing"),
    ("timeoutConfig", {"workflowTimeout": "5"}, "/timeoutConfig/workflowTimeout", "wrong_type"),
    ("approvalChains", [{"id": "c", "steps": []}], "/approvalChains/0/steps", "out_of_range"),
    ("conditions", None, "/conditions", "wrong_type"),
    # later releases
    ("eventHooks", {"triggers": [1]}, "/eventHooks/triggers/0", "wrong_type"),
    ("sla", {"levels": []}, "/sla", "not_supported_yet"),
    ("migrations", [{}], "/migrations", "not_supported_yet"),
    ("timeoutConfig", {"escalationRules": [{}]}, "/timeoutConfig/escalationRules", "not_supported_yet"),
    (
        "dataSchema",
        {"type": "object", "properties": {"a": {"type": "string", "x-pii": True}}},
        "/dataSchema/properties/a/x-pii",
        "not_supported_yet",
    ),
    # texts and numbers that cannot be kept
    ("title", "a\x00b", "/title", "bad_text"),
    ("title", "a\ud800b", "/title", "bad_text"),
    ("metadata", {"k\x00": 1}, "/metadata", "bad_text"),
    ("metadata", {"n": 10**200}, "/metadata/n", "bad_number"),
    ("metadata", {"n": float("nan")}, "/metadata/n", "bad_number"),
    ("metadata", {"n": Decimal("1E+999999")}, "/metadata/n", "bad_number"),
    ("metadata", {"n": ...}, "/metadata/n", "wrong_type"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "pointer", "code"), SHAPES, ids=lambda value: str(value)[:40])
def test_wrong_shapes_are_found_where_they_are(path: str, value: Any, pointer: str, code: str) -> None:
    """Each mistake gives one error, with the pointer of its place and a code; alternatives of unions give no echo."""
    assert found(changed(path, value)) == [(pointer, code)]


def test_all_findings_come_at_once() -> None:
    """Mistakes in different places of one document are told together."""
    document = small(titel="x", sla=[1])
    document["version"] = "one"
    document["stateMachine"]["states"]["a"]["type"] = "begin"
    assert {code for _, code in found(document)} == {"unknown_key", "not_supported_yet", "bad_format", "unknown_value"}


def spoilt(**shape: Any) -> dict[str, Any]:
    """An approval whose `rejected` leads nowhere, whose action is unknown, and whatever else is to be wrong."""
    document = approving(**shape)
    document["stateMachine"]["transitions"][1]["to"] = "zz"
    document["stateMachine"]["states"]["a"]["entryActions"] = ["greet"]
    return document


NAMES_WRONG = {("/stateMachine/transitions/1/to", "unknown_state"), ("/stateMachine/states/a/entryActions/0", "unknown_action")}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "pointer", "code"),
    [
        ("owner", "x", "/owner", "unknown_key"),
        ("version", "1", "/version", "bad_format"),
        ("stateMachine/transitions/0/prioriti", 5, "/stateMachine/transitions/0/prioriti", "unknown_key"),
        ("stateMachine/transitions/0/from", 5, "/stateMachine/transitions/0/from", "wrong_type"),
        ("stateMachine/transitions/0/condition", 5, "/stateMachine/transitions/0/condition", "wrong_type"),
        ("stateMachine/states/a/timeouts", [{}], "/stateMachine/states/a/timeouts/0/afterMinutes", "missing"),
        ("stateMachine/states/a/exitActions", [{"type": "x"}], "/stateMachine/states/a/exitActions/0/type", "unknown_value"),
        ("stateMachine/states/y/type", "end", "/stateMachine/states/y/type", "unknown_value"),
        ("approvalChains/0/steps/0/approvers", [], "/approvalChains/0/steps/0/approvers", "out_of_range"),
        ("stateMachine/initialState", 5, "/stateMachine/initialState", "wrong_type"),
    ],
)  # fmt: skip
def test_meaning_is_checked_beside_a_wrong_shape(path: str, value: Any, pointer: str, code: str) -> None:
    """Wrong names elsewhere are told together with a mistake of shape, and nothing that only follows from that."""
    document = spoilt()
    *outer, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = document
    for part in outer:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    place[last] = value
    assert read(document).definition is None
    assert set(found(document)) == {(pointer, code), *NAMES_WRONG}


def test_a_mistyped_key_is_read_as_the_one_that_was_meant() -> None:
    """So nothing that hangs on it is called missing, and what is wrong below it is found where the author wrote it."""
    document = approving()
    document["aprovalChains"] = document.pop("approvalChains")
    document["stateMachine"]["transitions"][0]["triger"] = document["stateMachine"]["transitions"][0].pop("trigger")
    keys = [("/aprovalChains", "unknown_key"), ("/stateMachine/transitions/0/triger", "unknown_key")]
    assert sorted(found(document)) == keys
    stage = document["aprovalChains"][0]["steps"][0]
    stage["requirements"] = {"minimumApprovals": 2}
    quorum = ("/aprovalChains/0/steps/0/requirements/minimumApprovals", "quorum_unreachable")
    assert set(found(document)) == {*keys, quorum}


def test_what_follows_from_a_part_left_out_is_not_told() -> None:
    """An unreadable transition handles nothing, an unreadable key defines nothing: the author is not blamed for it."""
    document = approving()
    document["stateMachine"]["transitions"][1]["from"] = None
    assert found(document) == [("/stateMachine/transitions/1/from", "wrong_type")]
    document = approving()
    document["chainsOfApproval"] = document.pop("approvalChains")
    assert found(document) == [("/chainsOfApproval", "unknown_key")]
    document = small()
    document["stateMachine"]["states"]["b"] = {"children": [{"id": "c"}]}
    document["stateMachine"]["transitions"].append({"from": "a", "to": "c", "trigger": "x"})
    assert found(document) == [("/stateMachine/states/b/children", "unknown_key")]


def test_the_document_itself_is_not_mended() -> None:
    """Reading changes nothing in what it was given."""
    document = spoilt(owner={"x": [1]})
    before = copy.deepcopy(document)
    read(document)
    assert document == before


def test_what_scxml_allows_can_be_lowered_to_a_warning() -> None:
    """A state nobody can leave and a transition always preceded: errors for publishing, warnings for a simulation."""
    transitions = [{"from": "a", "to": to, "trigger": "go"} for to in ("b", "z")]
    document = nowhere({"a": "initial", "b": "intermediate", "z": "final"}, transitions)
    assert {code for _, code in found(document)} == {"never_taken"}
    reading = read(document, only_warn=RUNNABLE)
    assert reading.definition is not None
    assert {(finding.code, finding.severity) for finding in reading.findings} >= {
        ("dead_end", "warning"),
        ("never_taken", "warning"),
    }


def test_hints_name_what_was_probably_meant() -> None:
    """An unknown key, value or name gets the nearest known one as a hint."""
    document = small()
    document["stateMachine"]["transitions"][0] |= {"triger": "x", "to": "zz"}
    document["stateMachine"]["states"]["a"]["entryActions"] = [{"type": "asign"}]
    hints = [finding.hint for finding in read(document).findings]
    assert "Did you mean `trigger`?" in hints
    assert "Did you mean `assign`?" in hints


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "x", [], [{}], "\ud800", 10**500, {1: 2}], ids=repr)
def test_what_is_no_object_is_no_definition(value: object) -> None:
    """Anything but an object is one finding at the root."""
    assert read(value).definition is None
    assert all(pointer == "" for pointer, _ in found(value) if not isinstance(value, dict))


def test_limits() -> None:
    """A megabyte, 2,000 states, 10,000 transitions and 50 levels are the most; one more is one clear finding."""
    assert found(small(description="x" * 1_100_000)) == [("", "too_large")]
    assert found(small(description="é" * 600_000)) == [("", "too_large")]
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    assert [code for _, code in found(small(metadata={"deep": deep}))] == ["too_deep"]
    while isinstance(deep, list):  # freed level by level: freeing it at once overflows the interpreter's stack
        deep = deep[0]
    document = small()
    document["stateMachine"]["states"] |= {f"s{number}": {} for number in range(2_000)}
    assert found(document) == [("/stateMachine/states", "too_large")]
    document = small()
    document["stateMachine"]["transitions"] *= 10_001
    assert found(document) == [("/stateMachine/transitions", "too_large")]


def test_an_equal_document_has_an_equal_hash() -> None:
    """Order of keys and needless zeros make no difference to the content hash; every value does."""
    document = small(metadata={"a": Decimal("1.50"), "b": 2})
    again = dict(reversed(small(metadata={"b": Decimal("2.0"), "a": 1.5}).items()))
    assert canonical(document) == canonical(again)
    assert content_hash(document) != content_hash(small(metadata={"a": Decimal("1.5"), "b": 3}))
    assert canonical(Decimal("0.1234567890123456789012345678901234567890")).startswith(
        b"0.12345678901234567890123456789012345"
    )


# -- properties --------------------------------------------------------------------------------------------------------

texts = st.text(max_size=8) | st.sampled_from(
    ["a", "z", "c", "data.x > 1", "draft", "role:x", "1.0.0", "\x00", "\ud800", ""]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


@settings(max_examples=60, deadline=None)
@given(json_values)
def test_reading_never_raises_on_any_json(value: object) -> None:
    """Whatever is decoded from JSON is read without an exception, and every code is a known one."""
    reading = read(value)
    assert (reading.definition is None) == bool(reading.errors)
    for finding in reading.findings:
        assert finding.code in CODES
        finding.pointer.encode()


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in places(below, (*path, key)))]


GOOD = {name: load(name) for name in NAMES}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_reading_never_raises_on_a_spoilt_document(data: st.DataObject) -> None:
    """A valid document with anything at all in a few of its places is read without an exception; if without errors,
    it can be compiled and drawn."""
    from pliers_workflow.definition.compiler import compile_definition
    from pliers_workflow.definition.diagram import mermaid

    document = copy.deepcopy(GOOD[data.draw(st.sampled_from(NAMES))])
    for _ in range(data.draw(st.integers(1, 3))):
        *outer, last = data.draw(st.sampled_from(places(document)[1:]))
        place: Any = document
        for part in outer:
            place = place[part]
        match data.draw(st.sampled_from(["replace", "remove", "copy"])):
            case "replace":
                place[last] = data.draw(json_values)
            case "remove":
                del place[last]
            case "copy":
                source: Any = document
                for part in data.draw(st.sampled_from(places(document)[1:])):
                    source = source[part]
                place[last] = copy.deepcopy(source)
    reading = read(document)
    assert (reading.definition is None) == bool(reading.errors)
    for finding in reading.findings:
        assert finding.pointer == "" or finding.pointer.startswith("/")
    if reading.definition is not None:
        compile_definition(reading.definition)
        mermaid(reading.definition)


#: codes that speak of the shape alone
OF_SHAPE = {"wrong_type", "missing", "unknown_key", "unknown_value", "bad_format", "out_of_range"}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_one_mistake_of_shape_has_no_consequences(data: st.DataObject) -> None:
    """Of a document that is right except for its shape in one place, nothing but that shape is found."""
    document = copy.deepcopy(GOOD[data.draw(st.sampled_from(NAMES))])
    *outer, last = data.draw(st.sampled_from(places(document)[1:]))
    place: Any = document
    for part in outer:
        place = place[part]
    match data.draw(st.sampled_from(["null", "text", "mistype", "rename", "add"])):
        case "null":
            place[last] = None
        case "text":
            place[last] = "No Word!"
        case "mistype" if isinstance(place, dict):
            place[last + "x"] = place.pop(last)
        case "rename" if isinstance(place, dict):
            place["qqqqqqqq"] = place.pop(last)
        case _ if isinstance(place[last], dict):
            place[last]["qqqqqqqq"] = 5
    if check_shape(document, Findings()) is None:
        assert {code for _, code in found(document)} <= OF_SHAPE
