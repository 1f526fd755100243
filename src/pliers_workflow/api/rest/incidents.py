"""Steps of instances, and incidents: looking for them, and resolving them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, structs

from pliers_workflow.interpreter.commands import ResolveIncident
from pliers_workflow.storage import read_model
from pliers_workflow.storage.read_model import IncidentFilter

from ..endpoint import Call, IncidentNumber, InstanceId, Reply, ResolutionId, Routes, invalid_parameter
from . import views
from .instances import ANY_COMMAND, execute
from .viewer import viewer_of
from .wire import InstanceView, Page, PageQuery
from .wire.incidents import (
    IncidentGroupsQuery,
    IncidentGroupView,
    IncidentRowView,
    IncidentsQuery,
    RefusalView,
    ResolutionView,
    ResolveInput,
    ResolveManyInput,
    StepAtWorkView,
    StepErrorView,
    StepRunView,
    StepsAtWorkQuery,
)

if TYPE_CHECKING:
    from pliers_workflow.runtime.jobs.incidents import Resolution
    from pliers_workflow.storage.read_model import IncidentRow, StepEntry

routes = Routes("Incidents", "Steps of instances, and what an operator does when no retry helps.")

_READ = ("operator", "auditor")


@routes.get("/workflow-instances/{id}/steps", "Steps of an instance", answers=Page[StepRunView])
async def list_steps(call: Call, id: InstanceId, query: PageQuery) -> Reply:
    """
    Every passage through a step, in the order in which they began, those that are over too.

    `cursor` is the number of entries to pass over.
    """
    viewer = viewer_of(call)
    instance = views.found(await viewer.instance(id), "instance")
    told = views.found(await read_model.steps(call.engine.readers, await viewer.viewer(), id.lower()), "instance")
    at_work = instance.machine.steps
    if query.cursor is not None and not (query.cursor.isdecimal() and len(query.cursor) < 9):
        raise invalid_parameter("cursor", "is none of ours", "begin the list anew, without a cursor")
    begin = int(query.cursor or 0)
    items = [
        _step(step, at_work[step.id].status if step.id in at_work else None)
        for step in told[begin : begin + query.limit]
    ]
    following = begin + query.limit
    return Reply(Page(items=items, next_cursor=str(following) if following < len(told) else None))


@routes.get("/steps", "List steps at work", answers=Page[StepAtWorkView], permissions=_READ)
async def list_steps_at_work(call: Call, query: StepsAtWorkQuery) -> Reply:
    """
    What workers are at, and what waits for one, in all instances; what has been due for longest first.

    With `minAgeSeconds` those alone that take long. What waits for its next attempt, or has failed for good, is not here.
    """
    try:
        page = await read_model.steps_at_work(
            call.engine.readers, call.principal.tenant_id, age_min=query.min_age_seconds, workflow=query.workflow,
            queue=query.queue, limit=query.limit, cursor=query.cursor,
        )  # fmt: skip
    except read_model.BadCursor:
        raise invalid_parameter("cursor", "is none of ours", "begin the list anew, without a cursor") from None
    items = [StepAtWorkView.of(row, workflow_instance_id=row.instance_id, step=row.name) for row in page.items]
    return Reply(Page(items=items, next_cursor=page.next_cursor))


@routes.get("/workflow-instances/{id}/incidents", "Incidents of an instance", answers=Page[IncidentRowView])
async def list_instance_incidents(call: Call, id: InstanceId, query: PageQuery) -> Reply:
    """What kept this instance from going on, open or resolved, in the order in which it was raised; on one page."""
    viewer = await viewer_of(call).viewer()
    rows = views.found(await read_model.incidents_of(call.engine.readers, viewer, id.lower()), "instance")
    return Reply(Page(items=[_incident(row) for row in rows], next_cursor=None))


@routes.post(
    "/workflow-instances/{id}/incidents/{number}/resolve",
    "Resolve an incident",
    answers=InstanceView,
    executes=True,
    conditional=True,
    problems=(*ANY_COMMAND, "unknown_incident", "data_locked"),
)
async def resolve_incident(call: Call, id: InstanceId, number: IncidentNumber, body: ResolveInput) -> Reply:
    """
    Have done again what failed, with fresh attempts; let it count as done, with an `output`; or fail the instance for good.

    A `patch` of the data is merged first. Who did it and why is in the instance's history.
    """
    order = ResolveIncident(f"incident/{number}", body.action, body.reason, body.patch, body.output)
    return await views.answered(call, await execute(call, id, order))


@routes.get("/incidents", "List incidents", answers=Page[IncidentRowView], permissions=_READ)
async def list_incidents(call: Call, query: IncidentsQuery) -> Reply:
    """Open incidents of all instances, the newest first; with `open=false` resolved ones, too."""
    wanted = IncidentFilter(query.fingerprint, query.code, query.workflow, query.step_id)
    try:
        page = await read_model.incidents(
            call.engine.readers, call.principal.tenant_id, wanted, open_only=query.open, limit=query.limit,
            cursor=query.cursor,
        )  # fmt: skip
    except read_model.BadCursor:
        raise invalid_parameter("cursor", "is none of ours", "begin the list anew, without a cursor") from None
    return Reply(Page(items=[_incident(row) for row in page.items], next_cursor=page.next_cursor))


@routes.get("/incidents/groups", "Count incidents by cause", answers=Page[IncidentGroupView], permissions=_READ)
async def list_incident_groups(call: Call, query: IncidentGroupsQuery) -> Reply:
    """Open incidents by fingerprint, the most frequent cause first: what is worth looking at together."""
    wanted = IncidentFilter(None, query.code, query.workflow, query.step_id)
    rows = await read_model.incident_groups(call.engine.readers, call.principal.tenant_id, wanted, limit=query.limit)
    return Reply(Page(items=[IncidentGroupView.of(row) for row in rows], next_cursor=None))


@routes.post(
    "/incidents/resolve", "Resolve many incidents", answers=ResolutionView, further=(202,), permissions=("operator",)
)
async def resolve_incidents(call: Call, body: ResolveManyInput) -> Reply:
    """
    Resolve every open incident of one cause, or that fits, in the same way: those that are open now, and no later ones.

    Answers 200 when all are done, 202 when there are more than a moment's worth; these are resolved in the background,
    and `Location` says how far it has come. Each instance's history names you and the reason; the whole is in the audit log.
    """
    chosen = body.filter if body.filter is not UNSET else None
    wanted = IncidentFilter(
        fingerprint=body.fingerprint or (chosen.fingerprint if chosen else None),
        code=chosen.code if chosen else None,
        workflow=chosen.workflow if chosen else None,
        step_id=chosen.step_id if chosen else None,
    )
    made = await call.engine.incidents.resolve_many(
        call.principal, wanted, action=body.action, reason=body.reason, patch=body.patch, output=body.output,
        request=call.request,
    )  # fmt: skip
    return Reply(
        _resolution(made),
        status=200 if made.finished_at is not None else 202,
        location=f"{call.base}/incidents/resolutions/{made.id}",
    )


@routes.get("/incidents/resolutions/{id}", "How far a resolution has come", answers=ResolutionView, permissions=_READ)
async def get_resolution(call: Call, id: ResolutionId) -> Reply:
    """How many incidents were resolved, and which were refused."""
    return Reply(_resolution(await call.engine.incidents.resolution(call.principal.tenant_id, id.lower())))


def _incident(row: IncidentRow) -> IncidentRowView:
    return IncidentRowView.of(row, workflow_instance_id=row.instance_id, id=row.incident)


def _resolution(row: Resolution) -> ResolutionView:
    refusals = [
        RefusalView(
            workflow_instance_id=each["instanceId"],
            incident=each["incident"],
            code=each["code"],
            message=each["message"],
        )
        for each in row.refusals
    ]
    return ResolutionView.of(row, status="running" if row.finished_at is None else "done", refusals=refusals)


def _step(step: StepEntry, status: str | None) -> StepRunView:
    failure = step.failure
    error = (
        None
        if failure is None
        else StepErrorView(code=failure["code"], message=failure["message"], details=failure.get("details", {}))
    )
    fields = structs.asdict(step)
    return StepRunView(
        **{name: fields[name] for name in StepRunView.__struct_fields__ if name in fields and name != "status"},
        status=status or step.status,
        error=error,
        child_instance_id=step.child,
    )
