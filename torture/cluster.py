"""PostgreSQL and three nodes, as processes of their own that may be killed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pliers_workflow.client.server import LocalServer, ServerFailed, free_port
from pliers_workflow.storage.embedded import EmbeddedPostgres

#: By turns every node does everything, or one answers only and one only works.
ROLES: Final = (("all", "all", "all"), ("all", "api", "worker"))
#: seconds a node or PostgreSQL may take to come back
_BACK_WITHIN: Final = 90.0
#: seconds a node may take to drain: requests under way, then commands that wait, while the database may be away
_DRAINED_WITHIN: Final = 60.0
#: Leases that a killed node leaves behind lapse soon, so that a run need not wait for them at the end; and whom an unlucky
#: row of failures holds back tries again soon.
_SETTINGS: Final = {
    "EXECUTION__TIMER_LEASE": 3,
    "STEPS__LEASE": 3,
    "STEPS__RESCUE_EVERY": 1,
    "STEPS__BREAKER_OPEN": 2,
}


class Node:
    """One node, by turns up, frozen and down."""

    def __init__(self, name: str, role: str, dsn: str, folder: Path, outside: int) -> None:
        self.name = name
        #: it answers requests
        self.answers = role != "worker"
        self.log = folder / f"{name}.log"
        self._server = LocalServer(
            dsn,
            self.log,
            role=role,
            settings={**_SETTINGS, "OUTBOUND__ALLOWED_HOSTS": json.dumps([f"127.0.0.1:{outside}"])},
        )
        #: held by whoever starts or stops it
        self.changing = asyncio.Lock()
        self.faults: list[str] = []

    @property
    def url(self) -> str:
        """The same after every restart."""
        return self._server.url

    @property
    def up(self) -> bool:
        """Its process runs."""
        return self._server.pid is not None

    async def start(self) -> None:
        """Start it, as often as it takes while the database is away."""
        give_up_at = time.monotonic() + _BACK_WITHIN
        while True:
            try:
                await self._server.start()
                return
            except ServerFailed as error:
                if time.monotonic() > give_up_at:
                    self.faults.append(f"{self.name} does not start: {error}")
                    return
                await asyncio.sleep(0.3)

    async def kill(self) -> None:
        """`kill -9`."""
        await self._server.kill()

    async def drain(self) -> None:
        """SIGTERM: it must finish what it has begun, and end with status 0."""
        began = time.monotonic()
        status = await self._server.stop(timeout=_DRAINED_WITHIN)
        if status != 0:
            self.faults.append(
                f"{self.name} was asked to stop and ended with status {status} after {time.monotonic() - began:.0f} s"
            )

    async def freeze(self, seconds: float) -> None:
        """Stand still, connections and leases open, and go on as if nothing had happened."""
        pid = self._server.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


class Cluster:
    """One PostgreSQL and its nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "database", port=free_port())
        self.nodes: list[Node] = []

    async def start(self) -> str:
        """Start PostgreSQL; the DSN."""
        return await asyncio.to_thread(self.postgres.start)

    async def start_nodes(self, dsn: str, roles: Sequence[str], outside: int) -> None:
        """Start a node of each role; they may call this port."""
        self.nodes = [
            Node(f"node{number}", role, dsn, self.folder, outside) for number, role in enumerate(roles, start=1)
        ]
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def crash_postgres(self) -> None:
        """What `pg_ctl stop -m immediate` sends: no goodbye, no checkpoint; it is started again and recovers."""
        report = self.postgres.report()
        if report.get("state") != "ready":
            return
        os.kill(report["server"], signal.SIGQUIT)
        await self.postgres_back(restarts=report["restarts"] + 1)

    async def postgres_back(self, *, restarts: int = 0) -> None:
        """Wait until PostgreSQL is up."""
        give_up_at = time.monotonic() + _BACK_WITHIN
        while time.monotonic() < give_up_at:
            report = self.postgres.report()
            if report.get("state") == "ready" and report["restarts"] >= restarts:
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"PostgreSQL has not come back: {self.postgres.report()}")

    async def stop(self) -> None:
        """Stop everything that was started."""
        await asyncio.gather(*(node.drain() for node in self.nodes if node.up))
        await asyncio.to_thread(self.postgres.stop)
