"""Findings for a definition whose plugin steps could not work: an unknown plugin, a configuration that it does not take.

A step's `configuration` is literal, so it is checked here, against the schema of the newest version that a node has, or of
what is installed on an author's own machine. What a schema cannot say is checked by the plugin's own type when the step
runs, as is its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jsonschema_rs

from pliers_workflow.definition.data import shorten
from pliers_workflow.definition.findings import Finding, did_you_mean, nearest, pointer

from .discovery import Installed
from .registry import KnownPlugin

_PROBLEMS_MAX: Final = 20

Place = tuple[str | int, ...]


class PluginUse(NamedTuple):
    """A step of type `plugin`, where it is written."""

    place: Place
    id: str
    configuration: Mapping[str, Any]


def uses(document: object) -> list[PluginUse]:
    """The plugin steps of a document, well formed or not."""
    if not isinstance(document, Mapping):
        return []
    found = list(_steps(document.get("steps"), ("steps",)))
    machine = document.get("stateMachine")
    if isinstance(machine, Mapping):
        found += _states(machine.get("states"), ("stateMachine", "states"))
    return found


def findings(steps: Sequence[PluginUse], known: Mapping[str, KnownPlugin]) -> list[Finding]:
    """What is wrong with these steps; `known`: all plugins that there are."""
    found: list[Finding] = []
    for step in steps:
        plugin = known.get(step.id)
        if plugin is None or plugin.about is None:
            found.append(_unknown(step, plugin, known))
            continue
        if plugin.state == "missing":
            found.append(
                Finding(
                    pointer(*step.place, "pluginId"),
                    "plugin_not_running",
                    f"No worker has the plugin `{step.id}` now; its steps wait until one does.",
                    "Install it on a worker, or start one that has it.",
                    "warning",
                )
            )
        found += _configuration(step, plugin.about.version, plugin.about.configuration_schema)
    return found


def findings_here(steps: Sequence[PluginUse], installed: Installed) -> list[Finding]:
    """The same by what is installed on this machine: a plugin that is missing here may well be on a node, so that only warns."""
    found: list[Finding] = []
    for step in steps:
        if (here := installed.ready.get(step.id)) is not None:
            found += _configuration(step, here.plugin.version, here.plugin.configuration_schema)
            continue
        if (broken := installed.broken.get(step.id)) is not None:
            why = f"the plugin `{step.id}` is broken on this machine: {broken.reason}"
        elif step.id in installed.denied:
            why = f"the settings of this machine do not allow the plugin `{step.id}`."
        else:
            why = f"there is no plugin `{step.id}` on this machine."
        meant = nearest(step.id, installed.ready)
        hint = (
            f"Did you mean `{meant}`?"
            if meant
            else "`POST /api/v1/workflows/NAME/validate` of a server checks it by the plugins of its nodes."
        )
        at = pointer(*step.place, "pluginId")
        found.append(Finding(at, "plugin_not_checked", f"Not checked: {why}", hint, "warning"))
    return found


def _unknown(step: PluginUse, plugin: KnownPlugin | None, known: Mapping[str, KnownPlugin]) -> Finding:
    at = pointer(*step.place, "pluginId")
    if plugin is not None:
        holder = plugin.broken[0]
        message = f"The plugin `{step.id}` is broken on {holder.node}: {holder.reason}"
        return Finding(at, "unknown_plugin", message, "Mend it there; `pliers plugins` says whether it is well.")
    hint = (
        did_you_mean(step.id, known)
        or "Install it on a worker, and start that; `GET /api/v1/plugins` lists what there is."
    )
    return Finding(at, "unknown_plugin", f"No node has a plugin `{step.id}`.", hint)


def _configuration(step: PluginUse, version: str, schema: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        validator = jsonschema_rs.validator_for(dict(schema), offline=True, validate_formats=True)
        errors = list(_first(validator.iter_errors(dict(step.configuration))))
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        # The schema is the plugin's affair and not the author's: its own type judges when the step runs.
        return
    for error in errors:
        yield Finding(
            pointer(*step.place, "configuration", *error.instance_path),
            "plugin_configuration",
            f"`{step.id}` {version} does not take this: {shorten(error.message)}",
            f"`GET /api/v1/plugins/{step.id}` or `pliers plugins {step.id}` shows what it takes, as `configurationSchema`.",
        )


def _first(errors: Any) -> Iterator[Any]:
    for number, error in enumerate(errors):
        if number == _PROBLEMS_MAX:
            return
        yield error


# -- where steps stand -------------------------------------------------------------------------------------------------


def _states(states: object, place: Place) -> Iterator[PluginUse]:
    """States by id, or in a list, with their substates."""
    each: Any = states.items() if isinstance(states, Mapping) else enumerate(states if isinstance(states, list) else ())
    for key, state in each:
        if isinstance(state, Mapping):
            properties = state.get("properties")
            if isinstance(properties, Mapping):
                yield from _steps(properties.get("steps"), (*place, key, "properties", "steps"))
            yield from _states(state.get("substates"), (*place, key, "substates"))


def _steps(value: object, place: Place) -> Iterator[PluginUse]:
    if isinstance(value, Mapping):
        named = value.get("pluginId")
        plugin = value.get("type") == "plugin" and isinstance(named, str)
        if plugin:
            configuration = value.get("configuration", {})
            yield PluginUse(place, str(named), configuration if isinstance(configuration, Mapping) else {})
        for key, below in value.items():
            if not (plugin and key == "configuration"):  # a plugin's own, whatever it looks like
                yield from _steps(below, (*place, key))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _steps(below, (*place, index))
