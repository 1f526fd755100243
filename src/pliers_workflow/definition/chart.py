"""The chart: a definition compiled once, in the shape the interpreter runs.

States are numbered in document order, so that a configuration sorts by number; transitions stand in the order in which
they are asked; expressions are compiled. A chart is immutable and shared by all instances of its version.
`definition.compiler` makes it from a document that has no findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .expressions import Expression
    from .step_chart import Step


@dataclass(slots=True, frozen=True, eq=False)
class Script:
    """A script condition; the sandbox's answer reaches the interpreter as a fact keyed by `code_hash` and input hash."""

    source: str
    code_hash: str
    timeout_ms: int


@dataclass(slots=True, frozen=True, eq=False)
class Condition:
    """One compiled condition: an expression, or a script."""

    #: as written, for explanations
    source: str
    expression: Expression | None = None
    script: Script | None = None
    #: the guard's name, where it has one
    name: str | None = None


#: All of these must hold.
Guard: TypeAlias = tuple[Condition, ...]


# -- actions -----------------------------------------------------------------------------------------------------------

#: Event data: one expression, or one for each key.
Payload: TypeAlias = "Expression | Mapping[str, Expression] | None"


@dataclass(slots=True, frozen=True, eq=False)
class Assign:
    #: `data` or `context`
    root: Literal["data", "context"]
    path: tuple[str, ...]
    value: Expression


@dataclass(slots=True, frozen=True, eq=False)
class Raise:
    trigger: str
    data: Payload


@dataclass(slots=True, frozen=True, eq=False)
class Send:
    trigger: str
    data: Payload
    #: None: delivered as soon as the current macrostep is over
    delay: Expression | None
    delay_ms: int | None
    send_id: str | None


@dataclass(slots=True, frozen=True, eq=False)
class Cancel:
    send_id: str


@dataclass(slots=True, frozen=True, eq=False)
class Log:
    label: str | None
    value: Expression | None


@dataclass(slots=True, frozen=True, eq=False)
class If:
    #: an empty guard is the `else`
    branches: tuple[tuple[Guard, tuple[Action, ...]], ...]


@dataclass(slots=True, frozen=True, eq=False)
class Foreach:
    array: Expression
    item: Assign | tuple[str, tuple[str, ...]]
    index: tuple[str, tuple[str, ...]] | None
    actions: tuple[Action, ...]


Action: TypeAlias = Assign | Raise | Send | Cancel | Log | If | Foreach


# -- approvals ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True, eq=False)
class Approver:
    type: Literal["user", "role", "group", "dynamic"]
    identifier: str
    #: dynamic approvers only
    expression: Expression | None
    fallback: tuple[Approver, ...]


@dataclass(slots=True, frozen=True, eq=False)
class Stage:
    id: str
    index: int
    name: str
    approvers: tuple[Approver, ...]
    #: empty: always asked
    condition: Guard
    parallel: bool
    #: None: the default of `parallel`
    approvals_min: int | None
    unanimous: bool
    self_approval: bool
    comments_required: bool
    timeout_ms: int | None
    on_timeout: Literal["none", "grant", "refuse", "fallback"]
    on_rejection: Literal["refuse", "count"]
    fallback_outcome: Literal["granted", "refused"] | None
    #: None: everything is watched
    watched: tuple[tuple[str, ...], ...] | None


@dataclass(slots=True, frozen=True, eq=False)
class Chain:
    id: str
    name: str
    stages: tuple[Stage, ...]
    delegation: bool
    request_changes: bool
    distinct_approvers: bool
    stage_by_id: Mapping[str, Stage]


# -- states and transitions --------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True, eq=False)
class Clock:
    """A timeout of a state or of the workflow."""

    #: unique within its state
    id: str
    trigger: str
    after_ms: int | None
    #: minutes, evaluated on entry, where `after_ms` is None
    after: Expression | None


@dataclass(slots=True, eq=False)
class State:
    """A node of the chart. Filled by the compiler, then left alone."""

    id: str
    #: position in document order
    index: int
    name: str
    kind: Literal["atomic", "compound", "parallel", "final", "history"]
    #: a `choice` is left at once; a guard that fails with an error there takes the default transition
    choice: bool = False
    #: None: a child of the machine itself (SCXML's `<scxml>`)
    parent: State | None = None
    children: tuple[State, ...] = ()
    #: parents, nearest first
    ancestors: tuple[State, ...] = ()
    #: all states below, itself not included
    descendants: frozenset[State] = frozenset()
    #: inside a region of a parallel state
    in_region: bool = False
    history: Literal["shallow", "deep"] | None = None
    #: default entry of a compound state; default content of a history state
    initial: Entry | None = None
    #: history states among the children
    histories: tuple[State, ...] = ()
    entry_actions: tuple[Action, ...] = ()
    exit_actions: tuple[Action, ...] = ()
    #: in the order in which they are asked: higher priority first, then document order
    transitions: tuple[Transition, ...] = ()
    #: the same, only those without trigger
    eventless: tuple[Transition, ...] = ()
    clocks: tuple[Clock, ...] = ()
    chain: Chain | None = None
    #: run when it is entered; several stand in a `Sequential`
    steps: Step | None = None
    #: it has steps or a chain, for which its eventless transitions wait
    busy: bool = False
    done_data: Payload = None
    #: None: the default rule
    editable_by: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"<State {self.id}>"


@dataclass(slots=True, frozen=True, eq=False)
class Entry:
    """Targets and actions of an initial or history-default transition."""

    targets: tuple[State, ...]
    actions: tuple[Action, ...] = ()


@dataclass(slots=True, eq=False)
class Transition:
    id: str
    #: position in document order
    index: int
    source: State
    #: empty: a targetless transition
    targets: tuple[State, ...]
    #: event descriptors without their trailing `.*`; `*` matches all; empty: eventless
    triggers: tuple[str, ...]
    guard: Guard
    actions: tuple[Action, ...]
    internal: bool
    priority: int
    #: None: the definition's `access.advance`
    access: tuple[str, ...] | None

    def __repr__(self) -> str:
        return f"<Transition {self.id}>"


@dataclass(slots=True, eq=False)
class Chart:
    """A compiled definition."""

    name: str
    version: str
    #: in document order
    states: tuple[State, ...]
    by_id: Mapping[str, State]
    top: tuple[State, ...]
    initial: Entry
    transitions: tuple[Transition, ...]
    chains: Mapping[str, Chain]
    workflow_clock: Clock | None
    start_access: tuple[str, ...]
    view_access: tuple[str, ...]
    advance_access: tuple[str, ...]
    cancel_access: tuple[str, ...]
    administrators: tuple[Approver, ...]
    #: says what is wrong with instance data: a list of (JSON pointer, message), empty when it is valid
    check_data: Callable[[Mapping[str, Any]], list[tuple[str, str]]]
    #: some transition can match `error.execution`
    handles_errors: bool
    #: roots that any expression of the chart reads: `data`, `user`, `requester` …
    roots: frozenset[str] = field(default_factory=frozenset)
    #: the definition's `metadata`, for expressions
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: every step by its path, and those that events run by name
    steps: Mapping[str, Step] = field(default_factory=dict)
    named_steps: Mapping[str, Step] = field(default_factory=dict)
    #: the document's size measure; large charts are interpreted outside the batch
    weight: int = 0
    #: sha256 of the canonical document
    content_hash: str = ""
    #: what the interpreter has worked out once and keeps: candidates by state number and trigger, routes by transition
    #: number. Both follow from the rest of the chart, and are bounded.
    candidates: dict[tuple[int, str], tuple[Transition, ...]] = field(default_factory=dict, repr=False)
    routes: dict[int, Any] = field(default_factory=dict, repr=False)
    #: the title of instances: texts, and paths that begin with a root, such as `("data", "amount")`; empty: no title
    title: tuple[str | tuple[str, ...], ...] = ()
    #: the keys by which events from outside find instances, by name; and whether they rest on more than the data
    correlation: tuple[tuple[str, Expression], ...] = ()
    keys_move: bool = False
    #: actions of event handlers, by the handler's id
    handlers: Mapping[str, tuple[Action, ...]] = field(default_factory=dict)
    #: events from outside may reach living instances
    listens: bool = False
