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
from .machine import (
    Initial,
    StateMachine,
    StateProperties,
    StateTimeout,
    WorkflowState,
    WorkflowTransition,
)
from .words import (
    Document,
    Expression,
    Id,
    Minutes,
    Name,
    Path,
    Subject,
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
    "ApproverDefinition",
    "AssignAction",
    "Branch",
    "CancelAction",
    "Condition",
    "ConditionExpression",
    "Display",
    "Document",
    "Expression",
    "ForeachAction",
    "GuardFunction",
    "Id",
    "IfAction",
    "Initial",
    "LogAction",
    "Minutes",
    "Name",
    "Path",
    "RaiseAction",
    "SendAction",
    "StateMachine",
    "StateProperties",
    "StateTimeout",
    "Subject",
    "TimeoutConfiguration",
    "Trigger",
    "Version",
    "WorkflowDefinition",
    "WorkflowState",
    "WorkflowTransition",
]
