"""The order in which events act that came one after another from one place: a request, a broker, the engine itself.

Events for the same instance act in the order in which they came, those for different instances at the same time. Which
instances an event finds is known only when it acts, so the order is kept by what it finds them with: two events of one
workflow that carry the same key wait for each other. Where the events of a workflow carry keys of several names, one
instance may be found by either, so all of them wait. An event that looks for an instance also waits for the starts of that
workflow before it. When one is left for later, those that wait for it are left as well.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from .matching import Match

Tag: TypeAlias = tuple[str, ...]
Subject = TypeVar("Subject")


def _looking(matches: Iterable[Match]) -> list[Match]:
    return [one for one in matches if one.key is not None and one.delay_ms == 0]


def _name(one: Match) -> str:
    """Under which name a match looks for instances; receive steps that find the key in different places have several."""
    rule = one.candidate.rule.rule
    return f"{rule.correlation}/{one.candidate.trigger_id}" if rule.action == "receive" else str(rule.correlation)


def _started(matches: Iterable[Match]) -> set[str]:
    return {
        one.candidate.rule.rule.workflow or one.candidate.workflow
        for one in matches
        if one.key is None and one.delay_ms == 0
    }


def tags_of(events: Sequence[Sequence[Match]]) -> list[set[Tag]]:
    """What each event must have to itself, given the matches of all in their order."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for matches in events:
        for one in _looking(matches):
            names[one.candidate.workflow].add(_name(one))
    return [
        {
            (one.candidate.workflow,)
            if len(names[one.candidate.workflow]) > 1
            else (one.candidate.workflow, one.key or "")
            for one in _looking(matches)
        }
        for matches in events
    ]


def begin_in_order(
    events: Sequence[tuple[Subject, Sequence[Match]]],
    carry_out: Callable[[Subject], Coroutine[Any, Any, bool]],
) -> list[asyncio.Task[bool]]:
    """Begin to carry out events, each after those it must wait for; whether each is done, or left for later."""
    last: dict[Tag, asyncio.Task[bool]] = {}
    starts: defaultdict[str, list[asyncio.Task[bool]]] = defaultdict(list)
    tasks: list[asyncio.Task[bool]] = []

    async def follow(subject: Subject, before: set[asyncio.Task[bool]]) -> bool:
        if before:
            await asyncio.wait(before)
            if not all(_done(task) for task in before):
                return False
        return await carry_out(subject)

    tags = tags_of([matches for _, matches in events])
    for (subject, matches), mine in zip(events, tags, strict=True):
        before = {last[tag] for tag in mine if tag in last}
        for tag in mine:
            before.update(starts[tag[0]])
        task = asyncio.create_task(follow(subject, before), name="event in order")
        tasks.append(task)
        last.update(dict.fromkeys(mine, task))
        for workflow in _started(matches):
            starts[workflow].append(task)
    return tasks


def _done(task: asyncio.Task[bool]) -> bool:
    return not task.cancelled() and task.exception() is None and task.result()
