"""Try a definition without a database: the same interpreter on a clock that is moved by hand.

Nothing here is a second engine. A simulation keeps one instance, gives it commands, answers the facts they need from a
directory made up on the spot, and lets timers fire when its clock passes them, each at its own instant. Steps that are
done outside are left to a hook, or stand in `jobs` until they are completed by hand. Before it hands out an outcome it
folds the events over the instance before, so that whoever simulates also tests that law.
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
    CompleteStep,
    DeliverEvent,
    FailStep,
    FireTimer,
    FireTrigger,
    InboundEvent,
    Order,
    RecordDecision,
    ResolveIncident,
    ResumeInstance,
    StartInstance,
    SuspendInstance,
    UpdateData,
)
from .effects import AwaitEvent, CancelStep, ScheduleStep, SendOrder, StartChild, StopAwaiting
from .facts import Members, Needs, ScriptAnswer, User
from .folding import fold
from .interpret import BUDGET_STEPS, interpret, is_unattended
from .outcome import Outcome, Overrun
from .rejections import Reason, Rejection

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Approver, Chart
    from pliers_workflow.definition.document import WorkflowDefinition

    from .events import Event
    from .facts import Fact, ScriptRequest
    from .instance import Instance, Timer
    from .step_runs import StepRun

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
class StepAnswer:
    """What came of a step that was done outside: an output, or the code of a failure."""

    output: Any = None
    code: str | None = None
    message: str = "made up"
    retryable: bool = True


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
        run_step: Callable[[ScheduleStep], StepAnswer | None] | None = None,
        instance_id: str = "simulated",
    ) -> None:
        """
        `start` is the clock's first reading; `run_script` runs script conditions, which fail without it.

        `run_step` does what steps leave to workers, as soon as it is due; where it gives None, or is not there, the step
        waits in `jobs` for `complete` or `fail`.
        """
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
        #: steps left to workers and not settled, by run
        self.jobs: dict[str, ScheduleStep] = {}
        #: orders for other instances, and the starts of sub-workflows, as they were left
        self.orders: list[SendOrder | StartChild] = []
        #: events awaited, by run
        self.awaited: dict[str, AwaitEvent] = {}
        self._run_script = run_script
        self._run_step = run_step
        #: runs whose job the hook has left for somebody else
        self._left: set[str] = set()
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

    def complete(self, step: str, output: Any = None) -> Outcome | Rejection:
        """Complete the attempt at work of a step, by its id or its run."""
        run = self.run_of(step)
        return self.give(CompleteStep(run.id, run.attempt, output), None)

    def fail(
        self, step: str, code: str = "FAILED", *, message: str = "made up", retryable: bool = True
    ) -> Outcome | Rejection:
        """Fail the attempt at work of a step, by its id or its run."""
        run = self.run_of(step)
        return self.give(FailStep(run.id, run.attempt, code, message, retryable), None)

    def deliver(
        self, event_type: str, data: Any = None, *, action: Any = "receive", **rest: Any
    ) -> Outcome | Rejection:
        """Let an event from outside reach the instance."""
        event = InboundEvent(f"event/{len(self.history) + 1}", "simulation", event_type, time=self.now, data=data)
        return self.give(DeliverEvent(event, action, **rest), None)

    def resolve(
        self, action: Literal["retry", "skip", "give_up"], incident: str | None = None, **rest: Any
    ) -> Outcome | Rejection:
        """Resolve an incident as an operator: the only one, where none is named."""
        if incident is None:
            assert self.instance is not None
            (incident,) = self.instance.machine.incidents
        return self.give(ResolveIncident(incident, action, "because", **rest), None)

    def run_of(self, step: str) -> StepRun:
        """The run at work of this id, or the first one of a step of this id."""
        assert self.instance is not None
        runs = self.instance.machine.steps.values()
        return next(run for run in runs if step in (run.id, run.step_id))

    def advance(self, milliseconds: float) -> list[Timer]:
        """Move the clock on; what becomes due on the way fires, each at its own instant. Answers what fired."""
        until = self.now + timedelta(milliseconds=milliseconds)
        fired: list[Timer] = []
        while True:
            timer, job = self._next_timer(until), self._next_job(until)
            if timer is not None and (job is None or (timer.due_at or until) <= job.due_at):
                assert timer.due_at is not None
                if len(fired) >= FIRINGS_MAX:
                    raise RuntimeError(f"{FIRINGS_MAX} timers fired and the clock has not arrived: no end is in sight")
                self.now = max(self.now, timer.due_at)
                answer = self.give(FireTimer(timer.id), None)
                assert isinstance(answer, Outcome), answer
                fired.append(timer)
            elif job is not None:
                self.now = max(self.now, job.due_at)
                self._work()
            else:
                break
        self.now = until
        return fired

    def give(self, order: Order, user: str | None, permissions: tuple[str, ...] = ()) -> Outcome | Rejection:
        """Interpret any order, with whatever facts it needs, keep what it comes to, and let the steps that are due run."""
        answer = self._give(order, user, permissions)
        if self.jobs:
            self._work()
        return answer

    def _give(self, order: Order, user: str | None, permissions: tuple[str, ...]) -> Outcome | Rejection:
        directory = self.directory
        directory.meet(user)
        command = Command(id=f"command/{len(self.history) + 1}", actor=Actor(user, permissions), order=order)
        facts: dict[str, Fact] = {}
        budget_steps = BUDGET_STEPS
        refused: Rejection | None = None
        for _ in range(ROUNDS_MAX):
            answer = interpret(
                self.chart, self.instance, command, facts, self.now, budget_steps=budget_steps, refused=refused
            )
            if isinstance(answer, Needs):
                facts.update({key: directory.fact(key) for key in answer.keys})
                facts.update({script.key: self._script(script) for script in answer.scripts})
            elif isinstance(answer, Overrun):
                if budget_steps == BUDGET_STEPS_ALONE:
                    reason = Reason.BUDGET_EXCEEDED
                    rejection = Rejection(reason, reason.message, {"steps": answer.steps})
                    if refused is not None or not is_unattended(order):
                        return rejection
                    refused = rejection
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
        for effect in outcome.effects:
            match effect:
                case ScheduleStep(step=run):
                    self.jobs[run] = effect
                    self._left.discard(run)
                case CancelStep(step=run):
                    self.jobs.pop(run, None)
                case AwaitEvent(step=run):
                    self.awaited[run] = effect
                case StopAwaiting(step=run):
                    self.awaited.pop(run, None)
                case SendOrder() | StartChild():
                    self.orders.append(effect)
        self.history.append(Recorded(seq, at, command, outcome.events, outcome.facts))

    def _work(self) -> None:
        """Let the hook do the steps that are due."""
        for _ in range(FIRINGS_MAX):
            job = self._next_job(self.now)
            if job is None:
                return
            assert self._run_step is not None
            answer = self._run_step(job)
            if answer is None:
                self._left.add(job.step)
                continue
            result: Order = CompleteStep(job.step, job.attempt, answer.output)
            if answer.code is not None:
                result = FailStep(job.step, job.attempt, answer.code, answer.message, answer.retryable)
            if isinstance(self._give(result, None, ()), Rejection):
                self._left.add(job.step)
        raise RuntimeError(f"{FIRINGS_MAX} steps were done at one instant: no end is in sight")

    def _next_job(self, until: datetime) -> ScheduleStep | None:
        if self._run_step is None:
            return None
        due = [job for job in self.jobs.values() if job.due_at <= until and job.step not in self._left]
        return min(due, key=lambda job: (job.due_at, int(job.step[5:])), default=None)

    def _script(self, request: ScriptRequest) -> ScriptAnswer:
        if self._run_script is None:
            return ScriptAnswer(error="script conditions are not run in this simulation")
        return self._run_script(request)

    def _next_timer(self, until: datetime) -> Timer | None:
        if self.instance is None or self.instance.ended:
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
