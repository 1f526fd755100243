"""What holds for every tree of steps and everything that may happen to it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from pliers_workflow.definition.step_chart import Parallel
from pliers_workflow.interpreter import statechart
from pliers_workflow.interpreter.events import Event
from pliers_workflow.interpreter.folding import fold
from pliers_workflow.interpreter.instance import Instance, Status
from pliers_workflow.interpreter.simulation import Simulation
from pliers_workflow.interpreter.step_runs import IN_FLIGHT
from pliers_workflow.interpreter.steps.runs import OUTSIDE
from tests.properties.effort import tries
from tests.properties.happening import happen, runs, started
from tests.properties.step_charts import documents, happenings

_encode = msgspec.json.Encoder(decimal_format="number").encode
_instance = msgspec.json.Decoder(Instance, float_hook=Decimal)
_events = msgspec.json.Decoder(tuple[Event, ...], float_hook=Decimal)

quick = tries(120)
lists = st.lists(happenings(), min_size=5, max_size=30)


@pytest.fixture(autouse=True, scope="module")
def soon_endless() -> Iterator[None]:
    """Random charts often have no end; the laws do not care after how many microsteps that is noticed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statechart, "MICROSTEPS_MAX", 40)
        yield


@quick
@given(documents, lists)
def test_folding_the_history_gives_the_instance(document: Any, happened: Any) -> None:
    """From nothing, through JSON, row by row; and the instance survives JSON too."""
    run = None
    for run in runs(document, happened):
        assert _instance.decode(_encode(run.instance)) == run.instance
    if run is None:
        return
    instance: Instance | None = None
    for row in run.history:
        events = _events.decode(_encode(row.events))
        assert events == row.events
        instance = fold(instance, events, seq=row.seq, at=row.at, instance_id="simulated")
    assert instance == run.instance


@quick
@given(documents, lists)
def test_what_is_at_work_outside_is_what_the_instance_waits_for(document: Any, happened: Any) -> None:
    """
    Each job, each awaited event and each clock belongs to one run at work, and none is missing.

    So every step that was left to a worker is settled once or its job dropped, and nothing is in flight for a state that
    was left or an instance that has ended.
    """
    for run in runs(document, happened):
        instance = run.instance
        assert instance is not None
        steps, suspended = instance.machine.steps, instance.status is Status.SUSPENDED
        with_job = {
            each.id: each.attempt
            for each in steps.values()
            if each.type in OUTSIDE
            and each.status in IN_FLIGHT
            and each.held is None
            and not (suspended and each.status == "retrying")
        }
        assert {job.step: job.attempt for job in run.jobs.values()} == with_job
        waiting = {
            each.id
            for each in steps.values()
            if each.type == "receive" and each.status == "waiting" and each.held is None
        }
        assert run.awaited.keys() == waiting
        for timer in instance.machine.timers.values():
            if timer.kind in ("step", "wait", "retry"):
                assert timer.step in steps, timer
                assert steps[timer.step].attempt == timer.attempt
        if instance.ended:
            assert not steps and not instance.machine.timers and not instance.machine.incidents
            assert not run.jobs and not run.awaited


@quick
@given(documents, lists)
def test_every_run_has_its_place(document: Any, happened: Any) -> None:
    """A run stands in one that is at work, and belongs to a state that is active."""
    for run in runs(document, happened):
        instance = run.instance
        assert instance is not None
        machine = instance.machine
        for each in machine.steps.values():
            if each.parent is not None:
                assert machine.steps[each.parent].status in ("open", "undoing", "failed")
            elif each.state is not None:
                assert machine.working[each.state] == each.id
            if each.state is not None:
                assert each.state in instance.configuration
        assert machine.working.keys() <= set(instance.configuration)
        places = set(instance.configuration) | machine.steps.keys()
        assert instance.ended or machine.outputs.keys() <= places
        stuck = {each.id for each in machine.steps.values() if each.status == "stuck"}
        told = {incident.step for incident in machine.incidents.values() if incident.stage is None}
        assert stuck == told - {None}
        for undo in machine.undo.values():
            assert any(each in machine.steps for each in undo.within)


@quick
@given(documents, lists)
def test_nothing_stands_still_in_silence(document: Any, happened: Any) -> None:
    """In what is open something is at work, or an incident tells why not; only what a transition has taken may be over."""
    for run in runs(document, happened):
        instance = run.instance
        assert instance is not None
        if instance.status is Status.SUSPENDED:
            continue
        steps = instance.machine.steps
        moving = {each.id for each in steps.values() if each.status in IN_FLIGHT or each.status == "stuck"}
        for id in list(moving):
            above = steps[id].parent
            while above is not None:
                moving.add(above)
                above = steps[above].parent
        taken = {each.id for each in steps.values() if each.status == "failed" and each.parent is None}
        still = {each.id for each in steps.values() if each.id not in moving} - taken
        waiting_all = {each.id for each in steps.values() if each.status == "failed" and each.parent in moving}
        assert not {each for each in still - waiting_all if steps[each].status != "failed"}, still
        for each in steps.values():
            if each.status == "failed" and each.parent is not None and steps[each.parent].status != "failed":
                work = run.chart.steps[steps[each.parent].path].work
                assert isinstance(work, Parallel) and work.on_failure == "wait_all", "a failure that nobody hears of"


@quick
@given(documents, lists)
def test_the_status_says_who_is_waited_for(document: Any, happened: Any) -> None:
    """Running while a worker has something; failed while only an operator can help; waiting else."""
    for run in runs(document, happened):
        instance = run.instance
        assert instance is not None
        machine = instance.machine
        if instance.ended or instance.status in (Status.SUSPENDED, Status.ESCALATED):
            continue
        at_workers = any(each.status in ("scheduled", "retrying") for each in machine.steps.values())
        assert (instance.status is Status.RUNNING) == at_workers
        if instance.status is Status.FAILED:
            assert machine.incidents


def at_rest(run: Simulation) -> tuple[Any, ...]:
    """What an instance is, but for what counts commands and clocks."""
    instance = run.instance
    assert instance is not None
    machine = instance.machine
    return (
        (instance.status, instance.configuration, instance.data, instance.context),
        [
            (each.id, each.step_id, each.status, each.attempt, each.ended, each.output, each.done, each.held)
            for each in machine.steps.values()
        ],
        sorted((each.kind, each.trigger, each.step or "", str(each.due_at)) for each in machine.timers.values()),
        [(each.id, each.code, each.step_id, each.attempts) for each in machine.incidents.values()],
        {(job.step, job.attempt, str(job.due_at)) for job in run.jobs.values()},
        set(run.awaited),
        (machine.undo, machine.outputs, machine.history),
    )


@tries(60)
@given(documents, lists)
def test_a_moment_of_suspension_changes_nothing(document: Any, happened: Any) -> None:
    """Results that come meanwhile are kept and take effect as if they had come after; everything else only waits."""
    straight, interrupted = started(document), started(document)
    if straight is None or interrupted is None:
        return
    for happening in happened:
        if happening[0] in ("suspend", "resume"):
            continue
        note(str(happening))
        happen(straight, happening)
        assert straight.instance is not None
        if any(each.due_at and each.due_at <= straight.now for each in straight.instance.machine.steps.values()):
            return  # an attempt that has begun after a failure is taken back by a suspension, and given its time anew
        is_result = happening[0] in ("complete", "fail") or (happening[0] == "deliver" and len(interrupted.awaited) > 0)
        interrupted.suspend()
        if is_result:
            happen(interrupted, happening)
        interrupted.resume()
        if not is_result:
            happen(interrupted, happening)
        assert at_rest(straight) == at_rest(interrupted)
