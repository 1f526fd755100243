"""Try a definition without a database: the same interpreter on a clock that is moved by hand.

Nothing here is a second engine. A simulation keeps one instance, gives it commands, answers the facts they need from a
directory made up on the spot, and lets timers fire when its clock passes them, each at its own instant. Before it hands
out an outcome it folds the events over the instance before, so that whoever simulates also tests that law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from .commands import (
    Actor,
    CancelInstance,
    Command,
    FireTimer,
    FireTrigger,
    Order,
    RecordDecision,
    ResumeInstance,
    StartInstance,
    SuspendInstance,
    UpdateData,
)
from .facts import Members, Needs, ScriptAnswer, User
from .folding import fold
from .interpret import BUDGET_STEPS, interpret
from .outcome import Outcome, Overrun
from .rejections import Reason, Rejection

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Approver, Chart
    from pliers_workflow.definition.document import WorkflowDefinition

    from .events import Event
    from .facts import Fact, ScriptRequest
    from .instance import Instance, Timer

#: The clock's first reading, where none is given.
START = datetime(2026, 1, 1, tzinfo=UTC)
#: Rounds of missing facts before we give up: directory, substitutes, scripts.
ROUNDS_MAX = 20
#: Timers that one `advance` lets fire; a chart that needs more would never let the clock arrive.
FIRINGS_MAX = 100_000
#: The budget of a command that overran the ordinary one.
BUDGET_STEPS_ALONE = 5_000_000


class SimulatedDirectory:
    """
    People as a simulation needs them: whoever is named exists, and holds every role that the definition knows.

    The members of a role or group are those given here, else everyone named so far and one made-up member that bears
    the key's name. A user's id is the username.

    >>> directory = SimulatedDirectory(roles={"auditor": ["dora"]})
    >>> directory.fact("user:ada").username, directory.fact("role:auditor").users, directory.fact("role:manager").users
    ('ada', ('dora',), ('ada', 'manager'))
    """

    def __init__(
        self,
        users: Mapping[str, User] | None = None,
        *,
        roles: Mapping[str, Sequence[str]] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        known_roles: Sequence[str] = (),
        known_groups: Sequence[str] = (),
    ) -> None:
        self.users = dict(users or {})
        self._members = {
            "role": {key: tuple(sorted(names)) for key, names in (roles or {}).items()},
            "group": {key: tuple(sorted(names)) for key, names in (groups or {}).items()},
        }
        self._known = {"role": set(known_roles), "group": set(known_groups)}
        self._named: set[str] = set()

    def fact(self, key: str) -> Fact:
        """The answer to a directory fact, keyed as in `interpreter.facts`."""
        kind, _, name = key.partition(":")
        if kind == "user":
            return self._user(name)
        if kind == "username":
            return next((user.id for user in self.users.values() if user.username == name), self._user(name).id)
        return Members(self._members_of(kind, name))

    def meet(self, user: str | None) -> None:
        """Someone is named: from now on they stand behind every role without members of its own."""
        if user is not None:
            self._named.add(user)

    def _members_of(self, kind: str, key: str) -> tuple[str, ...]:
        self._known[kind].add(key)
        given = self._members[kind].get(key)
        return given if given is not None else tuple(sorted(self._named | {key}))

    def _user(self, name: str) -> User:
        self.meet(name)
        user = self.users.get(name)
        if user is not None:
            return user
        return User(id=name, username=name, name=name, roles=self._held("role", name), groups=self._held("group", name))

    def _held(self, kind: str, name: str) -> tuple[str, ...]:
        """What a made-up user holds: all that is known and has no members, or has this one."""
        members = self._members[kind]
        keys = self._known[kind] | members.keys()
        return tuple(sorted(key for key in keys if key not in members or name in members[key]))


@dataclass(slots=True, frozen=True)
class Recorded:
    """One accepted command of a simulation: what would be a history row."""

    seq: int
    at: datetime
    command: Command
    events: tuple[Event, ...]
    facts: Mapping[str, Fact]


class Simulation:
    """One instance on a hand-moved clock. Every order answers with the `Outcome` or the `Rejection`."""

    def __init__(
        self,
        chart: Chart,
        definition: WorkflowDefinition | None = None,
        directory: SimulatedDirectory | None = None,
        start: datetime = START,
        *,
        run_script: Callable[[ScriptRequest], ScriptAnswer] | None = None,
        instance_id: str = "simulated",
    ) -> None:
        """`start` is the clock's first reading; `run_script` runs script conditions, which fail without it."""
        self.chart = chart
        self.definition = definition
        if directory is None:
            roles, groups = named_keys(chart)
            directory = SimulatedDirectory(known_roles=roles, known_groups=groups)
        self.directory = directory
        self.now = start
        self.instance: Instance | None = None
        #: accepted commands, in order
        self.history: list[Recorded] = []
        self._run_script = run_script
        self._instance_id = instance_id

    @property
    def configuration(self) -> list[str]:
        """Ids of the active atomic states, in document order."""
        if self.instance is None:
            return []
        states = [self.chart.by_id[each] for each in self.instance.configuration]
        return [each.id for each in states if each.kind in ("atomic", "final")]

    @property
    def events(self) -> list[Event]:
        """Everything that happened, in order."""
        return [event for recorded in self.history for event in recorded.events]

    def start(
        self,
        data: Mapping[str, Any] | None = None,
        user: str | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        requester: str | None = None,
        submission: Mapping[str, Any] | None = None,
    ) -> Outcome | Rejection:
        """Start the instance; `user` None is the engine."""
        order = StartInstance(
            instance_id=self._instance_id,
            definition_id=self.chart.name,
            data=dict(data or {}),
            context=dict(context or {}),
            requester=requester,
            submission=dict(submission or {}),
        )
        return self.give(order, user)

    def fire(
        self, trigger: str, data: Any = None, user: str | None = None, *, target: str | None = None
    ) -> Outcome | Rejection:
        """Fire a trigger from outside."""
        return self.give(FireTrigger(trigger, data, target), user)

    def decide(
        self,
        action: Literal["approve", "reject", "request_changes", "delegate"],
        user: str,
        *,
        stage: str | None = None,
        item: str | None = None,
        comments: str | None = None,
        data: Mapping[str, Any] | None = None,
        delegate_to: str | None = None,
    ) -> Outcome | Rejection:
        """Decide as an approver."""
        order = RecordDecision(action, stage, item, comments, data=dict(data or {}), delegate_to=delegate_to)
        return self.give(order, user)

    def update(self, patch: Mapping[str, Any], user: str | None = None) -> Outcome | Rejection:
        """Merge a patch into the data."""
        return self.give(UpdateData(patch=dict(patch)), user)

    def suspend(self) -> Outcome | Rejection:
        """Suspend, as an operator."""
        return self.give(SuspendInstance(), None)

    def resume(self) -> Outcome | Rejection:
        """Resume, as an operator."""
        return self.give(ResumeInstance(), None)

    def cancel(self, user: str | None = None) -> Outcome | Rejection:
        """Cancel."""
        return self.give(CancelInstance(), user)

    def advance(self, milliseconds: float) -> list[Timer]:
        """Move the clock on; what becomes due on the way fires, each at its own instant. Answers what fired."""
        until = self.now + timedelta(milliseconds=milliseconds)
        fired: list[Timer] = []
        while (timer := self._next_timer(until)) is not None:
            assert timer.due_at is not None
            if len(fired) >= FIRINGS_MAX:
                raise RuntimeError(f"{FIRINGS_MAX} timers fired and the clock has not arrived: the chart has no end")
            self.now = max(self.now, timer.due_at)
            answer = self.give(FireTimer(timer.id), None)
            assert isinstance(answer, Outcome), answer
            fired.append(timer)
        self.now = until
        return fired

    def give(self, order: Order, user: str | None, permissions: tuple[str, ...] = ()) -> Outcome | Rejection:
        """Interpret any order, with whatever facts it needs, and keep what it comes to."""
        directory = self.directory
        directory.meet(user)
        command = Command(id=f"command/{len(self.history) + 1}", actor=Actor(user, permissions), order=order)
        facts: dict[str, Fact] = {}
        budget_steps = BUDGET_STEPS
        for _ in range(ROUNDS_MAX):
            answer = interpret(self.chart, self.instance, command, facts, self.now, budget_steps=budget_steps)
            if isinstance(answer, Needs):
                facts.update({key: directory.fact(key) for key in answer.keys})
                facts.update({script.key: self._script(script) for script in answer.scripts})
            elif isinstance(answer, Overrun):
                if budget_steps == BUDGET_STEPS_ALONE:
                    reason = Reason.BUDGET_EXCEEDED
                    return Rejection(reason, reason.message, {"steps": answer.steps})
                budget_steps = BUDGET_STEPS_ALONE
            else:
                if isinstance(answer, Outcome):
                    self._keep(command, answer)
                return answer
        raise RuntimeError(f"facts were still missing after {ROUNDS_MAX} rounds")

    def _keep(self, command: Command, outcome: Outcome) -> None:
        instance = outcome.instance
        at, seq = instance.last_activity_at, instance.revision
        folded = fold(self.instance, outcome.events, seq=seq, at=at, instance_id=self._instance_id)
        assert folded == instance, "folding the events does not give the instance"
        self.instance = instance
        self.history.append(Recorded(seq, at, command, outcome.events, outcome.facts))

    def _script(self, request: ScriptRequest) -> ScriptAnswer:
        if self._run_script is None:
            return ScriptAnswer(error="script conditions are not run in this simulation")
        return self._run_script(request)

    def _next_timer(self, until: datetime) -> Timer | None:
        if self.instance is None or self.instance.status.ended:
            return None
        due = [
            (timer.due_at, int(timer.id.rpartition("/")[2]), timer)
            for timer in self.instance.machine.timers.values()
            if timer.due_at is not None and timer.due_at <= until
        ]
        return min(due, key=lambda each: each[:2])[2] if due else None


def named_keys(chart: Chart) -> tuple[list[str], list[str]]:
    """Role and group keys that a chart names, in access lists and as approvers."""
    keys: dict[str, set[str]] = {"role": set(), "group": set()}
    lists = [chart.start_access, chart.view_access, chart.advance_access, chart.cancel_access]
    lists += [each.access for each in chart.transitions if each.access is not None]
    lists += [each.editable_by for each in chart.states if each.editable_by is not None]
    for subject in {subject for subjects in lists for subject in subjects}:
        kind, _, key = subject.partition(":")
        if kind in keys:
            keys[kind].add(key)

    def visit(approvers: Sequence[Approver]) -> None:
        for approver in approvers:
            if approver.type in keys:
                keys[approver.type].add(approver.identifier)
            visit(approver.fallback)

    visit(chart.administrators)
    for chain in chart.chains.values():
        for stage in chain.stages:
            visit(stage.approvers)
    return sorted(keys["role"]), sorted(keys["group"])
