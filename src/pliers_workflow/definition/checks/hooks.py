"""Event hooks: ids given once, names that lead somewhere, actions that have what they need, expressions that fit."""

from __future__ import annotations

from collections.abc import Iterator

from .. import versions
from ..document import EventHandler, EventTrigger, ReceiveStep, TriggerAction, WorkflowDefinition
from ..expressions import Environment, event_environment, key_environment
from ..findings import Findings, did_you_mean, pointer
from ..listening import by_submission, key_name, type_matches
from ..step_walking import StepWalk
from ..tree import ENGINE_PREFIXES, ENGINE_TRIGGERS, Tree
from ..walking import Expected
from .expressions import Checker, report

#: which keys of an action mean something, by its type; `parameters` always do
_MEANT = {
    "start_workflow": ("workflow_id", "version", "requester", "external_key"),
    "advance_state": ("trigger", "target_state"),
    "execute_step": ("step_id",),
    "escalate": (),
}


def check(
    definition: WorkflowDefinition, tree: Tree, walk: StepWalk, findings: Findings, *, schema_holds: bool
) -> None:
    """See the module."""
    _ids(definition, findings)
    used = set()
    for at, listener in _listeners(definition):
        keyed = isinstance(listener, EventHandler) or listener.action.type != "start_workflow"
        if keyed:
            used.add(key_name(definition, listener))
        _correlation(at, listener, keyed, definition, findings)
        if isinstance(listener, EventTrigger):
            _action(at + "/action", listener, tree, definition, findings)
    for index, key in enumerate(definition.event_hooks.correlation):
        if key.name not in used and None not in used:  # None: somebody does not say which is meant
            findings.warning(
                "unused",
                f"/eventHooks/correlation/{index}",
                f"No trigger and no handler looks for the key `{key.name}`.",
            )
    events = Checker(event_environment())
    for at, source, expected in dict.fromkeys((*_event_expressions(definition), *_event_keys(walk))):
        report(events.problems(source, expected), at, findings)
    keys = Checker(key_environment(definition.data_schema) if schema_holds else Environment())
    for index, key in enumerate(definition.event_hooks.correlation):
        report(keys.problems(key.key, "any"), f"/eventHooks/correlation/{index}/key", findings)


def _listeners(definition: WorkflowDefinition) -> Iterator[tuple[str, EventTrigger | EventHandler]]:
    hooks = definition.event_hooks
    for index, trigger in enumerate(hooks.triggers):
        yield f"/eventHooks/triggers/{index}", trigger
    for index, handler in enumerate(hooks.handlers):
        yield f"/eventHooks/handlers/{index}", handler


def _ids(definition: WorkflowDefinition, findings: Findings) -> None:
    first: dict[str, str] = {}
    for at, listener in _listeners(definition):
        if listener.id in first:
            message = f"The id `{listener.id}` is given twice among triggers and handlers."
            findings.error("duplicate_id", at + "/id", message, f"The first is at {first[listener.id]}.")
        first.setdefault(listener.id, at + "/id")
    names: dict[str, str] = {}
    for index, key in enumerate(definition.event_hooks.correlation):
        at = f"/eventHooks/correlation/{index}/name"
        if key.name in names:
            message = f"The key `{key.name}` is declared twice."
            findings.error("duplicate_id", at, message, f"The first is at {names[key.name]}.")
        names.setdefault(key.name, at)


def _correlation(
    at: str, listener: EventTrigger | EventHandler, keyed: bool, definition: WorkflowDefinition, findings: Findings
) -> None:
    names = [key.name for key in definition.event_hooks.correlation]
    if not keyed:
        for key, value in (("correlation", listener.correlation), ("correlationKey", listener.correlation_key)):
            if value is not None:
                message = f"`{key}` means nothing here: a start makes a new instance and looks for none."
                findings.error("misplaced", f"{at}/{key}", message, "Remove it.")
        return
    if by_submission(listener):
        return
    if listener.correlation_key is None:
        message = "Without `correlationKey` nobody knows which instances the event belongs to."
        hint = "Add it, for example `event.data.orderId`."
        findings.error("missing", at + "/correlationKey", message, hint)
    if listener.correlation is not None and listener.correlation not in names:
        message = f"There is no correlation key `{listener.correlation}`."
        findings.error(
            "unknown_key_name", at + "/correlation", message,
            lambda: did_you_mean(listener.correlation or "", names) or _declare(names),
        )  # fmt: skip
    elif listener.correlation is None and len(names) != 1:
        message = (
            "It does not say which of the instances' keys is meant."
            if names
            else "Instances have no key to be found by."
        )
        findings.error("missing", at + "/correlation", message, _declare(names))


def _declare(names: list[str]) -> str:
    if names:
        return f"One of {', '.join(f'`{name}`' for name in names)}."
    return 'Declare one: `"correlation": [{"name": "order", "key": "data.orderId"}]` in `eventHooks`.'


def _action(at: str, trigger: EventTrigger, tree: Tree, definition: WorkflowDefinition, findings: Findings) -> None:
    action = trigger.action
    meant = _MEANT[action.type]
    for name in ("workflow_id", "version", "requester", "external_key", "trigger", "target_state", "step_id"):
        if name not in meant and getattr(action, name) is not None:
            key = TriggerAction.model_fields[name].alias or name
            message = f"`{key}` means nothing for `{action.type}`."
            findings.error("misplaced", f"{at}/{key}", message, "Remove it, or change `type`.")
    if action.type == "start_workflow" and trigger.event_type in ("workflow", "workflow.*"):
        message = "Every event of every instance would start an instance, whose events would start others."
        hint = "Name one type: `workflow.completed`."
        findings.error("endless_starts", at.removesuffix("/action") + "/eventType", message, hint)
    if action.type == "start_workflow" and action.version is not None:
        try:
            versions.matches(action.version, "1.0.0")
        except ValueError as error:
            findings.error(
                "bad_format", at + "/version", f"This is no version and no range: {error}.", "For example `^1.2`."
            )
    elif action.type == "advance_state":
        _advance(at, trigger, tree, findings)
    elif action.type == "execute_step" and action.step_id is None:
        findings.error(
            "missing", at + "/stepId", "`execute_step` needs `stepId`.", "Name one of the definition's `steps`."
        )
    elif action.type == "execute_step" and action.step_id not in definition.steps:
        assert action.step_id is not None
        hint = did_you_mean(action.step_id, definition.steps) or "Only steps of the definition's `steps` can be named."
        findings.error("unknown_step", at + "/stepId", f"There is no step `{action.step_id}`.", hint)


def _advance(at: str, trigger: EventTrigger, tree: Tree, findings: Findings) -> None:
    action = trigger.action
    if action.target_state is not None and action.target_state not in tree.by_id:
        message = f"There is no state `{action.target_state}`."
        target = action.target_state
        findings.error("unknown_state", at + "/targetState", message, lambda: did_you_mean(target, tree.by_id))
        return
    if action.trigger is not None:
        fired = action.trigger
        if fired.split() != [fired] or fired.startswith(".") or fired.endswith((".", "*")):
            findings.error("bad_trigger", at + "/trigger", "A trigger is the name of one event.", "Use one word.")
            return
        if fired in ENGINE_TRIGGERS or fired.startswith(ENGINE_PREFIXES):
            message = f"`{fired}` is raised by the engine alone, not by an event from outside."
            findings.error("bad_trigger", at + "/trigger", message, "Use a trigger of your own.")
            return
        taking = [edge for edge in tree.edges if edge.matches(fired)]
    else:
        # The event's own type: any transition whose trigger a type of this pattern can match.
        fired = trigger.event_type
        bare = fired.removesuffix(".*")
        taking = [
            edge
            for edge in tree.edges
            if edge.matches(bare) or any(type_matches(fired, descriptor) for descriptor in edge.triggers)
        ]
    if not taking:
        place = "/trigger" if action.trigger is not None else ""
        hint = "Say in `trigger` what is fired." if action.trigger is None else None
        findings.warning("unhandled_trigger", at + place, f"No transition waits for `{fired}`.", hint)
    elif action.target_state is not None and not any(
        _leads(edge.targets, action.target_state, tree) for edge in taking
    ):
        message = f"No transition that waits for `{fired}` leads to `{action.target_state}`."
        findings.warning("unhandled_trigger", at + "/targetState", message)


def _leads(targets: tuple[object, ...], wanted: str, tree: Tree) -> bool:
    """Whether a transition can enter a state: it is a target, around one, or inside one."""
    node = tree.by_id[wanted]
    around = set(node.lineage())
    return any(target in around or node in target.lineage() for target in targets)  # type: ignore[attr-defined]


def _event_keys(walk: StepWalk) -> Iterator[tuple[str, str, Expected]]:
    for placed in walk.all:
        if isinstance(placed.step, ReceiveStep) and placed.step.event_key is not None:
            yield placed.pointer + "/eventKey", placed.step.event_key, "any"


def _event_expressions(definition: WorkflowDefinition) -> Iterator[tuple[str, str, Expected]]:
    hooks = definition.event_hooks
    for index, one in enumerate(hooks.filters):
        if one.condition is not None:
            yield f"/eventHooks/filters/{index}/condition", one.condition, "bool"
    for at, listener in _listeners(definition):
        if listener.condition is not None:
            yield at + "/condition", listener.condition, "bool"
        if listener.correlation_key is not None:
            yield at + "/correlationKey", listener.correlation_key, "any"
        if isinstance(listener, EventTrigger):
            if isinstance(listener.delay_minutes, str):
                yield at + "/delayMinutes", listener.delay_minutes, "number"
            action = listener.action
            for key, source in (("requester", action.requester), ("externalKey", action.external_key)):
                if source is not None:
                    yield f"{at}/action/{key}", source, "any"
            for name, source in (action.parameters or {}).items():
                yield f"{at}/action/parameters{pointer(name)}", source, "any"
