"""What can be modelled and simulated, and what no node of this release does.

Channels of notifications other than `webhook` come with a later release. A definition that names one is refused when it is
kept, and not when somebody should be told: a field that validates but never runs is a defect. What was published before
goes on, because a published document is read as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pliers_workflow.definition import reading
from pliers_workflow.definition.findings import Finding, pointer
from pliers_workflow.definition.reading import Reading

#: Channels of notifications that are there.
CHANNELS: Final = frozenset({"webhook"})

_HINT: Final = "Use `webhook`: the service at `notifications.webhook_url` tells people as they want to be told."


def read(document: object) -> Reading:
    """As `reading.read`, with a finding for everything that nobody would do."""
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
        if value.get("type") == "notification" and "recipients" in value:
            yield from _channels(value.get("channels"), (*place, "channels"))
        for key, below in value.items():
            yield from _steps(below, (*place, key))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _steps(below, (*place, index))


def _channels(value: object, place: tuple[str | int, ...]) -> Iterator[Finding]:
    for index, channel in enumerate(value if isinstance(value, list | tuple) else ()):
        if isinstance(channel, str) and channel not in CHANNELS:
            message = f"The channel `{channel[:50]}` comes with a later release."
            yield Finding(pointer(*place, index), "not_supported_yet", message, _HINT)
