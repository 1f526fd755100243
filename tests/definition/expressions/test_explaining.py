"""A false condition says why: the smallest sub-conditions that made it so, and what they read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.definition.expressions import Budget, BudgetExceeded, compile_expression

SCOPE: dict[str, Any] = {
    "data": {
        "amount": 500,
        "price": Decimal("1.50"),
        "lines": [{"price": 9}, {"price": 3}],
        "note": None,
        "long": "x" * 5000,
        "many": list(range(1000)),
        "span": timedelta(hours=1),
        "raw": b"\xff",
    },
    "user": {"roles": ["clerk"], "id": "u1"},
    "requester": {"id": "u2"},
    "now": datetime(2026, 3, 1, tzinfo=UTC),
}


def because(source: str) -> list[tuple[Any, ...]]:
    explanation = compile_expression(source).explain(SCOPE, Budget(10_000))
    return [(cause["expression"], cause.get("value", cause.get("error"))) for cause in explanation["because"]]


@pytest.mark.parametrize(
    ("source", "causes"),
    [
        ("data.amount > 1000", [("data.amount > 1000", False)]),
        (
            "data.amount > 100 && 'manager' in user.roles && user.id == requester.id",
            [("'manager' in user.roles", False), ("user.id == requester.id", False)],
        ),
        ("data.amount > 100 && data.price > 1", [("data.amount > 100", True), ("data.price > 1", True)]),
        ("data.amount > 100 || data.price > 5", [("data.amount > 100", True)]),
        (
            "data.amount > 1000 || ('a' in user.roles && data.price > 1)",
            [("data.amount > 1000", False), ("'a' in user.roles", False)],
        ),
        ("!(data.amount > 100)", [("data.amount > 100", True)]),
        (
            "data.amount > 100 ? data.price > 5 : true",
            [("data.amount > 100", True), ("data.price > 5", False)],
        ),
        ("data.lines.all(l, l.price > 5)", [("l.price > 5", False)]),
        ("data.lines.exists(l, l.price > 5 && l.price < 10)", [("l.price > 5", True), ("l.price < 10", True)]),
        ("data.lines.exists(l, l.price > 100)", [("data.lines.exists(l, l.price > 100)", False)]),
        ("data.nothing > 5", [("data.nothing > 5", "data.nothing is missing")]),
        (
            "data.nothing > 5 && data.amount > 100",
            [("data.nothing > 5", "data.nothing is missing")],
        ),
        ("data.nothing > 5 && data.amount > 1000", [("data.amount > 1000", False)]),
        ("cel.bind(x, data.amount, x > 1000)", [("x > 1000", False)]),
        ("data.price * 2", [("data.price * 2", Decimal("3.00"))]),
    ],
)
def test_because(source: str, causes: list[tuple[Any, ...]]) -> None:
    """Only what decided is named: false operands of a false &&, the true ones of a true ||, the breaking element."""
    assert because(source) == causes


def test_whole_explanation() -> None:
    """The answer carries the source, the value, the causes, and by path the values that they read."""
    source = "data.amount > 1000 && has(data.note)"
    assert compile_expression(source).explain(SCOPE, Budget(1000)) == {
        "expression": source,
        "value": False,
        "because": [{"expression": "data.amount > 1000", "value": False}],
        "reads": {"data.amount": 500},
    }


def test_elements_are_named() -> None:
    """A cause inside a macro says which element it was."""
    explanation = compile_expression("data.lines.all(l, l.price > data.price * 2)").explain(SCOPE, Budget(1000))
    assert explanation["because"] == [
        {"expression": "l.price > data.price * 2", "value": False, "where": {"l": {"price": 3}}}
    ]
    assert explanation["reads"] == {"data.lines": [{"price": 9}, {"price": 3}], "data.price": Decimal("1.50")}


def test_an_error_is_explained() -> None:
    """Where there is no value there is the sentence why."""
    explanation = compile_expression("data.amount + 'a' == 'b'").explain(SCOPE, Budget(1000))
    assert "value" not in explanation
    assert explanation["error"].startswith("cannot calculate an int + a string")


@pytest.mark.parametrize(
    "source",
    ["data", "now", "data.span", "data.raw", "data.long", "data.many", "type(1)", "data.?amount", "1u", "[now, 1u]"],
)
def test_json(source: str) -> None:
    """Explanations can be written as JSON, decimals apart, and stay small whatever they read."""
    explanation = compile_expression(source).explain(SCOPE, Budget(100_000))
    assert len(json.dumps(explanation, default=lambda value: str(Decimal(value)))) < 10_000


def test_it_costs() -> None:
    """An explanation takes from the budget too."""
    with pytest.raises(BudgetExceeded):
        compile_expression("data.many.all(x, data.many.exists(y, x == y))").explain(SCOPE, Budget(5_000))
