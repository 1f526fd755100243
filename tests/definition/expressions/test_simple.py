"""`simple` conditions stand for CEL; no value can break out of its quotes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliers_workflow.definition.document import ConditionExpression
from pliers_workflow.definition.expressions import (
    Budget,
    ExpressionError,
    cel_literal,
    compile_expression,
    simple_condition,
)

SCOPE: dict[str, Any] = {
    "data": {
        "amount": 1500,
        "price": Decimal("19.99"),
        "title": 'Trip "to" Köln',
        "tags": ["a", "b"],
        "empty": "",
        "none": None,
        "nothing": [],
        "blank": {},
        "traveller": {"name": "Ada"},
        "due": "2026-03-01",
    },
    "user": {"roles": ["manager"]},
}


@pytest.mark.parametrize(
    ("field", "operator", "value", "holds"),
    [
        ("amount", "equals", 1500, True),
        ("data.amount", "equals", 1500.0, True),
        ("amount", "equals", "1500", False),
        ("title", "equals", 'Trip "to" Köln', True),
        ("none", "equals", None, True),
        ("tags", "equals", ["a", "b"], True),
        ("amount", "not_equals", 1500, False),
        ("amount", "greater_than", 1000, True),
        ("amount", "greater_than", 1500, False),
        ("amount", "greater_than_or_equal", 1500, True),
        ("price", "less_than", Decimal("19.995"), True),
        ("price", "less_than_or_equal", 19.99, True),
        ("due", "less_than", "2026-04-01", True),
        ("amount", "in", [1, 1500], True),
        ("title", "in", [], False),
        ("amount", "not_in", [1, 2], True),
        ("tags", "contains", "a", True),
        ("title", "contains", '"to"', True),
        ("user.roles", "contains", "manager", True),
        ("tags", "not_contains", "z", True),
        ("title", "starts_with", "Trip", True),
        ("title", "ends_with", "ln", True),
        ("title", "matches", r"^Trip .*\bK", True),
        ("traveller.name", "exists", None, True),
        ("traveller.phone", "exists", None, False),
        ("nobody.phone", "exists", None, False),
        ("none", "exists", None, False),
        ("none.further", "exists", None, False),
        ("nobody.phone", "not_exists", None, True),
        ("amount", "not_exists", None, False),
        ("empty", "is_empty", None, True),
        ("nothing", "is_empty", None, True),
        ("blank", "is_empty", None, True),
        ("none", "is_empty", None, True),
        ("missing", "is_empty", None, True),
        ("amount", "is_empty", None, False),
        ("tags", "is_not_empty", None, True),
        ("missing.deeper", "is_not_empty", None, False),
        ("amount", "between", [1000, 1500], True),
        ("amount", "between", [1501, 2000], False),
        ("due", "between", ["2026-01-01", "2026-12-31"], True),
    ],
)
def test_condition(field: str, operator: str, value: Any, holds: bool) -> None:
    """Each operator means what its name says; `between` includes both ends."""
    assert compile_expression(simple_condition(field, operator, value))(SCOPE, Budget(1000)) is holds


def test_every_operator_of_the_document() -> None:
    """The document names no operator that is not built."""
    annotation = ConditionExpression.model_fields["operator"].annotation
    operators = {name for part in get_args(annotation) for name in get_args(part)}
    values: dict[str, Any] = {"in": [1], "not_in": [1], "between": [1, 2]}
    assert len(operators) == 18
    for operator in operators:
        compile_expression(simple_condition("x", operator, values.get(operator, "a")))


def test_missing_field_is_an_error() -> None:
    """A comparison with a field that is not there is an error, not false."""
    with pytest.raises(ExpressionError, match=r"data\.missing is missing"):
        compile_expression(simple_condition("missing", "equals", 1))(SCOPE, Budget(100))


@pytest.mark.parametrize(
    ("field", "operator", "value", "says"),
    [
        ("", "equals", 1, "no path"),
        ("a b", "equals", 1, "no path"),
        ("a || true", "equals", 1, "no path"),
        ("a.", "equals", 1, "no path"),
        ("a\n", "equals", 1, "no path"),
        ("a", "like", 1, "no operator"),
        ("a", "in", "x", "takes a list"),
        ("a", "between", [1], "a list of two"),
        ("a", "between", 5, "a list of two"),
        ("a", "greater_than", [1], "a number or a text"),
        ("a", "greater_than", True, "not with true or false"),
        ("a", "less_than", None, "a number or a text"),
        ("a", "starts_with", 5, "takes a text"),
        ("a", "matches", "(", "no pattern"),
        ("a", "equals", 2**63, "64 bits"),
        ("a", "equals", float("nan"), "no number"),
        ("a", "equals", {1, 2}, "cannot be compared"),
        ("a", "equals", "\ud800", "half a character"),
        ("a", "equals", "x" * 5000, "longer than 4000"),
    ],
)
def test_refused(field: str, operator: str, value: Any, says: str) -> None:
    """A condition that makes no sense is refused with a sentence."""
    with pytest.raises(ValueError, match=says):
        simple_condition(field, operator, value)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab\"'\\\n é", max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(_JSON)
def test_literals_come_back(value: Any) -> None:
    """Any JSON value, written as CEL and evaluated, is itself again."""
    assert compile_expression(cel_literal(value))({}, Budget(10_000)) == value


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="\"'\\|&()nr\n\u2028 a", max_size=15))
def test_nothing_breaks_out(text: str) -> None:
    """A value full of quotes and operators is compared, not executed."""
    expression = compile_expression(simple_condition("data.x", "equals", text))
    assert expression({"data": {"x": text}}, Budget(100)) is True
    assert expression({"data": {"x": text + "!"}}, Budget(100)) is False
