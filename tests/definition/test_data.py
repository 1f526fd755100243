"""Paths into the data, title templates, and what a schema knows."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.definition.data import compile_schema, data_path, knows, parse_template, resolve

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number"},
        "traveller": {"$ref": "#/$defs/person"},
        "open": {"type": "object"},
        "closed": {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        "table": {"type": "object", "additionalProperties": {"$ref": "#/$defs/person"}},
        "pattern": {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False},
        "never": False,
    },
    "additionalProperties": False,
    "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}},
}


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("amount", True), ("total", False), ("amount.value", False), ("traveller.name", True), ("traveller.age", False),
        ("open.anything.at.all", True), ("closed.a.b", True), ("closed.b", False), ("table.x.name", True),
        ("table.x.age", False), ("pattern.x1", True), ("never", False),
    ],
)  # fmt: skip
def test_what_a_schema_knows(path: str, known: bool) -> None:
    """Only a field that the schema certainly rules out is unknown; references are followed."""
    assert knows(SCHEMA, tuple(path.split("."))) is known


def test_references_in_a_circle_are_no_trap() -> None:
    """Looking for a field ends, whatever the references do."""
    assert knows({"$ref": "#"}, ("a",)) in (True, False)
    assert resolve({"a~b": {"c/d": [1]}}, "#/a~0b/c~1d/0") == (("a~b", "c/d", 0), 1)
    assert resolve({"a b": 1}, "#/a%20b") == (("a b",), 1)
    assert resolve({}, "#/a") is None
    assert resolve({}, "#anchor") is None


def test_paths() -> None:
    """Below `data`, unless a path begins with `context.`."""
    assert data_path("context") == ("data", ("context",))
    assert data_path("context.a.b") == ("context", ("a", "b"))


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a b}", "{a}}", "{{a}}", "{a.}", "{1}"])
def test_broken_templates(template: str) -> None:
    """Braces must pair and hold a path."""
    with pytest.raises(ValueError, match=r"\.$"):
        parse_template(template)


def test_templates() -> None:
    """Texts and paths in turn; without a root a path is below `data`."""
    assert parse_template("no path") == ("no path",)
    assert parse_template("{a.b}{now}") == (("data", "a", "b"), ("now",))
    assert parse_template("") == ()


def test_problems_are_few_and_short() -> None:
    """Hostile data gives a bounded answer."""
    check = compile_schema({"type": "object", "additionalProperties": {"type": "integer"}})
    problems = check({str(number): "x" * 10_000 for number in range(1000)})
    assert len(problems) == 50
    assert all(len(message) <= 300 for _, message in problems)


def test_hostile_patterns_take_linear_time() -> None:
    """A pattern that backtracks for ever elsewhere answers at once."""
    check = compile_schema({"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}})
    assert check({"a": "a" * 5000 + "!"}) != []
