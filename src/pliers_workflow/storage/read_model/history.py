"""The history of an instance: as it was written, and as a person would tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct, structs

from .. import queries
from ..identity import is_uuid
from ..paging import LIMIT_MAX, Page, decode_cursor, make_page
from .instances import is_visible
from .viewer import VISIBLE_TO, Reader, Viewer

__all__ = ["HistoryEntry", "Timeline", "TimelineEntry", "history", "timeline"]

_sql: Final = queries.load("read_history", visible_to=VISIBLE_TO)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: rows that a timeline tells at most; longer lives are read through `history`
TIMELINE_ROWS_MAX: Final = 5_000


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One accepted command, with what happened."""

    id: str
    #: counts within the instance, from 1
    seq: int
    command_id: str
    #: the kind of command: `start`, `decide`, `fire_timer` …
    action_type: str
    #: `current_state` before and after
    from_state: str | None
    to_state: str | None
    step_id: str | None
    result: str
    error_message: str | None
    #: the record as it was hashed: format, command, events, facts
    execution_data: Any
    executed_at: datetime
    #: user id; None: the engine
    executed_by: str | None
    #: SHA-256 of the row before and this record, in hex
    hash: str


class TimelineEntry(Struct, frozen=True, kw_only=True):
    """One thing that happened, as a person would tell it."""

    seq: int
    at: datetime
    #: the event's type: `workflow.state.entered`
    type: str
    #: user id and name; None: the engine
    by: str | None
    by_name: str | None
    #: the state concerned
    state: str | None
    #: a sentence: `Ada Lovelace approved "Manager review"`
    summary: str
    #: the event's own fields, without what the sentence does not need
    details: dict[str, Any]
    #: of an entered state: how long it was (or, for the ones still active, has been until the last row) active
    duration_ms: int | None = None


class Timeline(Struct, frozen=True, kw_only=True):
    """An instance's life."""

    items: tuple[TimelineEntry, ...]
    #: milliseconds in each state, over all visits, the present one up to the last row included
    durations_ms: dict[str, int]


async def history(
    reader: Reader,
    viewer: Viewer,
    instance_id: str,
    *,
    after_seq: int = 0,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[HistoryEntry] | None:
    """
    Give a page of an instance's history after `after_seq` (or after a cursor), in order.

    None when there is no such instance that the viewer may see. Raises `BadCursor`.
    """
    if not is_uuid(instance_id):
        return None
    if cursor is not None:
        (after_seq,) = decode_cursor(cursor, int)
    limit = max(1, min(limit, LIMIT_MAX))
    after_seq = min(max(after_seq, 0), 2**31 - 1)
    rows = await reader.fetch(_sql.page, *viewer.parameters, instance_id, after_seq, limit + 1)
    if not rows and not await is_visible(reader, viewer, instance_id):
        return None
    return make_page(rows, limit, lambda row: HistoryEntry(**dict(row)), lambda row: (row["seq"],))


async def timeline(reader: Reader, viewer: Viewer, instance_id: str) -> Timeline | None:
    """
    Tell an instance's life: states, decisions, timers, incidents, with the people's names and how long each state took.

    None when there is no such instance that the viewer may see. The first 5,000 commands are told.
    """
    if not is_uuid(instance_id):
        return None
    rows = await reader.fetch(_sql.page, *viewer.parameters, instance_id, 0, TIMELINE_ROWS_MAX)
    if not rows:
        return None
    definition = await reader.fetchrow(_sql.definition_of, viewer.tenant_id, instance_id)
    people = await reader.fetch(_sql.names, viewer.tenant_id, sorted(_people(rows)))
    names = {row["id"]: row["name"] for row in people}
    return _tell(rows, names, _titles(definition))


class _Titles:
    """What states and stages are called in the definition; their ids where they have no name."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.stages: dict[str, str] = {}

    def state(self, key: Any) -> str:
        return f"“{self.states.get(key, key)}”"

    def stage(self, key: Any) -> str:
        return f"“{self.stages.get(key, key)}”"


def _titles(definition: Any) -> _Titles:
    titles = _Titles()
    if definition is None:
        return titles
    waiting: list[tuple[str | None, Any]] = list((definition["state_machine"] or {}).get("states", {}).items())
    while waiting:
        key, state = waiting.pop()
        key = state.get("id") or key
        if key and state.get("name"):
            titles.states[key] = state["name"]
        waiting.extend((None, substate) for substate in state.get("substates", ()))
    for chain in definition["approval_chains"] or ():
        for stage in chain.get("steps", ()):
            if stage.get("name"):
                titles.stages[stage["id"]] = stage["name"]
    return titles


def _events(row: Any) -> Iterable[dict[str, Any]]:
    events: Iterable[dict[str, Any]] = row["execution_data"].get("events", ())
    return events


def _people(rows: Iterable[Any]) -> set[str]:
    """Every user id that a sentence may need a name for."""
    found: set[str] = set()
    for row in rows:
        found.add(row["executed_by"] or "")
        for event in _events(row):
            found.update(str(event.get(key) or "") for key in ("user", "principal", "delegate_to", "requester"))
            item = event.get("item")
            if isinstance(item, dict) and item.get("approver_type") == "user":
                found.add(item["approver"])
    return {person for person in found if is_uuid(person)}


class _Teller:
    """What a sentence is made with: names of people, states and stages."""

    def __init__(self, names: Mapping[str, str], titles: _Titles) -> None:
        self._names = names
        self.titles = titles

    def person(self, user: Any) -> str:
        return self._names.get(str(user), "somebody") if user else "the engine"

    def approver(self, item: Mapping[str, Any]) -> str:
        if item["approver_type"] == "user":
            return self.person(item["approver"])
        return f"the {item['approver_type']} {item['approver']}"

    def decided(self, event: Mapping[str, Any], did: str) -> str:
        principal = event.get("principal")
        instead = f" for {self.person(principal)}" if principal and principal != event["user"] else ""
        return f"{self.person(event['user'])}{instead} {did} {self.titles.stage(event['stage'])}"


#: Types that are told, and how. What is not here (timers being set, notes, the inner workings) is in the history only.
_SENTENCES: Final[Mapping[str, Callable[[_Teller, Mapping[str, Any], str], str]]] = {
    "workflow.started": lambda t, e, by: f"{by} started {e['definition_name']} {e['version']}",
    "workflow.state.entered": lambda t, e, by: f"{t.titles.state(e['state'])} began",
    "workflow.state.exited": lambda t, e, by: f"{t.titles.state(e['state'])} ended",
    "workflow.data.changed": lambda t, e, by: f"{by} changed " + (_fields(e) or "the data"),
    "workflow.title.changed": lambda t, e, by: f"it is called “{e['title']}” now",
    "workflow.error.occurred": lambda t, e, by: f"an error occurred: {e['message']}",
    "workflow.timeout.occurred": lambda t, e, by: _time_is_up(t, e),
    "workflow.approval.chain_started": lambda t, e, by: (
        f"approval by {e['chain']} began" + (f", round {e['round']}" if e["round"] > 1 else "")
    ),
    "workflow.approval.requested": lambda t, e, by: (
        f"{t.approver(e['item'])} was asked to decide {t.titles.stage(e['stage'])}"
    ),
    "workflow.approval.granted": lambda t, e, by: t.decided(e, "approved"),
    "workflow.approval.rejected": lambda t, e, by: t.decided(e, "rejected"),
    "workflow.approval.changes_requested": lambda t, e, by: t.decided(e, "asked for changes in"),
    "workflow.approval.delegated": lambda t, e, by: t.decided(e, "passed") + f" to {t.person(e.get('delegate_to'))}",
    "workflow.approval.stage_skipped": lambda t, e, by: (
        f"{t.titles.stage(e['stage'])} was skipped: "
        + ("its condition does not hold" if e["reason"] == "condition" else "nothing it watches has changed")
    ),
    "workflow.approval.stage_granted": lambda t, e, by: f"{t.titles.stage(e['stage'])} was granted",
    "workflow.approval.stage_refused": lambda t, e, by: f"{t.titles.stage(e['stage'])} was refused",
    "workflow.approval.chain_granted": lambda t, e, by: f"approval by {e['chain']} was granted",
    "workflow.approval.chain_refused": lambda t, e, by: f"approval by {e['chain']} was refused",
    "workflow.escalation.triggered": lambda t, e, by: f"attention was asked for: {e['reason']}",
    "workflow.incident.raised": lambda t, e, by: f"an incident was raised: {e['incident']['message']}",
    "workflow.incident.resolved": lambda t, e, by: f"{by} resolved an incident{_because(e)}",
    "workflow.suspended": lambda t, e, by: f"{by} suspended it{_because(e)}",
    "workflow.resumed": lambda t, e, by: f"{by} resumed it{_because(e)}",
    "workflow.completed": lambda t, e, by: f"it was completed in {t.titles.state(e['state'])}",
    "workflow.failed": lambda t, e, by: f"it failed: {e['message']}",
    "workflow.cancelled": lambda t, e, by: f"{by} cancelled it{_because(e)}",
}
#: fields that would repeat whole documents or the frozen lists of voters
_LEFT_OUT: Final = frozenset(
    {"type", "data", "context", "submission", "remembered", "replacement", "seats", "set", "position"}
)


def _fields(event: Mapping[str, Any]) -> str:
    return ", ".join([*event.get("set", {}), *event.get("removed", ())])


def _time_is_up(teller: _Teller, event: Mapping[str, Any]) -> str:
    if event.get("stage"):
        return f"the time for {teller.titles.stage(event['stage'])} was up"
    if event.get("state"):
        return f"the time in {teller.titles.state(event['state'])} was up"
    return "the time for the whole workflow was up" if event["kind"] == "workflow" else f"{event['trigger']} was due"


def _because(event: Mapping[str, Any]) -> str:
    return f": {event['reason']}" if event.get("reason") else ""


def _details(event: Mapping[str, Any]) -> dict[str, Any]:
    details = {key: value for key, value in event.items() if key not in _LEFT_OUT}
    item = details.get("item")
    if isinstance(item, dict):  # without who was eligible
        details["item"] = {key: item[key] for key in ("id", "approver_type", "approver") if key in item}
    return details


def _tell(rows: list[Any], names: Mapping[str, str], titles: _Titles) -> Timeline:
    teller = _Teller(names, titles)
    entries: list[TimelineEntry] = []
    durations: dict[str, int] = {}
    #: where each active state was entered: index in `entries`
    active: dict[str, int] = {}

    def leave(state: str, at: datetime) -> None:
        place = active.pop(state, None)
        if place is not None:
            lasted = (at - entries[place].at) // _MILLISECOND
            durations[state] = durations.get(state, 0) + lasted
            entries[place] = _lasting(entries[place], lasted)

    for row in rows:
        at, by = row["executed_at"], row["executed_by"]
        for event in _events(row):
            kind, state = event["type"], event.get("state")
            sentence = _SENTENCES.get(kind)
            if sentence is None:
                continue
            if kind == "workflow.state.exited" and state is not None:
                leave(state, at)
            who = event.get("user") or by
            entries.append(
                TimelineEntry(
                    seq=row["seq"],
                    at=at,
                    type=kind,
                    by=who,
                    by_name=names.get(who) if who else None,
                    state=state if isinstance(state, str) else None,
                    summary=_sentence(sentence(teller, event, teller.person(by))),
                    details=_details(event),
                )
            )
            if kind == "workflow.state.entered" and state is not None:
                active[state] = len(entries) - 1
    for state in list(active):
        leave(state, rows[-1]["executed_at"])
    return Timeline(items=tuple(entries), durations_ms=durations)


def _lasting(entry: TimelineEntry, milliseconds: int) -> TimelineEntry:
    return structs.replace(entry, duration_ms=milliseconds)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
