"""What breaks, and when: drawn from a generator of its own, written down with the time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import asyncpg

from .cluster import Cluster, Node

#: Blows by how often they fall.
_WEIGHTS: Final = {"kill": 5, "cut": 4, "drain": 2, "freeze": 2, "crash": 1}
#: PostgreSQL that dies again within half a minute, many times in a row, is given up by its supervisor, and rightly so.
_CRASHES_IN_A_ROW: Final = 5
_FORGOTTEN_AFTER: Final = 35.0


class Chaos:
    """Breaks things until it is told to stop; then waits until what it broke is whole."""

    def __init__(self, seed: str, cluster: Cluster, dsn: str, *, calm: float = 1.0) -> None:
        self._chance = Random(f"{seed}/chaos")
        self._cluster = cluster
        self._dsn = dsn
        self._calm = calm
        self._mending: set[asyncio.Task[None]] = set()
        self._crashed_at = 0.0
        self._crashes_in_a_row = 0
        self._began_at = time.monotonic()
        self.done: Counter[str] = Counter()
        #: what was done, a line each
        self.diary: list[str] = []

    async def run(self, seconds: float) -> None:
        """Break things for so long."""
        # Each once, in some order, before chance takes over: a short run has met everything, too.
        first = list(_WEIGHTS)
        self._chance.shuffle(first)
        until = time.monotonic() + seconds
        while True:
            await asyncio.sleep(min(self._chance.uniform(0.2, 2.2) * self._calm, max(0, until - time.monotonic())))
            if time.monotonic() >= until:
                return
            blow = first.pop() if first else self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            # All that it depends on is drawn at once, so that the next blow does not depend on how this one went.
            drawn = self._chance.random(), self._chance.random()
            await _BLOWS[blow](self, *drawn)

    async def end(self) -> None:
        """Bring everything up."""
        await asyncio.gather(*self._mending)
        await self._cluster.postgres_back()
        for node in self._cluster.nodes:
            if not node.up:
                await node.start()

    async def _kill(self, which: float, how_long: float) -> None:
        await self._break(which, "kill", Node.kill, how_long * 2)

    async def _drain(self, which: float, how_long: float) -> None:
        await self._break(which, "drain", Node.drain, how_long)

    async def _freeze(self, which: float, how_long: float) -> None:
        async def frozen(node: Node) -> None:
            await node.freeze(0.3 + how_long**3 * 12)

        await self._break(which, "freeze", frozen, None)

    async def _break(
        self, which: float, name: str, blow: Callable[[Node], Awaitable[None]], down_for: float | None
    ) -> None:
        node = self._cluster.nodes[int(which * len(self._cluster.nodes))]
        if node.changing.locked() or not node.up:
            return

        async def work() -> None:
            async with node.changing:
                self._note(name, node.name)
                await blow(node)
                if down_for is not None:
                    await asyncio.sleep(down_for)
                    await node.start()
                self._note("up", node.name, counted=False)

        task = asyncio.create_task(work())
        self._mending.add(task)
        await asyncio.sleep(0)

    async def _cut(self, share: float, _: float) -> None:
        """End backends of the engine: a few, or all."""
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(self._dsn, timeout=5)
            try:
                pids = await connection.fetch(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'pliers%' ORDER BY pid"
                )
                chosen = self._chosen([row["pid"] for row in pids], share)
                self._note("cut", f"{len(chosen)} of {len(pids)} connections")
                await connection.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", chosen)
            finally:
                await connection.close(timeout=5)

    @staticmethod
    def _chosen(pids: list[Any], share: float) -> list[Any]:
        chance = Random(share)
        return pids if share > 0.6 else chance.sample(pids, max(1, int(len(pids) * share))) if pids else []

    async def _crash(self, *_: float) -> None:
        now = time.monotonic()
        if now - self._crashed_at > _FORGOTTEN_AFTER:
            self._crashes_in_a_row = 0
        elif self._crashes_in_a_row >= _CRASHES_IN_A_ROW:
            return
        self._note("crash", "PostgreSQL")
        await self._cluster.crash_postgres()
        self._crashed_at, self._crashes_in_a_row = time.monotonic(), self._crashes_in_a_row + 1
        self._note("up", "PostgreSQL", counted=False)

    def _note(self, what: str, whom: str, *, counted: bool = True) -> None:
        if counted:
            self.done[what] += 1
        self.diary.append(
            f"{datetime.now(UTC):%H:%M:%S.%f}  {time.monotonic() - self._began_at:8.3f} s  {what:6} {whom}"
        )


_BLOWS: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    "kill": Chaos._kill,
    "cut": Chaos._cut,
    "drain": Chaos._drain,
    "freeze": Chaos._freeze,
    "crash": Chaos._crash,
}
