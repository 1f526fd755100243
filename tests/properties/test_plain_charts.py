"""The interpreter and the standard's own pseudo-code agree on compound and parallel states, history, and steps inside."""

from __future__ import annotations

from collections.abc import Iterator
from json import dumps
from typing import Any

import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter import statechart
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.interpreter.simulation import Simulation
from tests.properties.effort import tries
from tests.properties.plain_chart import TRIGGERS, Charts, Endless, Machine


@pytest.fixture(autouse=True, scope="module")
def soon_endless() -> Iterator[None]:
    """Both give up after as many microsteps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "MICROSTEPS_MAX", 30)
        yield


def agree(run: Simulation, machine: Machine) -> None:
    """The same states are active, the same was done in the same order, the same steps are at work."""
    instance = run.instance
    assert instance is not None
    assert list(instance.configuration) == [
        node.id for node in sorted(machine.configuration, key=lambda each: each.order)
    ]
    assert instance.data["log"] == machine.log
    runs = instance.machine.steps
    at_work = {(each.state, each.step_id, each.status) for each in runs.values() if each.status in ("waiting", "stuck")}
    assert at_work == {(each.state.id, each.step, each.status) for each in machine.work.values() if not each.failed}
    failed = {state for state, run in instance.machine.working.items() if runs[run].status == "failed"}
    assert failed == {each.state.id for each in machine.work.values() if each.failed}
    clocks = sorted((timer.due_at, timer.state) for timer in instance.machine.timers.values())
    assert [state for _, state in clocks] == [
        state for _, _, state in sorted(machine.clocks, key=lambda c: (c[0], c[2]))
    ]
    assert instance.ended == machine.ended


@st.composite
def happenings(draw: Any) -> tuple[Any, ...]:
    """One thing that happens; numbers choose among what is there."""
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return ("fire", draw(st.sampled_from((*TRIGGERS, *TRIGGERS, *TRIGGERS, "finish"))))
    if kind < 7:
        return ("complete", draw(st.integers(0, 5)))
    if kind < 8:
        return ("fail", draw(st.integers(0, 5)))
    if kind < 9:
        return ("skip", draw(st.integers(0, 5)))
    return ("advance", draw(st.sampled_from((60_000, 120_000, 200_000))))


def happen(run: Simulation, machine: Machine, happening: tuple[Any, ...]) -> None:
    """Let it happen to both."""
    assert run.instance is not None
    order = machine.nodes
    working = sorted(
        (work for work in machine.work.values() if work.status == "waiting"), key=lambda w: order[w.state.id].order
    )
    stuck = sorted(
        (work for work in machine.work.values() if work.status == "stuck"), key=lambda w: order[w.state.id].order
    )
    match happening:
        case ("fire", trigger):
            answer = run.fire(trigger, user="ada")
            if isinstance(answer, Rejection) and answer.reason is Reason.ENDLESS_LOOP:
                raise Endless
            assert isinstance(answer, Outcome) == machine.fire(trigger)
        case ("complete", which) if working:
            work = working[which % len(working)]
            run.complete(work.step)
            machine.complete(work)
        case ("fail", which) if working:
            work = working[which % len(working)]
            run.fail(work.step)
            machine.fail(work)
        case ("skip", which) if stuck:
            work = stuck[which % len(stuck)]
            incident = next(each for each in run.instance.machine.incidents.values() if each.step_id == work.step)
            answer = run.resolve("skip", incident.id)
            if isinstance(answer, Rejection):
                raise Endless
            machine.complete(work)
        case ("advance", milliseconds):
            run.advance(milliseconds)
            machine.advance(milliseconds)


@tries(150)
@given(st.integers(0, 2**32), st.lists(happenings(), min_size=3, max_size=30))
def test_the_interpreter_does_what_the_standard_says(seed: int, happened: list[tuple[Any, ...]]) -> None:
    """After each thing that happens."""
    document = Charts(seed).document()
    reading = read(document)
    assume(reading.definition is not None)
    assert reading.definition is not None
    note(dumps(document["stateMachine"]))
    run, machine = Simulation(compile_definition(reading.definition)), Machine(document)
    try:
        machine.start()
    except Endless:
        assume(False)
    assert isinstance(run.start({"log": ""}, "ada"), Outcome)
    agree(run, machine)
    for happening in happened:
        if machine.ended:
            break
        note(str(happening))
        try:
            happen(run, machine, happening)
        except Endless:  # what each leaves behind then is another matter
            return
        agree(run, machine)
