"""Random approval chains, with all that people, clocks and the directory may do, before an auditor."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import assume, given, note
from hypothesis import strategies as st

from pliers_workflow.interpreter.instance import Status
from tests.interpreter.approvals.office import Office, People, document, dynamic, group, role, stage, user
from tests.properties.audit import EXPRESSIONS, Auditor
from tests.properties.effort import tries

PEOPLE = ("ada", "bob", "cid", "dan", "eve", "rita")
EVERYBODY = (*PEOPLE, "zoe")
STAGES = ("first", "second", "third")


class Chains:
    """Draws chains from a seed."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def approver(self, depth: int = 1) -> dict[str, Any]:
        """Somebody, with somebody to fall back on."""
        fallback = [self.approver(depth - 1) for _ in range(self.random.choice((0, 0, 1, 2)))] if depth else []
        kind = self.random.choice(("user", "user", "role", "group", "dynamic"))
        if kind == "user":
            return user(self.random.choice((*PEOPLE, "nobody")), *fallback)
        if kind == "dynamic":
            return dynamic(self.random.choice(list(EXPRESSIONS)), *fallback)
        return group("board", *fallback) if kind == "group" else role(self.random.choice(("left", "right")), *fallback)

    def stage(self, name: str) -> dict[str, Any]:
        """Any stage."""
        keys: dict[str, Any] = {
            "parallel": self.chance(0.5),
            "onRejection": self.random.choice(("refuse", "count")),
            "allowSelfApproval": self.chance(0.2),
        }
        match self.random.choice(("default", "default", "unanimous", 1, 2, 3)):
            case "unanimous":
                keys["unanimousRequired"] = True
            case int() as needed:
                keys["minimumApprovals"] = needed
        if self.chance(0.25):
            keys["condition"] = "data.big"
        if self.chance(0.4):
            keys["watchedFields"] = ["amount"]
        if self.chance(0.3):
            keys["timeoutMinutes"] = 5
            keys["onTimeout"] = self.random.choice(("none", "grant", "refuse", "fallback"))
        if self.chance(0.3):
            keys["fallbackOutcome"] = self.random.choice(("granted", "refused"))
        return stage(name, *[self.approver() for _ in range(self.random.randint(1, 3))], **keys)

    def members(self) -> list[str]:
        """Some people."""
        return [name for name in PEOPLE if self.chance(0.4)]


@st.composite
def acts(draw: Any) -> tuple[Any, ...]:
    """One thing that somebody does, or that happens; numbers choose among what is there."""
    who = draw(st.sampled_from(EVERYBODY))
    kind = draw(st.integers(0, 31))
    if kind < 13:
        return ("vote", draw(st.integers(0, 7)), draw(st.sampled_from(("approve", "approve", "approve", "reject"))))
    if kind < 15:
        return ("decide", who, draw(st.sampled_from(("approve", "reject"))))
    if kind < 17:
        return ("delegate", draw(st.integers(0, 7)), who)
    if kind < 19:
        return ("changes", draw(st.integers(0, 7)))
    if kind < 21:
        return ("fire", draw(st.sampled_from(("resubmit", "send_again", "recall", "appeal"))))
    if kind < 23:
        field, values = draw(
            st.sampled_from((("amount", (1, 2)), ("big", (True, False)), ("who", ("ada", "bob", None))))
        )
        return ("change", field, draw(st.sampled_from(values)))
    if kind < 25:
        return ("wait", draw(st.sampled_from((1, 5))))
    return (
        ("leave", who),
        ("return", who),
        ("drop", draw(st.sampled_from(("role:left", "role:right", "group:board"))), who),
        ("join", draw(st.sampled_from(("role:left", "role:right", "group:board"))), who),
        ("retry",),
        ("suspend",),
        ("resume",),
    )[kind - 25]


class Case:
    """One instance before its auditor."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        chains = Chains(random)
        stages = [chains.stage(name) for name in STAGES[: random.randint(1, 3)]]
        distinct = chains.chance(0.4)
        administrators = [chains.approver(0)] if chains.chance(0.4) else []
        configuration = {"distinctApprovers": distinct}
        self.document = document(
            stages,
            configuration=configuration,
            administrators=administrators,
            in_place=chains.chance(0.5),
            two_desks=chains.chance(0.3),
        )
        self.people = People(
            EVERYBODY, roles={"left": chains.members(), "right": chains.members()}, groups={"board": chains.members()}
        )
        note(str(self.document["approvalChains"]))
        note(str(self.people.members))
        try:
            self.office = Office(self.people, self.document)
        except AssertionError:  # the checks know better than to publish it
            assume(False)
        self.auditor = Auditor(stages, distinct, administrators, self.people)
        self.read = 0
        self.data: dict[str, Any] = {"amount": 1, "big": chains.chance(0.7), "who": "cid"}
        self.office.start("rita", **self.data)
        self.look()

    def look(self) -> None:
        """Let the auditor read what is new, row by row."""
        history = self.office.simulation.history
        for row in history[self.read :]:
            self.auditor.read(row.events, self.data)
        self.read = len(history)

    def holder(self, which: int) -> str | None:
        """One of those who hold an open item."""
        names = [
            person.removeprefix("id-")
            for item in self.office.items
            for person in item.eligible or self.office.stage.seats[item.seat].eligible
        ]
        return names[which % len(names)] if names else None

    def act(self, act: tuple[Any, ...]) -> None:
        """Let it happen, before the auditor."""
        office, people = self.office, self.people
        before = office.instance
        match act:
            case ("vote", which, action) if name := self.holder(which):
                office.decide(action, name)
            case ("decide", name, action):
                office.decide(action, name)
            case ("delegate", which, to) if name := self.holder(which):
                office.delegate(name, to)
            case ("changes", which) if name := self.holder(which):
                office.request_changes(name)
            case ("fire", trigger):
                office.fire(trigger)
            case ("change", field, value) if before.status is not Status.SUSPENDED:
                self.data = {**self.data, field: value}
                office.change(**{field: value})
                if value is None:  # a patch with null takes the field away
                    self.data = {key: each for key, each in self.data.items() if key != field}
            case ("wait", minutes):
                office.wait(minutes)
            case ("leave", name):
                people.leave(name)
                office.replace()
            case ("return", name):
                people.gone.discard(name)
            case ("drop", key, name) if name in people.members[key]:
                people.members[key].remove(name)
                office.replace()
            case ("join", key, name) if name not in people.members[key]:
                people.members[key].append(name)
            case ("suspend",):
                office.suspend()
            case ("resume",):
                office.resume()
            case ("retry",) if office.incidents:
                office.retry()
        if len(office.simulation.history) == self.read:
            assert office.instance is before, "what is refused changes nothing"
        self.look()
        self.judge()

    def judge(self) -> None:
        """What holds whenever the instance is at rest."""
        office = self.office
        chain = office.instance.machine.chains.get(office.state)
        asking = chain is not None and chain.status == "asking"
        stuck = chain is not None and chain.status == "stuck"
        assert {item.id for item in office.items} == set(self.auditor.asking.items if self.auditor.asking else ())
        if asking and office.instance.status is not Status.SUSPENDED:
            assert self.auditor.somebody_can_decide(), "nobody can decide, and nobody is told"
            assert not office.incidents
        if stuck:
            assert office.incidents
        if chain is None or chain.status not in ("asking", "stuck"):
            assert not office.items
            assert not any(timer.kind == "stage" for timer in office.instance.machine.timers.values())
        assert office.instance.status is not Status.FAILED or stuck


@tries(200)
@given(st.integers(0, 2**32), st.lists(acts(), min_size=5, max_size=40))
def test_the_auditor_has_no_objection(seed: int, happened: list[tuple[Any, ...]]) -> None:
    """Whoever decides may; nobody counts twice; what is granted has its votes; rounds ask what changed, and nothing else."""
    case = Case(seed)
    for act in happened:
        note(str(act))
        case.act(act)
