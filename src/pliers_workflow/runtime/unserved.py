"""Steps that can be modelled and simulated, and that no node of this release runs.

The interpreter knows `plugin` steps; plugins come with a later release. A definition that would wait for them for ever is
refused when it is kept: a field that validates but never runs is a defect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pliers_workflow.definition import reading
from pliers_workflow.definition.findings import Finding, pointer
from pliers_workflow.definition.reading import Reading

#: By type of step: what it needs, and a key by which such a step is told from other objects.
_UNSERVED: Final = {
    "plugin": ("Plugins come", "pluginId", "Call the service with an `http` step, or leave it to an `external` one."),
}  # fmt: skip


def read(document: object) -> Reading:
    """As `reading.read`, with a finding for every step that nobody would run."""
    told = reading.read(document)
    unserved = tuple(_unserved(document))
    return Reading(None, (*told.findings, *unserved)) if unserved else told


def _unserved(document: object) -> Iterator[Finding]:
    if not isinstance(document, Mapping):
        return
    yield from _steps(document.get("steps"), ("steps",))
    machine = document.get("stateMachine")
    if isinstance(machine, Mapping):
        yield from _states(machine.get("states"), ("stateMachine", "states"))


def _states(states: object, place: tuple[str | int, ...]) -> Iterator[Finding]:
    """States by id, or in a list, with their substates."""
    each: Any = states.items() if isinstance(states, Mapping) else enumerate(states if isinstance(states, list) else ())
    for key, state in each:
        if isinstance(state, Mapping):
            properties = state.get("properties")
            if isinstance(properties, Mapping):
                yield from _steps(properties.get("steps"), (*place, key, "properties", "steps"))
            yield from _states(state.get("substates"), (*place, key, "substates"))


def _steps(value: object, place: tuple[str | int, ...]) -> Iterator[Finding]:
    if isinstance(value, Mapping):
        known = _UNSERVED.get(str(value.get("type")))
        if known is not None and known[1] in value:
            what, _, hint = known
            yield Finding(pointer(*place, "type"), "not_supported_yet", f"{what} with a later release.", hint)
        for key, below in value.items():
            yield from _steps(below, (*place, key))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _steps(below, (*place, index))
