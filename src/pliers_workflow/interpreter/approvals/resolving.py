"""Find the people behind a stage's approvers: dynamic expressions, roles and groups, fallbacks, administrators.

All facts of one kind are asked for at once, so that a stage of any size is resolved in two rounds (names, then people),
and in two more when somebody is missing. An approver is *available* when there is an active person behind it who may
decide here: not the requester where self-approval is forbidden, nor, where the chain wants different people, anybody who
decided in an earlier stage. Who is not available is replaced by the approver's fallbacks in their order, then by the
definition's administrators; a seat for which nobody is found stays on record without people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from msgspec.structs import replace

from pliers_workflow.definition.expressions import ExpressionError

from ..approval_folding import voters
from ..draft import Missing
from ..facts import Members, User
from ..instance import Seat
from .counting import Places, candidates_by_seat, counts_seats, spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pliers_workflow.definition.chart import Approver, Chain, Stage

    from ..draft import Draft
    from ..instance import ChainRun, StageRun

#: more than this many people from one expression is taken for a mistake
DYNAMIC_APPROVERS_MAX = 1000


Kind: TypeAlias = Literal["user", "role", "group"]


class Who(NamedTuple):
    """One approver by name: a username, a role key or a group key."""

    kind: Kind
    key: str

    @property
    def fact(self) -> str:
        """The key of the fact that leads to the people."""
        return ("username:" if self.kind == "user" else self.kind + ":") + self.key

    def __str__(self) -> str:
        return f"{self.kind}:{self.key}"


class Resolution(NamedTuple):
    """The seats of a stage, and what went wrong with dynamic approvers, for people."""

    seats: tuple[Seat, ...]
    problems: tuple[str, ...]


def barred(draft: Draft, chain: Chain, stage: Stage, run: ChainRun) -> frozenset[str]:
    """Who may not decide in this stage whatever their role: user ids."""
    people: set[str] = set()
    requester = draft.instance.requester
    if requester is not None and not stage.self_approval:
        people.add(requester)
    if chain.distinct_approvers:
        people.update(deciders_elsewhere(draft, chain, stage, run))
    return frozenset(people)


def deciders_elsewhere(draft: Draft, chain: Chain, stage: Stage, run: ChainRun) -> set[str]:
    """
    Who decided in another stage of this round, or in one that this round skips because nothing changed.

    Whoever had a delegate decide has decided, too: four eyes are those of two principals.
    """
    people: set[str] = set()
    for other in run.stages:
        if other.id == stage.id:
            continue
        people.update(voters(other))
        if other.status == "skipped" and other.watched_hash is not None:
            people.update(run.earlier_voters.get(other.id, ()))
    return people


def resolve(draft: Draft, stage: Stage, unavailable: frozenset[str]) -> Resolution:
    """
    Find the people of a stage. Raises `Missing` and `BudgetExceeded`.

    People named in person come first: they are not asked a second time as members of a role.
    """
    return _seats(draft, stage, _Search(draft, unavailable, one_each=counts_seats(stage)), {})


def resolve_again(draft: Draft, stage: Stage, run: StageRun, unavailable: frozenset[str] | set[str]) -> Resolution:
    """
    The same for a stage that is being asked: seats that have spoken or are asked keep their people.

    A role or group among them gains the members it has gained since.
    """
    holders = {item.approver for item in run.items if item.delegated_by}
    search = _Search(draft, unavailable | holders, one_each=counts_seats(stage))
    taken = sorted({vote.seat for vote in run.votes} | {item.seat for item in run.items})
    for position in taken:
        if run.seats[position].approver_type == "user":
            search.seated.update(run.seats[position].eligible)
    kept = {position: search.with_new_members(run.seats[position]) for position in taken}
    if search.one_each:
        approved = {vote.seat for vote in run.votes if vote.action == "approve"}
        for position, people in candidates_by_seat(run, approved, spoken(run)).items():
            if position in kept:
                search.places.find(position, people)
    return _seats(draft, stage, search, kept)


def _seats(draft: Draft, stage: Stage, search: _Search, kept: Mapping[int, Seat]) -> Resolution:
    """Find people for all seats but those that are kept."""
    problems: list[str] = []
    names = _names(draft, stage.approvers, problems)
    wanted: list[tuple[int, Who | None]] = []
    for entry, answer in enumerate(names):
        wanted.extend([(entry, who) for who in answer] or [(entry, None)])
    seats = [kept.get(position) for position in range(len(wanted))]
    for in_person in (True, False):
        for position, (entry, who) in enumerate(wanted):
            if seats[position] is None and who is not None and (who.kind == "user") is in_person:
                seats[position] = search.seat(position, entry, who)
    for position, (entry, who) in enumerate(wanted):
        if seats[position] is None:
            approver = stage.approvers[entry]
            missing = str(who) if who is not None else f"dynamic:{approver.identifier}"
            seats[position] = search.substitute(position, entry, approver, missing, problems) or _vacant(
                draft, entry, approver, who
            )
    return Resolution(tuple(cast("list[Seat]", seats)), tuple(dict.fromkeys(problems)))


def replacement(
    draft: Draft, stage: Stage, run: StageRun, position: int, unavailable: frozenset[str]
) -> tuple[Seat | None, tuple[str, ...]]:
    """Somebody else for one seat of a stage that is being asked; nobody who has been asked in it before."""
    asked = {key.removeprefix("user:") for key in run.asked if key.startswith("user:")}
    seat = run.seats[position]
    search = _Search(draft, unavailable | asked, one_each=counts_seats(stage))
    search.used.update([key for key in run.asked if not key.startswith("user:")])
    if search.one_each:
        approved = {vote.seat for vote in run.votes if vote.action == "approve"}
        for other, people in candidates_by_seat(run, approved, spoken(run)).items():
            if other != position:
                search.places.find(other, people)
    problems: list[str] = []
    missing = seat.instead_of or _described(draft, seat)
    found = search.substitute(position, seat.entry, stage.approvers[seat.entry], missing, problems)
    return found, tuple(problems)


def _described(draft: Draft, seat: Seat) -> str:
    if seat.approver_type != "user":
        return f"{seat.approver_type}:{seat.approver}"
    person = draft.facts.get("user:" + seat.approver)
    return "user:" + (person.username if isinstance(person, User) else seat.approver)


def _vacant(draft: Draft, entry: int, approver: Approver, who: Who | None) -> Seat:
    """A seat for which nobody is to be had, on record."""
    if who is None:
        return Seat("user", approver.identifier[:200], (), entry=entry)
    key = who.key
    if who.kind == "user":
        found = draft.fact(who.fact)
        key = found if isinstance(found, str) else key
    return Seat(who.kind, key, (), entry=entry)


class _Search:
    """Takes seats one after another, and remembers who sits already."""

    def __init__(self, draft: Draft, unavailable: frozenset[str] | set[str], *, one_each: bool) -> None:
        self.draft = draft
        self.unavailable = unavailable
        #: people who have been given a seat in person
        self.seated: set[str] = set()
        #: roles and groups that are no help as substitutes, because they have been asked already
        self.used: set[str] = set()
        self.one_each = one_each
        self.places = Places()

    def seat(self, position: int, entry: int, who: Who, instead_of: str | None = None) -> Seat | None:
        """The seat of an available approver; None when there is nobody behind it."""
        found = self.draft.fact(who.fact)
        people: tuple[str, ...] = ()
        key = who.key
        if who.kind == "user":
            if isinstance(found, str):
                key = found
                person = self.draft.fact("user:" + found)
                if isinstance(person, User) and person.active and self._free(found):
                    people = (found,)
        elif isinstance(found, Members):
            people = tuple([each for each in found.users if self._free(each)])
        if not people or (self.one_each and not self.places.find(position, people)):
            return None
        if who.kind == "user":
            self.seated.add(key)
        return Seat(who.kind, key, people, entry=entry, instead_of=instead_of)

    def with_new_members(self, seat: Seat) -> Seat:
        """The seat with those who may speak for it now besides."""
        if seat.approver_type == "user":
            return seat
        found = self.draft.fact(f"{seat.approver_type}:{seat.approver}")
        members = found.users if isinstance(found, Members) else ()
        new = [each for each in members if self._free(each)]
        return replace(seat, eligible=tuple(dict.fromkeys((*seat.eligible, *new))))

    def _free(self, person: str) -> bool:
        return person not in self.unavailable and person not in self.seated

    def substitute(
        self, position: int, entry: int, approver: Approver, missing: str, problems: list[str]
    ) -> Seat | None:
        """The first available of the approver's fallbacks and the definition's administrators."""
        candidates = [*_below(approver.fallback), *_below(self.draft.chart.administrators)]
        for answer in _names(self.draft, candidates, problems):
            for who in answer:
                if str(who) not in self.used:
                    seat = self.seat(position, entry, who, instead_of=missing)
                    if seat is not None:
                        return seat
        return None


def _below(approvers: Iterable[Approver]) -> Iterator[Approver]:
    """Approvers with their own fallbacks behind each, in the order in which they are tried."""
    for approver in approvers:
        yield approver
        yield from _below(approver.fallback)


def _names(draft: Draft, approvers: Sequence[Approver], problems: list[str]) -> list[tuple[Who, ...]]:
    """
    Whom each approver names, with all facts about them at hand.

    An expression that fails names nobody, so that the fallback is asked; why it failed is kept for the incident.
    """
    answers: list[tuple[Who, ...]] = []
    missing: list[str] = []
    for approver in approvers:
        if approver.type != "dynamic":
            answers.append((Who(approver.type, approver.identifier),))
            continue
        assert approver.expression is not None
        answer: tuple[Who, ...] = ()
        try:
            answer = _read(draft.evaluate(approver.expression, draft.trigger))
        except Missing as more:
            missing.extend(more.keys)
        except ExpressionError as error:
            problems.append(f"`{approver.identifier}` could not be evaluated: {error}")
        answers.append(answer)
    facts = [who.fact for answer in answers for who in answer]
    if missing:
        raise Missing(keys=tuple(dict.fromkeys([*missing, *[key for key in facts if key not in draft.facts]])))
    draft.require(tuple(facts))
    people = [draft.facts[key] for key in facts if key.startswith("username:")]
    draft.require(tuple(["user:" + person for person in people if isinstance(person, str)]))
    return answers


def _read(value: Any) -> tuple[Who, ...]:
    """
    Whom the value of a dynamic approver names: a username, `role:KEY`, `group:KEY`, or a list of these.

    >>> _read(["ada", "role:manager", "ada"])
    (Who(kind='user', key='ada'), Who(kind='role', key='manager'))
    """
    values = value if isinstance(value, (list, tuple)) else [value]
    if len(values) > DYNAMIC_APPROVERS_MAX:
        raise ExpressionError(f"it names {len(values)} approvers; {DYNAMIC_APPROVERS_MAX} are the most")
    found: dict[Who, None] = {}
    for each in values:
        if each is None or each == "":
            continue
        if isinstance(each, Mapping) or not isinstance(each, str):
            raise ExpressionError("an approver is a username, `role:KEY` or `group:KEY`")
        kind, colon, key = each.partition(":")
        if colon and key and kind in ("user", "role", "group"):
            found[Who(cast("Kind", kind), key)] = None
        else:
            found[Who("user", each)] = None
    return tuple(found)
