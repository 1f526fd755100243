"""Instances as their readers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from pliers_workflow.interpreter.instance import Instance, Machine, Status

from .. import queries
from ..identity import is_uuid
from ..paging import LIMIT_MAX, BadCursor, Page, decode_cursor, make_page
from .viewer import FILTERS, ROWS, VISIBLE_TO, Reader, Viewer, with_filters, with_rows

__all__ = ["InstanceView", "get_instance", "is_visible", "list_instances"]

#: the place of a list's filters in its statement
_sql: Final = queries.load("read_instances", visible_to=VISIBLE_TO, filters=FILTERS, rows=ROWS)
_decode_machine: Final = msgspec.json.Decoder(Machine, float_hook=Decimal).decode
#: above every id
_TOP: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class InstanceView(Instance, kw_only=True):
    """An instance, with what the database adds to it."""

    sla_breach_at: datetime | None = None
    escalated_at: datetime | None = None


async def get_instance(reader: Reader, viewer: Viewer, instance_id: str) -> InstanceView | None:
    """Give an instance as it is now; None when there is none, or none that the viewer may see."""
    if not is_uuid(instance_id):
        return None
    row = await reader.fetchrow(_sql.get_instance, *viewer.parameters, instance_id)
    return None if row is None else _view(row)


async def is_visible(reader: Reader, viewer: Viewer, instance_id: str) -> bool:
    """Whether the viewer may see this instance, so that other readers of it (a WebSocket) can ask first."""
    return is_uuid(instance_id) and bool(await reader.fetchval(_sql.is_visible, *viewer.parameters, instance_id))


async def list_instances(
    reader: Reader,
    viewer: Viewer,
    *,
    definition_id: str | None = None,
    definition_name: str | None = None,
    version: str | None = None,
    status: Status | str | Sequence[Status | str] | None = None,
    state: str | None = None,
    assigned_to: str | None = None,
    requester: str | None = None,
    submission_id: str | None = None,
    external_key: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[InstanceView]:
    """
    Give a page of the instances that the viewer may see and that pass every filter given, the newest first.

    Persons are user ids. `created_after` is inclusive, `created_before` exclusive. Ids that are no UUIDs match nothing.
    Raises `BadCursor` for a cursor that is none of ours, ValueError for a status that does not exist.
    """
    limit = max(1, min(limit, LIMIT_MAX))
    filters: dict[str, Any] = {
        "definition_id": definition_id,
        "definition_name": definition_name,
        "version": version,
        "state": state,
        "assigned_to": assigned_to,
        "requester": requester,
        "submission_id": submission_id,
        "external_key": external_key,
        "created_after": created_after,
        "created_before": created_before,
    }
    wanted = {name: value for name, value in filters.items() if value is not None}
    if any(not is_uuid(wanted[name]) for name in _UUIDS & wanted.keys()):
        return Page(())
    concerned = (viewer.tenant_id, viewer.sees_all) if viewer.sees_all else viewer.parameters
    parameters = [*concerned, _after(cursor)]
    statement = _list_statement(viewer, wanted, _statuses(status), parameters)
    rows = await reader.fetch(with_rows(statement, limit), *parameters)
    return make_page(rows, limit, _view, lambda row: (row["id"],))


#: The statuses whose instances no index of live ones has.
_ENDS: Final = frozenset({Status.COMPLETED.value, Status.CANCELLED.value})
_UUIDS: Final = frozenset({"definition_id", "assigned_to", "requester", "submission_id"})


def _list_statement(viewer: Viewer, wanted: Mapping[str, Any], statuses: Sequence[str], parameters: list[Any]) -> str:
    """Choose the viewer's statement; put the filters that are wanted into it, and their values behind its parameters."""
    base, wanted = _sql.list_visible, dict(wanted)
    if viewer.sees_all:
        base = _sql.list_all
        if "definition_name" in wanted:
            base = _sql.list_of_workflow
            parameters.append(wanted.pop("definition_name"))
    elif statuses and not _ENDS.intersection(statuses):
        base = _sql.list_visible_live
        parameters.append(list(statuses))
        statuses = ()
    filters = [(getattr(_sql, f"filter_{name}"), value) for name, value in wanted.items()]
    if statuses:
        # Written out, so that the partial indexes on live instances serve it; each is one of eight known words.
        filters.append((f"i.status IN ({', '.join(repr(status) for status in statuses)})", None))
    return with_filters(base, filters, parameters)


def _statuses(status: Status | str | Sequence[Status | str] | None) -> list[str]:
    if status is None:
        return []
    given = [status] if isinstance(status, str) else status
    return sorted({Status(one).value for one in given})


def _after(cursor: str | None) -> str:
    if cursor is None:
        return _TOP
    (last,) = decode_cursor(cursor, str)
    if not is_uuid(last):
        raise BadCursor("the cursor is none of ours; begin the list anew, without a cursor")
    return str(last)


def _view(row: Any) -> InstanceView:
    fields = dict(row)
    fields["status"] = Status(fields["status"])
    fields["configuration"] = tuple(fields["configuration"])
    fields["machine"] = _decode_machine(fields["machine"])
    return InstanceView(**fields)
