"""Count the voices of a stage: what `verdict` is given.

By default a parallel stage counts seats: each approver is one voice, one of the people behind it speaks for it, and
different people for different seats. Everywhere else people are counted, each once, whichever seat they sit in.

A person has *spoken* who voted, in whose place somebody voted, or who passed an open item on; nobody speaks twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from ..verdict import Requirements, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pliers_workflow.definition.chart import Stage

    from ..instance import StageRun


class Tally(Struct, frozen=True):
    """The arguments of `verdict`."""

    approvers: int
    approved: int
    rejected: int
    absent: int


def counts_seats(stage: Stage) -> bool:
    """Whether each approver is one voice, and not each person."""
    return stage.parallel and stage.approvals_min is None and not stage.unanimous


def requirements(stage: Stage) -> Requirements:
    """What the stage needs: unanimity wins over a number, which wins over the default (parallel: all, else one)."""
    needed = None if stage.unanimous else stage.approvals_min or (None if stage.parallel else 1)
    return Requirements(approvals_min=needed, on_rejection=stage.on_rejection)


def spoken(run: StageRun) -> set[str]:
    """Everyone who cannot speak any more in this stage, by user id."""
    people = set()
    for vote in run.votes:
        people.add(vote.user)
        if vote.principal is not None:
            people.add(vote.principal)
    for item in run.items:
        if item.delegated_by:
            people.update(item.delegated_by)
    return people


def judge(stage: Stage, run: StageRun) -> Verdict:
    """How the stage stands."""
    needs = requirements(stage)
    if needs.approvals_min is not None:
        approved = 0
        for vote in run.votes:
            if vote.action == "approve":
                approved += 1
        if approved >= needs.approvals_min:
            # Enough approvals: those who are silent or absent do not matter any more, so they need not be counted.
            spoke = len(run.votes)
            return verdict(needs, approvers=spoke, approved=approved, rejected=spoke - approved)
    tally = count(stage, run)
    return verdict(
        needs, approvers=tally.approvers, approved=tally.approved, rejected=tally.rejected, absent=tally.absent
    )


def count(stage: Stage, run: StageRun) -> Tally:
    """The voices of a stage: all, approving, rejecting, absent."""
    return _count_seats(stage, run) if counts_seats(stage) else _count_people(run)


def _count_people(run: StageRun) -> Tally:
    approved = 0
    for vote in run.votes:
        if vote.action == "approve":
            approved += 1
    people: set[str] = set()
    absent = 0
    for seat in run.seats:
        if seat.eligible:
            people.update(seat.eligible)
        else:
            absent += 1
    people -= spoken(run)
    silent = len(people) + sum([1 for item in run.items if item.delegated_by])
    return Tally(
        approvers=len(run.votes) + silent + absent, approved=approved, rejected=len(run.votes) - approved, absent=absent
    )


def _count_seats(stage: Stage, run: StageRun) -> Tally:
    approved: set[int] = set()
    rejected: set[int] = set()
    for vote in run.votes:
        (approved if vote.action == "approve" else rejected).add(vote.seat)
    if stage.on_rejection == "refuse" and rejected:
        return Tally(approvers=len(run.seats), approved=len(approved), rejected=len(rejected), absent=0)
    gone = spoken(run)
    lost = speechless_seats(candidates_by_seat(run, approved, gone))
    absent = lost
    if lost and rejected:
        # What would be lost all the same, had those who rejected not spoken, is nobody's refusal.
        for vote in run.votes:
            if vote.action == "reject":
                gone -= {vote.user, vote.principal}
        absent = speechless_seats(candidates_by_seat(run, approved, gone))
    return Tally(approvers=len(run.seats), approved=len(approved), rejected=lost - absent, absent=absent)


def speechless_seats(candidates: dict[int, list[str]]) -> int:
    """How many seats nobody can speak for any more, when different people are to speak for each."""
    people = [person for each in candidates.values() for person in each]
    if len(people) == len(set(people)):  # nobody could speak for two seats, so there is nothing to share out
        return sum([not each for each in candidates.values()])
    places = Places()
    return sum([not places.find(seat, each) for seat, each in candidates.items()])


def candidates_by_seat(run: StageRun, approved: set[int], gone: set[str]) -> dict[int, list[str]]:
    """Who can speak for each seat that has no approval yet: its people, and whoever holds its item by delegation."""
    candidates = {
        position: [person for person in seat.eligible if person not in gone]
        for position, seat in enumerate(run.seats)
        if position not in approved
    }
    for item in run.items:
        if item.delegated_by and item.seat in candidates:
            candidates[item.seat].append(item.approver)
    return candidates


class Places:
    """Different people for different seats: a maximum matching, grown seat by seat (Kuhn's augmenting paths)."""

    def __init__(self) -> None:
        self._seat_of: dict[str, int] = {}
        self._person_of: dict[int, str] = {}
        self._candidates: dict[int, tuple[str, ...]] = {}

    def find(self, seat: int, people: Iterable[str]) -> bool:
        """
        Whether a person can be found for this seat besides those found for the seats before, moving these if need be.

        >>> places = Places()
        >>> places.find(0, ("ada", "bob")), places.find(1, ("ada",)), places.find(2, ("ada", "bob"))
        (True, True, False)
        """
        self._candidates[seat] = tuple(people)
        came_from: dict[str, int] = {}
        waiting = [seat]
        while waiting:
            current = waiting.pop()
            for person in self._candidates[current]:
                if person in came_from:
                    continue
                came_from[person] = current
                holder = self._seat_of.get(person)
                if holder is None:
                    self._move(seat, person, came_from)
                    return True
                waiting.append(holder)
        return False

    def _move(self, seat: int, person: str, came_from: dict[str, int]) -> None:
        """Give the free person to the seat that reached for them, theirs to the one before, and so on to the new seat."""
        while True:
            current = came_from[person]
            before = self._person_of.get(current)
            self._seat_of[person] = current
            self._person_of[current] = person
            if before is None:
                assert current == seat
                return
            person = before
