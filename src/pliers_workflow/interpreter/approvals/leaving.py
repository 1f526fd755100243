"""People who are asked and leave: they are inactive now, or not members any more, and can never decide what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .counting import spoken
from .items import open_stage, place_of, run_of, withdraw
from .settling import ask_more, somebody_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..draft import Draft
    from ..instance import ChainRun, StageRun, WorkItem


def replace_leavers(draft: Draft) -> bool:
    """
    Ask others in the place of those who hold an open item and have left; gives whether anybody had.

    What was passed on to somebody who has left goes back to the seat's own people. Where nobody is to be had, the stage
    is judged as one whose voices have become too few. An item of a role stays as long as one of those asked is there.
    """
    runs = [run for run in draft.instance.machine.chains.values() if open_stage(run) is not None]
    _ask_for_first(draft, runs)
    replaced = False
    for run in runs:
        replaced = _replace_in(draft, run, run.stages[-1].items) or replaced
    return replaced


def replace_beside(draft: Draft, key: str, person: str) -> None:
    """Somebody has spoken in a place: what they could have decided besides may be left to people who have gone."""
    run = draft.instance.machine.chains.get(key)
    asked = None if run is None else open_stage(run)
    if run is not None and asked is not None:
        could = [item for item in asked.items if person in _eligible(asked, item) and _can_decide(asked, item)]
        _replace_in(draft, run, could)


def _ask_for_first(draft: Draft, runs: list[ChainRun]) -> None:
    """The facts that will do where everybody is there, in one round."""
    draft.require(
        tuple(
            [
                "user:" + people[0]
                for run in runs
                for asked in [run.stages[-1]]
                for item in asked.items
                if (people := _can_decide(asked, item))
            ]
        )
    )


def _replace_in(draft: Draft, run: ChainRun, items: Sequence[WorkItem]) -> bool:
    asked = run.stages[-1]
    left = [
        item for item in items if not somebody_there(draft, item.approver_type, item.approver, _can_decide(asked, item))
    ]
    if not left:
        return False
    place = place_of(draft, run)
    stage = place.chain.stage_by_id[asked.id]
    # All at once: one of two who left is nobody to fall back on.
    for item in left:
        withdraw(draft, run, asked, item, "approver_left")
    for item in left:
        now = open_stage(run_of(draft.instance, place.key))
        if now is None or now.id != stage.id:
            break  # it is settled
        ask_more(draft, place, stage, item.seat)
    return True


def _eligible(asked: StageRun, item: WorkItem) -> tuple[str, ...]:
    return item.eligible or asked.seats[item.seat].eligible


def _can_decide(asked: StageRun, item: WorkItem) -> list[str]:
    """Who was asked with an item and has not spoken, by user id."""
    gone = spoken(asked)
    return [person for person in _eligible(asked, item) if person not in gone]
