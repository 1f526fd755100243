"""What expressions mean: a table judged by hand against the CEL specification and our documented departures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.definition.expressions import Budget, ExpressionError, compile_expression

D = Decimal
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SCOPE: dict[str, Any] = {
    "data": {
        "amount": 1500,
        "price": D("19.99"),
        "rate": 0.1,
        "note": None,
        "title": "Trip to Köln",
        "odd-name": 1,
        "tags": ["a", "b"],
        "lines": [{"price": 5, "qty": 2}, {"price": D("7.50"), "qty": 1}],
        "due": "2026-03-01",
        "flags": [True, 1, 1.5],
        "in": {"null": 7},
    },
    "user": {"roles": ["employee", "manager"], "username": "ada", "manager": None},
    "engine": None,
    "now": NOW,
    "naive": datetime(2026, 1, 1),  # noqa: DTZ001  # what a careless caller passes
}


def evaluate(source: str, scope: dict[str, Any] | None = None) -> Any:
    return compile_expression(source)(SCOPE if scope is None else scope, Budget(steps=10_000))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        # literals
        ("1", 1),
        ("-9223372036854775808", -(2**63)),
        ("0xFF", 255),
        ("-0x10", -16),
        ("1.50", D("1.50")),
        (".5", D("0.5")),
        ("1e3 == 1000", True),
        ("2u", 2),
        ("type(2u) == uint", True),
        (r"'\x41\u00e9\U0001F600\101\n\\\'\"\`\?'", "Aé😀A\n\\'\"`?"),
        (r"r'\d+\n'", r"\d+\n"),
        ('"""a\n"b\'"""', "a\n\"b'"),
        ("'''it's'''", "it's"),
        (r"b'a\xff\377é'", b"a\xff\xff\xc3\xa9"),
        (r"rb'\x'", rb"\x"),
        ("// a comment\n1 // another", 1),
        ("[1, 'a', null, [2],]", [1, "a", None, [2]]),
        ("{'a': 1, 2: 'b',}", {"a": 1, "2": "b"}),
        # precedence
        ("1 + 2 * 3 - 4 / 2", 5),
        ("1 < 2 == true", True),
        ("true || false && false", True),
        ("!false && true", True),
        ("-2 * -3", 6),
        ("false ? 1 : true ? 2 : 3", 2),
        ("2 - 1 - 1", 0),
        # numbers
        ("10 / 4", 2),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("10 / 4.0", D("2.5")),
        ("0.1 + 0.2", D("0.3")),
        ("1 + 0.5", D("1.5")),
        ("data.price * 3", D("59.97")),
        ("1 / 3.0", D("0.3333333333333333333333333333333333")),
        ("data.rate * 3 == 0.3", True),
        ("1 == 1.0 && 1.0 == 1u && 1u == 1", True),
        ("9007199254740993 > 9007199254740992.0", True),
        ("1 == true || 'a' == 1 || null == 0 || [1] == {'a': 1}", False),
        ("[1, [2.0]] == [1.0, [2]]", True),
        ("{'a': 1} == {'a': 1.0}", True),
        ("1 in [true] || true in [1] || 1 in ['1']", False),
        ("1 in data.flags && true in data.flags && 1.5 in data.flags", True),
        ("3u + 4u", 7),
        # logic absorbs errors where the other side decides
        ("true || data.nothing", True),
        ("data.nothing || true", True),
        ("false && 1 / 0 == 1", False),
        ("1 / 0 == 1 && false", False),
        ("1 / 0 == 1 || data.nothing > 2 || true", True),
        ("[1, 0].exists(x, 2 / x == 2)", True),
        ("[0, 1].exists(x, 2 / x == 2)", True),
        ("[0, 1].all(x, 2 / x == 3)", False),
        # selection
        ("data.amount", 1500),
        ("data['amount']", 1500),
        ("data.lines[1].price", D("7.50")),
        ("data.`odd-name`", 1),
        ("data.in.null", 7),
        (".data.amount", 1500),
        ("[1, 2].exists(data, data == 2) && .data.amount == 1500", True),
        ("has(data.amount) && !has(data.nothing) && has(data.note)", True),
        ("data.note == null", True),
        ("user.manager == null", True),
        ("'amount' in data", True),
        # optionals
        ("data.?amount.orValue(0)", 1500),
        ("data.?amount.orValue(int('no number'))", 1500),  # not asked where there is a value, as in cel-cpp
        ("data.?amount.or(optional.of(int('no number'))).hasValue()", True),
        ("data.?nothing.orValue(0)", 0),
        ("data?.nothing.?further.orValue('x')", "x"),
        ("data.?note.?further.hasValue()", False),
        ("data.?title", "Trip to Köln"),
        ("data.?nothing", None),
        ("data.tags[?5].orValue('none')", "none"),
        ("data[?'amount'].value()", 1500),
        ("[?data.?amount, ?data.?nothing]", [1500]),
        ("{?'a': data.?nothing, ?'b': data.?amount}", {"b": 1500}),
        ("optional.of(1).or(optional.none()).value()", 1),
        ("optional.ofNonZeroValue('').hasValue()", False),
        ("data.?amount.optMap(a, a * 2).orValue(0)", 3000),
        ("data.?amount.optFlatMap(a, optional.none()).hasValue()", False),
        ("has(data.?nothing.further)", False),
        # macros
        ("data.tags.all(t, t.size() == 1)", True),
        ("data.lines.exists(l, l.price > 7)", True),
        ("[1, 2, 2].exists_one(x, x == 2)", False),
        ("data.lines.map(l, l.price * l.qty).sum()", D("17.50")),
        ("[1, 2, 3].map(x, x > 1, x * 10)", [20, 30]),
        ("data.tags.filter(t, t != 'a')", ["b"]),
        ("{'b': 1, 'a': 2}.map(k, k)", ["b", "a"]),
        ("[[1, 2], [3]].map(xs, xs.map(x, x * size(xs)))", [[2, 4], [3]]),
        ("[1].map(x, [x].map(x, x + 1))", [[2]]),
        ("cel.bind(x, data.amount, x * x)", 2250000),
        ("cel.bind(x, 1, cel.bind(x, x + 1, x)) + cel.bind(y, 5, y)", 7),
        ("[].all(x, x) && ![].exists(x, x)", True),
        # strings
        ("data.title.contains('Köln') && data.title.startsWith('Trip') && data.title.endsWith('ln')", True),
        ("size('héllo') == 5 && 'héllo'.size() == 5", True),
        ("'abc'.substring(1) + 'abc'.substring(0, 3)", "bcabc"),
        ("'a,b,,c'.split(',')", ["a", "b", "", "c"]),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("['a', 'b'].join('-')", "a-b"),
        ("'ABÄ'.lowerAscii() + 'abä'.upperAscii()", "abÄABä"),
        ("'  x '.trim()", "x"),
        ("'tacocat'.indexOf('a', 2) == 5 && 'tacocat'.lastIndexOf('a', 4) == 1", True),
        ("'aaa'.replace('a', 'b', 2)", "bba"),
        ("'abc'.reverse() + 'abc'.charAt(3)", "cba"),
        ("'AB-123'.matches('^[A-Z]{2}-[0-9]+$')", True),
        ("matches('xaby', 'ab')", True),
        # conversions and types
        ("int('-12') + int(3.99) + int(2u)", -7),
        ("double('1.10')", D("1.10")),
        ("string(1.10) + string(5) + string(true)", "1.105true"),
        ("string(bytes('é'))", "é"),
        ("bool('true')", True),
        ("int(timestamp('1970-01-01T00:01:00Z'))", 60),
        ("type(data.price) == double && type(null) == null_type && type([]) == list", True),
        ("type(type(1))", "type"),
        # time
        ("now > timestamp('2026-01-01T00:00:00Z')", True),
        ("timestamp(data.due) + duration('9h30m') == now", True),
        ("now - timestamp('2026-03-01T08:00:00Z')", timedelta(minutes=90)),
        ("now + duration('1d')", datetime(2026, 3, 2, 9, 30, tzinfo=UTC)),
        ("now.getHours() == 9 && now.getHours('Europe/Berlin') == 10 && now.getHours('-02:30') == 7", True),
        ("now.getDayOfWeek() == 0 && now.getMonth() == 2 && now.getDate() == 1 && now.getDayOfMonth() == 0", True),
        ("(now - timestamp('2026-02-27T09:30:00Z')).getHours()", 48),
        ("string(now) + ' ' + string(duration('90m'))", "2026-03-01T09:30:00Z 5400s"),
        ("naive < now", True),
        # math
        ("math.greatest(1, 2.5, 2) == 2.5 && math.least([3, 1, 2]) == 1", True),
        ("math.round(2.5) == 3 && math.round(-2.5) == -3 && math.floor(-1.5) == -2 && math.ceil(1.2) == 2", True),
        ("math.round(data.price * 0.19, 2)", D("3.80")),
        ("math.abs(-3) + math.sign(-5)", 2),
        # lists, beyond CEL's core
        ("[1, 2.5].sum() + [].sum()", D("3.5")),
        ("[1, 1.0, 'a', 'a', true].distinct()", [1, "a", True]),
        ("[[1], [2, [3]]].flatten()", [1, 2, [3]]),
        ("[[1], [2, [3]]].flatten(2)", [1, 2, 3]),
        ("[3, 1, 2].sort().reverse().slice(0, 2)", [3, 2]),
        ("data.tags.contains('b') && !data.tags.contains('z')", True),
        ("[1, 2] + ['a']", [1, 2, "a"]),
    ],
)
def test_value(source: str, value: Any) -> None:
    """The expression has this value, of this type."""
    answer = evaluate(source)
    assert answer == value
    assert type(answer) is type(value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("data.nothing", "data.nothing is missing"),
        ("data.nothing.further", "data.nothing is missing"),
        ("data.note.further", "data.note is null, so it has no field further"),
        ("data.title.further", "data.title is a string, so it has no field further"),
        ("engine.roles", "engine is null, so it has no field roles"),
        ("nobody.name", "there is no nobody here"),
        ("nobody", "there is no nobody here"),
        ("data.tags[2]", "data.tags has 2 elements, there is no element 2"),
        ("data.tags[-1]", "there is no element -1"),
        ("data.tags['a']", "a list is indexed by an int, not by a string"),
        ("data['x']", "data.x is missing"),
        ("data.lines.map(l, l.size)", "l.size is missing"),
        ("has(data.note.further)", "data.note is null"),
        ("data.amount > '5'", "cannot compare an int > a string"),
        ("data.due < now", "write timestamp(…) around the string"),
        ("data.note > 5", "ask for null first"),
        ("true < 1", "cannot compare a bool < an int"),
        ("[1] < [2]", "cannot compare a list < a list"),
        ("1 + 'a'", "write string(…) around what is no string"),
        ("1 + 1u", "cannot calculate an int + a uint"),
        ("1.5 % 2.0", "cannot calculate a double % a double"),
        ("null + 1", "cannot calculate null + an int"),
        ("9223372036854775807 + 1", "does not fit into a 64-bit integer"),
        ("-(-9223372036854775808)", "does not fit into a 64-bit integer"),
        ("-9223372036854775808 / -1", "does not fit"),
        ("0u - 1u", "does not fit into a 64-bit unsigned integer"),
        ("1 / 0", "division by zero"),
        ("1.0 / 0", "division by zero"),
        ("0.0 / 0.0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("1e3000 * 1e3000 * 1e3000", "out of the range of decimals"),
        ("1 && true", "an operand of && is an int, not a bool"),
        ("true && 'a'", "an operand of && is a string, not a bool"),
        ("false || false || null", "an operand of || is null, not a bool"),
        ("!1", "the operand of ! is an int, not a bool"),
        ("1 ? 2 : 3", "the condition of ? : is an int"),
        ("-'a'", "cannot negate a string"),
        ("1 in 'abc'", "'in' looks into a list or a map, not into a string"),
        ("'abc'.all(x, true)", "all() runs over a list or a map"),
        ("[1].filter(x, x)", "the condition of filter() is an int"),
        ("foo(1)", "there is no function foo()"),
        ("data.title.foo()", "there is no method foo()"),
        ("math.foo(1)", "there is no function math.foo()"),
        ("size(1)", "size() cannot be called with (int)"),
        ("size(1, 2)", "size() takes 1 argument, not 2"),
        ("'abc'.startsWith(1)", ".startsWith() cannot be called on (string, int)"),
        ("'abc'.substring(2, 9)", "there are no characters 2 to 9 in a string of 3"),
        ("'abc'.charAt(4)", "there is no character 4"),
        ("int('1.5')", "'1.5' is no integer"),
        ("int('١')", "is no integer"),
        ("double('x')", "'x' is no number"),
        ("double('NaN')", "no finite number"),
        ("double('1_000')", "is no number"),
        ("int(1e30)", "does not fit into a 64-bit integer"),
        ("bool('maybe')", "neither 'true' nor 'false'"),
        ("string(b'\\xff')", "no UTF-8"),
        ("timestamp('tomorrow')", "write it like 2026-03-01T09:30:00Z"),
        ("timestamp('2026-02-30T00:00:00Z')", "no such day or time"),
        ("duration('soon')", "write it like 90s, 1h30m or 2d"),
        ("timestamp('9999-12-31T00:00:00Z') + duration('48h')", "out of the range of time"),
        ("now.getHours('Mars/Olympus')", "there is no time zone 'Mars/Olympus'"),
        ("now.getHours('../../etc/passwd')", "there is no time zone"),
        ("now.getHours('Europe')", "there is no time zone"),
        ("optional.none().value()", "write .orValue(…)"),
        ("[?1]", "takes an optional"),
        ("{'a': 1, 'a': 2}", "the key 'a' twice"),
        ("{true: 1}", "the keys of a map are strings or ints"),
        ("['a', 1].join()", "join() takes a list of strings, one element is an int"),
        ("['a'].sum()", "sum() adds numbers"),
        ("[1, 'a'].sort()", "sort() cannot compare"),
        ("math.greatest()", "at least one number"),
        ("math.greatest('a')", "compares numbers"),
        ("data.title.matches(data.title + '(')", "no pattern"),
    ],
)
def test_error(source: str, says: str) -> None:
    """What has no value is an error that names what is wrong and, where it can, what to write."""
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert says in caught.value.message
    assert caught.value.position is not None


def test_position_is_that_of_the_innermost() -> None:
    """An error says where in the text it happened."""
    with pytest.raises(ExpressionError) as caught:
        evaluate("true && data.amount + 'a' == 'b'")
    assert caught.value.position == len("true && ")


@pytest.mark.parametrize(
    ("source", "roots", "reads"),
    [
        ("data.amount > 1000 && 'a' in user.roles", {"data", "user"}, {"data.amount", "user.roles"}),
        ("data.lines.exists(l, l.price > data.limit)", {"data"}, {"data.lines", "data.limit"}),
        ("data['a'].b[0].c", {"data"}, {"data.a.b"}),
        ("has(data.x.y)", {"data"}, {"data.x.y"}),
        ("data.?x.?y.orValue(1)", {"data"}, {"data.x.y"}),
        ("cel.bind(now, 1, now + .now)", {"now"}, {"now"}),
        ("type(1) == int && math.abs(-1) == 1", set(), set()),
        ("data", {"data"}, {"data"}),
        ("optional.of(event.data).optMap(d, d.x)", {"event"}, {"event.data"}),
    ],
)
def test_reads(source: str, roots: set[str], reads: set[str]) -> None:
    """An expression knows which roots and paths it reads; variables of macros are none of them."""
    expression = compile_expression(source)
    assert expression.roots == roots
    assert {".".join(path) for path in expression.reads} == reads


def test_objects_stay_outside() -> None:
    """Nothing of a Python object is reachable, and what is no value of the language is refused."""

    class Secret:
        password = "x"

    for source in ("data.password", "data.thing", "data.thing.password", "data.thing == data.thing", "data.__class__"):
        with pytest.raises(ExpressionError):
            evaluate(source, {"data": {"thing": Secret()}} if "thing" in source else {"data": Secret()})
    for source in ("''.__class__", "[].__class__", "(1).real", "data.items", "data.get('x')", "data.keys()"):
        with pytest.raises(ExpressionError):
            evaluate(source, {"data": {"x": 1}})


def test_results_are_plain_and_nobody_elses() -> None:
    """A list that an expression builds is a new one each time, and holds only what instance data may hold."""
    expression = compile_expression("[1u, type(1), optional.of(2u), {'a': [3]}]")
    first = expression({}, Budget(100))
    first[3]["a"].append(4)
    assert expression({}, Budget(100)) == [1, "int", 2, {"a": [3]}]
    assert [type(item) for item in first[:3]] == [int, str, int]


def test_scope_is_not_changed() -> None:
    """No function changes the data it is given."""
    data = {"xs": [3, 1, 2], "m": {"a": [1]}}
    scope = {"data": data}
    for source in ("data.xs.sort()", "data.xs + [4]", "data.xs.reverse()", "data.xs.map(x, x)", "data.xs.distinct()"):
        evaluate(source, scope)
    assert data == {"xs": [3, 1, 2], "m": {"a": [1]}}
