"""Steps: executable work of a state (spec: Execution Patterns, Sub-workflow Support).

A step is a *leaf*, which does something itself, or holds other steps: one after another (`sequential`), side by side
(`parallel`), one of several ways (`conditional`), or once for each element of a list (`for_each`). Wherever a step
stands, the name of one of the definition's `steps` may stand instead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from .conditions import Condition
from .words import Document, Expression, Minutes, Name, Path, Template, only_numbers

#: A step's id, or its name in `steps`: what expressions (`steps.fetch.output`) and triggers (`error.step.fetch`) call it.
StepId: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=100)]
#: What names an element, an index or an input in expressions.
Variable: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=2_678_400), BeforeValidator(only_numbers)]
Weight: TypeAlias = Annotated[float, Field(gt=0, le=1_000_000), BeforeValidator(only_numbers)]
#: What failed, for machines: `TIMEOUT`, `HTTP_503`, a plugin's own.
Code: TypeAlias = Annotated[str, Field(min_length=1, max_length=100)]
#: The type of an event: `com.example.order.paid`.
EventType: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=255)]
#: The same; one that ends in `.*` stands for all that begin so.
EventTypes: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*(\.\*)?$", max_length=255)]


class RetryPolicy(Document):
    """How often a step is tried again that failed, and after how long (named, not defined, by the specification)."""

    #: attempts in all; default: the engine's setting, 3
    max_attempts: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    #: before the second attempt
    initial_delay_seconds: Seconds = 1
    #: each further delay is so many times the one before
    backoff_multiplier: Annotated[float, Field(ge=1, le=100), BeforeValidator(only_numbers)] = 2
    #: no delay is longer
    max_delay_seconds: Seconds = 3600
    #: share of the delay by which it may be shorter or longer, so that many do not come back at one moment
    jitter: Annotated[float, Field(ge=0, le=1), BeforeValidator(only_numbers)] = 0.2
    #: only failures of these codes are worth another attempt; default: all that do not say they are final
    retry_on: tuple[Code, ...] | None = None
    #: failures of these codes are final
    do_not_retry_on: tuple[Code, ...] = ()


class _Step(Document):
    #: unique among the steps of its state; default: its name in `steps`, else its place
    id: StepId | None = None
    #: for people
    name: Annotated[str, Field(max_length=500)] | None = None
    description: str | None = None
    #: false: the step is skipped, on record
    condition: Condition | None = None
    #: how long it may take, each attempt anew; then it fails with the code `TIMEOUT`
    timeout_minutes: Minutes | None = None
    #: only where something outside is asked, which may answer better the next time
    retry_policy: RetryPolicy | None = None
    #: when it fails for good, or what stands in it (of a `sequential` or `for_each`) does, what follows goes on
    continue_on_error: StrictBool = False
    #: undoes it, when something after it fails inside a `sequential` with `rollbackOnFailure`
    compensation: StepId | Step | None = None
    #: what is written when it has completed: path of a data field -> CEL, which sees `output` besides the rest
    output_mapping: dict[Path, Expression] = {}


class _Asking(_Step):
    #: what it is given: name -> CEL
    input_mapping: dict[Variable, Expression] = {}


class _Outside(_Asking):
    #: among the steps of one workflow that wait for the same queue the higher is begun first
    priority: Annotated[StrictInt, Field(ge=-100, le=100)] = 0


# -- leaves ------------------------------------------------------------------------------------------------------------


class PluginStep(_Outside):
    """Call an installed plugin."""

    type: Literal["plugin"]
    plugin_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=255)]
    #: as the plugin's own schema wants it; handed on as it stands
    configuration: dict[str, Any] = {}


class HttpStep(_Outside):
    """Ask a web service. The output is `{status, headers, body}`."""

    type: Literal["http"]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    #: what stands in braces is CEL, and is percent-encoded: `https://api.example.com/orders/{data.order}`
    url: Template
    #: by name; what stands in braces is CEL
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=255)], Template] = {}
    #: sent as JSON: CEL, or one for each key
    body: dict[str, Expression] | Expression | None = None
    #: status codes that are no failure; default: 200 to 299
    expected_status: tuple[Annotated[StrictInt, Field(ge=100, le=599)], ...] | None = None


class ScriptStep(_Outside):
    """Run a Python script in the sandbox; the value of its last line is the output. It sees `input` and nothing else."""

    type: Literal["script"]
    script: Annotated[str, Field(min_length=1, max_length=20_000)]


class NotificationStep(_Outside):
    """Tell somebody something."""

    type: Literal["notification"]
    #: name of a template of the channel, or the text itself; what stands in braces is CEL
    template: Template
    #: whom: `requester`, `user:NAME`, `role:KEY`, `group:KEY`, or an address of the channel; braces hold CEL
    recipients: Annotated[tuple[Template, ...], Field(min_length=1, max_length=1000)]
    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10)] = ("webhook",)
    #: what the template is filled with, by name
    variables: dict[Variable, Expression] = {}


class ExternalStep(_Outside):
    """Leave work to a worker outside, which fetches and completes it over the API."""

    type: Literal["external"]
    #: what workers subscribe to
    topic: Name


class AssignStep(_Step):
    """Set fields of the instance data."""

    type: Literal["assign"]
    #: path of a data field -> CEL; all see the data as they were before
    assignments: Annotated[dict[Path, Expression], Field(min_length=1)]


class WaitStep(_Step):
    """Let time pass. One of the two keys is needed."""

    type: Literal["wait"]
    #: minutes, or CEL that gives minutes or a duration
    duration_minutes: Minutes | Expression | None = None
    #: CEL that gives a timestamp; one that has passed is no wait
    until: Expression | None = None


class EmitStep(_Step):
    """Tell the world that something happened: an event for subscribers, with the instance's id as its source."""

    type: Literal["emit"]
    event_type: EventType
    #: CEL that gives a text
    subject: Expression | None = None
    data: dict[str, Expression] | Expression | None = None


class ReceiveStep(_Step):
    """Wait for an event from outside. The output is the event: `output.data.total`, `output.type`."""

    type: Literal["receive"]
    #: exact, or a prefix that ends in `.*`
    event_type: EventTypes
    #: CEL: the value by which the event is known to be meant for this instance
    correlation_key: Expression
    #: CEL over `event`: where the event carries that value; default: its attribute `correlationkey`, else its `subject`
    event_key: Expression | None = None


class ApprovalTask(_Step):
    """Ask an approval chain. Granted: it completes; refused: it fails with the code `REJECTED`."""

    type: Literal["approval"]
    chain_id: Name


class SubWorkflowStep(_Asking):
    """Start another workflow (spec: SubWorkflowStep). The output is `{instance, status, state, data}`."""

    type: Literal["sub_workflow"]
    #: name of a definition; what stands in braces is CEL: `travel_{data.country}`
    workflow_id: Template
    #: a version or a range; default: the active version
    version: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    #: false: the step is done as soon as the other workflow has started
    wait_for_completion: StrictBool = True
    #: when the other workflow fails or is cancelled: this step fails; it completes all the same; it starts another
    failure_handling: Literal["fail_parent", "continue", "retry"] = "fail_parent"


# -- steps that hold steps ---------------------------------------------------------------------------------------------


class SequentialExecution(_Step):
    """Steps one after another (spec: SequentialExecution). The output is that of the last one."""

    type: Literal["sequential"]
    steps: Annotated[tuple[StepId | Step, ...], Field(min_length=1, max_length=1000)]
    #: when one fails for good, those that have completed are compensated, the last one first; then this fails
    rollback_on_failure: StrictBool = False


class ExecutionBranch(Document):
    """A branch of a `parallel` (spec: ExecutionBranch)."""

    id: StepId
    name: Annotated[str, Field(max_length=500)] | None = None
    #: false: this branch is not run, and does not count
    condition: Condition | None = None
    steps: Annotated[tuple[StepId | Step, ...], Field(min_length=1, max_length=1000)]
    #: its weight in a `majority`
    weight: Weight = 1
    #: how long it may take; then it has failed with the code `TIMEOUT`, and what is at work in it is given up
    timeout_minutes: Minutes | None = None


class ParallelExecution(_Step):
    """Branches side by side (spec: ParallelExecution). The output is that of each branch, by its id."""

    type: Literal["parallel"]
    branches: Annotated[tuple[ExecutionBranch, ...], Field(min_length=1, max_length=1000)]
    #: when it is done: all branches have completed; one has; more than half of the weights; `completionCondition` holds
    wait_strategy: Literal["all", "any", "majority", "custom"] = "all"
    #: what a failed branch does: everything fails at once; it fails when all branches have ended; the others decide
    failure_strategy: Literal["fail_fast", "wait_all", "continue"] = "fail_fast"
    #: `custom`: CEL over `branches` (`branches.legal.status`, `.output`, `.weight`) and `counts`
    #: (`total`, `completed`, `failed`, `running`); asked whenever a branch has ended
    completion_condition: Expression | None = None


class ExecutionPath(Document):
    """The steps of one way of a `conditional`."""

    steps: tuple[StepId | Step, ...] = ()


class ConditionalExecution(_Step):
    """One of two ways (spec: ConditionalExecution). The output is that of the way taken."""

    type: Literal["conditional"]
    #: which way; it does not skip the step
    condition: Condition
    true_branch: ExecutionPath
    #: default: nothing is done
    false_branch: ExecutionPath | None = None
    #: taken when the condition cannot be evaluated; without it the step fails
    default_branch: ExecutionPath | None = None


class ForEachExecution(_Step):
    """The same steps for each element of a list. The output is the list of what each element's steps gave."""

    type: Literal["for_each"]
    #: CEL that gives a list, of at most 10,000 elements
    items: Expression
    #: what expressions inside call the element, and its position from 0
    item_name: Variable = "item"
    index_name: Variable = "index"
    #: so many elements at once
    max_concurrency: Annotated[StrictInt, Field(ge=1, le=1000)] = 10
    steps: Annotated[tuple[StepId | Step, ...], Field(min_length=1, max_length=1000)]


Step: TypeAlias = Annotated[
    PluginStep
    | HttpStep
    | ScriptStep
    | NotificationStep
    | ExternalStep
    | AssignStep
    | WaitStep
    | EmitStep
    | ReceiveStep
    | ApprovalTask
    | SubWorkflowStep
    | SequentialExecution
    | ParallelExecution
    | ConditionalExecution
    | ForEachExecution,
    Field(discriminator="type"),
]
