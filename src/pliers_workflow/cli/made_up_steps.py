"""Steps in a simulation: what workers would do is made up, and what comes from outside is one of the listed events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .problems import Problem

if TYPE_CHECKING:
    from pliers_workflow.interpreter.effects import ScheduleStep
    from pliers_workflow.interpreter.outcome import Outcome
    from pliers_workflow.interpreter.rejections import Rejection
    from pliers_workflow.interpreter.simulation import Simulation, StepAnswer

#: Triggers that tell of steps, unless a transition of the chart takes a trigger of that name.
STEP_ORDERS = frozenset({"complete", "fail", "receive", "retry", "skip", "give_up"})


class MadeUpSteps:
    """Answers steps as `--steps` says: by id, `{"output": …}`, `{"fail": CODE}` or `"wait"`, or a list of these in turn."""

    def __init__(self, given: Any) -> None:
        if not isinstance(given, Mapping):
            raise Problem(
                '--steps is an object: {"STEP": {"output": …} or {"fail": "CODE"} or "wait", or a list of these}'
            )
        self._answers: dict[str, list[Any]] = {}
        for step, answers in given.items():
            listed = list(answers) if isinstance(answers, list) else [answers]
            for answer in listed:
                known = isinstance(answer, Mapping) and answer and answer.keys() <= {"output", "fail", "retryable"}
                if not known and answer != "wait":
                    raise Problem(f'--steps, {step}: an answer is {{"output": …}}, {{"fail": "CODE"}} or "wait"')
            self._answers[step] = listed

    def run(self, job: ScheduleStep) -> StepAnswer | None:
        """What comes of one attempt; a step that is not named gives back what it was given."""
        from pliers_workflow.interpreter.simulation import StepAnswer

        listed = self._answers.get(job.payload["stepId"])
        if not listed:
            return StepAnswer(job.payload["input"])
        answer = listed.pop(0) if len(listed) > 1 else listed[0]
        if answer == "wait":
            return None
        if "fail" in answer:
            return StepAnswer(code=str(answer["fail"]), retryable=bool(answer.get("retryable", True)))
        return StepAnswer(answer["output"])


def give_step_order(simulation: Simulation, name: str, data: Mapping[str, Any]) -> Outcome | Rejection:
    """What a worker, the world outside, or an operator does; `data` names the step, where several could be meant."""
    instance = simulation.instance
    assert instance is not None
    if name == "receive":
        steps = [run for run in simulation.awaited if data.get("step") in (None, run, simulation.run_of(run).step_id)]
        return simulation.deliver(str(data.get("type", "")), data.get("data"), steps=tuple(steps))
    if name in ("retry", "skip", "give_up"):
        incident = data.get("incident") or next(iter(instance.machine.incidents), "incident/0")
        rest = {key: data[key] for key in ("output", "patch") if key in data}
        return simulation.resolve(name, incident, **rest)  # type: ignore[arg-type]  # one of those
    step = data.get("step")
    if step is None:
        at_work = (*simulation.jobs, *[run.id for run in instance.machine.steps.values() if run.child is not None])
        step = next(iter(at_work), None)
    try:
        run = simulation.run_of(str(step))
    except StopIteration:
        raise Problem(f"no step {step or ''} is at work".replace("  ", " "), status=1) from None
    if name == "complete":
        return simulation.complete(run.id, data.get("output"))
    return simulation.fail(run.id, str(data.get("code", "FAILED")), retryable=bool(data.get("retryable", True)))
