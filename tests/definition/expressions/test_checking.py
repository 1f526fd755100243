"""The static check names mistakes before anything runs, and is silent about what may be right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliers_workflow.definition.expressions import (
    Budget,
    Environment,
    ExpressionError,
    ExpressionFinding,
    ExpressionSyntaxError,
    check_expression,
    compile_expression,
    simple_condition,
)

SCHEMA: dict[str, Any] = {
    "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}},
    "type": "object",
    "required": ["amount", "undescribed"],
    "properties": {
        "amount": {"type": "number"},
        "count": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["travel", "meal", None]},
        "level": {"type": "integer", "enum": [1, 2, 3]},
        "fixed": {"const": "x"},
        "urgent": {"type": "boolean"},
        "due": {"type": "string", "format": "date-time"},
        "note": {"type": ["string", "null"]},
        "either": {"type": ["string", "integer"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"price": {"type": "number"}, "title": {"type": "string"}},
                "additionalProperties": False,
            },
        },
        "traveller": {"$ref": "#/$defs/person"},
        "open": {"type": "object", "properties": {"department": {"type": "string"}}},
        "prices": {"type": "object", "additionalProperties": {"type": "number"}},
        "combined": {"type": "object", "properties": {"a": {}}, "additionalProperties": False, "anyOf": [{}]},
        "anything": True,
        "broken": {"type": 5, "properties": []},
        "lost": {"$ref": "#/$defs/nobody"},
    },
    "additionalProperties": False,
}
ENVIRONMENT = Environment(SCHEMA, None, {"step": {"type": "object", "properties": {"result": {"type": "integer"}}}})


def findings(source: str, expected: Any = "any") -> list[ExpressionFinding]:
    return check_expression(compile_expression(source), ENVIRONMENT, expected)


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("data.amuont > 5", "data has no field 'amuont'", "did you mean data.amount?"),
        ("data.zzz > 5", "data has no field 'zzz'", None),
        ("data.traveller.nmae == 'x'", "data.traveller has no field 'nmae'", "did you mean data.traveller.name?"),
        ("data['amuont'] > 5", "data has no field 'amuont'", "did you mean data.amount?"),
        ("has(data.amuont)", "data has no field 'amuont'", "did you mean data.amount?"),
        ("data.?amuont.orValue(1) > 0", "data has no field 'amuont'", "did you mean data.amount?"),
        ("data.lines.exists(l, l.prize > 5)", "l has no field 'prize'", "did you mean l.price?"),
        ("data.lines[0].prize > 5", "has no field 'prize'", None),
        ("data.amount.x > 5", "data.amount is a number, it has no field 'x'", None),
        ("amount > 5", "there is no 'amount'", "write data.amount"),
        ("dta.amount > 5", "there is no 'dta'", "did you mean data?"),
        ("zzz", "there is no 'zzz'", "expressions see context, data,"),
        ("size > 5", "there is no 'size'", "size is a function"),
        ("user.rolez.size() > 0", "user has no field 'rolez'", "did you mean user.roles?"),
        ("event.nme == 'x'", "event has no field 'nme'", "did you mean event.name?"),
        ("data.amount > '5'", "cannot compare a number > a string", "without quotes"),
        ("data.note > 5", "cannot compare a string > an int", "write double(data.note)"),
        ("data.due < now", "cannot compare a string < a timestamp", "write timestamp(data.due)"),
        ("data.urgent == 'true'", "a bool never equals a string: this is always false", "without quotes"),
        ("data.amount == 'x'", "a number never equals a string: this is always false", None),
        ("data.tags == 'x'", "a list never equals a string", None),
        ("data.kind == 'Travel'", "data.kind can never be 'Travel': this is always false", "did you mean 'travel'?"),
        ("data.kind != 'zzz'", "data.kind can never be 'zzz': this is always true", "'travel', 'meal'"),
        ("'zzz' == data.kind", "data.kind can never be 'zzz'", "it can be"),
        ("data.fixed == 'y'", "data.fixed can never be 'y'", "it can be 'x'"),
        ("data.level == 4", "data.level can never be 4", "1, 2, 3"),
        ("data.kind in ['travel', 'mael']", "data.kind can never be 'mael'", "did you mean 'meal'?"),
        ("data.count in ['a']", "an int never equals a string", None),
        ("5 in data.tags", "an int is never in a list of strings", None),
        ("'a' in data.note", "not into a string", "write .contains(…)"),
        ("data.count && true", "an operand of && is an int, not a bool", "compare it"),
        ("!data.count", "the operand of ! is an int", "compare it"),
        ("data.count ? 1 : 2", "the condition of ? : is an int", "compare it"),
        ("data.tags.all(t, t)", "the condition of all() is a string", "compare it"),
        ("data.note + 5 == 'x'", "cannot calculate a string + an int", "write string(…)"),
        ("data.note * 2 == 'x'", "cannot calculate a string * an int", None),
        ("-data.note == 'x'", "cannot negate a string", None),
        ("now + 5 > now", "cannot calculate a timestamp + an int", None),
        ("foo(1)", "there is no function foo()", None),
        ("siez(data.tags)", "there is no function siez()", "did you mean size()?"),
        ("data.note.startswith('a')", "there is no method startswith()", "did you mean startsWith()?"),
        ("startsWith(data.note, 'a')", "there is no function startsWith()", "is a method"),
        ("data.count.double()", "there is no method double()", "is a function"),
        ("size(1, 2)", "size() takes 1 argument, not 2", None),
        ("data.count.startsWith('a')", ".startsWith() cannot be called on (int, string)", None),
        ("data.note.contains(5)", ".contains() cannot be called on (string, int)", None),
        ("math.greatest(1, 'a')", "compares numbers, not a string", None),
        ("data.count.all(x, true)", "all() runs over a list or a map, not over an int", None),
        ("data.tags['a']", "a list is indexed by an int, not by a string", None),
        ("timestamp('soon')", "'soon' is no timestamp", None),
        ("duration('1 day')", "'1 day' is no duration", None),
        ("step.result == 'x'", "an int never equals a string", None),
        ("instance.status == 'runing'", "can never be 'runing'", "did you mean 'running'?"),
    ],
)
def test_mistake(source: str, message: str, hint: str | None) -> None:
    """A mistake has a sentence, where possible the right text, and its place."""
    found = findings(source)
    assert len(found) == 1, found
    assert message in found[0].message
    assert found[0].severity == "error"
    assert 0 <= found[0].position < len(source)
    if hint is not None:
        assert hint in (found[0].hint or "")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data.open.departmnet == 'x'", "has no field 'departmnet' in its schema"),
        ("data.amount / 3 > 1", "drops the fraction"),
    ],
)
def test_warning(source: str, message: str) -> None:
    """What may be meant as it stands is a warning."""
    found = findings(source)
    assert [finding.severity for finding in found] == ["warning"]
    assert message in found[0].message


@pytest.mark.parametrize(
    "source",
    [
        "data.amount > 1000 && 'manager' in user.roles",
        "data.undescribed.what.ever == 5",
        "data.anything.x > 5 && data.anything + 1 == 2 && data.anything",
        "data.broken.x && data.lost.y",
        "data.either == 5 || data.either == 'x' || data.either > 3",
        "data.combined.b == 5",
        "data.open.other == 5 && data.open.cost > 1",
        "has(data.open.departmnet)",
        "data.prices.euro > 1.5 && data.prices['usd'] > 1",
        "data.note == null && data.amount == null && data.kind == null",
        "data.kind == 'meal' && data.kind in ['travel', 'meal']",
        "data.level in [1, 2.0] && data.level == 3.0",
        "data.count / 2 > 1 && data.amount / 2.0 > 1 && double(data.amount) / 2 > 1",
        "timestamp(data.due) - duration('1h') < now && now.getHours('Europe/Berlin') >= 9",
        "data.lines.map(l, l.price).sum() > 10",
        "data.lines.filter(l, l.price > 5).size() > 0 && data.lines[0].title.contains('x')",
        "context.anything.at.all == 1 && metadata.owner == 'x' && submission.x > 1",
        "event.data.approver == user.username && user.attributes.limit > data.amount",
        "user.manager == requester.username && requester.manager != null",
        "(data.urgent ? 1 : 2.5) > 2 && (data.urgent ? 'a' : null) != 'a'",
        "data.kind == (data.urgent ? 'travel' : data.note)",
        "cel.bind(x, data.amount, x > 5) && data.?note.orValue('').size() > 0",
        "data.?traveller.?name.orValue('') == 'x' && data.?count.optMap(c, c + 1).orValue(0) > 5",
        "[1, 'a', null].exists(x, x == 'a') && {'a': 1}.a == 1 && {'a': 1}.?b.orValue(2) == 2",
        "math.greatest(data.amount, data.count, 2.5) > 1 && math.round(data.amount, 2) > 1",
        "type(data.either) == string && dyn(data.count) == 'x'",
        "data.tags + ['a'] == ['b'] && data.tags.join(',') != '' && data.tags.distinct().sort()[0] < 'x'",
        "string(data.amount) + string(data.count) + 'x' == 'y'",
        "instance.status == 'running' && instance.configuration.exists(s, s == 'x') && instance.created_at < now",
    ],
)
def test_no_false_alarm(source: str) -> None:
    """What may be right is not complained about, `has()` is not demanded, and unknown types fit everywhere."""
    assert findings(source, "bool") == []


@pytest.mark.parametrize(
    ("source", "expected", "complains"),
    [
        ("data.amount", "bool", True),
        ("data.amount > 1", "bool", False),
        ("data.anything", "bool", False),
        ("data.urgent", "bool", False),
        ("data.?urgent", "bool", False),
        ("data.note", "number", True),
        ("data.count", "number", False),
        ("data.amount", "int", False),
        ("user.manager", "string", False),
        ("data.tags", "string", True),
        ("data.tags", "list", False),
        ("now", "timestamp", False),
        ("data.tags.size()", "any", False),
        ("math.round(data.amount)", "number", False),
    ],
)
def test_expected(source: str, expected: Any, complains: bool) -> None:
    """A condition that gives no bool, a delay that gives no number, are found out."""
    assert bool(findings(source, expected)) is complains


def test_several_at_once_in_order() -> None:
    """All findings come at once, by their place in the text."""
    found = findings("data.amuont > 5 && data.note > 5 || foo()")
    assert [finding.position for finding in found] == sorted(finding.position for finding in found)
    assert len(found) == 3


def test_without_schema() -> None:
    """Without a schema the data may be anything; the other roots are known all the same."""
    assert check_expression(compile_expression("data.x.y[0] > submission.z"), Environment(), "bool") == []
    assert check_expression(compile_expression("usr.id == 'x'"), Environment(), "bool") != []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"self": {"$ref": "#"}}},
        {"$ref": "#/properties/x"},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"type": [], "properties": 7, "required": "x", "additionalProperties": "no"},
        {"type": "array", "items": [1, 2], "prefixItems": 5},
        {"enum": []},
        {"enum": [1, "a", None]},
        {"type": ["object", "null", 5]},
    ],
)
def test_odd_schemas(schema: dict[str, Any]) -> None:
    """Recursive and malformed schemas make unknown types, not errors."""
    environment = Environment(schema)
    assert check_expression(compile_expression("data.x == 1 || data.self.self.self == null"), environment) is not None


@pytest.mark.parametrize("operator", ["exists", "not_exists", "is_empty", "is_not_empty"])
@pytest.mark.parametrize(
    "field", ["amount", "note", "tags", "kind", "traveller.name", "lines", "urgent", "open.department"]
)
def test_generated_conditions_have_no_findings(operator: str, field: str) -> None:
    """What `simple` conditions stand for passes the check for every type of field."""
    assert findings(simple_condition(field, operator), "bool") == []


_PARTS = st.sampled_from(
    ["data.amount", "data.note", "data.kind", "data.tags", "data.lines", "data.traveller", "now", "user.roles", "1", "'a'",
     "null", "[1]", "{'a': 1}", "data.anything", "2.5", "true"]
)  # fmt: skip
_SOURCES = st.recursive(
    _PARTS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "==", "<", "in", "&&", "||"]), inner).map(
            lambda drawn: f"({drawn[0]} {drawn[1]} {drawn[2]})"
        ),
        st.tuples(st.sampled_from(["size", "string", "int", "timestamp", "math.abs", "has"]), inner).map(
            lambda drawn: f"{drawn[0]}({drawn[1]})"
        ),
        st.tuples(inner, st.sampled_from(["contains", "map", "exists", "orValue", "split"]), inner).map(
            lambda drawn: f"{drawn[0]}.{drawn[1]}({'x, ' if drawn[1] in ('map', 'exists') else ''}{drawn[2]})"
        ),
        inner.map(lambda drawn: f"{drawn}.price"),
        inner.map(lambda drawn: f"{drawn}.?name"),
        inner.map(lambda drawn: f"{drawn}[0]"),
    ),
    max_leaves=5,
)
_DATA = {
    "amount": 5, "note": "n", "kind": "meal", "tags": ["t"], "lines": [{"price": 5, "title": "x"}],
    "traveller": {"name": "ada"}, "anything": 7,
}  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_SOURCES)
def test_never_raises_and_finds_type_errors(source: str) -> None:
    """The check has an answer for everything; what it passes can only fail where it does not know the types."""
    try:
        expression = compile_expression(source)
    except ExpressionSyntaxError:
        return
    found = check_expression(expression, ENVIRONMENT, "bool")
    if found or "anything" in source or "orValue" in source:
        return
    scope = {
        "data": _DATA,
        "user": {"roles": ["r"]},
        "now": compile_expression("timestamp('2026-01-01')")({}, Budget(9)),
    }
    failure = ""
    try:
        expression(scope, Budget(10_000))
    except ExpressionError as error:
        failure = error.message
    # what may fail are values, not types: a text that is no number, an empty optional, a key that is not there
    assert "cannot compare" not in failure or "null" in failure, source
    assert "there is no method" not in failure, source
