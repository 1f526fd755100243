"""Jobs, as far as operators have to do with them: limits of queues, and what the engine could not settle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..endpoint import Call, JobId, QueueName, Reply, Routes
from . import views
from .wire import Page, PageQuery
from .wire.jobs import DeadJobsQuery, DeadJobView, DiscardInput, StepLimitInput, StepLimitView

if TYPE_CHECKING:
    from pliers_workflow.runtime.jobs.dead import DeadJob
    from pliers_workflow.runtime.jobs.limits import StepLimit

routes = Routes("Jobs", "Limits of queues, and jobs that the engine could not settle.")

_READ = ("operator", "auditor")
_WRITE = ("operator",)


@routes.get("/step-limits", "List limits", answers=Page[StepLimitView], permissions=_READ)
async def list_step_limits(call: Call, query: PageQuery) -> Reply:
    """All limits by queue, with how many steps each counts now; they fit on one page."""
    rows = await call.engine.step_limits.list(call.principal.tenant_id)
    return Reply(Page(items=[_limit(row) for row in rows], next_cursor=None))


@routes.get("/step-limits/{queue}", "Get a limit", answers=StepLimitView, permissions=_READ, tagged=True)
async def get_step_limit(call: Call, queue: QueueName) -> Reply:
    """The limit of one queue or type."""
    row = await call.engine.step_limits.get(call.principal.tenant_id, queue)
    return Reply(_limit(row), revision=row.revision)


@routes.put(
    "/step-limits/{queue}",
    "Set a limit",
    answers=StepLimitView,
    permissions=_WRITE,
    conditional=True,
)
async def put_step_limit(call: Call, queue: QueueName, body: StepLimitInput) -> Reply:
    """
    Bound a queue (`http`, `plugin:erp`, `external:print`), or a type (`plugin`, `external`): all its queues together.

    It holds over all nodes and external workers, for what is begun from now on; every node knows of it within a second.
    """
    row = await call.engine.step_limits.put(
        call.principal, queue, max_running=body.max_running, rate=body.rate, per_seconds=body.per_seconds,
        if_match=call.if_match, request=call.request,
    )  # fmt: skip
    return Reply(_limit(row), revision=row.revision)


@routes.delete("/step-limits/{queue}", "Lift a limit", permissions=_WRITE, conditional=True)
async def delete_step_limit(call: Call, queue: QueueName) -> Reply:
    """Let a queue run without a limit of its own; its type's still counts."""
    await call.engine.step_limits.delete(call.principal, queue, call.if_match, request=call.request)
    return Reply(None)


@routes.get("/dead-jobs", "List dead jobs", answers=Page[DeadJobView], permissions=_READ)
async def list_dead_jobs(call: Call, query: DeadJobsQuery) -> Reply:
    """What the engine itself could not settle. A step whose attempts have failed is not here but an incident."""
    rows = await call.engine.dead_jobs.list(
        call.principal.tenant_id, kind=query.kind, instance_id=query.workflow_instance_id, limit=query.limit,
        cursor=query.cursor,
    )  # fmt: skip
    return Reply(views.page(rows, _dead))


@routes.post("/dead-jobs/{id}/retry", "Retry a dead job", answers=DeadJobView, permissions=_WRITE)
async def retry_dead_job(call: Call, id: JobId) -> Reply:
    """Let it be served again, with all its attempts, after the cause is gone."""
    return Reply(_dead(await call.engine.dead_jobs.retry(call.principal, id.lower(), request=call.request)))


@routes.post("/dead-jobs/{id}/discard", "Discard a dead job", permissions=_WRITE, problems=("conflict",))
async def discard_dead_job(call: Call, id: JobId, body: DiscardInput) -> Reply:
    """
    Give it up for good, with a reason. Refused where an instance waits for it: a step, a timer, a step's result.

    The start of a sub-workflow that is given up fails the step of its parent with `SUB_WORKFLOW_NOT_STARTED`.
    """
    await call.engine.dead_jobs.discard(call.principal, id.lower(), body.reason, request=call.request)
    return Reply(None)


def _limit(row: StepLimit) -> StepLimitView:
    return StepLimitView(**{name: getattr(row, name) for name in row.__struct_fields__})


def _dead(row: DeadJob) -> DeadJobView:
    return DeadJobView(
        id=row.id,
        kind=row.kind,
        name=row.name,
        queue=row.queue,
        workflow_instance_id=row.instance_id,
        workflow=row.definition_name,
        attempts=row.attempt,
        error=row.error,
        due_at=row.due_at,
        created_at=row.created_at,
    )
