"""The JSON Schema of a workflow definition, for editors and other languages.

It is made from the types in `definition.document`: their docstrings and `#:` comments become descriptions, so an editor
explains each key where it is written. The result is kept beside the code as `workflow-definition.schema.json`;
`python -m pliers_workflow.definition.schema` writes it anew, and a test fails while it is stale.

The schema gives shape only. What else must hold (names that lead somewhere, expressions that fit) `reading.read` says.
"""

from __future__ import annotations

import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from pydantic import BaseModel

from .document import WorkflowDefinition
from .shape import all_parts, keys_of

FILE: Final = Path(__file__).with_name("workflow-definition.schema.json")
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def definition_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of the document, a fresh copy."""
    return cast(dict[str, Any], msgspec.json.decode(_packaged()))


@cache
def _packaged() -> bytes:
    return FILE.read_bytes()


def make_schema() -> dict[str, Any]:
    """Make the schema from the types. Reads their source for the `#:` comments, so it wants the `.py` files."""
    made = WorkflowDefinition.model_json_schema(by_alias=True)
    definitions = made.get("$defs", {})
    for model in all_parts():
        target = made if model is WorkflowDefinition else definitions.get(model.__name__)
        if target is None:
            continue
        target["title"] = _words(model.__name__)
        target["description"] = _plain(inspect.getdoc(model) or "")
        comments = field_comments(model)
        for key, name in keys_of(model).items():
            shown = target["properties"][key]
            shown.pop("title", None)
            if name in comments:
                target["properties"][key] = {"description": comments[name], **shown}
    _close(made)
    return {"$schema": DIALECT, **made}


def _close(schema: object) -> None:
    """Refuse keys that fit no pattern, which pydantic does and forgets to write."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)


def field_comments(model: type[BaseModel]) -> dict[str, str]:
    """Give the `#:` comments that stand above the fields of a part of the document, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed([one for one in model.__mro__ if issubclass(one, BaseModel) and one is not BaseModel]):
        found |= _own_comments(base)
    return found


def _own_comments(model: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(model).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            comment.append(text.removeprefix("#:").strip())
        elif match := re.match(r"    ([a-z_]+): ", line):
            if comment:
                found[match[1]] = " ".join(comment)
            comment = []
        elif text and not text.startswith("#"):
            comment = []
    return found


def _words(name: str) -> str:
    """
    Spell a type's name in words.

    >>> _words("ApprovalStep")
    'Approval step'
    """
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: " " + match[1].lower(), name)


def _plain(docstring: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n"))


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
