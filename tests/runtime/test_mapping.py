"""What a binding's condition and mappings come to for one submission."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.runtime.submissions.mapping import Failure, Order, Scope, check, holds, mapped

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def scope(**submission: Any) -> Scope:
    """What expressions see."""
    return Scope(submission, {"limit": 10, "owner": "ops"}, NOW)


def order(
    condition: str | None = None, submission: dict[str, str] | None = None, context: dict[str, str] | None = None
) -> Order:
    """A binding."""
    return Order("b", "w", condition=condition, mapping={"submission": submission or {}, "context": context or {}})


def test_a_condition_holds_or_not_or_fails() -> None:
    """A missing value, a wrong type or an answer that is no boolean is a failure, never false."""
    assert holds(order(), scope())
    assert holds(order("submission.amount > metadata.limit"), scope(amount=11))
    assert not holds(order("submission.amount > metadata.limit"), scope(amount=Decimal("9.99")))
    assert holds(order("now > timestamp('2026-01-01T00:00:00Z')"), scope())
    for wrong in ("submission.missing > 1", "submission.amount + 'x' == 'y'", "submission.amount", "data.amount > 1"):
        with pytest.raises(Failure) as failed:
            holds(order(wrong), scope(amount=1))
        assert failed.value.code == "condition_error"


def test_paths_and_expressions() -> None:
    """A bare path that leads nowhere leaves its field out; CEL that reads a missing value is a failure."""
    fields = {
        "a": "x",
        "b.c": "y.z",
        "b.d": "submission.x",
        "e": "metadata.owner",
        "f": "now",
        "g": "true",
        "h": "nothing.at.all",
    }
    data, _ = mapped(order(submission=fields), scope(x=1, y={"z": [1]}))
    assert data == {"a": 1, "b": {"c": [1], "d": 1}, "e": "ops", "f": "2026-03-02T09:00:00+00:00", "g": True}
    with pytest.raises(Failure, match="field a"):
        mapped(order(submission={"a": "submission.missing + 1"}), scope())


def test_a_mapping_never_writes_into_the_submission() -> None:
    """Setting a field below one that was copied leaves the submission as it was."""
    submission = {"who": {"name": "Ada"}}
    data, _ = mapped(order(submission={"who": "who", "who.age": "1 + 1"}), Scope(submission, {}, NOW))
    assert data == {"who": {"name": "Ada", "age": 2}}
    assert submission == {"who": {"name": "Ada"}}
    with pytest.raises(Failure, match="not a map"):
        mapped(order(submission={"who": "'x'", "who.age": "1 + 1"}), Scope(submission, {}, NOW))


def test_hostile_expressions_cost_their_own_start_only() -> None:
    """What would take too long, or give what cannot be kept, is a failure."""
    big = "submission.l.map(a, submission.l.map(b, submission.l.map(c, a + b + c)))"
    with pytest.raises(Failure):
        mapped(order(submission={"a": big}), scope(l=list(range(1000))))
    with pytest.raises(Failure):
        holds(
            order("submission.l.all(a, submission.l.all(b, submission.l.all(c, a < 2000)))"), scope(l=list(range(1000)))
        )


def test_findings_name_their_places() -> None:
    """Syntax, unknown roots and impossible types, each at its pointer; a right binding has none."""
    assert check({"submission": {"a": "b"}, "context": {"c": "submission.b + 1"}}, "submission.b > 1", None) == []
    findings = check({"submission": {"a": "user.name + 'x'"}}, "1 +", None)
    assert [(finding.pointer, finding.code) for finding in findings] == [
        ("/condition", "bad_expression"),
        ("/dataMapping/submission/a", "expression_mismatch"),
    ]
