"""Approvals: what is asked of whom, and deciding it."""

from __future__ import annotations

from typing import Literal

from pliers_workflow.interpreter.commands import RecordDecision

from ..endpoint import Call, InstanceId, Reply, Routes, UserRef
from ..problems import ApiError
from . import views
from .instances import ANY_COMMAND, execute
from .people import user_id
from .viewer import viewer_of
from .wire import (
    ApprovalsQuery,
    DecisionInput,
    DelegateInput,
    InboxItemView,
    InboxQuery,
    InstanceView,
    Page,
    WorkItemView,
)

routes = Routes("Approvals", "Work items of approvers, and their decisions.")

_DECISION = (
    *ANY_COMMAND,
    "nothing_to_decide",
    "unknown_stage",
    "already_decided",
    "not_an_approver",
    "self_approval_forbidden",
    "decided_in_other_stage",
    "ambiguous_stage",
    "comments_required",
    "guard_error",
)


async def _decide(
    call: Call, instance_id: str, action: Literal["approve", "reject", "request_changes"], body: DecisionInput | None
) -> Reply:
    if body is None:
        order = RecordDecision(action)
    else:
        order = RecordDecision(action, body.stage, body.item, body.comments, body.attachments, body.data)
    return await views.answered(call, await execute(call, instance_id, order))


@routes.post(
    "/workflow-instances/{id}/approve",
    "Approve",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=_DECISION,
)
async def approve(call: Call, id: InstanceId, body: DecisionInput | None) -> Reply:
    """Approve in the stage that asks you. Where several do, `stage` names one."""
    return await _decide(call, id, "approve", body)


@routes.post(
    "/workflow-instances/{id}/reject",
    "Reject",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=_DECISION,
)
async def reject(call: Call, id: InstanceId, body: DecisionInput | None) -> Reply:
    """Reject in the stage that asks you."""
    return await _decide(call, id, "reject", body)


@routes.post(
    "/workflow-instances/{id}/request-changes",
    "Request changes",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=(*_DECISION, "request_changes_forbidden"),
)
async def request_changes(call: Call, id: InstanceId, body: DecisionInput | None) -> Reply:
    """Ask the requester for changes; the chain stops asking until they have resubmitted."""
    return await _decide(call, id, "request_changes", body)


@routes.post(
    "/workflow-instances/{id}/delegate",
    "Delegate",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=(*_DECISION, "unknown_user", "delegation_forbidden", "delegation_loop"),
)
async def delegate(call: Call, id: InstanceId, body: DelegateInput) -> Reply:
    """Pass your work item to another person, who decides in your place; you stay on record as the principal."""
    to = await user_id(call, body.to, active=True)
    order = RecordDecision("delegate", body.stage, body.item, body.comments, body.attachments, body.data, to)
    return await views.answered(call, await execute(call, id, order))


@routes.get("/workflow-instances/{id}/approvals", "List an instance's approvals", answers=Page[WorkItemView])
async def list_approvals(call: Call, id: InstanceId, query: ApprovalsQuery) -> Reply:
    """Work items that are open; with `status=all` those settled too, oldest first."""
    items = await viewer_of(call).approvals(id, everything=query.status == "all")
    return Reply(Page(items=views.found(items, "instance"), next_cursor=None))


@routes.get(
    "/users/{userId}/approvals",
    "List a person's pending approvals",
    answers=Page[InboxItemView],
    problems=("permission_missing",),
)
async def list_user_approvals(call: Call, userId: UserRef, query: InboxQuery) -> Reply:  # noqa: N803
    """
    What a person is asked to decide, themselves or as one of a role or group; what waits longest comes first.

    Your own (`me`); that of others needs the operator, auditor or admin permission.
    """
    principal = call.principal
    if userId in ("me", principal.user_id, principal.username):
        person = principal.user_id
    elif principal.may("operator", "auditor"):
        row = views.found(await call.engine.directory.get_user(principal.tenant_id, userId), "user")
        person = row.id
    else:
        await call.engine.audit.denied(
            principal, "list_user_approvals", f"user:{userId}", ("operator", "auditor", "admin")
        )
        raise ApiError(
            "permission_missing",
            "You may read your own approvals only (`me`); those of others need operator, auditor or admin.",
            details={"anyOf": ["operator", "auditor", "admin"]},
        )
    return Reply(await viewer_of(call).inbox(person, query.workflow, query.limit, query.cursor))
