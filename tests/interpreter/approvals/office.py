"""An office for approval tests: people with roles, one chain in one state, and what became of it.

User ids differ from usernames on purpose (`id-ada`), so that a mix-up of the two fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pliers_workflow.definition.chart import Chart
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.commands import RecordDecision, ReplaceApprovers
from pliers_workflow.interpreter.effects import OpenWorkItem, SettleWorkItem
from pliers_workflow.interpreter.events import ApprovalRequested, ApprovalWithdrawn, Event
from pliers_workflow.interpreter.facts import Fact, Members, User
from pliers_workflow.interpreter.instance import ChainRun, Instance, StageRun, WorkItem
from pliers_workflow.interpreter.outcome import Outcome
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.interpreter.simulation import Simulation

MINUTE = 60_000


def user_id(name: str) -> str:
    return f"id-{name}"


def user_name(identifier: str) -> str:
    return identifier.removeprefix("id-")


class People:
    """A directory in which nobody exists who was not named."""

    def __init__(
        self,
        names: Iterable[str] = (),
        *,
        roles: Mapping[str, Iterable[str]] | None = None,
        groups: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.members = {
            **{f"role:{key}": list(members) for key, members in (roles or {}).items()},
            **{f"group:{key}": list(members) for key, members in (groups or {}).items()},
        }
        self.names = dict.fromkeys([*names, *[name for each in self.members.values() for name in each]])
        self.gone: set[str] = set()
        self.managers: dict[str, str] = {}
        #: keys asked for, round by round
        self.asked: list[str] = []

    def meet(self, user: str | None) -> None:
        """The simulation tells us who acts; it makes nobody exist here."""

    def fact(self, key: str) -> Fact:
        self.asked.append(key)
        kind, _, name = key.partition(":")
        if kind == "username":
            return user_id(name) if name in self.names else None
        if kind == "user":
            name = user_name(name)
            return self._user(name) if name in self.names else None
        members = self.members.get(key)
        if members is None:
            return None
        return Members(tuple(sorted(user_id(each) for each in members if each not in self.gone)))

    def _user(self, name: str) -> User:
        held = [key.split(":", 1) for key, members in self.members.items() if name in members]
        return User(
            id=user_id(name),
            username=name,
            active=name not in self.gone,
            manager=self.managers.get(name),
            roles=tuple(key for kind, key in held if kind == "role"),
            groups=tuple(key for kind, key in held if kind == "group"),
        )

    def leave(self, *names: str) -> None:
        """These people are not active any more."""
        self.gone.update(names)


def user(name: str, *fallback: dict[str, Any]) -> dict[str, Any]:
    return {"type": "user", "identifier": name, "fallback": list(fallback)}


def role(key: str, *fallback: dict[str, Any]) -> dict[str, Any]:
    return {"type": "role", "identifier": key, "fallback": list(fallback)}


def group(key: str, *fallback: dict[str, Any]) -> dict[str, Any]:
    return {"type": "group", "identifier": key, "fallback": list(fallback)}


def dynamic(expression: str, *fallback: dict[str, Any]) -> dict[str, Any]:
    return {"type": "dynamic", "identifier": expression, "fallback": list(fallback)}


def stage(identifier: str, *approvers: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A stage; `requirements` keys may be given beside the others."""
    names = ("minimumApprovals", "unanimousRequired", "allowSelfApproval", "requireComments", "timeoutMinutes")
    requirements = {key: keys.pop(key) for key in names if key in keys}
    if "condition" in keys:
        keys["type"] = "conditional"
    return {"id": identifier, "approvers": list(approvers), "requirements": requirements, **keys}


def document(
    stages: Iterable[dict[str, Any]],
    *,
    configuration: dict[str, Any] | None = None,
    administrators: Iterable[dict[str, Any]] = (),
    in_place: bool = False,
    two_desks: bool = False,
    extra_transitions: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """
    A definition: `review` runs the chain; `rework` leads back to it; `granted` and `refused` are not final.

    `in_place`: nothing handles `changes_requested`. `two_desks`: a second state `review_again` runs the same chain.
    """
    back = "review_again" if two_desks else "review"
    answer = {"type": "assign", "field": "answer", "value": "event.data"}
    transitions = [
        {"from": "review", "to": "refused", "trigger": "rejected", "actions": [answer]},
        {"from": "review", "to": "granted"},
        {"from": "granted", "trigger": "approved", "actions": [answer]},
        {"from": "rework", "to": back, "trigger": "send_again"},
        {"from": "review", "to": "rework", "trigger": "recall"},
        {"from": "rework", "to": "granted", "trigger": "give_up"},
        {"from": "granted", "to": "done", "trigger": "finish"},
        {"from": "refused", "to": "done", "trigger": "finish"},
        {"from": "refused", "to": "review", "trigger": "appeal"},
        *extra_transitions,
    ]
    if not in_place:
        transitions.append({"from": "review", "to": "rework", "trigger": "changes_requested", "actions": [answer]})
    states: dict[str, Any] = {
        "review": {"type": "initial", "properties": {"approvalChain": "chain"}},
        "rework": {},
        "granted": {},
        "refused": {},
        "done": {"type": "final"},
    }
    if two_desks:
        states["review_again"] = {"properties": {"approvalChain": "chain"}}
        transitions += [
            {"from": "review_again", "to": "refused", "trigger": "rejected"},
            {"from": "review_again", "to": "granted"},
            {"from": "review_again", "to": "rework", "trigger": "changes_requested"},
        ]
    return {
        "name": "office",
        "version": "1.0.0",
        "title": "Office",
        "stateMachine": {"states": states, "transitions": transitions, "initialState": "review"},
        "approvalChains": [{"id": "chain", "steps": list(stages), "configuration": configuration or {}}],
        "access": {"administrators": list(administrators)},
    }


@lru_cache(maxsize=2000)
def _compiled(text: str) -> Chart:
    reading = read(json.loads(text))
    assert reading.definition is not None, reading.findings
    return compile_definition(reading.definition)


def chart_of(definition: dict[str, Any]) -> Chart:
    return _compiled(json.dumps(definition))


class Office:
    """One instance, started by `rita` unless said otherwise."""

    def __init__(self, people: People, definition: dict[str, Any]) -> None:
        self.people = people
        self.simulation = Simulation(chart_of(definition), directory=people)  # type: ignore[arg-type]  # same methods
        #: work items by id: opened, and how they were settled
        self.opened: dict[str, OpenWorkItem] = {}
        self.settled: dict[str, SettleWorkItem] = {}
        self.last: Outcome | Rejection | None = None

    def start(self, requester: str | None = "rita", **data: Any) -> Office:
        answer = self._keep(self.simulation.start(data, user_id(requester) if requester else None))
        assert isinstance(answer, Outcome), answer
        return self

    def decide(self, action: Any, name: str | None, **keys: Any) -> str | None:
        """What an approver does; gives the reason where it is refused."""
        if "to" in keys:
            keys["delegate_to"] = user_id(keys.pop("to"))
        order = RecordDecision(action, **keys)
        answer = self._keep(self.simulation.give(order, user_id(name) if name is not None else None))
        return str(answer.reason) if isinstance(answer, Rejection) else None

    def approve(self, name: str | None, **keys: Any) -> str | None:
        return self.decide("approve", name, **keys)

    def reject(self, name: str | None, **keys: Any) -> str | None:
        return self.decide("reject", name, **keys)

    def request_changes(self, name: str, **keys: Any) -> str | None:
        return self.decide("request_changes", name, **keys)

    def delegate(self, name: str, to: str, **keys: Any) -> str | None:
        return self.decide("delegate", name, to=to, **keys)

    def replace(self) -> str | None:
        """The engine asks others where people have left; gives the reason where that is refused."""
        answer = self._keep(self.simulation.give(ReplaceApprovers(), None))
        return str(answer.reason) if isinstance(answer, Rejection) else None

    def suspend(self) -> str | None:
        answer = self._keep(self.simulation.suspend())
        return str(answer.reason) if isinstance(answer, Rejection) else None

    def resume(self) -> str | None:
        answer = self._keep(self.simulation.resume())
        return str(answer.reason) if isinstance(answer, Rejection) else None

    def retry(self) -> str | None:
        """An operator has the stage with the incident asked again; gives the reason where that is refused."""
        answer = self._keep(self.simulation.resolve("retry"))
        return str(answer.reason) if isinstance(answer, Rejection) else None

    def fire(self, trigger: str, name: str | None = "rita") -> str | None:
        answer = self._keep(self.simulation.fire(trigger, user=user_id(name) if name else None))
        return str(answer.reason) if isinstance(answer, Rejection) else None

    def change(self, **data: Any) -> None:
        answer = self._keep(self.simulation.update(data))
        assert isinstance(answer, Outcome), answer

    def wait(self, minutes: float) -> None:
        before = len(self.simulation.history)
        self.simulation.advance(minutes * MINUTE)
        for recorded in self.simulation.history[before:]:
            self._note_events(recorded.events)

    def _keep(self, answer: Outcome | Rejection) -> Outcome | Rejection:
        self.last = answer
        if isinstance(answer, Outcome):
            for effect in answer.effects:
                if isinstance(effect, OpenWorkItem):
                    assert effect.item.id not in self.opened, "an item is opened once"
                    self.opened[effect.item.id] = effect
                elif isinstance(effect, SettleWorkItem):
                    assert effect.item in self.opened, "an item is settled after it was opened"
                    assert effect.item not in self.settled, "an item is settled once"
                    self.settled[effect.item] = effect
        return answer

    def _note_events(self, events: tuple[Event, ...]) -> None:
        """Timers fire inside the simulation, which hands out no effects; the events say the same."""
        for event in events:
            if isinstance(event, ApprovalRequested):
                assert event.item.id not in self.opened, "an item is opened once"
                self.opened[event.item.id] = OpenWorkItem(
                    event.chain, event.stage, event.visit, event.round, event.item, event.timeout_at
                )
            elif isinstance(event, ApprovalWithdrawn):
                assert event.item in self.opened, "an item is settled after it was opened"
                assert event.item not in self.settled, "an item is settled once"
                self.settled[event.item] = SettleWorkItem(event.item, "withdraw")

    # -- what became of it -----------------------------------------------------------------------------------------

    @property
    def instance(self) -> Instance:
        assert self.simulation.instance is not None
        return self.simulation.instance

    @property
    def state(self) -> str:
        return self.instance.current_state

    @property
    def run(self) -> ChainRun:
        return self.instance.machine.chains[self.state]

    @property
    def stage(self) -> StageRun:
        return self.run.stages[-1]

    @property
    def items(self) -> list[WorkItem]:
        return [item for run in self.instance.machine.chains.values() for each in run.stages for item in each.items]

    @property
    def asked(self) -> list[str]:
        """Who is asked now: usernames, or `role:KEY`, `group:KEY`."""
        return [
            user_name(item.approver) if item.approver_type == "user" else f"{item.approver_type}:{item.approver}"
            for item in self.items
        ]

    @property
    def incidents(self) -> list[str]:
        return [incident.code for incident in self.instance.machine.incidents.values()]

    @property
    def details(self) -> dict[str, Any]:
        assert isinstance(self.last, Rejection)
        return self.last.details

    @property
    def events(self) -> tuple[Event, ...]:
        """The events of the last command."""
        assert isinstance(self.last, Outcome)
        return self.last.events

    def happened(self, kind: type) -> list[Any]:
        """Every event of a kind, in order."""
        return [event for event in self.simulation.events if type(event) is kind]

    @property
    def answer(self) -> dict[str, Any]:
        """The data of the chain's last trigger, as a transition saw it."""
        answer: dict[str, Any] = self.instance.data["answer"]
        return answer


def office(people: People, *stages: dict[str, Any], requester: str | None = "rita", **keys: Any) -> Office:
    """An office whose instance has been started; `data` is its data."""
    data = keys.pop("data", {})
    people.names.setdefault("rita")
    return Office(people, document(stages, **keys)).start(requester, **data)
