"""The state machine: states, their clocks and properties, and the transitions between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from .actions import Action
from .conditions import Condition, GuardFunction
from .steps import Step, StepId
from .words import Document, Expression, Id, Minutes, Name, Subject, Trigger


class Initial(Document):
    """Where a machine or a compound state begins, with the actions of that step (SCXML `<initial>`)."""

    target: Annotated[tuple[Id, ...], Field(min_length=1)]
    actions: tuple[Action | Name, ...] = ()


class StateTimeout(Document):
    """A clock that starts when the state is entered and stops when it is left.

    When it runs out it raises `trigger`, by default `timeout.STATE`, which a transition may name in full or by prefix
    (`timeout`).
    """

    id: Name | None = None
    #: minutes, or CEL that gives minutes (evaluated on entry)
    after_minutes: Minutes | Expression
    trigger: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class StateProperties(Document):
    """What else a state may say of itself (named, not defined, by the specification)."""

    description: str | None = None
    #: compound state: the substate(s) entered by default; otherwise the substate of type `initial`, else the first.
    #: history state: what is entered when there is nothing to remember (required there)
    initial: Id | tuple[Id, ...] | Initial | None = None
    #: history state: `shallow` remembers the direct substates, `deep` the whole configuration below its parent
    history: Literal["shallow", "deep"] | None = None
    #: the approval chain that is started when this state is entered
    approval_chain: Name | None = None
    #: run one after another when the state is entered; given up when it is left
    steps: Annotated[tuple[StepId | Step, ...], Field(max_length=1000)] = ()
    #: final state: the data of the `done.state.PARENT` event, by name
    done_data: dict[str, Expression] | Expression | None = None
    #: who may edit the instance data here. Default: the requester, but nobody while an approval chain is asking
    editable_by: tuple[Subject, ...] | None = None


class WorkflowState(Document):
    """A node of the statechart (spec: WorkflowState).

    `initial` and `intermediate` states with substates are compound states; a `parallel` state's substates are its
    regions; a `choice` is left at once and needs a default transition (one without condition); `history` is beyond the
    specification.
    """

    #: may be left out in `states`, where the key names the state; required in `substates`
    id: Id | None = None
    name: str | None = None
    type: Literal["initial", "intermediate", "final", "parallel", "choice", "history"] = "intermediate"
    properties: StateProperties = StateProperties()
    entry_actions: tuple[Name | Action, ...] = ()
    exit_actions: tuple[Name | Action, ...] = ()
    timeouts: tuple[StateTimeout, ...] = ()
    substates: tuple[WorkflowState, ...] = ()


class WorkflowTransition(Document):
    """A way out of a state (spec: WorkflowTransition).

    Without `trigger` it is taken when its state has come to rest: at once; or, where the state has steps or an approval
    chain, when these are done and that is granted. `condition` and every guard must hold. Among the transitions of one
    state the higher `priority` is asked first, then the one that stands first in the document.
    """

    id: Id | None = None
    from_: Annotated[Id, Field(alias="from")]
    #: one state, several (in different regions of a parallel state), or none: actions only, nothing is left or entered
    to: Id | tuple[Id, ...] | None = None
    trigger: Trigger | None = None
    condition: Condition | None = None
    guards: tuple[Name, ...] = ()
    actions: tuple[Name | Action, ...] = ()
    priority: StrictInt = 0
    #: `internal`: a compound source state is not left when all targets lie inside it (SCXML §3.13)
    type: Literal["external", "internal"] = "external"
    #: who may fire it by hand; default: the definition's `access.advance`
    access: tuple[Subject, ...] | None = None


class StateMachine(Document):
    """States and transitions (spec: WorkflowStateMachine), with the semantics of W3C SCXML."""

    states: Annotated[dict[Id, WorkflowState], Field(min_length=1)]
    transitions: tuple[WorkflowTransition, ...] = ()
    #: the state(s) entered at the start; an object to run actions in that step
    initial_state: Id | tuple[Id, ...] | Initial
    #: ids of the top-level final states; may be left out, must agree with the states' types when given
    final_states: tuple[Id, ...] | None = None
    guards: dict[Name, GuardFunction] = {}
    actions: dict[Name, Action | tuple[Action, ...]] = {}
