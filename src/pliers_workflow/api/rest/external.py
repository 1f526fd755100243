"""External tasks: fetching them, holding them, and saying what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pliers_workflow.interpreter.rejections import Rejection

from ..endpoint import Call, Reply, Routes, TaskId
from ..problems import ApiError
from .wire.external import (
    CompleteInput,
    ExternalTaskView,
    FailInput,
    FetchedView,
    FetchInput,
    GiveBackInput,
    HeartbeatInput,
    LeaseView,
)

if TYPE_CHECKING:
    from pliers_workflow.runtime.jobs.external import ExternalTask

routes = Routes("External tasks", "Steps that workers of yours fetch, do, and complete.")

_WORKER = ("worker", "operator")


@routes.post(
    "/external-tasks/fetch",
    "Fetch tasks",
    answers=FetchedView,
    permissions=_WORKER,
    problems=("shutting_down", "too_many_waiting"),
)
async def fetch_external_tasks(call: Call, body: FetchInput) -> Reply:
    """
    Take tasks of some topics, for as long as a lease lasts; no other worker gets them meanwhile.

    With `waitSeconds` the answer comes as soon as there is something to do; where too many wait already, a fetch that would
    have to wait is answered 429, and one whose token stops working meanwhile 401. This call keeps no Idempotency-Key: tasks
    whose answer was lost come back when their lease has lapsed, as the step's retry policy has it.
    """
    tasks = await call.engine.external_tasks.fetch(
        call.principal.tenant_id, body.topics, body.worker_id, room=body.max_tasks, lease=body.lease_seconds,
        wait=body.wait_seconds, admit=call.admit, gone=call.gone,
    )  # fmt: skip
    return Reply(FetchedView(tasks=[_task(task) for task in tasks]))


@routes.post(
    "/external-tasks/{id}/heartbeat",
    "Hold a task",
    answers=LeaseView,
    permissions=_WORKER,
    problems=("step_gone",),
)
async def heartbeat_external_task(call: Call, id: TaskId, body: HeartbeatInput) -> Reply:
    """Prolong a lease, from now on. Refused once the task is not yours any more: stop working on it."""
    until = await call.engine.external_tasks.heartbeat(
        call.principal.tenant_id, id.lower(), body.lease_token, lease=body.lease_seconds
    )
    if isinstance(until, Rejection):
        raise ApiError.of(until)
    return Reply(LeaseView(lease_until=until))


@routes.post(
    "/external-tasks/{id}/give-back",
    "Give a task back",
    permissions=_WORKER,
    problems=("step_gone",),
)
async def give_back_external_task(call: Call, id: TaskId, body: GiveBackInput) -> Reply:
    """
    Leave a task to other workers at once, as when a worker stops. It uses up no attempt.

    What it has done so far should not matter: the next worker begins anew, with the same idempotency key.
    """
    refused = await call.engine.external_tasks.give_back(call.principal.tenant_id, id.lower(), body.lease_token)
    if refused is not None:
        raise ApiError.of(refused)
    return Reply(None)


@routes.post(
    "/external-tasks/{id}/complete",
    "Complete a task",
    permissions=_WORKER,
    executes=True,
    problems=("step_gone", "data_too_large"),
)
async def complete_external_task(call: Call, id: TaskId, body: CompleteInput) -> Reply:
    """
    Say what a task gave; its instance goes on. Refused once the task is not yours any more: drop the result.

    An output that the instance cannot take fails the step for good with the code `OUTPUT_REFUSED`.
    """
    settled = await call.engine.external_tasks.complete(
        call.principal, id.lower(), body.lease_token, body.output, request=call.request
    )
    return _settled(settled)


@routes.post(
    "/external-tasks/{id}/fail",
    "Fail a task",
    permissions=_WORKER,
    executes=True,
    problems=("step_gone", "data_too_large"),
)
async def fail_external_task(call: Call, id: TaskId, body: FailInput) -> Reply:
    """Say why a task failed. The step's retry policy decides whether there is another attempt, and when."""
    settled = await call.engine.external_tasks.fail(
        call.principal, id.lower(), body.lease_token, code=body.code, message=body.message, retryable=body.retryable,
        retry_after=body.retry_after_seconds, details=body.details, request=call.request,
    )  # fmt: skip
    return _settled(settled)


def _settled(settled: bool | Rejection) -> Reply:
    if isinstance(settled, Rejection):
        raise ApiError.of(settled)
    return Reply(None, replayed=settled)


def _task(task: ExternalTask) -> ExternalTaskView:
    step = task.step
    run, timeout, trace = step.payload.run, step.payload.timeout_ms, step.payload.trace
    assert step.lease_until is not None, "it has been claimed"
    return ExternalTaskView(
        id=step.id,
        lease_token=task.lease_token,
        topic=task.topic,
        step_id=run["stepId"],
        step=step.name,
        workflow_instance_id=step.instance_id,
        workflow=step.definition,
        attempt=step.payload.attempt,
        idempotency_key=step.attempt_id,
        traceparent=None if trace is None else trace.parent,
        tracestate=(trace.state or None) if trace else None,
        input=run.get("input") or {},
        configuration=run.get("configuration") or {},
        lease_until=step.lease_until,
        timeout_seconds=None if timeout is None else timeout / 1000,
    )
