"""What authors of definitions do at the command line: check one, run it on a hand-moved clock, draw it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import msgspec

from .documents import read_json, read_option
from .made_up_steps import STEP_ORDERS, MadeUpSteps, give_step_order
from .problems import Problem

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Approver, Chart
    from pliers_workflow.definition.document import WorkflowDefinition
    from pliers_workflow.definition.findings import Finding
    from pliers_workflow.definition.reading import Reading
    from pliers_workflow.interpreter.facts import ScriptAnswer, ScriptRequest
    from pliers_workflow.interpreter.instance import Instance
    from pliers_workflow.interpreter.outcome import Outcome
    from pliers_workflow.interpreter.rejections import Rejection
    from pliers_workflow.interpreter.simulation import SimulatedDirectory, Simulation
    from pliers_workflow.runtime.scripts import ScriptSandbox

_encode = msgspec.json.Encoder(decimal_format="number").encode

_Decision = Literal["approve", "reject", "request_changes", "delegate"]
_DECISIONS = frozenset({"approve", "reject", "request_changes", "delegate"})
_EVENT_KEYS = frozenset({"after", "trigger", "data", "user"})


# -- validate ----------------------------------------------------------------------------------------------------------


def validate(file: str, *, as_json: bool) -> int:
    """Print every finding of a definition that can be known on this machine; 1 when one of them is an error."""
    reading = _read_as_published(read_json(file, "definition"))
    if as_json:
        valid = reading.definition is not None
        print(_encode({"valid": valid, "findings": list(reading.findings)}).decode())
        return 0 if valid else 1
    for finding in reading.findings:
        print(told(finding))
    errors = sum(finding.severity == "error" for finding in reading.findings)
    warnings = len(reading.findings) - errors
    counts = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"
    if reading.definition is None:
        print(f"{file}: not valid: {counts}")
        return 1
    definition = reading.definition
    print(f"{file}: {definition.name} {definition.version} is valid{f' ({counts})' if warnings else ''}")
    return 0


def _read_as_published(document: object) -> Reading:
    """As a server reads what is to be kept, but for plugins, which are those of this machine."""
    from pliers_workflow.definition.reading import Reading
    from pliers_workflow.runtime.catalog import unserved
    from pliers_workflow.runtime.plugins import checking

    reading = unserved.read(document)
    steps = checking.uses(document)
    if not steps:
        return reading
    from pliers_workflow.runtime.plugins.discovery import discover
    from pliers_workflow.settings import Settings

    found = checking.findings_here(steps, discover(Settings().plugins))
    refused = any(finding.severity == "error" for finding in found)
    return Reading(None if refused else reading.definition, (*reading.findings, *found))


def told(finding: Finding) -> str:
    """A finding for people: what, where, why, and what to do."""
    lines = [
        f"{finding.severity:<8}{finding.pointer or '(the whole document)'}  [{finding.code}]",
        f"        {finding.message}",
    ]
    if finding.hint:
        lines.append(f"        {finding.hint}")
    return "\n".join(lines)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _read_definition(file: str, *, only_warn: Collection[str] = ()) -> WorkflowDefinition:
    """A definition without errors other than those in `only_warn`. Raises `Problem` with every finding."""
    from pliers_workflow.definition.reading import read

    reading = read(read_json(file, "definition"), only_warn=only_warn)
    if reading.definition is None:
        findings = "\n".join(told(finding) for finding in reading.findings)
        raise Problem(f"{file} is not a valid definition:\n{findings}")
    for finding in reading.findings:
        if finding.code in only_warn:
            print(told(finding), file=sys.stderr)
    return reading.definition


# -- diagram -----------------------------------------------------------------------------------------------------------


def diagram(file: str) -> int:
    """Print a definition's statechart in Mermaid."""
    from pliers_workflow.definition.diagram import mermaid

    print(mermaid(_read_definition(file)))
    return 0


# -- simulate ----------------------------------------------------------------------------------------------------------


class _Event(msgspec.Struct, frozen=True):
    """One line of the list of events."""

    trigger: str
    after: float = 0
    data: Any = None
    user: str | None = None


def simulate(definition: str, events: str, *, data: str, user: str, directory: str, steps: str = "") -> int:
    """
    Run a definition: a line of JSON after the start and after each event. 1 when it cannot even start.

    What SCXML allows runs, even where publishing would refuse it; the findings go to standard error.
    """
    from pliers_workflow.definition.compiler import compile_definition
    from pliers_workflow.definition.findings import RUNNABLE
    from pliers_workflow.interpreter.simulation import Simulation

    document = _read_definition(definition, only_warn=RUNNABLE)
    start_data = read_option(data, "--data")
    if not isinstance(start_data, Mapping):
        raise Problem("--data must be a JSON object")
    listed = _read_events(events)
    user = user or next((one.user for one in listed if one.user and one.trigger not in _DECISIONS), "requester")
    chart = compile_definition(document)
    people = _people(chart, user, listed, read_option(directory, "--directory") if directory else {})
    made_up = MadeUpSteps(read_option(steps, "--steps") if steps else {})
    with _Scripts() as scripts:
        simulation = Simulation(chart, document, directory=people, run_script=scripts.run, run_step=made_up.run)
        answer: Outcome | Rejection | None = simulation.start(dict(start_data), user)
        _print_line(simulation, 0, answer)
        if simulation.instance is None:
            return 1
        for number, event in enumerate(listed, start=1):
            known = len(simulation.history)
            try:
                if event.after:
                    simulation.advance(event.after)
                answer = _give(simulation, event) if event.trigger else None
            except RuntimeError as error:
                raise Problem(f"event {number}: {error}", status=1) from None
            _print_line(simulation, known, answer)
    return 0


def _read_events(name: str) -> list[_Event]:
    listed = read_json(name, "list of events")
    if not isinstance(listed, list):
        raise Problem(f'{name} must be a JSON list of {{"after"?: ms, "trigger": name, "data"?: {{}}, "user"?: id}}')
    events = []
    for number, item in enumerate(listed, start=1):
        where = f"{name}, event {number}"
        if not isinstance(item, Mapping) or not isinstance(item.get("trigger"), str):
            raise Problem(f'{where}: an event is an object with a "trigger", which may be "" to let time pass')
        if unknown := sorted(item.keys() - _EVENT_KEYS):
            raise Problem(f"{where}: {', '.join(unknown)} is not known here; there are after, trigger, data and user")
        after = item.get("after") or 0
        if isinstance(after, bool) or not isinstance(after, (int, Decimal)) or not 0 <= after <= 10**13:
            raise Problem(f'{where}: "after" is a number of milliseconds, not below 0')
        user = item.get("user")
        if user is not None and not isinstance(user, str):
            raise Problem(f'{where}: "user" is the id of a user, or null for the engine')
        events.append(_Event(item["trigger"], float(after), item.get("data"), user))
    return events


def _give(simulation: Simulation, event: _Event) -> Outcome | Rejection:
    """One event: a decision if a stage is open and the chart has no such trigger, else the trigger."""
    instance = simulation.instance
    assert instance is not None
    if event.trigger in STEP_ORDERS and simulation.chart.steps and not _takes(simulation.chart, event.trigger):
        return give_step_order(simulation, event.trigger, event.data if isinstance(event.data, Mapping) else {})
    if event.trigger not in _DECISIONS or _takes(simulation.chart, event.trigger) or not _asking(instance):
        return simulation.fire(event.trigger, event.data, event.user)
    data = dict(event.data) if isinstance(event.data, Mapping) else {}
    return simulation.decide(
        cast("_Decision", event.trigger),
        event.user if event.user is not None else _somebody_asked(instance),
        stage=_text(data.get("stage")),
        item=_text(data.get("item")),
        comments=_text(data.get("comments")),
        data=data,
        delegate_to=_text(data.get("to") or data.get("delegate_to")),
    )


def _takes(chart: Chart, trigger: str) -> bool:
    return any(trigger in transition.triggers for transition in chart.transitions)


def _asking(instance: Instance) -> bool:
    return any(stage.status == "asking" for chain in instance.machine.chains.values() for stage in chain.stages)


def _somebody_asked(instance: Instance) -> str:
    """Who decides where the event names nobody: the first of those asked who has not decided yet."""
    for chain in instance.machine.chains.values():
        for stage in chain.stages:
            if stage.status != "asking":
                continue
            voted = {vote.user for vote in stage.votes}
            for item in stage.items:
                people = item.eligible or (item.approver,)
                for person in people:
                    if person not in voted and person != instance.requester:
                        return person
    return instance.requester or "somebody"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class _Scripts:
    """Runs script conditions in the sandbox of the engine, which is started when the first one comes."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._sandbox: ScriptSandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sandbox is not None:
            self._runner.run(self._sandbox.close())
        self._runner.close()

    def run(self, request: ScriptRequest) -> ScriptAnswer:
        """The sandbox's answer."""
        from pliers_workflow.runtime.scripts import ScriptSandbox

        if self._sandbox is None:
            self._sandbox = ScriptSandbox(processes=1)
        return self._runner.run(self._sandbox.run(request))


def _print_line(simulation: Simulation, known: int, answer: Outcome | Rejection | None) -> None:
    """What the instance has come to; `events` are all since the line before, those of timers that fired too."""
    from pliers_workflow.interpreter.rejections import Rejection

    instance = simulation.instance
    line: dict[str, Any] = {
        "configuration": simulation.configuration,
        "status": None if instance is None else instance.status,
        "data": {} if instance is None else instance.data,
        "events": [event for recorded in simulation.history[known:] for event in recorded.events],
    }
    if isinstance(answer, Rejection):
        line["rejected"] = {"reason": answer.reason, "message": answer.message, "details": answer.details}
    sys.stdout.write(_encode(line).decode() + "\n")
    sys.stdout.flush()


# -- the people of a simulation ----------------------------------------------------------------------------------------


def _people(chart: Chart, starter: str, events: Sequence[_Event], given: Any) -> SimulatedDirectory:
    """
    Everybody named in the events exists and holds every role the definition knows, unless `given` says otherwise.

    A role whose stage needs more people than are named is topped up with made-up ones, called after its key.
    """
    from pliers_workflow.interpreter.facts import User
    from pliers_workflow.interpreter.simulation import SimulatedDirectory, named_keys

    if not isinstance(given, Mapping) or given.keys() - {"users", "roles", "groups"}:
        raise Problem('--directory is an object with "users", "roles" and "groups"')
    users: dict[str, User] = {}
    try:
        for entry in given.get("users", []):
            fields = {"username": entry} if isinstance(entry, str) else dict(entry)
            user = msgspec.convert({"id": fields["username"], **fields}, User)
            users[user.id] = user
        members = {
            kind: {key: list(names) for key, names in given.get(f"{kind}s", {}).items()} for kind in ("role", "group")
        }
    except (msgspec.ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Problem(f"--directory cannot be read: {error}") from None
    named = list(dict.fromkeys([starter, *(event.user for event in events if event.user is not None), *users]))
    for kind, keys in zip(("role", "group"), named_keys(chart), strict=True):
        for key in keys:
            made_up = [key, *(f"{key}.{number}" for number in range(2, 10_001))]
            needed = _quorum(chart, kind, key)
            others = sum(name != starter for name in named)
            members[kind].setdefault(key, [*named, *made_up[: max(0, needed - others)]])
    for kind in ("role", "group"):
        for key, names in members[kind].items():
            for name in names:
                user = users.get(name) or User(id=name, username=name, name=name)
                held = {f"{kind}s": tuple(sorted({*getattr(user, f"{kind}s"), key}))}
                users[name] = msgspec.structs.replace(user, **held)
    return SimulatedDirectory(users, roles=members["role"], groups=members["group"])


def _quorum(chart: Chart, kind: str, key: str) -> int:
    """How many different people of a role or group its stages need at most; at least one."""

    def names(approvers: Sequence[Approver]) -> bool:
        return any((one.type == kind and one.identifier == key) or names(one.fallback) for one in approvers)

    stages = [stage for chain in chart.chains.values() for stage in chain.stages if names(stage.approvers)]
    return max((stage.approvals_min or 1 for stage in stages), default=1)
