"""An auditor of approval chains: reads what is on record, and objects to what the rules do not allow.

The auditor knows the document, the directory and the data of the moment, and nothing of how the engine counts or keeps
its books. What is objected to is an `AssertionError` that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from pliers_workflow.interpreter.events import (
    ApprovalDelegated,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalWithdrawn,
    ChainGranted,
    ChainRefused,
    ChainStarted,
    ChangesRequested,
    Event,
    IncidentRaised,
    StageAsked,
    StageGranted,
    StageRefused,
    StageSkipped,
    TimeoutOccurred,
)
from pliers_workflow.interpreter.instance import Seat, WorkItem
from tests.interpreter.approvals.office import People, user_id, user_name

#: Whom the generator's expressions name.
EXPRESSIONS = {
    "data.who": lambda data: data.get("who"),
    "['user:ada', 'role:left']": lambda data: ["user:ada", "role:left"],
    "requester.username": lambda data: "rita",
}
MISSING = object()


@dataclass
class Asking:
    """A stage that is being asked, as the record tells."""

    stage: dict[str, Any]
    seats: tuple[Seat, ...] = ()
    #: open items by id
    items: dict[str, WorkItem] = field(default_factory=dict)
    #: voice (in whose place was spoken) -> seat, approved
    said: dict[str, tuple[int, bool]] = field(default_factory=dict)
    #: those who voted, and those in whose place
    deciders: set[str] = field(default_factory=set)
    #: it cannot be granted any more, as it stood before its items were withdrawn for that
    lost: bool = False

    @property
    def spoken(self) -> set[str]:
        """Who has nothing more to say: they have decided, or had somebody decide, or passed on what is open still."""
        return self.deciders | {person for item in self.items.values() for person in item.delegated_by}


class Auditor:
    """Follows one chain in one instance."""

    def __init__(self, stages: list[dict[str, Any]], distinct: bool, administrators: list[Any], people: People) -> None:
        self.stages = stages
        self.by_id = {stage["id"]: stage for stage in stages}
        self.distinct = distinct
        self.administrators = administrators
        self.people = people
        self.data: dict[str, Any] = {}
        self.round = 0
        self.awaits_changes = False
        #: of this round, in order: stage id -> granted, skipped or unchanged
        self.passed: dict[str, str] = {}
        self.asking: Asking | None = None
        #: of this series of rounds: what the watched fields were, and who had voted, when a stage was granted
        self.grants: dict[str, list[Any]] = {}
        self.voters: dict[str, set[str]] = {}

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, events: tuple[Event, ...], data: dict[str, Any]) -> None:
        """Look at what one command did; `data` are those it found, or left where it changed them."""
        self.data = data
        timers: set[str | None] = {event.stage for event in events if isinstance(event, TimeoutOccurred)}
        for event in events:
            match event:
                case ChainStarted():
                    self._started(event)
                case StageSkipped():
                    self._skipped(event)
                case StageAsked():
                    self._asked(event)
                case ApprovalRequested(item=item):
                    self._requested(item)
                case ApprovalWithdrawn(item=id, reason=reason):
                    if self.asking is not None:
                        del self.asking.items[id]
                    if reason in ("stage_settled", "timeout"):
                        continue
                case ApprovalDelegated():
                    self._delegated(event)
                case ApprovalGranted() | ApprovalRejected():
                    self._voted(event)
                case ChangesRequested():
                    self._may_decide(event.user, event.item)
                    self.awaits_changes = True
                    self.asking = None
                case StageGranted(stage=id):
                    self._granted(id, by_clock=id in timers)
                case StageRefused(stage=id):
                    self._refused(id, by_clock=id in timers)
                case IncidentRaised(incident=incident) if incident.stage not in timers:
                    assert self.asking is None or not self.possible(), "those who are asked suffice"
                case ChainGranted():
                    assert list(self.passed) == [stage["id"] for stage in self.stages], "each stage has had its turn"
                case ChainRefused():
                    assert self.asking is None
            if self.asking is not None:
                self.asking.lost = not self.possible()

    def _started(self, event: ChainStarted) -> None:
        assert event.round == (self.round + 1 if self.awaits_changes else 1), (
            "a round follows changes, and nothing else"
        )
        if not self.awaits_changes:
            self.grants, self.voters = {}, {}
        self.round = event.round
        self.awaits_changes = False
        self.passed, self.asking = {}, None

    def _next(self, id: str) -> dict[str, Any]:
        assert id == self.stages[len(self.passed)]["id"], "stages are asked in their order"
        return self.by_id[id]

    def _skipped(self, event: StageSkipped) -> None:
        stage = self._next(event.stage)
        if event.reason == "condition":
            assert not self._wanted(stage), "its condition holds"
            self.passed[stage["id"]] = "skipped"
        else:
            assert self._wanted(stage)
            assert self._unchanged(stage), "it was not granted, or something has changed"
            self.passed[stage["id"]] = "unchanged"

    def _wanted(self, stage: dict[str, Any]) -> bool:
        return "condition" not in stage or bool(self.data["big"])

    def _unchanged(self, stage: dict[str, Any]) -> bool:
        return stage["id"] in self.grants and "watchedFields" in stage and self.grants[stage["id"]] == self._seen(stage)

    def _seen(self, stage: dict[str, Any]) -> list[Any]:
        return [self.data.get(name, MISSING) for name in stage.get("watchedFields", ())]

    # -- who is asked ----------------------------------------------------------------------------------------------

    def _asked(self, event: StageAsked) -> None:
        before: tuple[Seat, ...] = ()
        if self.asking is None or self.asking.stage["id"] != event.stage:
            stage = self._next(event.stage)
            assert self._wanted(stage), "its condition does not hold"
            assert not self._unchanged(stage), "nothing has changed since it was granted"
            self.grants.pop(event.stage, None)
            self.asking = Asking(stage)
        else:
            before = self.asking.seats
        asking = self.asking
        asking.seats = event.seats
        for position, seat in enumerate(event.seats):
            old = before[position] if position < len(before) else None
            if seat == old:
                continue
            key = f"{seat.approver_type}:{seat.approver}"
            named = set(self._named(asking.stage["approvers"][seat.entry])) | set(self._named(*self.administrators))
            assert not seat.eligible or key in {self._as_id(each) for each in named}, f"nobody named {key}"
            new = set(seat.eligible) - set(old.eligible if old is not None else ())
            assert new <= self._available(key, asking), "somebody who may not decide here"
            if old is None and not seat.eligible:
                seated = {each.eligible[0] for each in event.seats if each.approver_type == "user" and each.eligible}
                approver = asking.stage["approvers"][seat.entry]
                instead = self._named(*approver.get("fallback", ()), *self.administrators)
                keys = [*([] if approver["type"] == "dynamic" else [key]), *map(self._as_id, instead)]
                helpers = {person for each in keys for person in self._available(each, asking)} - seated
                assert not helpers or self._one_each(asking.stage), f"{helpers} could be asked"

    def _named(self, *approvers: dict[str, Any]) -> Iterator[str]:
        """Whom approvers name, with their fallbacks: `user:ada`, `role:left`."""
        for approver in approvers:
            if approver["type"] == "dynamic":
                value = EXPRESSIONS[approver["identifier"]](self.data)
                for each in value if isinstance(value, list) else [value]:
                    if each:
                        yield each if ":" in each else f"user:{each}"
            else:
                yield f"{approver['type']}:{approver['identifier']}"
            yield from self._named(*approver.get("fallback", ()))

    def _as_id(self, key: str) -> str:
        kind, _, name = key.partition(":")
        return f"user:{user_id(name)}" if kind == "user" else key

    def _available(self, key: str, asking: Asking) -> set[str]:
        """The people behind an approver who may decide in the stage: ids."""
        kind, _, name = key.partition(":")
        people = [user_name(name)] if kind == "user" else self.people.members.get(key, [])
        return {user_id(each) for each in people if self._active(each)} - self._barred(asking.stage) - asking.spoken

    def _active(self, name: str) -> bool:
        return name in self.people.names and name not in self.people.gone

    def _barred(self, stage: dict[str, Any]) -> set[str]:
        """Who may not decide in a stage: ids."""
        barred = set() if stage["requirements"].get("allowSelfApproval") else {user_id("rita")}
        if self.distinct:
            for id, how in self.passed.items():
                if how != "skipped":
                    barred |= self.voters[id]
        return barred

    def _requested(self, item: WorkItem) -> None:
        asking = self.asking
        assert asking is not None
        people = set(item.eligible or asking.seats[item.seat].eligible)
        assert people <= set(asking.seats[item.seat].eligible)
        assert people - asking.spoken, "somebody is left to decide it"
        others = {person for each in asking.items.values() for person in each.eligible if each.approver_type == "user"}
        assert item.approver_type != "user" or item.approver not in others, "asked twice at once"
        asking.items[item.id] = item
        if not asking.stage["parallel"]:
            assert len(asking.items) == 1, "one after another"

    # -- what they do ----------------------------------------------------------------------------------------------

    def _may_decide(self, person: str, id: str) -> tuple[Asking, WorkItem]:
        """Whoever decides is asked, is there, and is not barred."""
        asking = self.asking
        assert asking is not None
        item = asking.items.pop(id)
        assert person in (item.eligible or asking.seats[item.seat].eligible), "somebody who is not asked"
        assert self._active(user_name(person)), "somebody who is not there"
        if item.approver_type != "user":
            assert user_name(person) in self.people.members[f"{item.approver_type}:{item.approver}"], "no member"
        assert person not in self._barred(asking.stage), "somebody who may not decide here"
        assert person not in asking.spoken, "nobody speaks twice"
        return asking, item

    def _delegated(self, event: ApprovalDelegated) -> None:
        asking, item = self._may_decide(event.user, event.item)
        fresh = event.replacement
        assert fresh is not None
        assert event.delegate_to not in self._barred(asking.stage) | asking.spoken
        assert self._active(user_name(event.delegate_to))
        assert fresh.eligible == (event.delegate_to,)
        assert fresh.principal == (item.principal or event.user)
        everybody = {person for seat in asking.seats for person in seat.eligible}
        held = {each.approver for each in asking.items.values() if each.principal is not None}
        assert event.delegate_to not in everybody | held, "nobody gets a second voice"
        assert set(fresh.delegated_by) == {*item.delegated_by, event.user}
        asking.items[fresh.id] = fresh

    def _voted(self, event: ApprovalGranted | ApprovalRejected) -> None:
        asking, item = self._may_decide(event.user, event.item)
        assert event.principal == item.principal
        voice = event.principal or event.user
        assert voice not in asking.said, "no voice counts twice"
        assert voice not in self._barred(asking.stage), "in the place of somebody who may not decide here"
        asking.said[voice] = event.seat, isinstance(event, ApprovalGranted)
        asking.deciders |= {event.user, voice}

    # -- what it comes to --------------------------------------------------------------------------------------------

    def _one_each(self, stage: dict[str, Any]) -> bool:
        needs = stage["requirements"]
        return bool(stage["parallel"]) and not needs.get("unanimousRequired") and "minimumApprovals" not in needs

    def _reached(self, asking: Asking, said: dict[str, tuple[int, bool]], seats: list[tuple[str, ...]]) -> bool:
        """Whether these approvals are enough."""
        stage = asking.stage
        approvals = [seat for seat, yes in said.values() if yes]
        if stage["requirements"].get("unanimousRequired"):
            people = {person for seat in seats for person in seat}
            return all(seats) and all(yes for _, yes in said.values()) and people <= set(said) | asking.spoken
        if self._one_each(stage):
            return set(approvals) == set(range(len(seats)))
        return len(approvals) >= stage["requirements"].get("minimumApprovals", 1)

    def _granted(self, id: str, *, by_clock: bool) -> None:
        asking = self.asking
        assert asking is not None and asking.stage["id"] == id
        stage = asking.stage
        enough = self._reached(asking, asking.said, [seat.eligible for seat in asking.seats])
        refused = stage["onRejection"] == "refuse" and not all(yes for _, yes in asking.said.values())
        if not (enough and not refused):
            timed_out = by_clock and stage.get("onTimeout") == "grant"
            lost = stage.get("fallbackOutcome") == "granted" and asking.lost
            assert timed_out or lost, "granted without the approvals it needs"
        assert not asking.items, "nobody is asked for what does not matter any more"
        self.passed[id] = "granted"
        self.grants[id] = self._seen(stage)
        self.voters[id] = asking.deciders
        self.asking = None

    def _refused(self, id: str, *, by_clock: bool) -> None:
        asking = self.asking
        assert asking is not None and asking.stage["id"] == id
        stage = asking.stage
        rejected = not all(yes for _, yes in asking.said.values())
        timed_out = by_clock and stage.get("onTimeout") == "refuse"
        lost = stage.get("fallbackOutcome") == "refused" and asking.lost
        if not timed_out and not lost:
            assert rejected and (stage["onRejection"] == "refuse" or asking.lost), "refused without a reason"
        self.asking = None

    def possible(self) -> bool:
        """Whether the stage could still be granted, if everybody who is left approved."""
        asking = self.asking
        assert asking is not None
        stage = asking.stage
        approved = {voice: said for voice, said in asking.said.items() if said[1]}
        if stage["onRejection"] == "refuse" and len(approved) < len(asking.said):
            return False
        silent = {person for seat in asking.seats for person in seat.eligible} - asking.spoken
        bound = [(item.seat, item.approver) for item in asking.items.values() if item.principal is not None]
        if stage["requirements"].get("unanimousRequired"):
            return all(seat.eligible for seat in asking.seats) and len(approved) == len(asking.said)
        if not self._one_each(stage):
            return len(approved) + len(silent) + len(bound) >= stage["requirements"].get("minimumApprovals", 1)
        open_seats = sorted(set(range(len(asking.seats))) - {seat for seat, _ in approved.values()})
        voices = [(person, None) for person in sorted(silent)] + [(person, seat) for seat, person in bound]
        return any(
            all(
                (only == seat) if only is not None else person in asking.seats[seat].eligible
                for (person, only), seat in zip(order, open_seats, strict=True)
            )
            for order in permutations(voices, len(open_seats))
        )

    # -- at rest -----------------------------------------------------------------------------------------------------

    def somebody_can_decide(self) -> bool:
        """Whether one of those asked is there, may decide, and has not spoken."""
        asking = self.asking
        if asking is None:
            return False
        for item in asking.items.values():
            for person in item.eligible or asking.seats[item.seat].eligible:
                name = user_name(person)
                member = item.approver_type == "user" or name in self.people.members.get(
                    f"{item.approver_type}:{item.approver}", ()
                )
                if self._active(name) and member and person not in asking.spoken | self._barred(asking.stage):
                    return True
        return False
