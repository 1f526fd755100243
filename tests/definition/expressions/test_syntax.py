"""Text that is no expression is refused with the place and a sentence, whatever it is."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliers_workflow.definition.expressions import Budget, ExpressionError, ExpressionSyntaxError, compile_expression


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "is empty"),
        ("  // nothing", "ends too early"),
        ("1 +", "line 1, column 4: the expression ends too early"),
        ("a = b", "column 3: unexpected '='; write == to compare"),
        ("a & b", "write && for and"),
        ("a and b", "column 3: unexpected 'and'; write && for and"),
        ("a or b", "write || for or"),
        ("not a", "unexpected 'a'"),
        ("data.amount >\n  > 5", "line 2, column 3: unexpected '>'"),
        ("'abc", "the text that begins with ' is not closed"),
        ('"a\nb"', "is not closed"),
        ("(1", "ends too early"),
        ("1)", "unexpected ')'"),
        ("[1,,2]", "unexpected ','"),
        ("if", "'if' is a reserved word"),
        ("a.b{c: 1}", "there are no message types here"),
        ("Foo{}", "there are no message types here"),
        ("9223372036854775808", "does not fit into 64 bits"),
        ("-9223372036854775809", "does not fit into 64 bits"),
        ("18446744073709551616u", "does not fit into 64 bits"),
        ("9" * 100, "too long"),
        ("1e9999", "too many digits"),
        ("1." + "1" * 200, "too many digits"),
        (r"'\q'", r"\q is no escape"),
        (r"'\ud800'", "is no character"),
        (r"b'\u0041'", "no escape of a byte"),
        ("has(x)", "has() takes a field"),
        ("has(x.y, 1)", "has() takes a field"),
        ("[1].all(x.y, true)", "the first argument of all() is a plain name"),
        ("[1].filter(x, true, 1)", "filter() takes a name and a condition"),
        ("cel.bind(x, 1)", "cel.bind() takes"),
        ("'a'.matches('(')", "no pattern (RE2)"),
        ("'a'.matches('a{1000}{1000}')", "no pattern (RE2)"),
        ("x" * 4001, "at most 4000"),
        ("ab#", "unexpected '#'"),
        ("\x00", "unexpected"),
        ("\ud800", "unexpected"),
    ],
)
def test_syntax_error(source: str, says: str) -> None:
    """The message says what is wrong, and where, in lines and columns."""
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source)
    assert says in str(caught.value)
    assert 0 <= caught.value.position <= len(source)


@pytest.mark.parametrize(
    "source",
    [
        " + ".join(["1"] * 1900),
        "(" * 1990 + "1" + ")" * 1990,
        "[" * 1990 + "]" * 1990,
        "-" * 3990 + "a",
        "!" * 3990 + "a",
        "a" + ".b" * 1900,
        "a" + "[0]" * 1300,
        "f(" * 1300 + ")" * 1300,
        "a ? b : " * 480 + "c",
        "{1:" * 1000 + "2" + "}" * 1000,
        "[1].map(x, " * 300 + "x" + ")" * 300,
        "cel.bind(x,1," * 250 + "x" + ")" * 250,
        "a.?b" * 900,
        "1 == " * 700 + "1",
        "(" * 4000,
        "'" + "\\" * 3999,
    ],
    ids=lambda source: source[:12],
)
def test_depth(source: str) -> None:
    """Deep nesting is a syntax error or an ordinary expression, never a RecursionError."""
    with suppress(ExpressionSyntaxError, ExpressionError):
        compile_expression(source)({}, Budget(100_000))


def test_long_conditions_are_flat() -> None:
    """Hundreds of operands of && or || are no nesting."""
    source = " || ".join(f"x == {number}" for number in range(300))
    assert compile_expression(source)({"x": 299}, Budget(5_000)) is True
    assert compile_expression(source)({"x": 300}, Budget(5_000)) is False


def test_fifty_thousand_terms() -> None:
    """What killed another implementation is too long here."""
    with pytest.raises(ExpressionSyntaxError, match="at most 4000"):
        compile_expression("+".join(["1"] * 50_000))


_PIECES = [
    "data", ".", ".?", "?.", "[", "]", "(", ")", "{", "}", "?", ":", ",", "&&", "||", "!", "-", "+", "*", "/", "%", "==",
    "<", ">=", " in ", "1", "2u", "1.5", "0x", "'a'", '"', "'''", "r'", "b\"\"", "\\", "true", "null", "has", "map", "x",
    "all", "size", "math", "int", " ", "\n", "//", "`", "é", "\0", "e", "_", "1e",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join) | st.text(max_size=30))
def test_any_text(source: str) -> None:
    """Any text at all is an expression or a syntax error, and any expression has a value or an `ExpressionError`."""
    try:
        expression = compile_expression(source)
    except ExpressionSyntaxError:
        return
    with suppress(ExpressionError):
        expression({"data": {"a": [1]}, "x": "y"}, Budget(10_000))
    assert expression.roots >= set()
