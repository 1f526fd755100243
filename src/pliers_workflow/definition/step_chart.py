"""Steps compiled: the part of the `chart` that is executable work.

A step stands at a *path* that is unique in the chart and stays the same as long as the document does: its state and its
id (`review/fetch`), or its place where it has no id of its own. What it does is its `work`; the interpreter has a
function for each kind. Where several steps stand in a row (in a state, a branch, a way, an iteration), a `Sequential`
without id of its own holds them; a single one stands for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from .chart import Assign, Chain, Guard, Payload
    from .expressions import Expression


@dataclass(slots=True, frozen=True, eq=False)
class Text:
    """A text with expressions in it."""

    pieces: tuple[str | Expression, ...]
    #: what expressions give is percent-encoded
    encoded: bool = False


@dataclass(slots=True, frozen=True, eq=False)
class Retry:
    """When a failed attempt is followed by another."""

    attempts_max: int
    delay_ms: int
    multiplier: float
    delay_max_ms: int
    #: share of the delay
    jitter: float
    #: None: every code that is not excluded
    codes: frozenset[str] | None
    excluded: frozenset[str]


# -- work --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True, eq=False)
class Outside:
    """Done by a worker: `plugin`, `http`, `script`, `notification`, `external`."""

    queue: str
    #: plain values, and `Text`s and expressions to be evaluated
    configuration: Any
    #: fetched over the API by somebody else's worker
    external: bool = False
    #: higher first
    priority: int = 0


@dataclass(slots=True, frozen=True, eq=False)
class SetFields:
    assignments: tuple[Assign, ...]


@dataclass(slots=True, frozen=True, eq=False)
class Wait:
    after_ms: int | None
    after: Expression | None
    until: Expression | None


@dataclass(slots=True, frozen=True, eq=False)
class Emit:
    event_type: str
    subject: Expression | None
    data: Payload


@dataclass(slots=True, frozen=True, eq=False)
class Receive:
    event_type: str
    key: Expression
    #: by what the event is known (`listening.event_key_id`)
    by: str


@dataclass(slots=True, frozen=True, eq=False)
class Ask:
    """Ask an approval chain."""

    chain: Chain


@dataclass(slots=True, frozen=True, eq=False)
class Child:
    """Start another workflow."""

    workflow: Text
    version: str | None
    waits: bool
    on_failure: Literal["fail_parent", "continue", "retry"]


@dataclass(slots=True, eq=False)
class Sequential:
    steps: tuple[Step, ...]
    rollback: bool = False


@dataclass(slots=True, frozen=True, eq=False)
class Branch:
    id: str
    condition: Guard
    weight: float
    step: Step


@dataclass(slots=True, eq=False)
class Parallel:
    branches: tuple[Branch, ...]
    wait: Literal["all", "any", "majority", "custom"]
    on_failure: Literal["fail_fast", "wait_all", "continue"]
    done: Expression | None

    def branch(self, id: str) -> Branch:
        """The branch of this id."""
        return next(each for each in self.branches if each.id == id)


@dataclass(slots=True, eq=False)
class Conditional:
    condition: Guard
    #: None: nothing is done
    when_true: Step | None
    when_false: Step | None
    when_error: Step | None
    #: an error takes that way; else it fails the step
    has_default: bool


@dataclass(slots=True, eq=False)
class ForEach:
    items: Expression
    item: str
    index: str
    concurrency: int
    step: Step


Work: TypeAlias = (
    Outside | SetFields | Wait | Emit | Receive | Ask | Child | Sequential | Parallel | Conditional | ForEach
)


@dataclass(slots=True, eq=False)
class Step:
    """A step in its place. Filled by the compiler, then left alone."""

    path: str
    #: as expressions and triggers know it
    id: str
    name: str
    type: str
    work: Work
    #: the steps it stands in, nearest first
    ancestors: tuple[Step, ...] = ()
    condition: Guard = ()
    timeout_ms: int | None = None
    #: None: its first failure is final
    retry: Retry | None = None
    continue_on_error: bool = False
    compensation: Step | None = None
    inputs: Mapping[str, Expression] = field(default_factory=dict)
    outputs: tuple[Assign, ...] = ()
    #: an expression somewhere reads what became of it (`steps.ID`), so it is kept while it can be seen
    kept: bool = False
    #: what it stands in makes its own output of this one's
    collected: bool = False
    #: it can be undone, and something around it may want that
    undoable: bool = False
    #: around it nothing may want to undo what was done inside
    forgets: bool = False

    @property
    def wanted(self) -> bool:
        """Whether somebody looks at its output: an expression, what it stands in, or the step that undoes it."""
        return self.kept or self.collected or self.undoable or bool(self.outputs)

    def __repr__(self) -> str:
        return f"<Step {self.path}>"
