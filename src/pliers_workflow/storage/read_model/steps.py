"""The step runs of an instance, those that are over too, read off its history; and what is at work in all instances."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from .. import canonical, queries
from ..identity import is_uuid
from ..paging import LIMIT_MAX, BadCursor, Page, as_instant, as_number, decode_cursor, make_page
from .instances import is_visible
from .viewer import VISIBLE_TO, Reader, Viewer

__all__ = ["STEP_EVENTS_MAX", "StepAtWork", "StepEntry", "steps", "steps_at_work"]

_sql: Final = queries.load("read_steps", visible_to=VISIBLE_TO)
#: Events of steps that are read at most; longer lives are read through `history`.
STEP_EVENTS_MAX: Final = 20_000
_BEGINNING: Final = datetime(1000, 1, 1, tzinfo=UTC)
_LOWEST: Final = "00000000-0000-0000-0000-000000000000"


class StepEntry(Struct, kw_only=True):
    """One passage through a step."""

    #: counts up inside the instance: `step/7`; None: it was skipped, and never begun
    id: str | None
    step_id: str
    type: str | None
    #: `scheduled`, `retrying`, `waiting`, `open`, `undoing`, `failed`, `stuck` while it is at work; then `completed`,
    #: `passed_over` (it failed, and what follows goes on), `failed`, `skipped`, `cancelled`, `compensated`
    status: str
    state: str | None
    #: the run it stands in, the branch of a `parallel`, the position in a `for_each`
    parent: str | None
    branch: str | None
    index: int | None
    attempt: int
    #: seq of the history rows where it began and ended
    started_seq: int
    ended_seq: int | None = None
    started_at: datetime
    ended_at: datetime | None = None
    #: when the next attempt is due
    retry_at: datetime | None = None
    input: Any = None
    output: Any = None
    #: `{code, message, details, …}`
    failure: dict[str, Any] | None = None
    #: the instance of a sub-workflow
    child: str | None = None


class StepAtWork(Struct, frozen=True, kw_only=True):
    """A step that a worker is at, or that waits for one."""

    #: of its job
    id: str
    instance_id: str
    #: the step run: `step/7`
    name: str
    #: the step's id in the definition
    step_id: str
    queue: str
    workflow: str
    version: str
    attempt: int
    #: when its first attempt was due
    created_at: datetime
    #: since when this attempt may be made
    due_at: datetime
    #: the node, or the external worker by the name that it gives itself; None: nobody is at it
    worker: str | None
    #: until when it is theirs, unless they prolong that
    lease_until: datetime | None


async def steps_at_work(
    reader: Reader,
    tenant_id: str,
    *,
    age_min: float = 0,
    workflow: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[StepAtWork]:
    """
    Give a page of a tenant's steps that have been due for `age_min` seconds, the longest first: at work, or unclaimed.

    Who may see them is the caller's to ask. Raises `BadCursor`.
    """
    limit = max(1, min(limit, LIMIT_MAX))
    since, after = _BEGINNING, _LOWEST
    if cursor is not None:
        microseconds, after = decode_cursor(cursor, int, str)
        if not is_uuid(after):
            raise BadCursor("the cursor is none of ours; begin the list anew, without a cursor")
        since = as_instant(microseconds)
    rows = await reader.fetch(_sql.at_work, tenant_id, age_min, since, after, workflow, queue, limit + 1)
    return make_page(rows, limit, _at_work, lambda row: (as_number(row["due_at"]), row["id"]))


def _at_work(row: Any) -> StepAtWork:
    told = dict(row)
    return StepAtWork(worker=_worker(told.pop("owner")), **told)


def _worker(owner: str | None) -> str | None:
    """
    Who holds a lease, without what only the holder may know.

    >>> _worker("external:printer-1:00000000000000000000000000000000"), _worker("node-1")
    ('printer-1', 'node-1')
    """
    if owner is None or not owner.startswith("external:"):
        return owner
    return owner.removeprefix("external:").rpartition(":")[0]


async def steps(reader: Reader, viewer: Viewer, instance_id: str) -> list[StepEntry] | None:
    """
    Give an instance's step runs in the order in which they began; None when the viewer may not see it.

    Of a very long life the first 20,000 events of steps are told.
    """
    if not is_uuid(instance_id):
        return None
    rows = await reader.fetch(_sql.step_events, *viewer.parameters, instance_id, STEP_EVENTS_MAX)
    if not rows and not await is_visible(reader, viewer, instance_id):
        return None
    told = _Told()
    for row in rows:
        told.add(row["seq"], row["executed_at"], canonical.decode(row["event"]))
    return told.entries


class _Told:
    """Runs, as event after event is told."""

    def __init__(self) -> None:
        self.entries: list[StepEntry] = []
        self._by_id: dict[str, StepEntry] = {}

    def add(self, seq: int, at: datetime, event: dict[str, Any]) -> None:
        kind = event["type"].removeprefix("workflow.step.")
        if kind == "skipped":
            self.entries.append(_entry(None, event, "skipped", seq, at, ended=True))
            return
        if kind in ("started", "retried"):
            self._begun(kind, seq, at, event)
            return
        entry = self._by_id.get(event["step"])
        if entry is None:
            return
        match kind:
            case "failed":
                entry.failure = event["failure"]
                entry.attempt = event.get("attempt", entry.attempt)
                entry.retry_at = _instant(event.get("retry_at"))
                entry.status = "retrying" if entry.retry_at is not None else "failed"
            case "completed" | "compensated":
                entry.output = event.get("output")
                entry.failure = event.get("failure")
                passed = "passed_over" if entry.failure is not None else "completed"
                self._ended(entry, passed if kind == "completed" else "compensated", seq, at)
            case "cancelled":
                self._ended(entry, entry.status if entry.status == "failed" else "cancelled", seq, at)
            case "rollback_started":
                entry.status = "undoing"
                entry.failure = event["failure"]

    def _begun(self, kind: str, seq: int, at: datetime, event: dict[str, Any]) -> None:
        run = event["run"]
        entry = self._by_id.get(run["id"])
        if entry is None or kind == "started":
            entry = self._by_id[run["id"]] = _entry(run["id"], run, run["status"], seq, at)
            self.entries.append(entry)
        entry.status = run["status"]
        entry.attempt = run.get("attempt", 1)
        entry.retry_at = _instant(run.get("due_at")) if run["status"] == "retrying" else None
        entry.child = run.get("child")
        entry.failure = run.get("failure")
        entry.ended_seq = entry.ended_at = None
        if event.get("input") is not None:
            entry.input = event["input"]

    @staticmethod
    def _ended(entry: StepEntry, status: str, seq: int, at: datetime) -> None:
        entry.status = status
        entry.retry_at = None
        entry.ended_seq, entry.ended_at = seq, at


def _entry(
    run_id: str | None, told: dict[str, Any], status: str, seq: int, at: datetime, *, ended: bool = False
) -> StepEntry:
    return StepEntry(
        id=run_id,
        step_id=told["step_id"],
        # an event's own `type` is not the step's
        type=told.get("type") if run_id is not None else None,
        status=status,
        state=told.get("state"),
        parent=told.get("parent"),
        branch=told.get("branch"),
        index=told.get("index"),
        attempt=told.get("attempt", 1),
        started_seq=seq,
        ended_seq=seq if ended else None,
        started_at=at,
        ended_at=at if ended else None,
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
