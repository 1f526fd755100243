"""What interpreting a command comes to, when it is not refused."""

from __future__ import annotations

from msgspec import Struct

from .effects import Effect
from .events import Event
from .facts import Fact
from .instance import Instance


class Outcome(Struct, frozen=True):
    """The new instance, what happened, what is owed, and what it rested on.

    Folding `events` over the instance before gives `instance`.
    """

    instance: Instance
    events: tuple[Event, ...]
    effects: tuple[Effect, ...]
    #: the facts that were looked at, to be kept in the history row
    facts: dict[str, Fact]


class Overrun(Struct, frozen=True):
    """The budget for the batch is used up; interpret this command alone, with a larger one."""

    steps: int
