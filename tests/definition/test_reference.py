"""The reference page cannot rot: every key and every finding code has its entry, and every example is right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from pliers_workflow.definition.findings import CODES
from pliers_workflow.definition.schema import definition_schema
from pliers_workflow.definition.shape import all_parts, keys_of

REFERENCE = Path(__file__).parents[2] / "docs/reference"
PAGE = "\n".join([(REFERENCE / name).read_text(encoding="utf-8") for name in ("definition.md", "steps.md")])
PARTS = {model.__name__: model for model in all_parts()}
#: what the example of these is: the parts by name, or in a list
BY_NAME = {"WorkflowState", "GuardFunction"}
LISTED = {"ConditionExpression"}


def section(part: str) -> str:
    """The text below a part's heading."""
    heading = re.sub(r"(?<=[a-z])([A-Z])", lambda match: " " + match[1].lower(), part)
    match = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no section {heading!r}"
    return match[1]


#: the keys that every step has, or every step that asks something outside
COMMON = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section("WhatEveryStepHas"), re.MULTILINE))


@pytest.mark.parametrize("part", PARTS)
def test_every_key_has_a_row(part: str) -> None:
    """Each key of each part stands in that part's table, with a meaning and a default."""
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section(part), re.MULTILINE))
    keys = keys_of(PARTS[part]).keys()
    if "compensation" in keys:  # what every step has is explained once
        rows = {key: meaning for key, meaning in COMMON.items() if key in keys} | rows
    assert rows.keys() >= keys
    rows = {key: rows[key] for key in keys}
    for meaning in rows.values():
        assert len(meaning) > 12


@pytest.mark.parametrize("part", PARTS)
def test_every_example_is_right(part: str) -> None:
    """Each part's example has the shape that the published schema asks for."""
    match = re.search(r"```json\n(.*?)```", section(part), re.DOTALL)
    assert match is not None
    example: Any = json.loads(match[1])
    schema = definition_schema()
    if part != "WorkflowDefinition":
        schema = {"$defs": schema["$defs"], "$ref": f"#/$defs/{part}"}
    validator = jsonschema_rs.Draft202012Validator(schema)
    for one in example.values() if part in BY_NAME else example if part in LISTED else [example]:
        assert [error.message for error in validator.iter_errors(one)] == []


def test_every_code_has_a_row() -> None:
    """Each finding code is explained, and no other."""
    rows = re.findall(r"^\| `([^`]+)` \| .+ \|$", section("Findings"), re.MULTILINE)
    assert sorted(rows) == sorted(CODES)
