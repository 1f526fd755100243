"""The load: so many workflows at a time, each played by its own people; which one comes next is drawn by its number."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from random import Random

from pliers_workflow.client.api import Api
from pliers_workflow.client.setup import ensure_binding, ensure_workflow

from .caller import Calls
from .people import CLERK, STAFF, Cast, Workflow
from .workflows import KINDS, form, order


async def prepare(admin: Api, outside: str) -> None:
    """Publish the workflows, whose steps call the service at this address; bind the form."""
    for kind in reversed(KINDS.values()):  # those that others start come last
        await ensure_workflow(admin, json.loads(json.dumps(kind.document).replace(order.OUTSIDE, outside)))
    await ensure_binding(admin, form.FORM, "torture_form", form.MAPPING)


class Load:
    """Plays workflows until it is told to stop, and then those that have begun to their end."""

    def __init__(self, seed: str, calls: Calls, cast: Cast, *, at_once: int) -> None:
        self._seed = seed
        self._calls = calls
        self._cast = cast
        self._at_once = at_once
        self._numbers = itertools.count(1)
        self._until = 0.0
        self.workflows: list[Workflow] = []

    async def run(self, seconds: float) -> None:
        """Begin workflows for so long; return when all have been played."""
        self._until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._come_and_go())
            for _ in range(self._at_once):
                group.create_task(self._play())

    async def _come_and_go(self) -> None:
        """The clerk comes and goes, and has left for good in the end."""
        chance = Random(f"{self._seed}/load/clerk")
        there = True
        while there or time.monotonic() < self._until:
            await asyncio.sleep(chance.uniform(0.3, 2.5))
            there = not there
            await self._calls.change(f"/api/v1/users/{CLERK}", {"active": there}, self._cast.tokens[STAFF], chance)

    async def _play(self) -> None:
        while time.monotonic() < self._until:
            number = next(self._numbers)
            chance = Random(f"{self._seed}/load/{number}")
            name = chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
            drive = KINDS[name].drive
            assert drive is not None, "what has a weight is played by somebody"
            workflow = Workflow(name, number, self._seed, self._calls, self._cast)
            self.workflows.append(workflow)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await drive(workflow)
