"""The workflow definition as authors write it: one JSON document, camelCase, every key explained where it stands.

This is the specification's `WorkflowDefinition` and all types below it. What the specification names without defining
(`StateProperties`, `StateTimeout`, `ActionFunction`, `ApprovalConfiguration` …) is defined here with our reading. The
models only give shape; meaning is checked by `definition.checks`, and the published JSON Schema is made from them.

Instants are not part of a document. Durations are minutes, fractions allowed, in keys that end in `Minutes`.
Expressions are CEL (`definition.expressions`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt
from pydantic.alias_generators import to_camel


def _only_numbers(value: object) -> object:
    """Refuse what pydantic would turn into a number: text like "5", and true."""
    if isinstance(value, bool | str):
        raise ValueError("should be a number")
    return value


# -- words -------------------------------------------------------------------------------------------------------------

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
Minutes: TypeAlias = Annotated[float, Field(gt=0, le=5_256_000), BeforeValidator(_only_numbers)]
#: Who: `requester`, `anyone`, `user:NAME`, `role:KEY` or `group:KEY`.
Subject: TypeAlias = Annotated[str, Field(pattern=r"^(requester|anyone|(user|role|group):[^\s]{1,200})$")]


class Document(BaseModel):
    """Base of every part of a definition: frozen, camelCase on the wire, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


# -- conditions --------------------------------------------------------------------------------------------------------


class ConditionExpression(Document):
    """A condition in one of three forms (spec: Conditional Execution).

    `simple` compares a field with a value and compiles to CEL; `complex` is a CEL expression; `script` is Python that
    runs in a sandbox with time and memory limits and whose last expression is the answer.
    """

    type: Literal["simple", "complex", "script"]
    #: simple: path of the field, e.g. `data.amount`; a path without a known root is below `data`
    field: str | None = None
    operator: (
        Literal[
            "equals",
            "not_equals",
            "greater_than",
            "greater_than_or_equal",
            "less_than",
            "less_than_or_equal",
            "in",
            "not_in",
            "contains",
            "not_contains",
            "starts_with",
            "ends_with",
            "matches",
            "exists",
            "not_exists",
            "is_empty",
            "is_not_empty",
            "between",
        ]
        | None
    ) = None
    #: simple: what the field is compared with; a list for `in`, `not_in` and `between`
    value: Any = None
    #: complex: the CEL expression
    expression: Expression | None = None
    #: script: the source
    script: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None


#: CEL as a string, or a condition object.
Condition: TypeAlias = Expression | ConditionExpression


class GuardFunction(Document):
    """A named guard that transitions refer to (spec: Guard Functions)."""

    name: str | None = None
    description: str | None = None
    #: what must hold; the specification's `evaluate` as data
    condition: Condition
    #: names of guards that must hold before this one is asked
    dependencies: tuple[Name, ...] = ()
    #: script conditions: milliseconds the sandbox may take
    timeout: Annotated[StrictInt, Field(gt=0, le=10_000)] | None = None


# -- actions (SCXML executable content) --------------------------------------------------------------------------------


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
    delay_minutes: Annotated[float, Field(ge=0, le=5_256_000), BeforeValidator(_only_numbers)] | Expression | None = (
        None
    )
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


# -- state machine -----------------------------------------------------------------------------------------------------


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

    Without `trigger` it is taken when its state has come to rest: at once; or, where the state has an approval chain,
    when that is granted. `condition` and every guard must hold. Among the transitions of one state the higher
    `priority` is asked first, then the one that stands first in the document.
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


# -- approvals ---------------------------------------------------------------------------------------------------------


class ApproverDefinition(Document):
    """Whom to ask (spec: ApproverDefinition)."""

    type: Literal["user", "role", "group", "dynamic"]
    #: a username, a role or group key; `dynamic`: CEL that gives a username, a list of them, or `role:KEY`/`group:KEY`
    identifier: Annotated[str, Field(min_length=1, max_length=4000)]
    #: asked instead, in this order, when nobody stands behind `identifier`
    fallback: tuple[ApproverDefinition, ...] = ()


class ApprovalRequirements(Document):
    """What a stage needs to be granted (spec: ApprovalRequirements).

    `unanimousRequired: true` wins over `minimumApprovals`, which wins over the default: every approver where the stage
    is parallel, one where it is sequential.
    """

    #: votes of different people
    minimum_approvals: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    #: every eligible person must approve, all members of a role or group included
    unanimous_required: StrictBool | None = None
    allow_self_approval: StrictBool = False
    require_comments: StrictBool = False
    #: the stage's clock; see `ApprovalStep.on_timeout`
    timeout_minutes: Minutes | None = None


class ApprovalStep(Document):
    """A stage: one level of an approval chain (spec: ApprovalStep)."""

    id: Name
    name: str | None = None
    #: a `conditional` stage has a `condition`; false skips it, on record
    type: Literal["individual", "group", "role", "conditional"] = "individual"
    approvers: Annotated[tuple[ApproverDefinition, ...], Field(min_length=1, max_length=1000)]
    requirements: ApprovalRequirements = ApprovalRequirements()
    condition: Condition | None = None
    #: true: all are asked at once; false: one after another
    parallel: StrictBool = False
    #: `refuse`: one rejection refuses the stage; `count`: it only removes that voice
    on_rejection: Literal["refuse", "count"] = "refuse"
    #: what the stage's clock does besides raising `timeout.CHAIN.STAGE`
    on_timeout: Literal["none", "grant", "refuse", "fallback"] = "none"
    #: how the stage ends when its result has become impossible to reach; without it an incident is raised
    fallback_outcome: Literal["granted", "refused"] | None = None
    #: after a round of changes the stage is asked again only if one of these changed; default: always
    watched_fields: tuple[Path, ...] | None = None
    #: comes with a later release; refused until then
    escalation: Any = None


class ApprovalConfiguration(Document):
    """What holds for all stages of a chain (named, not defined, by the specification)."""

    allow_delegation: StrictBool = True
    allow_request_changes: StrictBool = True
    #: a person may decide in one stage of the chain only (separation of duties)
    distinct_approvers: StrictBool = False


class ApprovalChain(Document):
    """Stages asked one after another (spec: ApprovalChain).

    The chain raises `approved` when its last stage is granted, `rejected` as soon as one is refused, and
    `changes_requested` when an approver asks for changes.
    """

    id: Name
    name: str | None = None
    description: str | None = None
    steps: Annotated[tuple[ApprovalStep, ...], Field(min_length=1, max_length=100)]
    configuration: ApprovalConfiguration = ApprovalConfiguration()


# -- the rest of the document ------------------------------------------------------------------------------------------


class TimeoutConfiguration(Document):
    """Clocks of states and of the whole workflow (spec: TimeoutConfiguration)."""

    #: comes with steps; refused until then
    step_timeouts: Any = None
    #: minutes by state id: the same as a timeout of that state without a name
    state_timeouts: dict[Id, Minutes] = {}
    #: minutes from the start; raises `timeout.workflow`, and fails the instance where no transition handles that
    workflow_timeout: Minutes | None = None
    #: comes with a later release; refused until then
    escalation_rules: Any = None


class Display(Document):
    """How instances show in lists."""

    #: text with `{path}` fields, e.g. `Expense of {requester.username}: {data.amount}`
    title: Annotated[str, Field(max_length=500)] | None = None
    #: data fields shown as columns
    fields: tuple[Path, ...] = ()


class Access(Document):
    """Who may do what with instances of this definition. Operators may always do it, and their doing is on record."""

    start: tuple[Subject, ...] = ("anyone",)
    #: who sees every instance; requester and approvers see theirs anyway
    view: tuple[Subject, ...] = ()
    #: who may fire transitions by hand
    advance: tuple[Subject, ...] = ("requester",)
    #: who may cancel
    cancel: tuple[Subject, ...] = ("requester",)
    #: asked when a stage's approvers and their fallbacks are all missing
    administrators: tuple[ApproverDefinition, ...] = ()


class WorkflowDefinition(Document):
    """A workflow definition: the whole document."""

    #: the schema's address, for editors; has no meaning here
    schema_: Annotated[str | None, Field(alias="$schema")] = None
    name: Name
    version: Version
    title: Annotated[str, Field(min_length=1, max_length=500)]
    description: str | None = None
    metadata: dict[str, Any] = {}
    display: Display = Display()
    state_machine: StateMachine
    approval_chains: tuple[ApprovalChain, ...] = ()
    #: named conditions, for `guards` of transitions
    conditions: dict[Name, ConditionExpression] = {}
    timeout_config: TimeoutConfiguration = TimeoutConfiguration()
    access: Access = Access()
    #: JSON Schema 2020-12 of the instance data, an object
    data_schema: dict[str, Any] = {}
    #: a designer's coordinates; kept as they are
    layout: dict[str, Any] | None = None
    # Come with later releases; refused as `not_supported_yet` until then.
    steps: Any = None
    event_hooks: Any = None
    sla: Any = None
    migrations: Any = None
