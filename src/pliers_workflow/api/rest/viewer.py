"""Reading in the caller's name: every read passes the read model with who is asking."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from pliers_workflow.interpreter.facts import User
from pliers_workflow.interpreter.instance import Status
from pliers_workflow.storage import read_model
from pliers_workflow.storage.read_model import Viewer

from ..endpoint import invalid_parameter
from .available import Caller
from .people import user_id
from .wire import (
    ApproverView,
    DefinitionOfInstance,
    HistoryEntryView,
    InboxItemView,
    Page,
    TimelineEntryView,
    TimelineView,
    WorkItemView,
)

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.interpreter.instance import Instance
    from pliers_workflow.storage.paging import Page as RowPage

    from ..endpoint import Call
    from .wire import InstancesQuery

T = TypeVar("T")


class Reading:
    """What the caller of a request may read."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._engine = call.engine
        self._viewer: Viewer | None = None
        self._record: User | None = None
        self._record_read = False

    async def viewer(self) -> Viewer:
        """Who is asking. Operators and auditors see everything, so nobody needs to know their roles."""
        if self._viewer is None:
            principal = self._call.principal
            if principal.may("operator", "auditor"):
                self._viewer = Viewer(principal.tenant_id, principal.user_id, sees_all=True)
            else:
                user = await self._person()
                roles, groups = (user.roles, user.groups) if user is not None else ((), ())
                self._viewer = Viewer(principal.tenant_id, principal.user_id, roles, groups)
        return self._viewer

    async def caller(self) -> Caller:
        """The caller, for what they could do with what they read."""
        principal = self._call.principal
        operates = principal.may("operator")
        return Caller(principal.user_id, operates, None if operates else await self._person())

    async def _person(self) -> User | None:
        """The caller's record in the directory as it is now, read once."""
        if not self._record_read:
            principal = self._call.principal
            key = f"user:{principal.user_id}"
            facts = await self._engine.directory.load_facts(self._engine.readers, principal.tenant_id, [key])
            record = facts.get(key)
            self._record = record if isinstance(record, User) else None
            self._record_read = True
        return self._record

    async def sees(self, instance_id: str) -> bool:
        """Whether the caller may see this instance, which exists."""
        viewer = await self.viewer()
        return viewer.sees_all or await read_model.is_visible(self._engine.readers, viewer, instance_id)

    async def instance(self, instance_id: str) -> Instance | None:
        """The instance as it is now; None when there is none that the caller may see."""
        return await read_model.get_instance(self._engine.readers, await self.viewer(), instance_id)

    async def instances(
        self, ref: str, query: InstancesQuery
    ) -> tuple[RowPage[read_model.InstanceView], dict[str, Chart]]:
        """A page of instances of a workflow (or of one version of it), with the charts they run."""
        from .views import found

        call, tenant_id = self._call, self._call.principal.tenant_id
        row = found(await self._engine.catalog.get(tenant_id, ref), "workflow")
        by_name = ref == row.name
        viewer = await self.viewer()
        page = await _paged(
            read_model.list_instances(
                self._engine.readers,
                viewer,
                definition_id=None if by_name else row.id,
                definition_name=row.name if by_name else None,
                version=query.version,
                status=query.status,
                state=query.state,
                assigned_to=await user_id(call, query.assigned_to) if query.assigned_to else None,
                requester=await user_id(call, query.requester) if query.requester else None,
                submission_id=query.submission_id,
                external_key=query.external_key,
                created_after=query.created_after,
                created_before=query.created_before,
                limit=query.limit,
                cursor=query.cursor,
            )
        )
        definitions = {instance.definition_id for instance in page.items}
        charts = {each: await self._engine.catalog.chart(tenant_id, each) for each in definitions}
        return page, charts

    async def approvals(self, instance_id: str, *, everything: bool) -> list[WorkItemView] | None:
        """The instance's work items; None when the caller may not see it."""
        rows = await read_model.pending_approvals(
            self._engine.readers, await self.viewer(), instance_id, everything=everything
        )
        if rows is None:
            return None
        names = await self._usernames(rows)
        return [WorkItemView.of(row, **_work_item(row, names)) for row in rows]

    async def inbox(self, person: str, workflow: str | None, limit: int, cursor: str | None) -> Page[InboxItemView]:
        """What a person is asked to decide."""
        viewer = (
            Viewer(self._call.principal.tenant_id, person)
            if person == self._call.principal.user_id
            else await self.viewer()
        )
        page = await _paged(
            read_model.inbox(self._engine.readers, viewer, person, limit=limit, cursor=cursor, definition=workflow)
        )
        names = await self._usernames(page.items)
        return Page(items=[_inbox_item(row, names) for row in page.items], next_cursor=page.next_cursor)

    async def history(self, instance_id: str, limit: int, cursor: str | None) -> Page[HistoryEntryView] | None:
        """The instance's history; None when the caller may not see it."""
        page = await _paged(
            read_model.history(self._engine.readers, await self.viewer(), instance_id, limit=limit, cursor=cursor)
        )
        if page is None:
            return None
        return Page(items=[HistoryEntryView.of(row) for row in page.items], next_cursor=page.next_cursor)

    async def timeline(self, instance_id: str) -> TimelineView | None:
        """The instance's life; None when the caller may not see it."""
        told = await read_model.timeline(self._engine.readers, await self.viewer(), instance_id)
        if told is None:
            return None
        items = [TimelineEntryView.of(entry) for entry in told.items]
        return TimelineView(items=items, durations_ms=told.durations_ms)

    async def _usernames(self, rows: Any) -> dict[str, str]:
        """Usernames of the persons asked, by id."""
        keys = {f"user:{row.approver_key}" for row in rows if row.approver_type == "user"}
        if not keys:
            return {}
        facts = await self._engine.directory.load_facts(self._engine.readers, self._call.principal.tenant_id, keys)
        return {user.id: user.username for user in facts.values() if isinstance(user, User)}


def viewer_of(call: Call) -> Reading:
    """Reading in the name of this call's principal."""
    return Reading(call)


async def _paged(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except read_model.BadCursor as error:
        raise invalid_parameter("cursor", "is none of ours", "begin the list anew, without a cursor") from error


def _work_item(row: read_model.WorkItemView, names: dict[str, str]) -> dict[str, Any]:
    """What the wire calls otherwise than the row does."""
    return {
        "workflow_instance_id": row.instance_id,
        "chain_id": row.chain,
        "step_id": row.stage,
        "approver": ApproverView(
            type=row.approver_type, identifier=row.approver_key, username=names.get(row.approver_key)
        ),
        "principal_id": row.principal,
    }


def _inbox_item(row: read_model.InboxItem, names: dict[str, str]) -> InboxItemView:
    return InboxItemView.of(
        row,
        **_work_item(row, names),
        workflow_definition=DefinitionOfInstance(id=row.definition_id, name=row.definition_name, version=row.version),
        status=Status(row.status),
        requester_id=row.requester,
    )
