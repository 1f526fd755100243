"""Step runs: what an instance remembers of the steps it is at work on.

A run is one passage through a step of the chart. Those at work are kept in the `machine`, by id; one that is over is
dropped, and what others need of it (its output, how to undo it) is kept apart. The history has the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

#: - `scheduled`: left to a worker
#: - `retrying`: its last attempt failed, the next one is due later
#: - `waiting`: for a person, an event, a time, an external worker, another workflow
#: - `open`: what it holds is at work
#: - `undoing`: a step inside has failed, and what had completed is being compensated
#: - `failed`: for good, and whoever handles that has not done so yet
#: - `stuck`: the same, and an incident tells of it
RunStatus: TypeAlias = Literal["scheduled", "retrying", "waiting", "open", "undoing", "failed", "stuck"]
#: Something outside, or a clock, is at work for the run.
IN_FLIGHT: Final = frozenset({"scheduled", "retrying", "waiting"})


class StepFailure(Struct, frozen=True, omit_defaults=True):
    """Why a step failed."""

    code: str
    message: str
    details: dict[str, Any] = {}
    #: the run where it began
    run: str = ""
    #: that step, and the attempts made
    step_id: str = ""
    attempts: int = 1


class Held(Struct, frozen=True, omit_defaults=True):
    """A result that has come and has not taken effect: the instance is suspended, or what follows from it failed."""

    output: Any = None
    #: None: a success
    failure: StepFailure | None = None
    retryable: bool = True
    retry_after_ms: int | None = None


class Ended(Struct, frozen=True, omit_defaults=True):
    """What became of a step that is over, as expressions and joins see it."""

    status: Literal["completed", "failed", "skipped"]
    output: Any = None
    #: why it failed, where that was passed over
    failure: StepFailure | None = None


class StepRun(Struct, frozen=True, omit_defaults=True):
    """A run at work."""

    #: counts up inside the instance: `step/7`
    id: str
    #: the step's place in the chart
    path: str
    step_id: str
    type: str
    status: RunStatus
    #: the state whose work it is part of; None: an event began it, beside the states
    state: str | None = None
    #: the run it stands in
    parent: str | None = None
    #: the branch of the `parallel` it stands in
    branch: str | None = None
    #: position of the element it is for, where its parent is a `for_each`; and the element
    index: int | None = None
    item: Any = None
    #: the attempt that is made, and the first one since it was begun or an operator began it anew
    attempt: int = 1
    first_attempt: int = 1
    started_at: datetime | None = None
    #: `retrying`: when the attempt is due
    due_at: datetime | None = None
    #: `receive`: what it waits for
    event_type: str | None = None
    key: str | None = None
    #: `sub_workflow`: the other instance
    child: str | None = None
    #: what it holds: the position of the step at work (`sequential`), the number of elements begun (`for_each`)
    position: int = 0
    #: `for_each`: how many elements there are, how many of them are done, and those not begun yet
    count: int = 0
    done: int = 0
    items: tuple[Any, ...] = ()
    #: what has ended in it: branches by id, elements by position where the output is needed
    ended: dict[str, Ended] = {}
    #: the output of the step that ended last in it, where that is needed
    output: Any = None
    #: `failed`, `stuck`, `undoing`: why
    failure: StepFailure | None = None
    held: Held | None = None
    #: a compensation: the number of what it undoes
    undoes: int | None = None
    #: what an event began: further names for its expressions and those inside, such as `event`
    names: dict[str, Any] = {}


class Undo(Struct, frozen=True, omit_defaults=True):
    """A completed step that can be compensated, and what its compensation may look at."""

    #: counts up inside the instance, so that the last one is undone first
    number: int
    path: str
    step_id: str
    #: the runs it stood in, nearest first
    within: tuple[str, ...]
    output: Any = None
    #: elements and positions of the loops it stood in, by the names expressions know them by
    variables: dict[str, Any] = {}
