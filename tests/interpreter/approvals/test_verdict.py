"""`verdict` over every table of up to six voices."""

from __future__ import annotations

from itertools import product

import pytest

from pliers_workflow.interpreter.verdict import Requirements, Verdict, verdict

VOICES_MAX = 6
#: better and better for whoever wants it granted
ORDER = {Verdict.REFUSED: 0, Verdict.IMPOSSIBLE: 1, Verdict.OPEN: 2, Verdict.GRANTED: 3}
REQUIREMENTS = [
    Requirements(needed, on_rejection)
    for needed in (None, *range(1, VOICES_MAX + 2))
    for on_rejection in ("refuse", "count")
]
TABLE = [
    (voices, approved, rejected, absent)
    for voices, approved, rejected, absent in product(range(VOICES_MAX + 1), repeat=4)
    if approved + rejected + absent <= voices
]

every_requirement = pytest.mark.parametrize("requirements", REQUIREMENTS, ids=str)


def judged(requirements: Requirements, row: tuple[int, int, int, int]) -> Verdict:
    voices, approved, rejected, absent = row
    return verdict(requirements, approvers=voices, approved=approved, rejected=rejected, absent=absent)


def completions(row: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Every way in which the silent voices may speak."""
    voices, approved, rejected, absent = row
    silent = voices - approved - rejected - absent
    return [(voices, approved + more, rejected + silent - more, absent) for more in range(silent + 1)]


def grants(requirements: Requirements, row: tuple[int, int, int, int]) -> bool:
    """The rule in words, for a stage where everybody has spoken."""
    voices, approved, rejected, _ = row
    if requirements.on_rejection == "refuse" and rejected > 0:
        return False
    if requirements.approvals_min is None:
        return voices > 0 and approved == voices
    return approved >= requirements.approvals_min


@every_requirement
def test_monotone(requirements: Requirements) -> None:
    """An approval never makes a stage stand worse, a rejection never better; nor does an absence make it better."""
    for row in TABLE:
        voices, approved, rejected, absent = row
        if approved + rejected + absent == voices:
            continue
        before = ORDER[judged(requirements, row)]
        assert ORDER[judged(requirements, (voices, approved + 1, rejected, absent))] >= before
        assert ORDER[judged(requirements, (voices, approved, rejected + 1, absent))] <= before
        assert ORDER[judged(requirements, (voices, approved, rejected, absent + 1))] <= before


@every_requirement
def test_granted_exactly_when_the_approvals_are_there(requirements: Requirements) -> None:
    """Granted means: as many approvals as needed, and no rejection that refuses; and it is granted at once."""
    for row in TABLE:
        assert (judged(requirements, row) is Verdict.GRANTED) == grants(requirements, row), row


@every_requirement
def test_over_exactly_when_nothing_grants_any_more(requirements: Requirements) -> None:
    """Refused or impossible exactly when, however the silent voices speak, the stage is not granted."""
    for row in TABLE:
        lost = judged(requirements, row) in (Verdict.REFUSED, Verdict.IMPOSSIBLE)
        assert lost == (not any(grants(requirements, each) for each in completions(row))), row


@every_requirement
def test_refused_only_by_rejection(requirements: Requirements) -> None:
    """
    Nobody's absence refuses: a refusal needs a rejection, and would stand if everybody absent were there and approved.
    """
    for row in TABLE:
        voices, _, rejected, _ = row
        if judged(requirements, row) is Verdict.REFUSED:
            assert rejected > 0
            assert not grants(requirements, (voices, voices - rejected, rejected, 0))
        elif judged(requirements, row) is Verdict.IMPOSSIBLE and rejected > 0:
            # Without the absence, or without the rejections, it would have been within reach – or it never was.
            all_there = (voices, voices - rejected, rejected, 0)
            assert grants(requirements, all_there) or not grants(requirements, (voices, voices, 0, 0))


@every_requirement
def test_certain_results_stay(requirements: Requirements) -> None:
    """What is refused stays refused however the silent voices speak; where rejections count, so does what is granted."""
    for row in TABLE:
        result = judged(requirements, row)
        if result is Verdict.REFUSED:
            assert {judged(requirements, each) for each in completions(row)} == {Verdict.REFUSED}
        if result is Verdict.GRANTED and requirements.on_rejection == "count":
            assert {judged(requirements, each) for each in completions(row)} == {Verdict.GRANTED}


@every_requirement
def test_nobody_never_grants(requirements: Requirements) -> None:
    """A stage without voices is impossible, whatever it requires."""
    assert judged(requirements, (0, 0, 0, 0)) is Verdict.IMPOSSIBLE
