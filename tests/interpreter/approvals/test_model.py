"""
Random stages, votes, delegations, departures and rounds against a model written from the rules alone.

The model keeps who may speak, who has spoken and what they said; how a stage stands it finds by trying every way in
which those who are left could still answer. It shares no code with the engine.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pliers_workflow.interpreter.effects import SettleWorkItem
from pliers_workflow.interpreter.events import (
    ApprovalGranted,
    ApprovalRejected,
    ChainGranted,
    ChainRefused,
    StageAsked,
    StageGranted,
    StageRefused,
)
from tests.interpreter.approvals.office import Office, People, document, group, role, stage, user, user_id, user_name

PEOPLE = ("ada", "bob", "cid", "dan", "eve", "rita")
OUTSIDERS = ("xia", "yul", "zoe")

seats = st.lists(
    st.one_of(
        st.sampled_from(PEOPLE[:5]).map(user),
        st.sampled_from(("left", "right")).map(role),
        st.just(group("board")),
    ),
    min_size=1,
    max_size=4,
)
members = st.lists(st.sampled_from(PEOPLE), max_size=4, unique=True)


@st.composite
def stages(draw: st.DrawFn, identifier: str) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "parallel": draw(st.booleans()),
        "onRejection": draw(st.sampled_from(("refuse", "count"))),
        "allowSelfApproval": draw(st.booleans()),
    }
    needs = draw(st.sampled_from(("default", "default", "unanimous", 1, 2, 3)))
    if needs == "unanimous":
        keys["unanimousRequired"] = True
    elif needs != "default":
        keys["minimumApprovals"] = needs
    return stage(identifier, *draw(seats), **keys)


class Model:
    """One stage as the rules describe it."""

    def __init__(self, definition: dict[str, Any], asked: StageAsked) -> None:
        needs = definition["requirements"]
        self.refuses = definition["onRejection"] == "refuse"
        self.seats = [[user_name(each) for each in seat.eligible] for seat in asked.seats]
        self.each_seat = (
            definition["parallel"] and not needs.get("unanimousRequired") and "minimumApprovals" not in needs
        )
        self.everybody = bool(needs.get("unanimousRequired"))
        self.needed: int = needs.get("minimumApprovals", 1)
        #: voice -> approved; a voice is the person in whose place was spoken
        self.said: dict[str, tuple[int, bool]] = {}
        #: voice -> the seat it was passed on for
        self.bound_to: dict[str, int] = {}

    def result(self) -> str:
        """
        `granted`, `refused`, `open`, or `lost`: it can no longer be reached, and not because of those who rejected.

        Rejections refuse what could have been reached without them, if every vacant seat had somebody who approves.
        """
        approved = {voice: said for voice, said in self.said.items() if said[1]}
        rejections = len(self.said) - len(approved)
        if self.refuses and rejections:
            return "refused"
        vacant = [seat or [f"vacant {position}"] for position, seat in enumerate(self.seats)]
        if self._reached(len(approved), {seat for seat, _ in approved.values()}):
            return "granted"
        if self._could_be_reached(self.said, self.seats):
            return "open"
        if self._could_be_reached(approved, vacant) and not self._could_be_reached(self.said, vacant):
            return "refused"
        return "lost"

    def _reached(self, approvals: int, approved_seats: set[int]) -> bool:
        if self.each_seat:
            return len(approved_seats) == len(self.seats)
        if self.everybody:
            return all(self.seats) and approvals == len({person for seat in self.seats for person in seat})
        return approvals >= self.needed

    def _could_be_reached(self, said: dict[str, tuple[int, bool]], seats: list[list[str]]) -> bool:
        """Whether, everybody left approving in whatever order and for whatever seat, the stage would be granted."""
        everybody = {person for seat in seats for person in seat}
        silent = sorted(everybody - set(said))
        if not self.each_seat:
            approvals = sum(yes for _, yes in said.values()) + len(silent)
            if self.everybody:
                return all(seats) and approvals == len(everybody)
            return approvals >= self.needed
        open_seats = [position for position in range(len(seats)) if (position, True) not in said.values()]
        return any(
            all(
                voice in seats[position] and self.bound_to.get(voice, position) == position
                for voice, position in zip(order, open_seats, strict=True)
            )
            for order in permutations(silent, len(open_seats))
        )


class ApprovalMachine(RuleBasedStateMachine):
    """See the module."""

    office: Office

    @initialize(
        first=stages("first"),
        second=stages("second"),
        left=members,
        right=members,
        board=members,
        distinct=st.booleans(),
        in_place=st.booleans(),
    )
    def begin(
        self,
        first: dict[str, Any],
        second: dict[str, Any],
        left: list[str],
        right: list[str],
        board: list[str],
        distinct: bool,
        in_place: bool,
    ) -> None:
        self.people = People([*PEOPLE, *OUTSIDERS], roles={"left": left, "right": right}, groups={"board": board})
        self.definitions = {"first": first, "second": second}
        self.distinct = distinct
        self.in_place = in_place
        definition = document([first, second], configuration={"distinctApprovers": distinct}, in_place=in_place)
        try:
            self.office = Office(self.people, definition)
        except AssertionError:  # the checks know better than to publish it: a quorum that names too few people
            assume(False)
        self.seen = 0
        self.models: list[tuple[str, Model]] = []
        self.office.start("rita")
        self.follow()

    # -- what may happen ---------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from((*PEOPLE, *OUTSIDERS)), action=st.sampled_from(("approve", "approve", "reject")))
    def vote(self, name: str, action: str) -> None:
        before = self.model
        holds = self.holds(name)
        reason = self.office.decide(action, name)
        assert (reason is None) == holds, (name, reason)
        if before is not None and reason is None:
            vote = next(event for event in self.office.events if isinstance(event, (ApprovalGranted, ApprovalRejected)))
            voice = user_name(vote.principal or vote.user)
            assert voice not in before.said, "nobody is counted twice"
            before.said[voice] = (vote.seat, action == "approve")
            self.expect(before)
        self.follow()

    @rule(name=st.sampled_from((*PEOPLE, *OUTSIDERS)), to=st.sampled_from((*PEOPLE, *OUTSIDERS)))
    def delegate(self, name: str, to: str) -> None:
        before = self.model
        item = next((each for each in self.office.items if user_id(name) in self.eligible(each)), None)
        reason = self.office.delegate(name, to)
        if reason is None:
            assert before is not None
            assert item is not None
            replacement = next(each for each in self.office.items if each.approver == user_id(to))
            voice = user_name(replacement.principal or "")
            before.bound_to[voice] = replacement.seat
            assert to not in {person for seat in before.seats for person in seat}, "nobody gets a second voice"
        self.follow()

    @rule(name=st.sampled_from(PEOPLE))
    def request_changes(self, name: str) -> None:
        holds = self.holds(name)
        reason = self.office.request_changes(name)
        assert (reason is None) == holds
        if reason is None:
            assert self.office.items == []
            assert self.office.fire("resubmit" if self.in_place else "send_again") is None
        self.follow()

    @precondition(lambda self: self.office.state == "review")
    @rule()
    def recall(self) -> None:
        assert self.office.fire("recall") is None
        assert self.office.items == []
        assert self.office.fire("send_again") is None
        self.follow()

    @precondition(lambda self: self.office.state == "refused")
    @rule()
    def appeal(self) -> None:
        assert self.office.fire("appeal") is None
        self.follow()

    # -- following along ---------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model | None:
        return self.models[-1][1] if self.office.state == "review" and self.models else None

    def eligible(self, item: Any) -> tuple[str, ...]:
        eligible: tuple[str, ...] = item.eligible or self.office.stage.seats[item.seat].eligible
        return eligible

    def spoken(self) -> set[str]:
        stage_run = self.office.stage
        votes = {each for vote in stage_run.votes for each in (vote.user, vote.principal)}
        return {each for each in votes if each} | {each for item in stage_run.items for each in item.delegated_by}

    def holds(self, name: str) -> bool:
        """Whether somebody holds an open item and has not spoken, by the open items."""
        if self.office.state != "review" or not self.office.run.stages:
            return False
        person = user_id(name)
        return person not in self.spoken() and any(person in self.eligible(item) for item in self.office.items)

    def expect(self, model: Model) -> None:
        """The command just given settled the stage exactly when, and as, the rules say."""
        settled = [event for event in self.office.events if isinstance(event, (StageGranted, StageRefused))]
        result = model.result()
        if result in ("granted", "refused"):
            assert len(settled) == 1, (result, settled)
            assert isinstance(settled[0], StageGranted) == (result == "granted")
        else:
            assert not settled, (result, settled)
            assert (self.office.stage.status == "stuck") == (result == "lost")

    def follow(self) -> None:
        """A model for every stage that began to ask."""
        events = self.office.simulation.events
        for event in events[self.seen :]:
            if isinstance(event, StageAsked):
                self.models.append((event.stage, Model(self.definitions[event.stage], event)))
        self.seen = len(events)

    @invariant()
    def nothing_is_left_open(self) -> None:
        """Open items belong to the stage that is being asked; every other item has been settled exactly once."""
        if not hasattr(self, "office"):
            return
        unsettled = set(self.office.opened) - set(self.office.settled)
        assert unsettled == {item.id for item in self.office.items}
        if self.office.state != "review" or self.office.run.status not in ("asking", "stuck"):
            assert self.office.items == []
        keys = [
            (each.stage, each.visit, each.round, each.item.approver_type, each.item.approver, each.item.slot)
            for each in self.office.opened.values()
        ]
        assert len(keys) == len(set(keys)), "the inbox's unique key"

    @invariant()
    def never_silent(self) -> None:
        """A stage that is being asked has an open item somebody can decide, or an incident."""
        if not hasattr(self, "office") or self.office.state != "review":
            return
        run = self.office.run
        if run.status == "asking":
            assert any(self.holds(name) for name in (*PEOPLE, *OUTSIDERS))
            assert not self.office.incidents
        else:
            assert run.status == "stuck"
            assert len(self.office.incidents) == 1

    @invariant()
    def results_are_final(self) -> None:
        """Each run of a chain ends once: it is granted exactly as often as the chart came to `granted`."""
        if not hasattr(self, "office"):
            return
        granted = len(self.office.happened(ChainGranted))
        assert granted == (self.office.state == "granted")
        assert len(self.office.happened(ChainRefused)) >= (self.office.state == "refused")
        for effect in self.office.settled.values():
            assert isinstance(effect, SettleWorkItem)


TestApprovals = ApprovalMachine.TestCase
TestApprovals.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
