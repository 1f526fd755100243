"""Incidents as operators look for them, and as whoever may see an instance finds them with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

from .. import queries
from ..identity import is_uuid
from ..paging import LIMIT_MAX, BadCursor, Page, as_instant, as_number, decode_cursor, make_page
from .instances import is_visible
from .viewer import Reader, Viewer

__all__ = ["IncidentFilter", "IncidentGroup", "IncidentRow", "incident_groups", "incidents", "incidents_of"]

_sql: Final = queries.load("read_incidents")


class IncidentFilter(Struct, frozen=True, omit_defaults=True):
    """Which incidents: all that are given must fit."""

    fingerprint: str | None = None
    code: str | None = None
    #: name of the workflow
    workflow: str | None = None
    #: id of the step in the definition
    step_id: str | None = None

    @property
    def parameters(self) -> tuple[str | None, ...]:
        """In the order of the statements."""
        return (self.fingerprint, self.code, self.workflow, self.step_id)


class IncidentRow(Struct, frozen=True, kw_only=True):
    """An incident, open or resolved."""

    instance_id: str
    #: counts up inside the instance: `incident/3`
    incident: str
    workflow: str
    code: str
    fingerprint: str
    message: str
    state: str | None
    stage: str | None
    #: the step run and the step's id in the definition
    step: str | None
    step_id: str | None
    attempts: int
    details: dict[str, Any]
    raised_at: datetime
    #: None: it is open
    resolved_at: datetime | None
    #: None: it went away by itself
    action: Literal["retry", "skip", "give_up"] | None
    reason: str | None
    resolved_by: str | None


class IncidentGroup(Struct, frozen=True, kw_only=True):
    """Open incidents of one cause."""

    fingerprint: str
    workflow: str
    code: str
    step_id: str | None
    stage: str | None
    #: of the newest
    message: str
    count: int
    first_raised_at: datetime
    last_raised_at: datetime


async def incidents(
    reader: Reader,
    tenant_id: str,
    wanted: IncidentFilter,
    *,
    open_only: bool = True,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[IncidentRow]:
    """Give a page of a tenant's incidents, the newest first. Who may see them is the caller's to ask. Raises `BadCursor`."""
    limit = max(1, min(limit, LIMIT_MAX))
    before: tuple[Any, ...] = (None, None, None)
    if cursor is not None:
        microseconds, instance_id, incident = decode_cursor(cursor, int, str, str)
        if not is_uuid(instance_id):
            raise BadCursor("the cursor is none of ours; begin the list anew, without a cursor")
        before = (as_instant(microseconds), instance_id, incident)
    rows = await reader.fetch(
        _sql.open_page if open_only else _sql.page, tenant_id, *wanted.parameters, *before, limit + 1
    )
    return make_page(rows, limit, _row, _key)


async def incident_groups(
    reader: Reader, tenant_id: str, wanted: IncidentFilter, *, limit: int = 100
) -> list[IncidentGroup]:
    """Give a tenant's open incidents by cause, the most frequent first."""
    rows = await reader.fetch(_sql.groups, tenant_id, *wanted.parameters, max(1, min(limit, LIMIT_MAX)))
    return [IncidentGroup(**dict(row)) for row in rows]


async def incidents_of(reader: Reader, viewer: Viewer, instance_id: str) -> list[IncidentRow] | None:
    """Give an instance's incidents in the order in which they were raised; None when the viewer may not see it."""
    if not is_uuid(instance_id) or not await is_visible(reader, viewer, instance_id):
        return None
    return [_row(row) for row in await reader.fetch(_sql.of_instance, viewer.tenant_id, instance_id)]


def _key(row: Any) -> tuple[int, str, str]:
    return (as_number(row["raised_at"]), row["instance_id"], row["incident"])


def _row(row: Any) -> IncidentRow:
    return IncidentRow(**dict(row))
