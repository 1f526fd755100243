"""Short ways to write workflows whose first state does some steps, and to look at what became of them."""

from __future__ import annotations

from typing import Any

from pliers_workflow.interpreter.simulation import Simulation
from tests.interpreter.building import accepted, simulate

END = {"type": "final"}


def call(id: str, **rest: Any) -> dict[str, Any]:
    """A step done outside, which is tried once."""
    return {"type": "plugin", "id": id, "pluginId": "some", "retryPolicy": {"maxAttempts": 1}, **rest}


def at_work(*steps: Any, data: dict[str, Any] | None = None, more: Any = (), **rest: Any) -> Simulation:
    """An instance that has entered `work`, which does these steps and then ends; `more` are further transitions."""
    states = {"work": {"properties": {"steps": list(steps)}}, "end": END, **rest.pop("states", {})}
    run = simulate(states, [{"from": "work", "to": "end"}, *more], **rest)
    accepted(run.start(data or {}, "ada"))
    return run


def steps_at_work(run: Simulation) -> dict[str, str]:
    """The steps with an id of their own that are at work, and how each stands."""
    assert run.instance is not None
    return {each.step_id: each.status for each in run.instance.machine.steps.values() if "/" not in each.step_id}


def jobs(run: Simulation) -> list[str]:
    """Ids of the steps that are left to workers, in the order in which they began."""
    return [job.payload["stepId"] for job in run.jobs.values()]


def incident(run: Simulation) -> Any:
    """The one open incident."""
    assert run.instance is not None
    (found,) = run.instance.machine.incidents.values()
    return found


def status(run: Simulation) -> str:
    """The instance's status."""
    assert run.instance is not None
    return run.instance.status.value


def data(run: Simulation) -> dict[str, Any]:
    """The instance's data."""
    assert run.instance is not None
    return run.instance.data
