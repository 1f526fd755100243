"""What holds for every chart and every run of commands, however odd."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st

from pliers_workflow.definition.chart import Chart, State
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter import statechart
from pliers_workflow.interpreter.effects import CancelTimer, OpenWorkItem, ScheduleTimer, SettleWorkItem
from pliers_workflow.interpreter.events import Event, TimeoutOccurred
from pliers_workflow.interpreter.folding import fold
from pliers_workflow.interpreter.instance import Instance, Status, Timer
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.interpreter.simulation import Simulation
from tests.properties.charts import documents, orders
from tests.properties.effort import tries

_encode = msgspec.json.Encoder(decimal_format="number").encode
_instance = msgspec.json.Decoder(Instance, float_hook=Decimal)
_events = msgspec.json.Decoder(tuple[Event, ...], float_hook=Decimal)

quick = tries(60)


@pytest.fixture(autouse=True, scope="module")
def soon_endless() -> Iterator[None]:
    """Random charts often have no end; the laws do not care after how many microsteps that is noticed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "MICROSTEPS_MAX", 40)
        yield


def compiled(document: dict[str, Any]) -> Chart:
    """The chart, where the document has no findings; hypothesis looks for another one otherwise."""
    reading = read(document)
    assume(reading.definition is not None)
    assert reading.definition is not None
    return compile_definition(reading.definition)


def perform(run: Simulation, order: tuple[Any, ...]) -> Outcome | Rejection | None:
    """Do it; None where time moved."""
    match order:
        case ("fire", trigger, user):
            return run.fire(trigger, {"x": Decimal("1.5")}, user)
        case ("decide", action, user):
            return run.decide(action, user, comments="so be it")
        case ("delegate", other, user):
            return run.decide("delegate", user, delegate_to=other)
        case ("update", n, user):
            return run.update({"n": n, "extra": {"of": Decimal("0.10")}}, user)
        case ("advance", milliseconds):
            run.advance(milliseconds)
            return None
        case ("suspend",):
            return run.suspend()
        case ("resume",):
            return run.resume()
        case ("cancel", _, user):
            return run.cancel(user)
    raise AssertionError(order)


def runs(document: dict[str, Any], given_orders: list[tuple[Any, ...]]) -> Iterator[tuple[Simulation, Any]]:
    """Start, then each order; gives the simulation after each step, with the answer."""
    run = Simulation(compiled(document))
    answer: Any = run.start({"n": 0, "price": Decimal("12.50")}, "ada")
    yield run, answer
    if isinstance(answer, Outcome):
        for order in given_orders:
            note(str(order))
            yield run, perform(run, order)


def performed(document: dict[str, Any], given_orders: list[tuple[Any, ...]]) -> Simulation:
    """The simulation after all orders."""
    *_, (run, _) = runs(document, given_orders)
    return run


order_lists = st.lists(orders(), min_size=3, max_size=15)


@quick
@given(documents, order_lists)
def test_folding_the_history_from_scratch_gives_the_instance(document: Any, given_orders: Any) -> None:
    """Row by row, from nothing: the law that makes audit trail, replay and live view one thing."""
    run = performed(document, given_orders)
    instance: Instance | None = None
    for row in run.history:
        events = _events.decode(_encode(row.events))
        assert events == row.events
        instance = fold(instance, events, seq=row.seq, at=row.at, instance_id="simulated")
    assert instance == run.instance


@quick
@given(documents, order_lists)
def test_instances_survive_json(document: Any, given_orders: Any) -> None:
    """An instance read back from the database is the one that was written, decimals and all."""
    for run, _ in runs(document, given_orders):
        if run.instance is not None:
            assert _instance.decode(_encode(run.instance)) == run.instance


@quick
@given(documents, order_lists)
def test_the_configuration_is_always_legal(document: Any, given_orders: Any) -> None:
    """SCXML's legal configuration, in document order; `current_state` is the innermost outside regions."""
    for run, _ in runs(document, given_orders):
        if run.instance is not None:
            check_configuration(run.chart, run.instance)


def check_configuration(chart: Chart, instance: Instance) -> None:
    active = [chart.by_id[each] for each in instance.configuration]
    assert [each.index for each in active] == sorted({each.index for each in active})
    assert sum(each.parent is None for each in active) == 1
    for state in active:
        assert state.parent is None or state.parent in active
        children = [each for each in active if each.parent is state]
        expected = {
            "atomic": 0,
            "final": 0,
            "compound": 1,
            "parallel": sum(each.kind != "history" for each in state.children),
        }[state.kind]
        assert len(children) == expected, (state, children)
    assert chart.by_id[instance.current_state] is innermost(active)


def innermost(active: list[State]) -> State:
    return [each for each in active if not each.in_region][-1]


@quick
@given(documents, order_lists)
def test_rejections_change_nothing(document: Any, given_orders: Any) -> None:
    """A refused command leaves instance and history as they were, to the byte."""
    before: bytes | None = None
    rows = 0
    for run, answer in runs(document, given_orders):
        after = _encode(run.instance)
        if isinstance(answer, Rejection) and before is not None:
            assert (after, len(run.history)) == (before, rows)
        before, rows = after, len(run.history)


@quick
@given(documents, order_lists)
def test_interpreting_again_gives_the_same(document: Any, given_orders: Any) -> None:
    """The same instance, command, facts and time give the same outcome; every row can be interpreted again."""
    run = performed(document, given_orders)
    chart = compiled(document)
    instance: Instance | None = None
    for row in run.history:
        again = interpret(chart, instance, row.command, row.facts, row.at, budget_steps=5_000_000)
        assert isinstance(again, Outcome), again
        assert again.events == row.events
        assert again.facts == row.facts
        instance = again.instance
    assert instance == run.instance


@quick
@given(documents, order_lists)
def test_nothing_is_left_after_the_end(document: Any, given_orders: Any) -> None:
    """An ended instance has no timer, asks nobody, and takes no command."""
    for run, _ in runs(document, given_orders):
        instance = run.instance
        if instance is None or not instance.ended:
            continue
        assert instance.machine.timers == {}
        assert instance.timeout_at is None
        assert instance.assigned_to is None
        assert not any(stage.items for chain in instance.machine.chains.values() for stage in chain.stages)
        assert isinstance(run.fire("go", user="ada"), Rejection)
        assert run.advance(10_000_000) == []


@quick
@given(documents, order_lists)
def test_timers_and_chains_belong_to_active_states(document: Any, given_orders: Any) -> None:
    """No clock of a state, and no chain, outlives its state; a suspended instance has no clock running."""
    for run, _ in runs(document, given_orders):
        instance = run.instance
        if instance is None:
            continue
        active = set(instance.configuration)
        assert set(instance.machine.chains) <= active
        for timer in instance.machine.timers.values():
            assert timer.state is None or timer.state in active
            assert (timer.due_at is None) is (instance.status is Status.SUSPENDED)
        due = [each.due_at for each in instance.machine.timers.values() if each.due_at is not None]
        # One that an incident has halted shows no due date, though the workflow's own clock goes on.
        assert instance.timeout_at == (None if instance.status is Status.FAILED else min(due, default=None))


@quick
@given(documents, order_lists)
def test_effects_agree_with_the_instance(document: Any, given_orders: Any) -> None:
    """Doing every duty owed leaves exactly the timers and the open work items that the instance knows."""
    timers: dict[str, Timer] = {}
    items: set[str] = set()
    run = performed(document, given_orders)
    instance: Instance | None = None
    for row in run.history:
        outcome = interpret(run.chart, instance, row.command, row.facts, row.at, budget_steps=5_000_000)
        assert isinstance(outcome, Outcome)
        instance = outcome.instance
        for event in outcome.events:
            if isinstance(event, TimeoutOccurred):
                del timers[event.timer]
        for effect in outcome.effects:
            match effect:
                case ScheduleTimer():
                    timers[effect.timer.id] = effect.timer
                case CancelTimer():
                    del timers[effect.timer]
                case OpenWorkItem():
                    items.add(effect.item.id)
                case SettleWorkItem():
                    items.remove(effect.item)
        chains = instance.machine.chains.values()
        assert timers == instance.machine.timers
        assert items == {item.id for chain in chains for stage in chain.stages for item in stage.items}
