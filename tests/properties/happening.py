"""Let things happen to an instance that does steps, and hold on to what it was after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hypothesis import assume, note

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import CompleteStep, DeliverEvent, FailStep, InboundEvent
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.interpreter.simulation import Simulation
from pliers_workflow.interpreter.step_runs import IN_FLIGHT, StepRun
from pliers_workflow.interpreter.steps.runs import OUTSIDE


def at_work_outside(run: Simulation) -> list[StepRun]:
    """Runs whose result somebody outside will bring."""
    assert run.instance is not None
    return [
        each
        for each in run.instance.machine.steps.values()
        if each.status in IN_FLIGHT and each.held is None and (each.type in OUTSIDE or each.type == "sub_workflow")
    ]


def happen(run: Simulation, happening: tuple[Any, ...]) -> Outcome | Rejection | None:
    """Let it happen; None where there was nothing for it to happen to."""
    assert run.instance is not None
    outside = at_work_outside(run)
    match happening:
        case ("complete", which, output) if outside:
            one = outside[which % len(outside)]
            return run.give(CompleteStep(one.id, one.attempt, output), None)
        case ("fail", which, code, retryable) if outside:
            one = outside[which % len(outside)]
            if one.type == "sub_workflow":
                code = "SUB_WORKFLOW_FAILED"
            return run.give(FailStep(one.id, one.attempt, code, "made up", retryable), None)
        case ("stale", which, off) if outside:
            one = outside[which % len(outside)]
            before = run.instance
            answer = run.give(CompleteStep(one.id, one.attempt + off, {"late": True}), None)
            assert isinstance(answer, Rejection)
            assert answer.reason in (Reason.STEP_GONE, Reason.INSTANCE_ENDED)
            assert run.instance is before, "a result that comes too late changes nothing"
            return answer
        case ("advance", milliseconds):
            run.advance(milliseconds)
        case ("resolve", which, action):
            incidents = list(run.instance.machine.incidents)
            if incidents:
                return run.resolve(action, incidents[which % len(incidents)], output={"x": 2})
        case ("deliver", which) if run.awaited:
            step = list(run.awaited)[which % len(run.awaited)]
            event = InboundEvent("event/1", "outside", run.awaited[step].event_type.replace("*", "x"), data={"x": 1})
            return run.give(DeliverEvent(event, steps=(step,)), None)
        case ("deliver", which):
            event = InboundEvent("event/1", "outside", "now", data={"n": which})
            return run.give(DeliverEvent(event, "execute", step="named"), None)
        case ("fire", trigger):
            return run.fire(trigger, user="ada")
        case ("decide", action):
            return run.decide(action, "bob", comments="so be it")
        case ("suspend",):
            return run.suspend()
        case ("resume",):
            return run.resume()
        case ("cancel",):
            return run.cancel("ada")
    return None


def started(document: dict[str, Any]) -> Simulation | None:
    """A simulation that has been started; None where that was refused. Documents with findings do not count."""
    reading = read(document)
    assume(reading.definition is not None)
    assert reading.definition is not None
    run = Simulation(compile_definition(reading.definition))
    answer = run.start({"n": 1, "list": [1, {"x": Decimal("0.50")}]}, "ada")
    return run if isinstance(answer, Outcome) else None


def runs(document: dict[str, Any], happened: list[tuple[Any, ...]]) -> Iterator[Simulation]:
    """The simulation after the start, and after each thing that happened."""
    run = started(document)
    if run is not None:
        yield run
        for happening in happened:
            note(str(happening))
            happen(run, happening)
            yield run
