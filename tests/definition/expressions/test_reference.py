"""The reference page tells the truth: its examples are run, and every function and operator is on it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from pliers_workflow.definition.document import ConditionExpression
from pliers_workflow.definition.expressions import (
    ROOTS,
    Budget,
    Environment,
    ExpressionError,
    check_expression,
    compile_expression,
)
from pliers_workflow.definition.expressions.functions import FUNCTIONS, METHODS

_PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "expressions.md").read_text("utf-8")
_JSON = msgspec.json.Decoder(float_hook=Decimal)
_SCOPE: dict[str, Any] = _JSON.decode(re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL)[0]) | {
    "now": datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
}
_EXAMPLES = [
    tuple(part.strip() for part in line.split("=> ", 1))
    for block in re.findall(r"```cel\n(.*?)```", _PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize(("source", "result"), _EXAMPLES)
def test_example(source: str, result: str) -> None:
    """Each example has the value beside it, and the static check has nothing against it."""
    expression = compile_expression(source)
    if result.startswith("error: "):
        with pytest.raises(ExpressionError) as caught:
            expression(_SCOPE, Budget(1000))
        assert caught.value.message == result.removeprefix("error: ")
    else:
        value = expression(_SCOPE, Budget(1000))
        expected = _JSON.decode(result)
        assert value == expected
        assert str(value) == str(expected)
    errors = [finding for finding in check_expression(expression, Environment()) if finding.severity == "error"]
    assert [error for error in errors if "never equals" not in error.message] == []


def test_there_are_examples() -> None:
    """The blocks were found."""
    assert len(_EXAMPLES) > 30


def test_explanation_example() -> None:
    """The explanation on the page is what comes out."""
    shown = next(
        _JSON.decode(block) for block in re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL) if "because" in block
    )
    assert compile_expression(shown["expression"]).explain(_SCOPE, Budget(1000)) == shown


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *METHODS}))
def test_every_function_is_described(name: str) -> None:
    """No function without a place on the page."""
    assert re.search(rf"\b{re.escape(name)}\(", _PAGE), name


def test_every_root_and_operator_is_described() -> None:
    """No root and no operator of simple conditions without a place on the page."""
    for root in ROOTS:
        assert f"| `{root}` |" in _PAGE
    annotation = ConditionExpression.model_fields["operator"].annotation
    for operator in (name for part in get_args(annotation) for name in get_args(part)):
        assert f"`{operator}`" in _PAGE
