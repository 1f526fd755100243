"""Events that may concern the same instances wait for each other; all others do not."""

from __future__ import annotations

import asyncio

from pliers_workflow.definition.listening import Rule
from pliers_workflow.runtime.inbound.matching import Candidate, CompiledRule, Match
from pliers_workflow.runtime.inbound.order import begin_in_order, tags_of


def looks(key: str, name: str = "order", workflow: str = "w") -> Match:
    rule = CompiledRule(Rule(action="advance_state", correlation=name, key="event.subject"))
    return Match(Candidate(workflow, "t", (), 0, 0, b"", rule), key)


def starts(workflow: str = "w") -> Match:
    return Match(Candidate(workflow, "s", (), 0, 0, b"", CompiledRule(Rule(action="start_workflow"))))


class Course:
    """What runs at once, and what has ended, in which order."""

    def __init__(self, *events: list[Match]) -> None:
        self.running: set[int] = set()
        self.ended: list[int] = []
        self.go: dict[int, asyncio.Event] = {number: asyncio.Event() for number in range(len(events))}
        self.left: set[int] = set()
        self.tasks = begin_in_order(list(enumerate(events)), self._carry_out)

    async def _carry_out(self, number: int) -> bool:
        self.running.add(number)
        await self.go[number].wait()
        self.running.discard(number)
        self.ended.append(number)
        return number not in self.left

    async def end(self, *numbers: int) -> set[int]:
        """Let some end; who runs after that."""
        for number in numbers:
            self.go[number].set()
        for _ in range(10):
            await asyncio.sleep(0)
        return set(self.running)


async def test_the_same_key_waits() -> None:
    """One after another for one key, at the same time for different keys, workflows, and for what finds nobody."""
    course = Course([looks("a")], [looks("b")], [looks("a")], [looks("a", workflow="v")], [], [looks("a"), looks("b")])
    assert await course.end() == {0, 1, 3, 4}
    assert await course.end(0) == {1, 2, 3, 4}
    assert await course.end(2) == {1, 3, 4}
    assert await course.end(1) == {3, 4, 5}


async def test_a_start_comes_before_those_that_look() -> None:
    """Starts do not wait, and who looks for an instance of that workflow waits for all starts before it."""
    course = Course([starts()], [starts()], [looks("a")], [starts()], [looks("a", workflow="v")])
    assert await course.end() == {0, 1, 3, 4}
    assert await course.end(0) == {1, 3, 4}
    assert await course.end(1) == {2, 3, 4}


async def test_several_names() -> None:
    """One instance may be found by either name, so all of the workflow wait for each other."""
    assert tags_of([[looks("a")], [looks("b", "customer")], [looks("c", workflow="v")]]) == [
        {("w",)},
        {("w",)},
        {("v", "c")},
    ]


async def test_what_is_left_leaves_those_behind_it() -> None:
    """Otherwise they would overtake it."""
    course = Course([looks("a")], [looks("a")], [looks("b")])
    course.left = {0}
    await course.end(0, 1, 2)
    assert [task.result() for task in course.tasks] == [False, False, True]
    assert course.ended == [0, 2]
