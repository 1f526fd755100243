"""Basic control flow: one after another, side by side, one of several."""

from __future__ import annotations

from tests.interpreter.building import accepted
from tests.interpreter.steps.working import at_work, call, jobs, status

TWO = {"type": "parallel", "id": "both", "branches": [{"id": "a", "steps": [call("pick")]}, {"id": "b", "steps": [call("bill")]}]}  # fmt: skip


def test_sequence() -> None:
    """WCP-1 Sequence: a task begins when the one before it has ended."""
    run = at_work(call("pick"), call("pack"))
    assert jobs(run) == ["pick"]
    accepted(run.complete("pick"))
    assert jobs(run) == ["pack"]
    accepted(run.complete("pack"))
    assert status(run) == "completed"


def test_parallel_split() -> None:
    """WCP-2 Parallel split: one branch becomes several that are at work at the same time."""
    run = at_work(TWO)
    assert jobs(run) == ["pick", "bill"]


def test_synchronisation() -> None:
    """WCP-3 Synchronisation: what follows begins when all branches have ended, whichever is last."""
    run = at_work(TWO, call("send"))
    accepted(run.complete("bill"))
    assert jobs(run) == ["pick"]
    accepted(run.complete("pick"))
    assert jobs(run) == ["send"]


def test_exclusive_choice() -> None:
    """WCP-4 Exclusive choice: exactly one of several ways is taken, by the data."""
    choice = {
        "type": "conditional",
        "condition": "data.amount > 1000",
        "trueBranch": {"steps": [call("audit")]},
        "falseBranch": {"steps": [call("book")]},
    }
    assert jobs(at_work(choice, data={"amount": 5000})) == ["audit"]
    assert jobs(at_work(choice, data={"amount": 5})) == ["book"]


def test_simple_merge() -> None:
    """WCP-5 Simple merge: ways that exclude each other come together, and what follows is done once."""
    choice = {
        "type": "conditional",
        "condition": "data.amount > 1000",
        "trueBranch": {"steps": [call("audit")]},
        "falseBranch": {"steps": [call("book")]},
    }
    for amount, way in ((5000, "audit"), (5, "book")):
        run = at_work(choice, call("pay"), data={"amount": amount})
        accepted(run.complete(way))
        assert jobs(run) == ["pay"]
