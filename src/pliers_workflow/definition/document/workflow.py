"""The whole document, and what it says of its instances: how they show, who may do what, when they are late."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from .approvals import ApprovalChain, ApproverDefinition
from .conditions import ConditionExpression
from .hooks import EventHookConfiguration
from .machine import StateMachine
from .steps import Step, StepId
from .words import Document, Id, Minutes, Name, Path, Subject, Version, nothing_is_empty


class TimeoutConfiguration(Document):
    """Clocks of states and of the whole workflow (spec: TimeoutConfiguration)."""

    #: minutes by step id: the same as the step's `timeoutMinutes`
    step_timeouts: Annotated[dict[StepId, Minutes], BeforeValidator(nothing_is_empty)] = {}
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
    #: steps by name, to be used in several places, or by triggers of `eventHooks`
    steps: Annotated[dict[StepId, Step], BeforeValidator(nothing_is_empty)] = {}
    approval_chains: tuple[ApprovalChain, ...] = ()
    #: named conditions, for `guards` of transitions
    conditions: dict[Name, ConditionExpression] = {}
    timeout_config: TimeoutConfiguration = TimeoutConfiguration()
    access: Access = Access()
    #: what happens when events come from outside
    event_hooks: Annotated[EventHookConfiguration, BeforeValidator(nothing_is_empty)] = EventHookConfiguration()
    #: JSON Schema 2020-12 of the instance data, an object; what a command leaves fits it, whoever has written it
    data_schema: dict[str, Any] = {}
    #: a designer's coordinates; kept as they are
    layout: dict[str, Any] | None = None
    # Come with later releases; refused as `not_supported_yet` until then.
    sla: Any = None
    migrations: Any = None
