"""Circuit breakers, by a clock that is moved by hand."""

from __future__ import annotations

from pliers_workflow.runtime.jobs.breakers import Breakers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, failures: int = 3) -> Breakers:
    return Breakers(failures=failures, open_seconds=10, clock=clock)


def test_failures_in_a_row_open_the_circuit() -> None:
    """So many, with no success in between; another tenant's or target's circuit is its own."""
    breakers = made(Clock())
    for _ in range(2):
        breakers.failed("t", "x")
    breakers.succeeded("t", "x")
    for _ in range(2):
        breakers.failed("t", "x")
    assert breakers.admit("t", "x") is None
    breakers.failed("t", "x")
    assert breakers.admit("t", "x") == 10
    assert breakers.admit("t", "y") is None
    assert breakers.admit("u", "x") is None


def test_one_is_let_through_when_the_time_is_over() -> None:
    """Half-open: the others wait for what becomes of it."""
    clock = Clock()
    breakers = made(clock, 1)
    breakers.failed("t", "x")
    clock.now = 9.5
    assert breakers.admit("t", "x") == 0.5
    clock.now = 10.0
    assert breakers.states()[0].state == "half-open"
    assert breakers.admit("t", "x") is None
    assert breakers.admit("t", "x") == 1.0
    breakers.failed("t", "x")
    assert breakers.admit("t", "x") == 10
    clock.now = 20.0
    assert breakers.admit("t", "x") is None
    breakers.succeeded("t", "x")
    assert breakers.admit("t", "x") is None
    assert breakers.states() == []


def test_a_probe_that_was_given_up_says_nothing() -> None:
    """The node stopped, or the step was cancelled: another may probe at once."""
    clock = Clock()
    breakers = made(clock, 1)
    breakers.failed("t", "x")
    clock.now = 10.0
    assert breakers.admit("t", "x") is None
    breakers.unknown("t", "x")
    assert breakers.admit("t", "x") is None


def test_who_asks_for_time_gets_it() -> None:
    """Retry-After keeps the circuit open for longer, within a bound."""
    breakers = made(Clock(), 1)
    breakers.failed("t", "x", retry_after=60)
    assert breakers.admit("t", "x") == 60
    breakers.failed("t", "y", retry_after=1e9)
    assert breakers.admit("t", "y") == 600
