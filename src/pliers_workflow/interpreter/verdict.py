"""How an approval stage stands, from counts alone.

A stage counts voices. Which voices there are depends on what it requires: by default in a parallel stage each approver
is one voice, and one of the people behind it speaks for it; where a number of approvals or unanimity is required, each
person is one voice. A voice approves, rejects, is silent yet, or is absent: it cannot be heard any more.

The function is monotone: an approval never makes a stage stand worse, a rejection never better. Decisions arrive one
by one and the first certain result settles the stage, so that what would follow is never counted.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct


class Requirements(Struct, frozen=True):
    """What a stage needs to be granted."""

    #: this many approvals; None: that of every voice
    approvals_min: int | None = None
    #: `refuse`: one rejection refuses the stage; `count`: it only removes that voice
    on_rejection: Literal["refuse", "count"] = "refuse"


class Verdict(StrEnum):
    """How a stage stands."""

    GRANTED = "granted"
    REFUSED = "refused"
    #: undecided, and still to be reached
    OPEN = "open"
    #: not refused by anybody, but the voices left are too few; somebody has to be found, or the stage ended otherwise
    IMPOSSIBLE = "impossible"


def verdict(requirements: Requirements, *, approvers: int, approved: int, rejected: int, absent: int = 0) -> Verdict:
    """
    Say how an approval stage stands, given the decisions recorded so far.

    A stage is refused as soon as it can no longer be granted, so nobody is asked for a decision that cannot matter:

    >>> verdict(Requirements(approvals_min=2), approvers=3, approved=1, rejected=2)
    <Verdict.REFUSED: 'refused'>

    `approvers` are all voices; `absent` those of them that have not spoken and cannot be heard any more. Absence never
    refuses: that takes a person who says no.

    >>> verdict(Requirements(), approvers=2, approved=1, rejected=0, absent=1)
    <Verdict.IMPOSSIBLE: 'impossible'>

    A stage without voices is not granted by everybody's silence:

    >>> verdict(Requirements(), approvers=0, approved=0, rejected=0)
    <Verdict.IMPOSSIBLE: 'impossible'>
    """
    needed = requirements.approvals_min or approvers or 1
    if rejected and (requirements.on_rejection == "refuse" or approvers - rejected < needed <= approvers):
        return Verdict.REFUSED
    if approved >= needed:
        return Verdict.GRANTED
    if approvers - rejected - absent < needed:
        return Verdict.IMPOSSIBLE
    return Verdict.OPEN
