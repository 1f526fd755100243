"""Steps: names that lead somewhere, ids that are given once, and keys that do what their author means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..data import data_path
from ..document import (
    AssignStep,
    ConditionalExecution,
    EmitStep,
    ExternalStep,
    ForEachExecution,
    ParallelExecution,
    ReceiveStep,
    ScriptStep,
    SequentialExecution,
    Step,
    SubWorkflowStep,
    WaitStep,
    WorkflowDefinition,
)
from ..findings import Findings, did_you_mean, pointer
from ..step_compiler import RETRYABLE
from ..step_walking import DEPTH_MAX, STEPS_MAX, PlacedStep, StepWalk, chains_asked, templates
from ..templates import split_template
from ..tree import Tree
from ..versions import is_range, parse
from .expressions import script_problem
from .names import circles

#: Variables that mean something else already.
_ROOTS = frozenset({
    "data", "context", "submission", "event", "user", "requester", "instance", "metadata", "now", "steps", "output",
    "input", "branches", "counts",
})  # fmt: skip


def check(definition: WorkflowDefinition, tree: Tree, walk: StepWalk, findings: Findings) -> None:
    """See the module."""
    _names(definition, walk, findings)
    _ids(walk, findings)
    seen: set[str] = set()
    for placed in walk.all:
        if placed.pointer not in seen:
            seen.add(placed.pointer)
            _step(placed, definition, findings)
    _compensation(definition, walk, findings)
    _timeouts(definition, walk, findings)
    _triggers(tree, walk, findings)
    known = {chain.id for chain in definition.approval_chains}
    for at, chain in chains_asked(walk):
        if chain not in known:
            hint = did_you_mean(chain, known)
            findings.error("unknown_chain", at, f"There is no approval chain `{chain}`.", hint)


# -- names and ids -----------------------------------------------------------------------------------------------------


def _names(definition: WorkflowDefinition, walk: StepWalk, findings: Findings) -> None:
    known = definition.steps
    for at, name in dict.fromkeys(walk.uses):
        if name not in known:
            findings.error("unknown_step", at, f"There is no step `{name}`.", did_you_mean(name, known))
    contents = {name: tuple(_names_in(step)) for name, step in known.items()}
    for name in circles(contents):
        findings.error(
            "step_cycle",
            pointer("steps", name),
            f"The step `{name}` contains itself in the end.",
            "Take one name of the circle away; to begin anew, let a transition lead back.",
        )
    run_by_events = {trigger.action.step_id for trigger in definition.event_hooks.triggers}
    for name in walk.unused:
        if name not in run_by_events:
            findings.warning("unused", pointer("steps", name), f"Nothing uses the step `{name}`.")
    if walk.too_deep is not None:
        findings.error(
            "too_deep",
            walk.too_deep,
            f"Steps inside steps, names followed, are nested more than {DEPTH_MAX} levels deep.",
            "Make the structure flatter, or give a part to a sub-workflow.",
        )
    if walk.too_many:
        findings.error(
            "too_large",
            "/steps",
            f"With named steps counted wherever they are used there are more than {STEPS_MAX:,} steps.",
            "Split the workflow, or go through a list with `for_each`.",
        )


def _names_in(step: Step) -> Iterator[str]:
    for below in _below(step):
        if isinstance(below, str):
            yield below
        else:
            yield from _names_in(below)


def _below(step: Step) -> Iterator[str | Step]:
    match step:
        case SequentialExecution() | ForEachExecution():
            yield from step.steps
        case ParallelExecution():
            for branch in step.branches:
                yield from branch.steps
        case ConditionalExecution():
            for way in (step.true_branch, step.false_branch, step.default_branch):
                if way is not None:
                    yield from way.steps
    if step.compensation is not None:
        yield step.compensation


def _ids(walk: StepWalk, findings: Findings) -> None:
    first: dict[tuple[str | None, str, str], PlacedStep] = {}
    for placed in walk.all:
        if placed.id is None:
            continue
        key = (placed.place.state, placed.place.root, placed.id)
        if key in first:
            again = placed.pointer == first[key].pointer
            findings.error(
                "duplicate_id",
                placed.pointer if again or placed.step.id is None else placed.pointer + "/id",
                f"Two steps of `{placed.place.state or placed.place.root}` are called `{placed.id}`.",
                "Write one of them in its place, with an `id` of its own."
                if again
                else f"The first is at {first[key].pointer}.",
            )
        else:
            first[key] = placed
    for placed in walk.all:
        if isinstance(placed.step, ParallelExecution):
            branches: set[str] = set()
            for index, branch in enumerate(placed.step.branches):
                if branch.id in branches:
                    at = f"{placed.pointer}/branches/{index}/id"
                    findings.error("duplicate_id", at, f"Two branches are called `{branch.id}`.")
                branches.add(branch.id)


def _triggers(tree: Tree, walk: StepWalk, findings: Findings) -> None:
    """A transition that waits for `error.step.ID` needs such a step."""
    known = {placed.id for placed in walk.all if placed.id is not None}
    for edge in tree.edges:
        for trigger in edge.triggers:
            id = trigger.removeprefix("error.step.")
            if id != trigger and id not in known:
                findings.error(
                    "unknown_step",
                    edge.pointer + "/trigger",
                    f"`{trigger}` never comes: there is no step `{id}`.",
                    did_you_mean(id, known),
                )


def _timeouts(definition: WorkflowDefinition, walk: StepWalk, findings: Findings) -> None:
    steps = {placed.id: placed for placed in walk.all if placed.id is not None}
    for id in definition.timeout_config.step_timeouts:
        at = pointer("timeoutConfig", "stepTimeouts", id)
        placed = steps.get(id)
        if placed is None:
            findings.error("unknown_step", at, f"There is no step `{id}`.", did_you_mean(id, steps))
        elif placed.step.timeout_minutes is not None:
            findings.error(
                "duplicate_id", at, f"The step `{id}` says its `timeoutMinutes` itself.", "Remove one of the two."
            )
        else:
            _instant(placed.step, at, findings)


# -- one step ----------------------------------------------------------------------------------------------------------


def _step(placed: PlacedStep, definition: WorkflowDefinition, findings: Findings) -> None:
    step, at = placed.step, placed.pointer
    if step.timeout_minutes is not None:
        _instant(step, at + "/timeoutMinutes", findings)
    _retry(step, at, findings)
    _fields(step.output_mapping, at + "/outputMapping", findings)
    for place, text in templates(step, at):
        try:
            split_template(text)
        except ValueError as error:
            findings.error("bad_template", place, str(error))
    match step:
        case AssignStep():
            _fields(step.assignments, at + "/assignments", findings)
        case WaitStep():
            _one_of(step.duration_minutes is not None, step.until is not None, at, findings)
        case ScriptStep():
            problem = script_problem(step.script)
            if problem is not None:
                findings.error("bad_script", at + "/script", problem)
        case ParallelExecution():
            _parallel(step, at, findings)
        case ForEachExecution():
            for key, name in (("itemName", step.item_name), ("indexName", step.index_name)):
                if name in _ROOTS or (key == "indexName" and name == step.item_name):
                    findings.error(
                        "bad_step", f"{at}/{key}", f"`{name}` means something else already.", "Choose another name."
                    )
        case SubWorkflowStep():
            _sub_workflow(placed, step, definition, findings)
        case SequentialExecution():
            if step.rollback_on_failure and not _can_undo(step, definition.steps):
                findings.warning(
                    "compensation_ignored",
                    at + "/rollbackOnFailure",
                    "No step inside has a `compensation`, so nothing would be undone.",
                )


def _instant(step: Step, at: str, findings: Findings) -> None:
    if isinstance(step, AssignStep | EmitStep):
        findings.error("misplaced", at, f"A step of type `{step.type}` takes no time.", "Remove it.")


def _fields(mapping: Mapping[str, str], at: str, findings: Findings) -> None:
    """Of two fields that are set together none lies inside the other: which of them is kept would be chance."""
    paths: dict[tuple[str, tuple[str, ...]], str] = {}
    for written in mapping:
        same = paths.setdefault(data_path(written), written)
        if same != written:
            message = f"`{written}` is the field that `{same}` sets beside it."
            findings.error("bad_step", at + pointer(written), message, "Remove one of the two.")
    for (root, path), written in paths.items():
        for length in range(1, len(path)):
            whole = paths.get((root, path[:length]))
            if whole is not None:
                findings.error(
                    "bad_step",
                    at + pointer(written),
                    f"`{written}` lies inside `{whole}`, which is set as a whole beside it.",
                    f"Make it part of the value of `{whole}`, or set it in a step of its own.",
                )
                break


def _retry(step: Step, at: str, findings: Findings) -> None:
    policy = step.retry_policy
    if policy is None:
        return
    if isinstance(step, SubWorkflowStep):
        if step.failure_handling != "retry":
            findings.error(
                "retry_impossible",
                at + "/retryPolicy",
                f"`failureHandling` is `{step.failure_handling}`, so the other workflow is never started again.",
                "Set `failureHandling` to `retry`, or remove it.",
            )
    elif step.type not in RETRYABLE:
        findings.error(
            "retry_impossible",
            at + "/retryPolicy",
            f"A step of type `{step.type}` is not tried again: nothing outside could answer better the next time.",
            "Remove it, or give it to the step inside that needs it.",
        )
    if policy.max_attempts == 1 and (policy.retry_on or policy.do_not_retry_on):
        findings.warning("retry_impossible", at + "/retryPolicy", "With one attempt there is nothing to choose.")


def _one_of(first: bool, second: bool, at: str, findings: Findings) -> None:
    if first == second:
        findings.error(
            "bad_step",
            at,
            "A wait needs `durationMinutes` or `until`, and not both.",
            "Remove one of them." if first else "Add one of them.",
        )


def _parallel(step: ParallelExecution, at: str, findings: Findings) -> None:
    custom = step.wait_strategy == "custom"
    if custom != (step.completion_condition is not None):
        findings.error(
            "bad_step",
            at + "/completionCondition",
            "`custom` needs a `completionCondition`."
            if custom
            else f"With `{step.wait_strategy}` nobody asks for a `completionCondition`.",
            "Add it." if custom else "Set `waitStrategy` to `custom`, or remove it.",
        )
    weights = [branch.weight for branch in step.branches]
    if step.wait_strategy == "majority":
        heaviest = max(range(len(weights)), key=weights.__getitem__)
        if len(weights) > 1 and 2 * weights[heaviest] > sum(weights):
            findings.warning(
                "one_branch_decides",
                f"{at}/branches/{heaviest}/weight",
                f"`{step.branches[heaviest].id}` weighs more than all others together, so the others never matter.",
            )
    elif not custom:
        for index, branch in enumerate(step.branches):
            if "weight" in branch.model_fields_set:
                findings.warning(
                    "weight_ignored",
                    f"{at}/branches/{index}/weight",
                    f"With `{step.wait_strategy}` weights have no effect.",
                    "Set `waitStrategy` to `majority`, or remove it.",
                )


def _sub_workflow(
    placed: PlacedStep, step: SubWorkflowStep, definition: WorkflowDefinition, findings: Findings
) -> None:
    at = placed.pointer
    if step.workflow_id == definition.name and not placed.place.conditional and step.condition is None:
        findings.warning(
            "endless_recursion",
            at + "/workflowId",
            "The workflow starts itself under no condition; it fails when it is 20 levels deep.",
            "Give the step a `condition`.",
        )
    if step.version is not None and not is_range(step.version):
        try:
            parse(step.version)
        except ValueError as error:
            findings.error("bad_format", at + "/version", str(error))
    if not step.wait_for_completion:
        for key, wrong in (
            ("failureHandling", step.failure_handling != "fail_parent"),
            ("timeoutMinutes", step.timeout_minutes is not None),
        ):
            if wrong:
                findings.error(
                    "misplaced",
                    f"{at}/{key}",
                    "With `waitForCompletion: false` nobody waits for the end of the other workflow.",
                    "Remove one of the two.",
                )


# -- compensation ------------------------------------------------------------------------------------------------------


def _compensation(definition: WorkflowDefinition, walk: StepWalk, findings: Findings) -> None:
    _unlimited(definition, walk, findings)
    wanted: dict[str, bool] = {}
    for placed in walk.all:
        if placed.step.compensation is not None:
            wanted[placed.pointer] = wanted.get(placed.pointer, False) or placed.place.rolled_back
    for at, ever in wanted.items():
        if not ever:
            findings.warning(
                "compensation_ignored",
                at + "/compensation",
                "Nothing around the step ever undoes it.",
                "Put it into a `sequential` with `rollbackOnFailure: true`.",
            )


def _unlimited(definition: WorkflowDefinition, walk: StepWalk, findings: Findings) -> None:
    """The time of what is around a compensation is no limit while it undoes: one that waits for ever, nobody hears of."""
    seen: set[str] = set()
    for placed in walk.all:
        if placed.undoes and placed.place.rolled_back and placed.pointer not in seen:
            seen.add(placed.pointer)
            if _may_wait_for_ever(placed.step, placed.id, definition, frozenset()):
                findings.warning(
                    "compensation_unlimited",
                    placed.pointer,
                    "What undoes a step waits here for something outside, for as long as that takes; no time around it is a "
                    "limit while it does.",
                    "Give it `timeoutMinutes`: when they are up it fails, and an incident tells an operator.",
                )


def _may_wait_for_ever(
    given: str | Step, id: str | None, definition: WorkflowDefinition, names: frozenset[str]
) -> bool:
    """Whether a step waits, without a limit of time, for what may never come; names followed."""
    if isinstance(given, str):
        if given in names or given not in definition.steps:
            return False
        return _may_wait_for_ever(definition.steps[given], given, definition, names | {given})
    id = given.id or id
    if given.timeout_minutes is not None or id in definition.timeout_config.step_timeouts:
        return False
    below: tuple[str | Step, ...] = tuple(each for each in _below(given) if each is not given.compensation)
    match given:
        case ExternalStep() | ReceiveStep():
            return True
        case SubWorkflowStep():
            return given.wait_for_completion
        case ParallelExecution():
            below = tuple(step for branch in given.branches if branch.timeout_minutes is None for step in branch.steps)
    return any(_may_wait_for_ever(step, None, definition, names) for step in below)


def _can_undo(step: Step, named: Mapping[str, Step]) -> bool:
    """Whether a step inside this one has a compensation, names followed."""
    seen: set[str] = set()
    todo: list[str | Step] = list(_below(step))
    while todo:
        below = todo.pop()
        if isinstance(below, str):
            if below in seen or below not in named:
                continue
            seen.add(below)
            below = named[below]
        if below.compensation is not None:
            return True
        todo.extend(_below(below))
    return False
