"""Approval chains: whom to ask, and what their answers come to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt

from .conditions import Condition
from .words import Document, Minutes, Name, Path


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
