"""Work items: those of an instance, and those that wait for a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from msgspec import Struct

from .. import queries
from ..identity import is_uuid
from ..paging import LIMIT_MAX, BadCursor, Page, as_instant, as_number, decode_cursor, make_page
from .instances import is_visible
from .viewer import FILTERS, ROWS, VISIBLE_TO, Reader, Viewer, with_filters, with_rows

__all__ = ["InboxItem", "WorkItemView", "inbox", "pending_approvals"]

_sql: Final = queries.load("read_approvals", visible_to=VISIBLE_TO, filters=FILTERS, rows=ROWS)
_BEGINNING: Final = datetime(1000, 1, 1, tzinfo=UTC)
_LOWEST: Final = "00000000-0000-0000-0000-000000000000"


class WorkItemView(Struct, frozen=True, kw_only=True):
    """A person asked, or one of a role or group; open while `action` is None. Persons are user ids."""

    id: str
    instance_id: str
    #: the interpreter's name for it, which a decision may give: `item/3`
    item: str
    chain: str
    stage: str
    visit: int
    round: int
    approver_type: Literal["user", "role", "group"]
    #: user id, or role or group key
    approver_key: str
    slot: int
    #: the person asked, or the member who decided for a role or group
    approver_id: str | None
    #: in whose place
    principal: str | None
    action: Literal["approve", "reject", "request_changes", "delegate", "escalate", "withdraw"] | None
    comments: str | None
    decision_data: Any
    decided_by: str | None
    decided_at: datetime | None
    weight: int
    group: str | None
    timeout_at: datetime | None
    delegated_to: str | None
    delegated_at: datetime | None
    created_at: datetime


class InboxItem(WorkItemView, frozen=True, kw_only=True):
    """An open work item with what a list needs to know of its instance."""

    definition_id: str
    definition_name: str
    definition_title: str
    version: str
    title: str | None
    current_state: str
    #: of the instance: a suspended one takes no decision
    status: str
    revision: int
    #: when the instance began
    started_at: datetime
    requester: str | None
    requester_username: str | None
    requester_name: str | None
    #: the data fields that were asked for, as far as they are there
    data: dict[str, Any]


async def pending_approvals(
    reader: Reader, viewer: Viewer, instance_id: str, *, everything: bool = False
) -> tuple[WorkItemView, ...] | None:
    """
    Give an instance's open work items, oldest first; with `everything` those settled too.

    None when there is no such instance that the viewer may see.
    """
    if not is_uuid(instance_id):
        return None
    rows = await reader.fetch(_sql.of_instance, *viewer.parameters, instance_id, everything)
    if not rows and not await is_visible(reader, viewer, instance_id):
        return None
    return tuple(WorkItemView(**dict(row)) for row in rows)


async def inbox(
    reader: Reader,
    viewer: Viewer,
    user_id: str,
    *,
    limit: int = 50,
    cursor: str | None = None,
    definition: str | None = None,
    fields: Sequence[str] = (),
) -> Page[InboxItem]:
    """
    Give a page of what a person is asked to decide, themselves or as one of a role or group; waiting longest first.

    A stage is shown once, however many ways it asks them, and no longer once they have voted in it. `definition`: of the
    workflow of this name only. `fields`: top-level data fields to bring along. Roles and groups are those of the directory
    as it is now. Somebody else's inbox shows only what the viewer may see.
    """
    if not is_uuid(user_id):
        return Page(())
    limit = max(1, min(limit, LIMIT_MAX))
    waiting_since, after = _BEGINNING, _LOWEST
    if cursor is not None:
        microseconds, after = decode_cursor(cursor, int, str)
        if not is_uuid(after):
            raise BadCursor("the cursor is none of ours; begin the list anew, without a cursor")
        waiting_since = as_instant(microseconds)
    filters: list[tuple[str, Any]] = []
    # Whoever is asked may see what they are asked about.
    if not viewer.sees_all and viewer.user_id != user_id:
        filters.append((_sql.filter_visible, None))
    if definition is not None:
        filters.append((_sql.filter_workflow, definition))
    parameters = [*viewer.parameters, user_id, waiting_since, after, list(fields)]
    statement = with_filters(with_rows(_sql.inbox, limit), filters, parameters)
    rows = await reader.fetch(statement, *parameters)
    return make_page(rows, limit, _inbox_item, lambda row: (as_number(row["created_at"]), row["id"]))


def _inbox_item(row: Any) -> InboxItem:
    given = dict(row)
    given["data"] = given["data"] or {}
    return InboxItem(**given)
