"""Definitions: drafts, versions, checking and publishing."""

from __future__ import annotations

from typing import Any

from ..endpoint import Call, DefinitionRef, Reply, Routes, VersionNumber
from ..problems import ApiError
from . import views
from .wire import (
    ArchivedView,
    DefinitionsQuery,
    DefinitionSummaryView,
    DefinitionView,
    Page,
    PageQuery,
    PublishInput,
    ValidationView,
)

routes = Routes("Definitions", "Workflow definitions: drafts, versions, checking and publishing.")

_DOCUMENT = "WorkflowDefinition"


@routes.get("/workflows", "List workflows", answers=Page[DefinitionSummaryView])
async def list_workflows(call: Call, query: DefinitionsQuery) -> Reply:
    """Versions of all workflows, by name, the highest version first."""
    rows = await call.engine.catalog.list(
        call.principal.tenant_id,
        status=query.status,
        name_prefix=query.name,
        limit=query.limit,
        cursor=query.cursor,
    )
    return Reply(views.page(rows, DefinitionSummaryView.of))


@routes.post(
    "/workflows",
    "Create a workflow",
    answers=DefinitionView,
    status=201,
    permissions=("author",),
    problems=("invalid_definition", "conflict"),
    body_schema=_DOCUMENT,
)
async def create_workflow(call: Call, body: Any) -> Reply:
    """Keep a document as a draft. Everything that is wrong with it is answered at once, in `findings`."""
    row = await call.engine.catalog.create(call.principal, body, request=call.request)
    return _written(call, row, created=True)


@routes.get("/workflows/{id}", "Get a workflow", answers=DefinitionView, tagged=True)
async def get_workflow(call: Call, id: DefinitionRef) -> Reply:
    """One version with its document: by UUID that version, by name the active one, else the draft."""
    row = views.found(await call.engine.catalog.get(call.principal.tenant_id, id), "workflow")
    return Reply(views.definition_view(row), revision=row.revision)


@routes.put(
    "/workflows/{id}",
    "Update a workflow",
    answers=DefinitionView,
    permissions=("author",),
    conditional=True,
    problems=("invalid_definition", "conflict"),
    body_schema=_DOCUMENT,
)
async def update_workflow(call: Call, id: DefinitionRef, body: Any) -> Reply:
    """Replace the draft; where the workflow is published, this opens its next draft, with a higher version."""
    row = await call.engine.catalog.replace(call.principal, id, body, call.if_match, request=call.request)
    return _written(call, row)


@routes.delete(
    "/workflows/{id}",
    "Archive a workflow",
    answers=ArchivedView,
    permissions=("publisher",),
    conditional=True,
    problems=("conflict",),
)
async def delete_workflow(call: Call, id: DefinitionRef) -> Reply:
    """
    Archive one version (by UUID) or all of them (by name).

    Refused while live instances or bindings need it. Archived versions can be read, and history keeps referring to them.
    """
    archived = await call.engine.catalog.archive(call.principal, id, call.if_match, request=call.request)
    return Reply(ArchivedView(archived=[DefinitionSummaryView.of(row) for row in archived]))


@routes.get("/workflows/{id}/versions", "List versions of a workflow", answers=Page[DefinitionSummaryView])
async def list_versions(call: Call, id: DefinitionRef, query: PageQuery) -> Reply:
    """All versions of the workflow, the highest first."""
    rows = await call.engine.catalog.versions(call.principal.tenant_id, id, limit=query.limit, cursor=query.cursor)
    if not rows.items and query.cursor is None:
        raise ApiError("not_found", "There is no such workflow that you may see; check its id or name.")
    return Reply(views.page(rows, DefinitionSummaryView.of))


@routes.get("/workflows/{id}/versions/{v}", "Get a version of a workflow", answers=DefinitionView, tagged=True)
async def get_version(call: Call, id: DefinitionRef, v: VersionNumber) -> Reply:
    """One version with its document."""
    row = views.found(await call.engine.catalog.get(call.principal.tenant_id, id, v), "version")
    return Reply(views.definition_view(row), revision=row.revision)


@routes.post("/workflows/{id}/validate", "Validate a workflow", answers=ValidationView, body_schema=_DOCUMENT)
async def validate_workflow(call: Call, id: DefinitionRef, body: Any | None) -> Reply:
    """
    Check the document sent, or the stored one where none is sent; nothing is kept.

    All findings at once, each with its JSON Pointer and a hint. A document may be checked under a name that does not
    exist yet.
    """
    document = body
    if document is None:
        document = views.found(await call.engine.catalog.get(call.principal.tenant_id, id), "workflow").definition
    found = views.findings(await call.engine.catalog.validate(document))
    return Reply(ValidationView(valid=not any(one.severity == "error" for one in found), findings=found))


@routes.post(
    "/workflows/{id}/publish",
    "Publish a workflow",
    answers=DefinitionView,
    permissions=("publisher",),
    conditional=True,
    problems=("invalid_definition", "conflict"),
)
async def publish_workflow(call: Call, id: DefinitionRef, body: PublishInput | None) -> Reply:
    """Make the draft, or the version named, the active one; the version before becomes `deprecated`."""
    version = body.version if body is not None else None
    row = await call.engine.catalog.publish(call.principal, id, version, call.if_match, request=call.request)
    return _written(call, row)


def _written(call: Call, row: Any, *, created: bool = False) -> Reply:
    if isinstance(row, tuple):
        raise ApiError("invalid_definition", findings=views.findings(row))
    location = f"{call.base}/workflows/{row.id}" if created else None
    return Reply(views.definition_view(row), revision=row.revision, location=location)
