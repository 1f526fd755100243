"""Documents in which nearly everything is wrong."""

from __future__ import annotations

import pytest

from pliers_workflow.definition import reading, shape
from pliers_workflow.definition.findings import FINDINGS_MAX

from .documents import small


def test_a_megabyte_of_mistakes_is_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody is told of costs no explanation: 100,000 wrong elements once kept a core busy for seconds."""
    looked_at = 0
    place = shape._Place

    class Counted(place):  # type: ignore[valid-type,misc]  # a class in a variable
        def __init__(self, document: object, location: tuple[str | int, ...]) -> None:
            nonlocal looked_at
            looked_at += 1
            super().__init__(document, location)

    monkeypatch.setattr(shape, "_Place", Counted)
    findings = reading.read({**small(), "approvalChains": [1] * 100_000}).findings
    told = [finding for finding in findings if finding.code == "wrong_type"]
    assert len(told) == FINDINGS_MAX
    assert told[0].pointer == "/approvalChains/0"
    assert looked_at <= shape._ERRORS_MAX
