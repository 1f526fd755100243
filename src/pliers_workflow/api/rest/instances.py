"""Instances: starting them, moving them, reading them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from pliers_workflow.interpreter.commands import (
    CancelInstance,
    Command,
    FireTrigger,
    ResumeInstance,
    SuspendInstance,
    UpdateData,
)
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.answers import NotFound
from pliers_workflow.runtime.engine import actor

from ..endpoint import Call, DefinitionRef, InstanceId, Reply, Routes, invalid_parameter
from ..problems import ApiError, FindingView
from . import views
from .available import available_triggers
from .people import user_id
from .viewer import viewer_of
from .wire import (
    AdvanceInput,
    FieldsQuery,
    InstancesQuery,
    InstanceView,
    Page,
    ReasonInput,
    StartInput,
    UpdateDataInput,
)

if TYPE_CHECKING:
    from pliers_workflow.interpreter.commands import Order
    from pliers_workflow.runtime.answers import Answer

routes = Routes("Instances", "Runs of a workflow.")

#: what any command may be refused for
ANY_COMMAND = (
    "instance_ended",
    "suspended",
    "not_allowed",
    "execution_error",
    "endless_loop",
    "budget_exceeded",
    "data_invalid",
    "data_too_large",
)
#: what a trigger may be refused for, besides
_TRIGGER = (*ANY_COMMAND, "unknown_trigger", "guard_failed", "guard_error")


async def execute(call: Call, instance_id: str, order: Order) -> Answer:
    """
    Give the engine a command in the caller's name; a refusal gives its reason only to those who may see the instance.

    Asked after the interpreter and not before, so that accepted commands pay nothing for it: whoever they are accepted
    from is the requester, was asked, is an operator, or is named by the definition's `access` (decision 0010).
    """
    command = Command(secrets.token_hex(16), actor(call.principal), order, call.if_match)
    answer = await call.engine.execute(call.principal.tenant_id, instance_id.lower(), command, request=call.request)
    if isinstance(answer, Rejection) and not await viewer_of(call).sees(instance_id):
        return NotFound()
    return answer


@routes.post(
    "/workflow-instances/{id}/advance",
    "Advance an instance",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=(*_TRIGGER, "target_not_reached"),
)
async def advance_instance(call: Call, id: InstanceId, body: AdvanceInput) -> Reply:
    """
    Fire a trigger, or reach a state through an enabled transition; never jumps.

    With `targetState` alone the triggers of the transitions that lead there are tried in the order of the chart.
    """
    if body.trigger is not None:
        return await views.answered(
            call, await execute(call, id, FireTrigger(body.trigger, body.data, body.target_state))
        )
    if body.target_state is None:
        raise ApiError(
            "invalid_body",
            "Send `trigger`, `targetState`, or both.",
            findings=[
                FindingView("", "missing_field", "neither `trigger` nor `targetState` is given", "send one of them")
            ],
        )
    return await views.answered(call, await _reach(call, id, body.target_state, body.data))


async def _reach(call: Call, instance_id: str, target: str, data: Any) -> Answer:
    """Try the triggers that lead to a state; the answer of the first that is accepted, else the last refusal."""
    tenant_id = call.principal.tenant_id
    reading = viewer_of(call)
    instance = views.found(await reading.instance(instance_id), "instance")
    chart = await call.engine.catalog.chart(tenant_id, instance.definition_id)
    triggers: dict[str, None] = {}
    for state_id in reversed(instance.configuration):
        state = chart.by_id.get(state_id)
        for transition in state.transitions if state is not None else ():
            if any(state.id == target for state in transition.targets):
                triggers.update(dict.fromkeys(name for name in transition.triggers if name != "*"))
    answer: Answer | None = None
    for trigger in list(triggers)[:20]:
        answer = await execute(call, instance_id, FireTrigger(trigger, data, target))
        if not isinstance(answer, Rejection) or answer.reason not in _NEXT_ONE:
            return answer
    if answer is not None:
        return answer
    # Nothing leads there: let the interpreter say so, after what comes before in its order of precedence.
    answer = await execute(call, instance_id, FireTrigger(target, data, target))
    if isinstance(answer, Rejection) and answer.reason is Reason.UNKNOWN_TRIGGER:
        return Rejection(
            Reason.TARGET_NOT_REACHED,
            f"No transition leads from here to {target!r}; /advance goes through transitions and never jumps.",
            {"available": available_triggers(chart, instance, await reading.caller())},
        )
    return answer


_NEXT_ONE = (
    Reason.UNKNOWN_TRIGGER,
    Reason.GUARD_FAILED,
    Reason.GUARD_ERROR,
    Reason.TARGET_NOT_REACHED,
    Reason.NOT_ALLOWED,
)


@routes.get("/workflow-instances/{id}", "Get an instance", answers=InstanceView, selects=True, tagged=True)
async def get_instance(call: Call, id: InstanceId, query: FieldsQuery) -> Reply:
    """The instance as it is now. `fields=` answers those top-level fields only."""
    views.check_fields(InstanceView, query.fields)
    reading = viewer_of(call)
    instance = views.found(await reading.instance(id), "instance")
    chart = await call.engine.catalog.chart(call.principal.tenant_id, instance.definition_id)
    view = views.instance_view(instance, chart, await reading.caller(), call.base)
    return Reply(views.selected(view, query.fields), revision=instance.revision)


@routes.put(
    "/workflow-instances/{id}",
    "Update an instance's data",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=(*ANY_COMMAND, "data_locked"),
)
async def update_instance(call: Call, id: InstanceId, body: UpdateDataInput) -> Reply:
    """Replace the instance data (`data`), or merge a patch into it (`patch`, RFC 7396: null removes a field)."""
    if (body.data is UNSET) == (body.patch is UNSET):
        raise ApiError(
            "invalid_body",
            "Send either `data`, which replaces everything, or `patch`, which is merged.",
            findings=[
                FindingView("", "missing_field", "exactly one of `data` and `patch` is wanted", "send one of them")
            ],
        )
    order = UpdateData(
        data=body.data if isinstance(body.data, dict) else None,
        patch=body.patch if isinstance(body.patch, dict) else None,
    )
    return await views.answered(call, await execute(call, id, order))


@routes.delete(
    "/workflow-instances/{id}",
    "Cancel an instance",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=ANY_COMMAND,
)
async def cancel_instance(call: Call, id: InstanceId, body: ReasonInput | None) -> Reply:
    """End the instance where it is; its open work items are withdrawn. It stays readable."""
    return await views.answered(call, await execute(call, id, CancelInstance(body.reason if body else None)))


@routes.post(
    "/workflow-instances/{id}/suspend",
    "Suspend an instance",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=ANY_COMMAND,
)
async def suspend_instance(call: Call, id: InstanceId, body: ReasonInput | None) -> Reply:
    """Stop its clocks and refuse everything but resuming and cancelling."""
    return await views.answered(call, await execute(call, id, SuspendInstance(body.reason if body else None)))


@routes.post(
    "/workflow-instances/{id}/resume",
    "Resume an instance",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=(*ANY_COMMAND, "not_suspended"),
)
async def resume_instance(call: Call, id: InstanceId, body: ReasonInput | None) -> Reply:
    """Let a suspended instance go on; its clocks keep the time they had left."""
    return await views.answered(call, await execute(call, id, ResumeInstance(body.reason if body else None)))


@routes.post(
    "/workflows/{id}/instances",
    "Start an instance",
    answers=InstanceView,
    status=201,
    executes=True,
    problems=(
        *ANY_COMMAND,
        "instance_exists",
        "unknown_user",
        "guard_failed",
        "guard_error",
        "conflict",
    ),
)
async def start_instance(call: Call, id: DefinitionRef, body: StartInput | None) -> Reply:
    """
    Start the active version, or the one that `version` names.

    An `externalKey` that one of the workflow's instances has already is refused with 409. A submission's data is what
    the definition's expressions see as `submission`.
    """
    body = body or _NOTHING
    engine, principal = call.engine, call.principal
    definition = await engine.catalog.to_start(principal.tenant_id, id, body.version)
    requester: str | None = None
    if body.requester is not None:
        requester = await user_id(call, body.requester, active=True)
    submission: dict[str, Any] = {}
    if body.submission_id is not None:
        row = await engine.submissions.get(principal, body.submission_id.lower())
        if row is None:
            raise ApiError(
                "invalid_body",
                "There is no such submission that you may see; check `submissionId`.",
                findings=[FindingView("/submissionId", "unknown_submission", "there is no such submission", None)],
            )
        submission = row.data
        requester = requester or row.submitted_by
    answer = await engine.start_instance(
        principal,
        definition,
        data=body.data,
        context=body.context,
        requester=requester,
        submission_id=body.submission_id.lower() if body.submission_id else None,
        submission=submission,
        external_key=body.external_key,
        request=call.request,
    )
    return await views.answered(call, answer, started=True)


_NOTHING = StartInput()


@routes.get("/workflows/{id}/instances", "List instances of a workflow", answers=Page[InstanceView], selects=True)
async def list_instances(call: Call, id: DefinitionRef, query: InstancesQuery) -> Reply:
    """Instances that you may see, the newest first: of all versions where `id` is a name, else of that version."""
    views.check_fields(InstanceView, query.fields)
    for name, instant in (("createdAfter", query.created_after), ("createdBefore", query.created_before)):
        if instant is not None and not 1900 <= instant.year <= 9000:
            raise invalid_parameter(name, "lies outside the years 1900 to 9000")
    reading = viewer_of(call)
    page, charts = await reading.instances(id, query)
    caller = await reading.caller()
    return Reply(
        Page(
            items=[
                views.selected(views.instance_view(one, charts[one.definition_id], caller, call.base), query.fields)
                for one in page.items
            ],
            next_cursor=page.next_cursor,
        )
    )
