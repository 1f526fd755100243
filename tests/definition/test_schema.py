"""The published JSON Schema: fresh, valid, and of one mind with the types."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from pliers_workflow.definition import schema
from pliers_workflow.definition.shape import all_parts, keys_of
from tests.charts import NAMES, load
from tests.definition.test_reading import SHAPES, changed


def test_the_file_is_fresh() -> None:
    """The packaged file is what the types give now; `python -m pliers_workflow.definition.schema` writes it."""
    assert schema.FILE.read_text(encoding="utf-8") == schema.text()


def test_it_is_a_schema() -> None:
    """It obeys the rules of JSON Schema 2020-12."""
    jsonschema_rs.meta.validate(schema.definition_schema())


@pytest.mark.parametrize("name", NAMES)
def test_named_charts_obey_it(name: str) -> None:
    """What reads without findings is valid by the schema."""
    validator = jsonschema_rs.Draft202012Validator(schema.definition_schema())
    assert [error.message for error in validator.iter_errors(load(name))] == []


#: mistakes that a schema cannot see
BEYOND = {"reserved_name", "not_supported_yet", "bad_text", "bad_number"}


@pytest.mark.parametrize(
    ("path", "value"),
    [row[:2] for row in SHAPES if row[3] not in BEYOND and row[0] != "metadata"],
    ids=lambda v: str(v)[:40],
)
def test_wrong_shapes_break_it(path: str, value: Any) -> None:
    """Every mistake of shape that reading finds, an editor finds with the schema too."""
    assert not jsonschema_rs.Draft202012Validator(schema.definition_schema()).is_valid(changed(path, value))


def test_every_key_is_explained() -> None:
    """Each type has a title and a description; keys have what their `#:` comment says."""
    made = schema.definition_schema()
    for model in all_parts():
        part = made if model.__name__ == "WorkflowDefinition" else made["$defs"][model.__name__]
        assert part["title"]
        assert part["description"]
        for name, comment in schema.field_comments(model).items():
            key = next(key for key, field in keys_of(model).items() if field == name)
            assert part["properties"][key]["description"] == comment
