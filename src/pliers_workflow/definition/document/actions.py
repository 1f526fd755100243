"""Actions: SCXML's executable content."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from .conditions import Condition
from .words import Document, Expression, Name, Path, only_numbers


class AssignAction(Document):
    """Set one field of the instance data (SCXML `<assign>`)."""

    type: Literal["assign"]
    #: a path below `data`, or below `context` when it begins with `context.`
    field: Path
    value: Expression


class RaiseAction(Document):
    """Put a trigger on the internal queue: it is worked off before anything from outside (SCXML `<raise>`)."""

    type: Literal["raise"]
    trigger: Annotated[str, Field(min_length=1, max_length=255)]
    data: dict[str, Expression] | Expression | None = None


class SendAction(Document):
    """Send this instance a trigger later (SCXML `<send>`); without delay it follows the current macrostep at once."""

    type: Literal["send"]
    trigger: Annotated[str, Field(min_length=1, max_length=255)]
    data: dict[str, Expression] | Expression | None = None
    #: minutes, or CEL that gives minutes
    delay_minutes: Annotated[float, Field(ge=0, le=5_256_000), BeforeValidator(only_numbers)] | Expression | None = None
    #: name by which `cancel` finds it
    send_id: Name | None = None


class CancelAction(Document):
    """Cancel a delayed trigger that has not fired yet (SCXML `<cancel>`)."""

    type: Literal["cancel"]
    send_id: Name


class LogAction(Document):
    """Leave a note in the history (SCXML `<log>`)."""

    type: Literal["log"]
    label: str | None = None
    value: Expression | None = None


class Branch(Document):
    """One branch of an `if`; without condition it is the `else`."""

    condition: Condition | None = None
    actions: tuple[Action | Name, ...] = ()


class IfAction(Document):
    """Run the first branch whose condition holds (SCXML `<if>`)."""

    type: Literal["if"]
    branches: Annotated[tuple[Branch, ...], Field(min_length=1)]


class ForeachAction(Document):
    """Run actions once for each element of a list (SCXML `<foreach>`)."""

    type: Literal["foreach"]
    array: Expression
    #: path of the data field that holds the element in turn
    item: Path
    #: path of the data field that holds its position, from 0
    index: Path | None = None
    actions: tuple[Action | Name, ...] = ()


Action: TypeAlias = Annotated[
    AssignAction | RaiseAction | SendAction | CancelAction | LogAction | IfAction | ForeachAction,
    Field(discriminator="type"),
]
