"""Submitted forms, and the bindings by which they start workflows."""

from __future__ import annotations

from pliers_workflow.runtime.rows import BindingInput

from ..endpoint import BindingId, Call, JobId, Reply, Routes, SubmissionId
from . import views
from .people import user_id
from .wire import (
    BindingBody,
    BindingsQuery,
    BindingView,
    FailedStartView,
    Page,
    PageQuery,
    SubmissionAnswerView,
    SubmissionInput,
    SubmissionsQuery,
    SubmissionUpdate,
    SubmissionView,
)

routes = Routes("Submissions", "Submitted forms, and the bindings by which they start workflows.")

_AUTHOR = ("author",)


@routes.get("/submissions", "List submissions", answers=Page[SubmissionView])
async def list_submissions(call: Call, query: SubmissionsQuery) -> Reply:
    """Submissions that you may see."""
    submitted_by = await user_id(call, query.submitted_by) if query.submitted_by is not None else None
    rows = await call.engine.submissions.list(
        call.principal, form_id=query.form_id, submitted_by=submitted_by, limit=query.limit, cursor=query.cursor
    )
    return Reply(views.page(rows, SubmissionView.of))


@routes.post(
    "/submissions",
    "Submit a form",
    answers=SubmissionAnswerView,
    status=201,
    executes=True,
)
async def create_submission(call: Call, body: SubmissionInput) -> Reply:
    """
    Keep a form's content and start the workflows bound to it, with you as their requester.

    The submission is kept in any case: a workflow that could not be started stands in `failed` with the reason, and can
    be retried.
    """
    answer = await call.engine.submissions.create(call.principal, body.form_id, body.data, request=call.request)
    row = answer.submission
    return Reply(
        views.submission_answer(answer),
        revision=row.revision,
        location=f"{call.base}/submissions/{row.id}",
        replayed=answer.replayed,
    )


@routes.get("/submissions/{id}", "Get a submission", answers=SubmissionView, tagged=True)
async def get_submission(call: Call, id: SubmissionId) -> Reply:
    """One submission with the instances it has started."""
    row = views.found(await call.engine.submissions.get(call.principal, id.lower()), "submission")
    return Reply(SubmissionView.of(row), revision=row.revision)


@routes.put(
    "/submissions/{id}",
    "Update a submission",
    answers=SubmissionAnswerView,
    executes=True,
    conditional=True,
    problems=("precondition_failed",),
)
async def update_submission(call: Call, id: SubmissionId, body: SubmissionUpdate) -> Reply:
    """Replace a form's content and start the workflows bound to its being updated."""
    answer = await call.engine.submissions.update(
        call.principal, id.lower(), body.data, call.if_match, request=call.request
    )
    return Reply(views.submission_answer(answer), revision=answer.submission.revision, replayed=answer.replayed)


@routes.get(
    "/submission-bindings", "List bindings", answers=Page[BindingView], permissions=("author", "operator", "auditor")
)
async def list_bindings(call: Call, query: BindingsQuery) -> Reply:
    """Which forms start which workflows."""
    rows = await call.engine.submissions.list_bindings(
        call.principal, form_id=query.form_id, workflow=query.workflow, limit=query.limit, cursor=query.cursor
    )
    return Reply(views.page(rows, views.binding_view))


@routes.post(
    "/submission-bindings",
    "Create a binding",
    answers=BindingView,
    status=201,
    permissions=_AUTHOR,
    problems=("conflict",),
)
async def create_binding(call: Call, body: BindingBody) -> Reply:
    """Start a workflow whenever a form is submitted. Condition and mappings are checked at once."""
    row = await call.engine.submissions.put_binding(call.principal, _binding(body), request=call.request)
    return Reply(views.binding_view(row), location=f"{call.base}/submission-bindings/{row.id}")


@routes.get(
    "/submission-bindings/{id}", "Get a binding", answers=BindingView, permissions=("author", "operator", "auditor")
)
async def get_binding(call: Call, id: BindingId) -> Reply:
    """One binding."""
    row = views.found(await call.engine.submissions.get_binding(call.principal, id.lower()), "binding")
    return Reply(views.binding_view(row))


@routes.put(
    "/submission-bindings/{id}",
    "Replace a binding",
    answers=BindingView,
    permissions=_AUTHOR,
    problems=("conflict",),
)
async def replace_binding(call: Call, id: BindingId, body: BindingBody) -> Reply:
    """Change a binding; it holds for submissions from now on."""
    row = await call.engine.submissions.put_binding(call.principal, _binding(body), id.lower(), request=call.request)
    return Reply(views.binding_view(row))


@routes.delete("/submission-bindings/{id}", "Delete a binding", permissions=_AUTHOR)
async def delete_binding(call: Call, id: BindingId) -> Reply:
    """Remove a binding; instances it has started go on."""
    await call.engine.submissions.delete_binding(call.principal, id.lower(), request=call.request)
    return Reply(None)


@routes.get(
    "/failed-starts", "List failed starts", answers=Page[FailedStartView], permissions=("operator", "auditor", "author")
)
async def list_failed_starts(call: Call, query: PageQuery) -> Reply:
    """Workflows that a binding should have started and could not."""
    rows = await call.engine.submissions.failed_starts(call.principal, limit=query.limit, cursor=query.cursor)
    return Reply(views.page(rows, FailedStartView.of))


@routes.post(
    "/failed-starts/{id}/retry",
    "Retry a failed start",
    answers=SubmissionAnswerView,
    permissions=("operator",),
    executes=True,
)
async def retry_start(call: Call, id: JobId) -> Reply:
    """Try again, after the workflow or the submission has been set right; the binding counts as it was when it failed."""
    answer = await call.engine.submissions.retry_start(call.principal, id.lower(), request=call.request)
    return Reply(views.submission_answer(answer), revision=answer.submission.revision, replayed=answer.replayed)


def _binding(body: BindingBody) -> BindingInput:
    return BindingInput(
        form_id=body.form_id,
        workflow=body.workflow_id,
        trigger_events=body.trigger_events,
        version=body.version,
        condition=body.condition,
        data_mapping={"submission": body.data_mapping.submission, "context": body.data_mapping.context},
        enabled=body.enabled,
    )
