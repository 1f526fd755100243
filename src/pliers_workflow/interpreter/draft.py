"""A draft: the instance while one command is being interpreted.

The parts of the interpreter (statechart, approvals, clocks) work on a draft and nothing else. It changes only through
`emit`, which applies the event and keeps it, so that folding the events gives the instance by construction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Chart, Guard, Payload
    from pliers_workflow.definition.expressions import Budget, Expression

    from .commands import Actor
    from .effects import Effect
    from .events import Event
    from .facts import Fact, Facts, ScriptRequest
    from .instance import Instance


class Trigger(Struct, frozen=True):
    """A trigger on its way through the chart (SCXML's event)."""

    name: str
    data: Any = None
    #: user id of who fired it; None: the engine
    user: str | None = None
    #: from outside (`/advance`): the transition's `access` is asked
    external: bool = False


class Missing(Exception):
    """Facts are missing; becomes `Needs`. Used inside `interpret` only."""

    def __init__(self, keys: tuple[str, ...] = (), scripts: tuple[ScriptRequest, ...] = ()) -> None:
        super().__init__(keys, scripts)
        self.keys = keys
        self.scripts = scripts


class Refused(Exception):
    """The command is refused; becomes a `Rejection`. Used inside `interpret` only."""

    def __init__(self, reason: Any, **details: Any) -> None:
        super().__init__(reason, details)
        self.reason = reason
        self.details = details


class Draft:
    """See the module. `interpreter.interpret` makes one for each command and reads it out at the end."""

    chart: Chart
    #: the working copy
    instance: Instance
    now: datetime
    actor: Actor
    budget: Budget
    events: list[Event]
    effects: list[Effect]
    internal: deque[Trigger]
    #: zero-delay sends, delivered when the macrostep is over
    external: deque[Trigger]

    def __init__(
        self, chart: Chart, instance: Instance, *, actor: Actor, facts: Facts, now: datetime, budget: Budget
    ) -> None: ...

    def emit(self, event: Event) -> None:
        """Apply an event to the working copy and keep it."""
        raise NotImplementedError

    def owe(self, effect: Effect) -> None:
        """Leave a duty to the runtime."""
        raise NotImplementedError

    def number(self, counter: str) -> int:
        """Count up inside the instance: `number("timer")` is 1, then 2 … Kept with the events that carry the ids."""
        raise NotImplementedError

    def fact(self, key: str) -> Fact:
        """A fact, noted as looked at. Raises `Missing` when it is not there."""
        raise NotImplementedError

    def require(self, keys: tuple[str, ...]) -> None:
        """Ask for several facts at once, to save rounds. Raises `Missing` with all that are not there."""
        raise NotImplementedError

    def evaluate(self, expression: Expression, event: Trigger | None) -> Any:
        """The value of an expression. Raises `ExpressionError`, `BudgetExceeded`, `Missing`."""
        raise NotImplementedError

    def payload(self, payload: Payload, event: Trigger | None) -> Any:
        """Event data, evaluated."""
        raise NotImplementedError

    def holds(self, guard: Guard, event: Trigger | None) -> bool:
        """Whether all conditions hold. Raises as `evaluate`; a value that is not a boolean is an `ExpressionError`."""
        raise NotImplementedError

    def explain(self, guard: Guard, event: Trigger | None) -> Mapping[str, Any]:
        """Why a guard does not hold, for people: the first condition that fails, with the values it saw."""
        raise NotImplementedError

    def raise_internal(self, name: str, data: Any = None) -> None:
        """Put a trigger on the internal queue."""
        raise NotImplementedError

    def is_subject(self, subjects: tuple[str, ...], user: str | None) -> bool:
        """Whether a user is among `requester`, `anyone`, `user:NAME`, `role:KEY`, `group:KEY`; the engine always is."""
        raise NotImplementedError
