"""Words of the document: names, expressions, paths, minutes, subjects, and what every part of it has in common."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def only_numbers(value: object) -> object:
    """Refuse what pydantic would turn into a number: text like "5", and true."""
    if isinstance(value, bool | str):
        raise ValueError("should be a number")
    return value


def nothing_is_empty(value: object) -> object:
    """Read null and an empty list as an empty object, where earlier releases took them."""
    return {} if value is None or value == [] else value


#: A definition's, chain's, stage's, guard's or action's name. (`definition.names` refuses UUIDs and fixed path words.)
Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]*$", max_length=255)]
#: A state's or transition's id.
Id: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=255)]
#: One or more event descriptors, separated by blanks, matched by SCXML's dotted prefix: `approved`, `timeout.review`, `*`.
Trigger: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]
#: A CEL expression.
Expression: TypeAlias = Annotated[str, Field(min_length=1, max_length=4000)]
#: Semantic version 2.0.0 without build metadata.
Version: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
        r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?$",
        max_length=100,
    ),
]
#: A dotted path into the instance data: `amount`, `traveller.department`.
Path: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$", max_length=500)]
#: Minutes, fractions allowed; at most ten years.
Minutes: TypeAlias = Annotated[float, Field(gt=0, le=5_256_000), BeforeValidator(only_numbers)]
#: A text in which `{…}` holds a CEL expression; `{{` and `}}` are braces.
Template: TypeAlias = Annotated[str, Field(min_length=1, max_length=4000)]
#: Who: `requester`, `anyone`, `user:NAME`, `role:KEY` or `group:KEY`.
Subject: TypeAlias = Annotated[str, Field(pattern=r"^(requester|anyone|(user|role|group):[^\s]{1,200})$")]


class Document(BaseModel):
    """Base of every part of a definition: frozen, camelCase on the wire, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)
