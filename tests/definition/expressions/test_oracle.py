"""Our CEL against Google's C++ implementation: whatever both can say, they say alike, errors included.

Left out are the documented departures (exact decimals, mixed arithmetic, our extensions) and what the oracle cannot
take: its checker refuses mixed literals, and instants only come as variables. Its `'ab'.substring(0, 2)` is an error,
against the extension's own page; ours is not.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pliers_workflow.definition.expressions import Budget, ExpressionError, compile_expression

_TYPES = {
    "i": cel.Type.INT,
    "j": cel.Type.INT,
    "d": cel.Type.DOUBLE,
    "s": cel.Type.STRING,
    "t": cel.Type.STRING,
    "b": cel.Type.BOOL,
    "numbers": cel.Type.List(cel.Type.INT),
    "words": cel.Type.List(cel.Type.STRING),
    "m": cel.Type.Map(cel.Type.STRING, cel.Type.INT),
    "x": cel.Type.DYN,
}
_ORACLE = cel.NewEnv(
    variables=_TYPES,
    extensions=[
        ext_strings.ExtStrings(),
        ext_math.ExtMath(),
        ext_optional.ExtOptional(),
        ext_bindings.ExtBindings(),
    ],
)
ERROR = "error"


def oracle(source: str, scope: dict[str, Any]) -> Any:
    """The C++ answer as our types; errors come back as values of type ERROR there."""
    value = _ORACLE.compile(source).eval(data=scope)
    if value.type() == cel.Type.ERROR:
        return ERROR
    return plain(value.plain_value())


def plain(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def ours(source: str, scope: dict[str, Any]) -> Any:
    try:
        return compile_expression(source)(scope, Budget(steps=100_000))
    except ExpressionError:
        return ERROR


def agree(source: str, scope: dict[str, Any]) -> None:
    theirs = oracle(source, scope)
    mine = ours(source, {name: plain(value) for name, value in scope.items()})
    assert mine == theirs, source
    if not isinstance(mine, Decimal):
        assert type(mine) is type(theirs), source


# -- expressions by type: each strategy draws the source of one ----------------------------------------------------

_QUARTERS = ["0.0", "0.25", "1.5", "2.0", "-3.75", "100.0"]
_WORDS = ["", "a", "b", "ab", "aba", "B", "héllo", "日本", "x y", "😀"]
_INTS = [
    "0", "1", "2", "7", "-1", "-7", "100", "0x1F", "9223372036854775807", "-9223372036854775808",
]  # fmt: skip


def quoted(word: str) -> str:
    return f'"{word}"'


int_ = st.deferred(lambda: _int)
bool_ = st.deferred(lambda: _bool)
string = st.deferred(lambda: _string)
double = st.deferred(lambda: _double)
numbers = st.deferred(lambda: _numbers)
words = st.deferred(lambda: _words)
dynamic = st.sampled_from(["x", "x.a", "x.b.c", "x['a']", "x[0]", "x[i]", "dyn(i)", "dyn(s)", "dyn(d)", "dyn(null)"])


def form(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda drawn: template.format(*drawn))


_int = st.one_of(
    st.sampled_from([*_INTS, "i", "j"]),
    form("({} {} {})", int_, st.sampled_from(["+", "-", "*", "/", "%"]), int_),
    form("-{}", st.sampled_from(["i", "j", "(i + j)"])),
    form("({} ? {} : {})", bool_, int_, int_),
    form("size({})", st.one_of(string, numbers, words)),
    form("{}.size()", string),
    form("{}[{}]", numbers, st.sampled_from(["0", "1", "2", "i", "-1"])),
    form("m[{}]", string),
    st.sampled_from(["m.a", "m.b", "m.missing"]),
    form("{}.indexOf({})", string, string),
    form("{}.lastIndexOf({})", string, string),
    form("int({})", string),
    form("int({})", double),
    form("math.greatest({}, {})", int_, int_),
    form("math.least({}, {}, {})", int_, int_, int_),
    form("math.abs({})", int_),
    form("math.sign({})", int_),
    form("cel.bind(v, {}, v + v)", int_),
    form("m.?{}.orValue({})", st.sampled_from(["a", "missing"]), int_),
    form("{}[?{}].orValue(-5)", numbers, st.sampled_from(["0", "5", "-1"])),
    form("optional.of({}).value()", int_),
)
_double = st.one_of(
    st.sampled_from([*_QUARTERS, "d"]),
    form(
        "({} {} {})", st.sampled_from([*_QUARTERS, "d"]), st.sampled_from(["+", "-", "*"]), st.sampled_from(_QUARTERS)
    ),
    form("math.ceil({})", double),
    form("math.floor({})", double),
    form("math.trunc({})", double),
    form("math.abs({})", double),
    form("({} ? {} : {})", bool_, double, double),
)
_string = st.one_of(
    st.sampled_from([*map(quoted, _WORDS), "s", "t", r"'\u00e9\n'", "r'\\d'", "'''it's'''"]),
    form("({} + {})", string, string),
    form("({} ? {} : {})", bool_, string, string),
    form("string({})", st.one_of(int_, bool_, string)),
    form("{}.charAt({})", string, st.sampled_from(["0", "1", "3", "-1", "i"])),
    form("{}.substring({})", string, st.sampled_from(["0", "1", "4"])),
    form("{}.lowerAscii()", string),
    form("{}.upperAscii()", string),
    form("{}.trim()", string),
    form("{}.reverse()", string),
    form("{}.replace({}, {})", string, string, st.sampled_from(['""', '"z"', "t"])),
    form("{}.replace({}, 'q', {})", string, string, st.sampled_from(["0", "1", "2", "-1"])),
    form("{}.join({})", words, st.sampled_from(['"-"', '""', "t"])),
    form("{}[{}]", words, st.sampled_from(["0", "1", "9"])),
)
_bool = st.one_of(
    st.sampled_from(["true", "false", "b"]),
    form("({} && {})", bool_, bool_),
    form("({} || {})", bool_, bool_),
    form("({} && {} && {})", bool_, bool_, bool_),
    form("({} || {} || {})", bool_, bool_, bool_),
    form("!{}", bool_),
    form("({} {} {})", int_, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), int_),
    form("({} {} {})", double, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), double),
    form("(dyn({}) {} {})", int_, st.sampled_from(["<", ">=", "==", "!="]), double),
    form("({} {} {})", string, st.sampled_from(["<", "<=", ">", "==", "!="]), string),
    form("({} {} {})", numbers, st.sampled_from(["==", "!="]), numbers),
    form("({} in {})", int_, numbers),
    form("({} in {})", string, words),
    form("({} in m)", string),
    form("({} {} {})", dynamic, st.sampled_from(["==", "!="]), dynamic),
    form("({} {} {})", dynamic, st.sampled_from(["<", ">="]), st.sampled_from(["dyn(i)", "dyn(s)"])),
    form("has(m.{})", st.sampled_from(["a", "missing"])),
    form("has(x.{})", st.sampled_from(["a", "b"])),
    form("{}.{}({})", string, st.sampled_from(["startsWith", "endsWith", "contains"]), string),
    form("{}.matches({})", string, st.sampled_from(["'^a'", "'(a|b)+$'", "'h.llo'", "''"])),
    form("{}.{}(v, v > {})", numbers, st.sampled_from(["all", "exists", "exists_one"]), int_),
    form("{}.{}(v, 10 / v > {})", numbers, st.sampled_from(["all", "exists", "exists_one"]), int_),
    form("m.{}(k, m[k] > {})", st.sampled_from(["all", "exists"]), int_),
    form("m.?{}.hasValue()", st.sampled_from(["a", "missing"])),
    form("(type({}) == type({}))", st.one_of(int_, string, double), st.one_of(int_, string, bool_)),
    form("bool({})", st.sampled_from(["'true'", "'false'", "s", "'1'", "b"])),
)
_numbers = st.one_of(
    st.sampled_from(["numbers", "[1, 2, 3]", "[3, 0, -1]", "[1, 2,]"]),
    form("({} + {})", numbers, numbers),
    form("{}.map(v, v * {})", numbers, int_),
    form("{}.map(v, v > {}, v + 1)", numbers, int_),
    form("{}.filter(v, v != {})", numbers, int_),
    form("[{}, {}]", int_, int_),
    form("[?m.?{}, 4]", st.sampled_from(["a", "missing"])),
    form("{}.map(v, size(v))", words),
)
_words = st.one_of(
    st.sampled_from(["words", "['a', 'b']"]),
    form("[{}, {}]", string, string),
    form("{}.split({})", string, st.sampled_from(["'b'", "'a'", "' '"])),
    form("{}.split('a', {})", string, st.sampled_from(["0", "1", "2", "-1"])),
    form("{}.filter(w, w < {})", words, string),
    form("{}.map(w, w + {})", words, string),
)

small = st.integers(min_value=-(2**63), max_value=2**63 - 1) | st.integers(-3, 5)
text = st.sampled_from(_WORDS) | st.text(alphabet="ab é", max_size=4)
scopes = st.fixed_dictionaries(
    {
        "i": small,
        "j": small,
        "d": st.sampled_from([-2.5, 0.0, 0.25, 3.0]),
        "s": text,
        "t": text,
        "b": st.booleans(),
        "numbers": st.lists(st.integers(-3, 5), max_size=4),
        "words": st.lists(text, max_size=3),
        "m": st.dictionaries(st.sampled_from(["a", "b", "ab"]), st.integers(-3, 5), max_size=3),
        "x": st.recursive(
            st.none() | st.booleans() | st.integers(-3, 5) | text,
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner),
            max_leaves=4,
        ),
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(source=bool_ | int_ | string | numbers | words | double, scope=scopes)
def test_agrees_with_cpp(source: str, scope: dict[str, Any]) -> None:
    """The same value of the same type, or an error on both sides, for random expressions over random data."""
    try:
        _ORACLE.compile(source)
    except RuntimeError:  # its checker or its limit of 32 levels
        return
    agree(source, scope)


_MOMENTS = [
    "2026-01-01T00:00:00Z",
    "2024-02-29T23:59:59.999Z",
    "2026-03-29T01:30:00+02:00",
    "1999-12-31T12:00:00-08:00",
]


@settings(max_examples=150, deadline=None)
@given(
    moment=st.sampled_from(_MOMENTS),
    getter=st.sampled_from(
        ["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
         "getSeconds", "getMilliseconds"]
    ),
    zone=st.sampled_from(["", "'UTC'", "'Europe/Berlin'", "'America/New_York'", "'Asia/Kolkata'", "'+05:30'", "'-02:00'", "'Nowhere/X'"]),
    shift=st.sampled_from(["", " + duration('36h')", " - duration('90m30s')", " + duration('0.25s')"]),
)  # fmt: skip
def test_time_agrees_with_cpp(moment: str, getter: str, zone: str, shift: str) -> None:
    """Fields of instants in time zones, and sums of instants and durations."""
    agree(f"(timestamp('{moment}'){shift}).{getter}({zone})", {})
    agree(f"string(timestamp('{moment}'){shift})", {})
    agree(f"timestamp('{moment}'){shift} < timestamp('2026-01-02T00:00:00Z')", {})


@settings(max_examples=60, deadline=None)
@given(
    duration=st.sampled_from(["1h30m", "-1h30m", "90s", "1500ms", "-1500ms", "0s", "1.5s", "36h", "250us"]),
    getter=st.sampled_from(["getHours", "getMinutes", "getSeconds", "getMilliseconds"]),
)
def test_durations_agree_with_cpp(duration: str, getter: str) -> None:
    """Durations are read, written and cut into units alike, negative ones too."""
    agree(f"duration('{duration}').{getter}()", {})
    agree(f"string(duration('{duration}'))", {})
    agree(f"duration('{duration}') + duration('1m') > duration('1h')", {})
