"""Act on how a stage stands: go on asking, grant or refuse it, and go to the next one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pliers_workflow.definition.expressions import ExpressionError

from ..clocks import start_timer
from ..events import ChainGranted, ChainRefused, StageAsked, StageGranted, StageRefused, StageSkipped
from ..facts import User
from ..step_runs import StepFailure
from ..verdict import Verdict
from .counting import counts_seats, judge, spoken
from .items import (
    Cause,
    open_item,
    open_stage,
    raise_incident,
    resolve_incidents,
    run_of,
    stage_of,
    stop_asking,
    withdraw,
)
from .resolving import barred, replacement, resolve, resolve_again

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Stage

    from ..draft import Draft
    from ..instance import Seat, StageRun
    from .items import Place, WithdrawReason
    from .resolving import Kind

#: so many of the missing approvers, and of the expressions that failed, are named in an incident
_NAMES_TOLD: Final = 10
_PROBLEMS_TOLD: Final = 3

_canonical = msgspec.json.Encoder(decimal_format="number", order="sorted")


def go_on(draft: Draft, place: Place, index: int, cause: Cause) -> None:
    """Ask the first stage from `index` on that is not skipped; when there is none, the chain is granted."""
    chain = place.chain
    for stage in chain.stages[index:]:
        if stage.condition:
            try:
                wanted = draft.holds(stage.condition, draft.trigger)
            except ExpressionError as error:
                message = (
                    f"The condition of stage `{stage.id}` could not be evaluated: {error}. Whether to ask it is unknown, "
                    "so the chain waits; leave the state by another transition, or cancel."
                )
                raise_incident(draft, place.key, stage.id, "condition_failed", message)
                return
            if not wanted:
                draft.emit(StageSkipped(place.state, stage.id, "condition", place.step))
                continue
        if _unchanged(draft, stage, place):
            draft.emit(StageSkipped(place.state, stage.id, "unchanged", place.step))
            continue
        _ask(draft, place, stage)
        return
    draft.emit(ChainGranted(chain.id, place.state, place.step))
    raise_result(draft, "approved", place, chain.stages[-1].id, cause)


def _unchanged(draft: Draft, stage: Stage, place: Place) -> bool:
    """Whether an earlier round granted the stage, and nothing it watches has changed since."""
    if stage.watched is None or run_of(draft.instance, place.key).round == 1:
        return False
    earlier = run_of(draft.instance, place.key).earlier_grants.get(stage.id)
    return earlier is not None and earlier == watched_hash(stage, draft.instance.data)


def _ask(draft: Draft, place: Place, stage: Stage) -> None:
    """Begin to ask a stage: freeze its voters, start its clock, open its items."""
    chain = place.chain
    found = resolve(draft, stage, barred(draft, chain, stage, run_of(draft.instance, place.key)))
    draft.emit(StageAsked(place.state, stage.id, found.seats, place.step))
    if stage.timeout_ms is not None:
        start_timer(
            draft,
            kind="stage",
            trigger=f"timeout.{chain.id}.{stage.id}",
            budget_ms=stage.timeout_ms,
            state=place.state or None,
            step=place.step,
            visit=run_of(draft.instance, place.key).visit,
            stage=stage.id,
        )
    if judge(stage, stage_of(draft.instance, place.key)) is Verdict.OPEN:
        _open_first(draft, place, stage)
        return
    vacant = [seat for seat in found.seats if not seat.eligible]
    if vacant:
        # Whoever is there is asked all the same: one of them may refuse, and then nobody need be found.
        _open_first(draft, place, stage)
        raise_incident(draft, place.key, stage.id, "nobody_to_ask", _nobody(draft, stage, vacant, found.problems))
        return
    _impossible(draft, place, stage)


def fill_seats(draft: Draft, place: Place, stage: Stage) -> None:
    """
    Look again for people for the seats of a stage that is being asked, and ask those who were not asked before.

    Votes and open items stay; a role or group that they belong to gains the members it has gained since.
    """
    run = run_of(draft.instance, place.key)
    asked = run.stages[-1]
    found = resolve_again(draft, stage, asked, barred(draft, place.chain, stage, run) | spoken(asked))
    draft.emit(StageAsked(place.state, stage.id, (*found.seats, *asked.seats[len(found.seats) :]), place.step))
    for position in range(len(stage_of(draft.instance, place.key).seats)) if stage.parallel else (0,):
        ask_more(draft, place, stage, position)
        now = open_stage(run_of(draft.instance, place.key))
        if now is None or now.id != stage.id:
            return  # it is settled
    asking = stage_of(draft.instance, place.key)
    verdict = judge(stage, asking)
    if verdict is Verdict.REFUSED:
        refuse(draft, place, stage, Cause("reject"))
    elif verdict is not Verdict.OPEN:
        vacant = [seat for seat in asking.seats if not seat.eligible]
        if vacant:
            raise_incident(draft, place.key, stage.id, "nobody_to_ask", _nobody(draft, stage, vacant, found.problems))
        else:
            _impossible(draft, place, stage)


def _open_first(draft: Draft, place: Place, stage: Stage) -> None:
    seats = stage_of(draft.instance, place.key).seats
    for position, seat in enumerate(seats):
        if seat.eligible:
            open_item(draft, place.key, position)
            if not stage.parallel:
                return


def _nobody(draft: Draft, stage: Stage, vacant: list[Seat], problems: tuple[str, ...]) -> str:
    # A sentence is for a person, and kept with the instance; a stage can have a thousand approvers.
    names = ", ".join([_named(draft, stage, seat) for seat in vacant[:_NAMES_TOLD]])
    if len(vacant) > _NAMES_TOLD:
        names += f" and {len(vacant) - _NAMES_TOLD:,} more"
    because = " ".join(["", *[f"{problem}." for problem in problems[:_PROBLEMS_TOLD]]])
    return (
        f"Stage `{stage.id}` has nobody to ask in the place of {names}: missing, inactive or not allowed to decide here, "
        f"and so are the fallbacks and the definition's administrators.{because} When somebody is there, retry the incident; "
        "or leave the state by another transition, or cancel."
    )


def _named(draft: Draft, stage: Stage, seat: Seat) -> str:
    """An approver as people write them: a username rather than an id."""
    asked = stage.approvers[seat.entry]
    if asked.type == "dynamic" and seat.approver == asked.identifier[:200]:
        return f"whom `{seat.approver}` should name"
    person = draft.facts.get("user:" + seat.approver) if seat.approver_type == "user" else None
    return f"{seat.approver_type} `{person.username if isinstance(person, User) else seat.approver}`"


def settle(draft: Draft, place: Place, stage: Stage, cause: Cause, position: int) -> None:
    """A vote was given on the seat at `position`: act on how the stage stands now."""
    match judge(stage, stage_of(draft.instance, place.key)):
        case Verdict.GRANTED:
            grant(draft, place, stage, cause)
        case Verdict.REFUSED:
            refuse(draft, place, stage, cause)
        case Verdict.OPEN:
            ask_more(draft, place, stage, position)
        case Verdict.IMPOSSIBLE:
            if not _impossible(draft, place, stage):
                ask_more(draft, place, stage, position)


def ask_more(draft: Draft, place: Place, stage: Stage, position: int) -> None:
    """
    Ask whoever comes next: in a parallel stage another member of the same role; else the next approver.

    Who was frozen when the stage was asked may have left since. A seat that nobody is left for is given to somebody
    else; when there is nobody else either, it stays vacant and the stage is judged again.
    """
    _withdraw_speechless(draft, place)
    while True:
        run = stage_of(draft.instance, place.key)
        candidate = position if stage.parallel else _next_in_turn(run)
        if candidate is None or not _wants_more(stage, run, candidate):
            return
        gone = spoken(run)
        people = [person for person in run.seats[candidate].eligible if person not in gone]
        seat = run.seats[candidate]
        if not people or somebody_there(draft, seat.approver_type, seat.approver, people):
            if people:
                open_item(draft, place.key, candidate)
            return
        if _give_to_another(draft, place, stage, candidate):
            open_item(draft, place.key, candidate)
            return
        if _fewer_voices(draft, place, stage) or stage.parallel:
            return


def _withdraw_speechless(draft: Draft, place: Place) -> None:
    """Withdraw items that nobody can decide any more, because all they ask have spoken through another item."""
    run = stage_of(draft.instance, place.key)
    if not run.items or not run.votes:
        return
    gone = spoken(run)
    for item in run.items:
        people = item.eligible or run.seats[item.seat].eligible
        if people[0] in gone and gone.issuperset(people):
            withdraw(draft, run_of(draft.instance, place.key), run, item, "stage_settled")


def _next_in_turn(run: StageRun) -> int | None:
    """Sequential stages: the first seat that has not been asked, then the one with the fewest votes and people left."""
    if run.items:
        return None
    gone = spoken(run)
    votes = [0] * len(run.seats)
    for vote in run.votes:
        votes[vote.seat] += 1
    turn: int | None = None
    for position, seat in enumerate(run.seats):
        if any(person not in gone for person in seat.eligible) and (turn is None or votes[position] < votes[turn]):
            turn = position
    return turn


def _wants_more(stage: Stage, run: StageRun, position: int) -> bool:
    """Whether another vote on this seat can matter, and is not asked for already."""
    if any(item.seat == position for item in run.items):
        return False
    if not run.seats[position].eligible:
        return False
    return not counts_seats(stage) or not any(vote.seat == position and vote.action == "approve" for vote in run.votes)


def somebody_there(draft: Draft, kind: Kind, key: str, people: list[str]) -> bool:
    """
    Whether one of these people, who were asked as this approver, is still active and still a member.

    The first usually is, so one fact will do; only when not are all the others looked at, in one round.
    """
    if people and _there(draft, kind, key, people[0]):
        return True
    draft.require(tuple(["user:" + person for person in people]))
    return any(_there(draft, kind, key, person) for person in people[1:])


def _there(draft: Draft, kind: Kind, key: str, person: str) -> bool:
    record = draft.fact("user:" + person)
    return isinstance(record, User) and holds_right(record, kind, key)


def holds_right(person: User, kind: Kind, key: str) -> bool:
    """Whether a person may still speak as the approver they were asked as."""
    if not person.active:
        return False
    return kind == "user" or key in (person.roles if kind == "role" else person.groups)


def _give_to_another(draft: Draft, place: Place, stage: Stage, position: int) -> bool:
    """Put somebody else on a seat; False when nobody is to be had, and the seat is vacant now."""
    run = run_of(draft.instance, place.key)
    asked = run.stages[-1]
    found, _ = replacement(draft, stage, asked, position, barred(draft, place.chain, stage, run) | spoken(asked))
    seat = msgspec.structs.replace(asked.seats[position], eligible=()) if found is None else found
    draft.emit(
        StageAsked(place.state, stage.id, (*asked.seats[:position], seat, *asked.seats[position + 1 :]), place.step)
    )
    return found is not None


def ask_fallbacks(draft: Draft, place: Place, stage: Stage) -> None:
    """The clock has run out: whoever has not answered is replaced; where nobody is to be had, they may still answer."""
    run = run_of(draft.instance, place.key)
    replaced = False
    for position in sorted({item.seat for item in run.stages[-1].items}):
        asked = stage_of(draft.instance, place.key)
        unavailable = barred(draft, place.chain, stage, run) | spoken(asked)
        found, _ = replacement(draft, stage, asked, position, unavailable)
        if found is None:
            continue
        for item in asked.items:
            if item.seat == position:
                withdraw(draft, run, asked, item, "timeout")
        draft.emit(
            StageAsked(
                place.state, stage.id, (*asked.seats[:position], found, *asked.seats[position + 1 :]), place.step
            )
        )
        open_item(draft, place.key, position)
        replaced = True
    if not replaced:
        message = (
            f"Nobody decided in stage `{stage.id}` in time, and there is nobody to ask instead. Those asked can still "
            "decide; else leave the state by another transition, or cancel."
        )
        raise_incident(draft, place.key, stage.id, "nobody_to_ask", message)
    else:
        _fewer_voices(draft, place, stage)


def _fewer_voices(draft: Draft, place: Place, stage: Stage) -> bool:
    """
    Whom the stage could have asked has changed without a vote: act on how it stands now, and say whether it is settled.

    With one voice less the rejections there are may refuse it (`onRejection: count`).
    """
    verdict = judge(stage, stage_of(draft.instance, place.key))
    if verdict is Verdict.REFUSED:
        refuse(draft, place, stage, Cause("reject"))
        return True
    return verdict is Verdict.IMPOSSIBLE and _impossible(draft, place, stage)


def _impossible(draft: Draft, place: Place, stage: Stage) -> bool:
    """
    The voices left are too few: the definition says how that ends, else an incident is raised.

    Gives whether the stage is settled.
    """
    if stage.fallback_outcome == "granted":
        grant(draft, place, stage, Cause("approve"))
    elif stage.fallback_outcome == "refused":
        refuse(draft, place, stage, Cause("reject"))
    else:
        message = (
            f"Stage `{stage.id}` can no longer get the approvals it needs: too few people are left to ask. When there "
            "is somebody to ask, retry the incident; or leave the state by another transition, or cancel."
        )
        raise_incident(draft, place.key, stage.id, "result_impossible", message)
        return False
    return True


def grant(draft: Draft, place: Place, stage: Stage, cause: Cause, reason: WithdrawReason = "stage_settled") -> None:
    """The stage is granted: nobody else is needed, and the next one is asked."""
    stop_asking(draft, place.key, reason)
    draft.emit(StageGranted(place.state, stage.id, watched_hash(stage, draft.instance.data), place.step))
    resolve_incidents(draft, place.key, "stage_settled")
    go_on(draft, place, stage.index + 1, cause)


def refuse(draft: Draft, place: Place, stage: Stage, cause: Cause, reason: WithdrawReason = "stage_settled") -> None:
    """The stage is refused, and with it the chain."""
    chain = place.chain
    stop_asking(draft, place.key, reason)
    draft.emit(StageRefused(place.state, stage.id, place.step))
    resolve_incidents(draft, place.key, "stage_settled")
    draft.emit(ChainRefused(chain.id, place.state, place.step))
    raise_result(draft, "rejected", place, stage.id, cause)


def raise_result(draft: Draft, trigger: str, place: Place, stage: str, cause: Cause) -> None:
    """Let the chart know, or the step that asked, with the answer that made it so."""
    data = {
        "chain": place.chain.id,
        "stage": stage,
        "action": cause.action,
        "user": cause.user,
        "principal": cause.principal,
        "approver": cause.approver,
        "comments": cause.comments,
        "data": cause.data,
    }
    if place.step is None or trigger == "changes_requested":
        draft.raise_internal(trigger, data)
    elif trigger == "approved":
        draft.later("complete", place.step, {"outcome": "granted", **data})
    else:
        message = f"The approval chain `{place.chain.id}` was refused."
        failure = StepFailure("REJECTED", message, {"outcome": "refused", **data})
        draft.later("fail", place.step, failure)


def watched_hash(stage: Stage, data: Mapping[str, Any]) -> str:
    """
    A hash of the values of the fields a stage watches; equal numbers are equal, however they are written.

    Empty where it watches none: such a stage is asked again after every round.
    """
    if stage.watched is None:
        return ""
    values = [_value(data, path) for path in stage.watched]
    return hashlib.sha256(_canonical.encode(values)).hexdigest()[:32]


def _value(data: Any, path: tuple[str, ...]) -> list[Any]:
    """The value in a list, or an empty list where there is none: a missing field differs from null."""
    for key in path:
        if type(data) is not dict or key not in data:
            return []
        data = data[key]
    return [_plain(data)]


def _plain(value: Any) -> Any:
    """The value with each number in one spelling: 5, 5.0 and 5E+0 are one number."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return {"number": str(value)}
    if kind is Decimal:
        text = format(value, "f")
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return {"number": "0" if text == "-0" else text}
    if kind is dict:
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value]
