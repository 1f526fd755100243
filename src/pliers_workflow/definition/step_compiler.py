"""Compile steps: names replaced by what they name, each step in its place, and what its output is needed for.

Outputs cost room in the instance, so a step's is kept only where some expression reads it (`steps.fetch`), and handed
up only where what it stands in needs it. Both can be said from the document alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from . import chart as c
from . import document as d
from . import step_chart as s
from .data import data_path
from .listening import event_key_id
from .templates import split_template

if TYPE_CHECKING:
    from .compiler import Compiler

#: Steps whose failure may be another's fault, so that another attempt may help.
RETRYABLE: Final = frozenset({"plugin", "http", "script", "notification", "external"})


class StepCompiler:
    """Compiles the steps of one definition; `steps` holds all of them by path."""

    def __init__(self, compiler: Compiler, chains: Mapping[str, c.Chain], retry_attempts: int) -> None:
        self._compiler = compiler
        self._named = compiler.definition.steps
        self._timeouts = compiler.definition.timeout_config.step_timeouts
        self._chains = chains
        self._retry_attempts = retry_attempts
        self._roots: list[s.Step] = []
        #: what stands first in the paths of the steps being compiled: a state's id
        self._base = ""
        self.steps: dict[str, s.Step] = {}

    def of_state(self, state: str, listed: tuple[str | d.Step, ...]) -> s.Step | None:
        """The steps of a state, as one; None where it has none."""
        self._base = state
        root = self._row(listed, state, ())
        if root is not None:
            self._roots.append(root)
        return root

    def named(self, name: str) -> s.Step:
        """A named step as an event runs it, beside those of the states."""
        self._base = "/" + name
        root = self._step(name, "/" + name, ())
        self._roots.append(root)
        return root

    def finish(self, reads: Iterable[tuple[str, ...]]) -> None:
        """Say what is kept and handed up, now that it is known what the chart's expressions read."""
        seen = [path[1:] for path in reads if path[0] == "steps"]
        ids = {path[0] for path in seen if path}
        everything = any(not path for path in seen)
        for step in self.steps.values():
            step.kept = everything or step.id in ids
        for root in self._roots:
            self._demand(root)
        for step in self.steps.values():
            if step.compensation is not None:
                self._demand(step.compensation)

    # -- places ----------------------------------------------------------------------------------------------------

    def _row(
        self, listed: tuple[str | d.Step, ...], place: str, ancestors: tuple[s.Step, ...], alone: bool = True
    ) -> s.Step | None:
        """Steps in a row, as one; a single one stands for itself."""
        if not listed:
            return None
        if len(listed) == 1 and alone:
            return self._step(listed[0], f"{place}/0", ancestors)
        path = f"{place}/"
        row = s.Sequential(())
        step = s.Step(path=path, id=path, name="", type="sequential", work=row, ancestors=ancestors)
        self._add(step)
        row.steps = self._list(listed, place, (step, *ancestors))
        return step

    def _list(self, listed: tuple[str | d.Step, ...], place: str, ancestors: tuple[s.Step, ...]) -> tuple[s.Step, ...]:
        return tuple([self._step(each, f"{place}/{position}", ancestors) for position, each in enumerate(listed)])

    def _add(self, step: s.Step) -> None:
        assert step.path not in self.steps, step.path
        self.steps[step.path] = step

    def _step(self, given: str | d.Step, place: str, ancestors: tuple[s.Step, ...], id: str | None = None) -> s.Step:
        """One step; `place` is its path where neither it nor its name says what it is called."""
        if isinstance(given, str):
            id = id or given
            given = self._named[given]
        id = given.id or id
        path = place if id is None else f"{self._base}/{id}"
        compiler = self._compiler
        condition = None if isinstance(given, d.ConditionalExecution) else given.condition
        minutes = given.timeout_minutes or self._timeouts.get(id or "")
        step = s.Step(
            path=path,
            id=id or path,
            name=given.name or id or given.type,
            type=given.type,
            # What it is, `_work` says below; steps inside need this one first, and ask whether it will be undone.
            work=s.Sequential((), rollback=isinstance(given, d.SequentialExecution) and given.rollback_on_failure),
            ancestors=ancestors,
            condition=compiler.guard(condition),
            timeout_ms=None if minutes is None else compiler.milliseconds(minutes),
            retry=self._retry(given),
            continue_on_error=given.continue_on_error,
            inputs=self._mapping(getattr(given, "input_mapping", {})),
            outputs=tuple([self._assign(path_, source) for path_, source in given.output_mapping.items()]),
        )
        self._add(step)
        step.work = self._work(given, step)
        within = [each for each in ancestors if isinstance(each.work, s.Sequential) and each.work.rollback]
        if given.compensation is not None:
            # A branch may be called `undo`, and none `-undo`.
            taken = isinstance(given, d.ParallelExecution) and any(each.id == "undo" for each in given.branches)
            beside = f"{path}/-undo" if taken else f"{path}/undo"
            undo = self._step(given.compensation, beside, ancestors, f"{id}-undo" if id else None)
            step.compensation = undo
            step.undoable = bool(within)
        step.forgets = isinstance(step.work, s.Sequential) and step.work.rollback and not within
        return step

    # -- what steps do -----------------------------------------------------------------------------------------------

    def _work(self, given: d.Step, step: s.Step) -> s.Work:
        compiler = self._compiler
        inner = (step, *step.ancestors)
        match given:
            case d.SequentialExecution():
                return s.Sequential(self._list(given.steps, step.path, inner), given.rollback_on_failure)
            case d.ParallelExecution():
                branches = tuple([self._branch(branch, step) for branch in given.branches])
                done = given.completion_condition
                expression = None if done is None else compiler.expression(done)
                return s.Parallel(branches, given.wait_strategy, given.failure_strategy, expression)
            case d.ConditionalExecution():
                return s.Conditional(
                    condition=compiler.guard(given.condition),
                    when_true=self._way(given.true_branch, f"{step.path}/true", inner),
                    when_false=self._way(given.false_branch, f"{step.path}/false", inner),
                    when_error=self._way(given.default_branch, f"{step.path}/default", inner),
                    has_default=given.default_branch is not None,
                )
            case d.ForEachExecution():
                each = self._row(given.steps, f"{step.path}/each", inner)
                assert each is not None
                items = compiler.expression(given.items)
                return s.ForEach(items, given.item_name, given.index_name, given.max_concurrency, each)
            case d.AssignStep():
                return s.SetFields(tuple([self._assign(path, source) for path, source in given.assignments.items()]))
            case d.WaitStep():
                after = given.duration_minutes
                by_expression = compiler.expression(after) if isinstance(after, str) else None
                after_ms = compiler.milliseconds(after) if isinstance(after, int | float) else None
                until = None if given.until is None else compiler.expression(given.until)
                return s.Wait(after_ms, by_expression, until)
            case d.EmitStep():
                subject = None if given.subject is None else compiler.expression(given.subject)
                return s.Emit(given.event_type, subject, compiler.payload(given.data))
            case d.ReceiveStep():
                return s.Receive(
                    given.event_type, compiler.expression(given.correlation_key), event_key_id(given.event_key)
                )
            case d.ApprovalTask():
                return s.Ask(self._chains[given.chain_id])
            case d.SubWorkflowStep():
                workflow = self._text(given.workflow_id)
                return s.Child(workflow, given.version, given.wait_for_completion, given.failure_handling)
        return replace(self._outside(given), priority=given.priority)

    def _way(self, way: d.ExecutionPath | None, place: str, ancestors: tuple[s.Step, ...]) -> s.Step | None:
        return None if way is None else self._row(way.steps, place, ancestors)

    def _branch(self, branch: d.ExecutionBranch, step: s.Step) -> s.Branch:
        minutes = branch.timeout_minutes
        # What has a time of its own is a step of its own, were it around a single one.
        row = self._row(branch.steps, f"{step.path}/{branch.id}", (step, *step.ancestors), alone=minutes is None)
        assert row is not None
        if minutes is not None:
            row.timeout_ms = self._compiler.milliseconds(minutes)
        return s.Branch(branch.id, self._compiler.guard(branch.condition), branch.weight, row)

    def _outside(
        self, given: d.PluginStep | d.HttpStep | d.ScriptStep | d.NotificationStep | d.ExternalStep
    ) -> s.Outside:
        match given:
            case d.PluginStep():
                return s.Outside(f"plugin:{given.plugin_id}", given.configuration)
            case d.ScriptStep():
                return s.Outside("script", {"script": given.script})
            case d.ExternalStep():
                return s.Outside(f"external:{given.topic}", {"topic": given.topic}, external=True)
            case d.HttpStep():
                configuration: dict[str, Any] = {
                    "method": given.method,
                    "url": self._text(given.url, encoded=True),
                    "headers": {name: self._text(text) for name, text in given.headers.items()},
                    "expectedStatus": list(given.expected_status) if given.expected_status else None,
                }
                if given.body is not None:
                    configuration["body"] = self._compiler.payload(given.body)
                return s.Outside("http", configuration)
            case d.NotificationStep():
                configuration = {
                    "template": self._text(given.template),
                    "recipients": [self._text(each) for each in given.recipients],
                    "channels": list(given.channels),
                    "variables": self._mapping(given.variables),
                }
                return s.Outside("notification", configuration)

    def _retry(self, given: d.Step) -> s.Retry | None:
        policy = given.retry_policy or d.RetryPolicy()
        if given.type not in RETRYABLE and not (
            isinstance(given, d.SubWorkflowStep) and given.failure_handling == "retry"
        ):
            return None
        return s.Retry(
            attempts_max=policy.max_attempts or self._retry_attempts,
            delay_ms=round(policy.initial_delay_seconds * 1000),
            multiplier=policy.backoff_multiplier,
            delay_max_ms=round(policy.max_delay_seconds * 1000),
            jitter=policy.jitter,
            codes=None if policy.retry_on is None else frozenset(policy.retry_on),
            excluded=frozenset(policy.do_not_retry_on),
        )

    def _mapping(self, mapping: Mapping[str, str]) -> dict[str, Any]:
        return {name: self._compiler.expression(source) for name, source in mapping.items()}

    def _assign(self, path: str, source: str) -> c.Assign:
        root, names = data_path(path)
        return c.Assign(root, names, self._compiler.expression(source))

    def _text(self, template: str, encoded: bool = False) -> s.Text:
        pieces = [
            self._compiler.expression(piece) if number % 2 else piece
            for number, (_, piece) in enumerate(split_template(template))
        ]
        return s.Text(tuple([piece for piece in pieces if piece != ""]), encoded)

    # -- what outputs are needed for -----------------------------------------------------------------------------------

    def _demand(self, step: s.Step) -> None:
        """What is inside a step gives its output up, where the step's own is needed; the step's own is decided already."""
        wanted = step.wanted
        match step.work:
            case s.Sequential(steps=steps):
                steps[-1].collected = wanted
                inside: list[s.Step | None] = [*steps]
            case s.Parallel(branches=branches, done=done):
                read = done is not None and any(path[0] == "branches" for path in done.reads)
                inside = [branch.step for branch in branches]
                for each in inside:
                    assert each is not None
                    each.collected = wanted or read
            case s.Conditional(when_true=yes, when_false=no, when_error=other):
                inside = [yes, no, other]
                for each in inside:
                    if each is not None:
                        each.collected = wanted
            case s.ForEach(step=each):
                each.collected = wanted
                inside = [each]
            case _:
                inside = []
        for each in inside:
            if each is not None:
                self._demand(each)
