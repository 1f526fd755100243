"""Making answers of what the engine and its services give.

The view of an instance is built from the interpreter's `Instance` alone, so that a command is answered without another
query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.runtime.answers import Accepted, KeyReused, NotFound

from ..endpoint import Reply, invalid_parameter
from ..problems import ApiError, FindingView
from .available import Caller, available_triggers, caller_of
from .wire import (
    BindingView,
    DefinitionOfInstance,
    DefinitionView,
    FailedStartView,
    IncidentView,
    InstanceLinks,
    InstanceView,
    Page,
    SubmissionAnswerView,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import msgspec

    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.definition.findings import Finding
    from pliers_workflow.interpreter.instance import Instance
    from pliers_workflow.runtime import rows
    from pliers_workflow.runtime.answers import Answer
    from pliers_workflow.storage.paging import Page as RowPage

    from ..endpoint import Call

Row = TypeVar("Row")
View = TypeVar("View")


def instance_view(instance: Instance, chart: Chart, caller: Caller, base: str) -> InstanceView:
    """The instance as this caller sees it."""
    here = f"{base}/workflow-instances/{instance.id}"
    incidents = instance.machine.incidents
    return InstanceView(
        id=instance.id,
        workflow_definition=DefinitionOfInstance(
            id=instance.definition_id, name=instance.definition_name, version=instance.version
        ),
        workflow_version=instance.version,
        current_state=instance.current_state,
        previous_state=instance.previous_state,
        configuration=instance.configuration,  # type: ignore[arg-type]  # a tuple is encoded as a list is
        status=instance.status,
        title=instance.title,
        instance_data=instance.data,
        context_data=instance.context,
        submission_id=instance.submission_id,
        external_key=instance.external_key,
        requester_id=instance.requester,
        created_by=instance.created_by,
        assigned_to=instance.assigned_to,
        created_at=instance.created_at,
        started_at=instance.started_at,
        completed_at=instance.completed_at,
        failed_at=instance.failed_at,
        cancelled_at=instance.cancelled_at,
        last_activity_at=instance.last_activity_at,
        timeout_at=instance.timeout_at,
        revision=instance.revision,
        incidents=[IncidentView.of(incident) for incident in incidents.values()] if incidents else [],
        available_triggers=available_triggers(chart, instance, caller),
        links=InstanceLinks(
            self=here,
            definition=f"{base}/workflows/{instance.definition_id}",
            approvals=f"{here}/approvals",
            history=f"{here}/history",
            timeline=f"{here}/timeline",
        ),
    )


async def answered(call: Call, answer: Answer, *, started: bool = False) -> Reply:
    """What a command came to. Raises ApiError unless it was accepted."""
    if type(answer) is not Accepted:
        raise refused(answer)
    instance = answer.instance
    chart = await call.engine.catalog.chart(call.principal.tenant_id, instance.definition_id)
    view = instance_view(instance, chart, await caller_of(call), call.base)
    return Reply(
        view,
        revision=instance.revision,
        location=view.links.self if started else None,
        replayed=answer.replayed,
    )


def refused(answer: Answer) -> ApiError:
    """The problem that an answer without a new state is."""
    if isinstance(answer, Rejection):
        return ApiError.of(answer)
    if isinstance(answer, KeyReused):
        return ApiError("idempotency_key_reused")
    assert isinstance(answer, NotFound)
    return not_there("instance")


def selected(view: msgspec.Struct, fields: str | None) -> Any:
    """The view with these top-level fields only (`fields=id,status`). Raises ApiError for one that it does not have."""
    if fields is None:
        return view
    attributes = _attributes(type(view))
    chosen: dict[str, Any] = {}
    for name in fields.split(","):
        attribute = attributes.get(name.strip())
        if attribute is None:
            known = ", ".join(attributes)
            raise invalid_parameter("fields", f"names the unknown field {name.strip()[:100]!r}", f"known: {known}")
        chosen[name.strip()] = getattr(view, attribute)
    return chosen


_known_attributes: dict[type, dict[str, str]] = {}


def _attributes(type_: type[msgspec.Struct]) -> dict[str, str]:
    attributes = _known_attributes.get(type_)
    if attributes is None:
        attributes = dict(zip(type_.__struct_encode_fields__, type_.__struct_fields__, strict=True))
        _known_attributes[type_] = attributes
    return attributes


def check_fields(type_: type[msgspec.Struct], fields: str | None) -> None:
    """Raise ApiError where `fields` names one that the type does not have, before anything is read."""
    if fields is not None:
        attributes = _attributes(type_)
        for name in fields.split(","):
            if name.strip() not in attributes:
                known = ", ".join(attributes)
                raise invalid_parameter("fields", f"names the unknown field {name.strip()[:100]!r}", f"known: {known}")


def page(rows: RowPage[Row], view: Callable[[Row], View]) -> Page[View]:
    """A page of rows as a page of views."""
    return Page(items=[view(row) for row in rows.items], next_cursor=rows.next_cursor)


def found(row: Row | None, what: str) -> Row:
    """The row; raises ApiError `not_found` when there is none."""
    if row is None:
        raise not_there(what)
    return row


def not_there(what: str) -> ApiError:
    """The one answer for what does not exist and for what the caller may not see."""
    return ApiError("not_found", f"There is no such {what} that you may see; check its id or name.")


def findings(found: Iterable[Finding]) -> list[FindingView]:
    """Findings as callers see them."""
    return [FindingView(one.pointer, one.code, one.message, one.hint, one.severity) for one in found]


def definition_view(row: rows.DefinitionRow) -> DefinitionView:
    """A version with its document."""
    document = row.definition
    return DefinitionView.of(
        row,
        state_machine=document.get("stateMachine", {}),
        approval_chains=document.get("approvalChains"),
        event_hooks=document.get("eventHooks"),
        timeout_config=document.get("timeoutConfig"),
        metadata=document.get("metadata"),
        findings=findings(row.findings),
    )


def submission_answer(answer: rows.SubmissionAnswer) -> SubmissionAnswerView:
    """What became of a submission."""
    return SubmissionAnswerView.of(
        answer.submission,
        instances=answer.instances,
        pending=answer.pending,
        failed=[FailedStartView.of(one) for one in answer.failed],
    )


def binding_view(row: rows.BindingRow) -> BindingView:
    """A binding."""
    return BindingView.of(row, workflow_id=row.workflow_name, findings=findings(row.findings))
