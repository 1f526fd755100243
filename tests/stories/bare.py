"""Telling a story to the interpreter alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pliers_workflow import examples
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import CancelInstance, ResumeInstance, SuspendInstance
from pliers_workflow.interpreter.facts import User
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.interpreter.simulation import SimulatedDirectory, Simulation

from .transcript import DECISIONS, Line, Person, View


class Bare:
    """A `Teller` without a database."""

    def __init__(self, chart: str) -> None:
        reading = read(examples.load(chart))
        assert reading.definition is not None, reading.findings
        self.chart = compile_definition(reading.definition)
        self.simulation: Simulation | None = None
        self.directory: SimulatedDirectory | None = None
        self.at: datetime | None = None

    async def people(self, people: list[Person]) -> None:
        members: dict[str, dict[str, list[str]]] = {"role": {}, "group": {}}
        for person in people:
            for role in person.roles:
                members["role"].setdefault(role, []).append(person.username)
            for group in person.groups:
                members["group"].setdefault(group, []).append(person.username)
        for role in ("department_head", "director", "finance", "controller", "purchasing"):
            members["role"].setdefault(role, [])
        members["group"].setdefault("legal", [])
        users = {
            each.username: User(
                each.username,
                each.username,
                name=each.username,
                manager=each.manager,
                roles=each.roles,
                groups=each.groups,
            )
            for each in people
        }
        self.directory = SimulatedDirectory(users, roles=members["role"], groups=members["group"])

    async def move_to(self, at: datetime) -> None:
        if self.simulation is None:
            self.simulation = Simulation(self.chart, directory=self.directory, start=at)
        else:
            self.simulation.advance((at - self.simulation.now).total_seconds() * 1000)

    async def tell(self, line: Line) -> str | None:
        assert self.simulation is not None
        answer: Any
        if line.verb == "start":
            answer = self.simulation.start(line.fields, line.who)
        elif line.verb == "edit":
            answer = self.simulation.update(line.fields, line.who)
        elif line.verb in DECISIONS:
            fields = dict(line.fields)
            to, stage = fields.pop("to", None), fields.pop("stage", None)
            answer = self.simulation.decide(
                line.verb, line.who, stage=stage, comments=line.comment, data=fields, delegate_to=to
            )
        elif line.verb in ("suspend", "resume", "cancel"):
            order = {"suspend": SuspendInstance, "resume": ResumeInstance, "cancel": CancelInstance}[line.verb]()
            answer = self.simulation.give(order, line.who, ("operator",))
        else:
            answer = self.simulation.fire(line.verb, line.fields, line.who)
        return str(answer.reason) if isinstance(answer, Rejection) else None

    async def view(self) -> View:
        assert self.simulation is not None
        instance = self.simulation.instance
        assert instance is not None
        chains = instance.machine.chains.values()
        return View(
            state=instance.current_state,
            leaves=tuple(self.simulation.configuration),
            status=str(instance.status),
            asks=tuple(sorted(item.approver for chain in chains for stage in chain.stages for item in stage.items)),
            due=instance.timeout_at,
            data=instance.data,
            revision=instance.revision,
        )
