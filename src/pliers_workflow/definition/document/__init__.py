"""The workflow definition as authors write it: one JSON document, camelCase, every key explained where it stands.

This is the specification's `WorkflowDefinition` and all types below it. What the specification names without defining
(`StateProperties`, `StateTimeout`, `ActionFunction`, `ApprovalConfiguration` …) is defined here with our reading. The
models only give shape; meaning is checked by `definition.checks`, and the published JSON Schema is made from them.

Instants are not part of a document. Durations are minutes, fractions allowed, in keys that end in `Minutes`.
Expressions are CEL (`definition.expressions`).
"""

from __future__ import annotations

from .actions import (
    Action,
    AssignAction,
    Branch,
    CancelAction,
    ForeachAction,
    IfAction,
    LogAction,
    RaiseAction,
    SendAction,
)
from .approvals import (
    ApprovalChain,
    ApprovalConfiguration,
    ApprovalRequirements,
    ApprovalStep,
    ApproverDefinition,
)
from .conditions import (
    Condition,
    ConditionExpression,
    GuardFunction,
)
from .hooks import (
    CorrelationKey,
    EventFilter,
    EventHandler,
    EventHookConfiguration,
    EventTrigger,
    TriggerAction,
)
from .machine import (
    Initial,
    StateMachine,
    StateProperties,
    StateTimeout,
    WorkflowState,
    WorkflowTransition,
)
from .steps import (
    ApprovalTask,
    AssignStep,
    ConditionalExecution,
    EmitStep,
    ExecutionBranch,
    ExecutionPath,
    ExternalStep,
    ForEachExecution,
    HttpStep,
    NotificationStep,
    ParallelExecution,
    PluginStep,
    ReceiveStep,
    RetryPolicy,
    ScriptStep,
    SequentialExecution,
    Step,
    StepId,
    SubWorkflowStep,
    WaitStep,
)
from .words import (
    Document,
    Expression,
    Id,
    Minutes,
    Name,
    Path,
    Subject,
    Template,
    Trigger,
    Version,
)
from .workflow import (
    Access,
    Display,
    TimeoutConfiguration,
    WorkflowDefinition,
)

__all__ = [
    "Access",
    "Action",
    "ApprovalChain",
    "ApprovalConfiguration",
    "ApprovalRequirements",
    "ApprovalStep",
    "ApprovalTask",
    "ApproverDefinition",
    "AssignAction",
    "AssignStep",
    "Branch",
    "CancelAction",
    "Condition",
    "ConditionExpression",
    "ConditionalExecution",
    "CorrelationKey",
    "Display",
    "Document",
    "EmitStep",
    "EventFilter",
    "EventHandler",
    "EventHookConfiguration",
    "EventTrigger",
    "ExecutionBranch",
    "ExecutionPath",
    "Expression",
    "ExternalStep",
    "ForEachExecution",
    "ForeachAction",
    "GuardFunction",
    "HttpStep",
    "Id",
    "IfAction",
    "Initial",
    "LogAction",
    "Minutes",
    "Name",
    "NotificationStep",
    "ParallelExecution",
    "Path",
    "PluginStep",
    "RaiseAction",
    "ReceiveStep",
    "RetryPolicy",
    "ScriptStep",
    "SendAction",
    "SequentialExecution",
    "StateMachine",
    "StateProperties",
    "StateTimeout",
    "Step",
    "StepId",
    "SubWorkflowStep",
    "Subject",
    "Template",
    "TimeoutConfiguration",
    "Trigger",
    "TriggerAction",
    "Version",
    "WaitStep",
    "WorkflowDefinition",
    "WorkflowState",
    "WorkflowTransition",
]
