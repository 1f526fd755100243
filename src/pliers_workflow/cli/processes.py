"""Several equal nodes under one command, on one address: started, started again when they die, stopped together.

The command serves no request. It holds the address and the database, and to each node a line (`node`). A node that dies is
started again, after a pause that grows with every death soon after a start; the others go on. One that has stopped working
without ending is killed, because it would keep its callers. Only when a node never comes to answer, so that it is the
command that cannot be carried out, are all of them stopped.

Nodes are in sessions of their own: Ctrl-C in a terminal reaches the command alone, which ends the lines, and every node
finishes what it has begun. When the command is killed, the kernel ends the lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog

from pliers_workflow.signals import stopped_by_signals

from .address import SharedAddress
from .node import Order, Report
from .problems import Problem

if TYPE_CHECKING:
    from pliers_workflow.settings import Settings

#: seconds of answering after which a node ran well, and earlier deaths are forgotten
WELL: Final = 30.0
#: seconds before a node that died is started again; doubled with each death soon after a start
PAUSE_MIN: Final = 0.1
PAUSE_MAX: Final = 30.0
#: starts in a row of a node that has never answered, before the command is given up
STARTS_MAX: Final = 3
#: looks at a silent node before it counts as hung: after a sleep of the whole machine, the first may come before its word
_LOOKS: Final = 3

_log: Final = structlog.get_logger(__name__)


class Processes:
    """See the module."""

    def __init__(
        self, settings: Settings, address: SharedAddress, database: Path | str, *, ready: Callable[[], None]
    ) -> None:
        """`database`: a DSN, or the folder of an embedded server. `ready` is called when all nodes answer for the first time."""
        self._count = settings.server.processes
        self._hung_after = settings.server.hung_after or None
        self._address = address
        self._order = Order(settings.model_dump(mode="json"), str(database), isinstance(database, Path), [])
        self._ready = ready
        #: nodes that have not answered yet
        self._awaited = self._count
        self._nodes: set[_Node] = set()
        self._stopping = asyncio.Event()
        self._problem: Problem | None = None

    async def run(self) -> None:
        """Keep all nodes running until SIGINT or SIGTERM, then stop them. Raises Problem when one never comes to answer."""
        with stopped_by_signals(lambda _: self.stop(), last=self._kill):
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._keep())
        if self._problem is not None:
            raise self._problem

    def stop(self) -> None:
        """Let every node finish what it has begun, and start none any more."""
        self._stopping.set()
        self._address.close()
        for node in self._nodes:
            node.stop()

    async def _keep(self) -> None:
        """One node, again and again."""
        answered = False
        deaths = 0
        while not self._stopping.is_set():
            life = await self._live(first=not answered)
            if self._stopping.is_set():
                return
            answered = answered or life.answered_for is not None
            deaths = 1 if (life.answered_for or 0) >= WELL else deaths + 1
            if not answered and deaths >= STARTS_MAX:
                self._give_up(life)
                return
            pause = min(PAUSE_MIN * 2 ** min(deaths - 1, 16), PAUSE_MAX)
            _log.warning("node_ended", pid=life.pid, reason=life.reason, started_again_in=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _live(self, *, first: bool) -> _Life:
        """A node from its start to its end. `first`: none in its place has answered yet."""
        loop = asyncio.get_running_loop()
        answers_since: float | None = None
        try:
            node = await _Node.start(self._order, self._address)
        except OSError as error:  # no memory, no more processes
            return _Life(None, None, f"it could not be started: {error.strerror}", 3)
        self._nodes.add(node)
        if self._stopping.is_set():
            node.stop()
        reason = ""
        async for report in node.reports(self._hung_after):
            reason = report.problem
            if report.ready and first:
                self._awaited -= 1
                if not self._awaited and not self._stopping.is_set():  # its address is closed then
                    self._ready()
            elif report.ready:
                _log.info("node_started_again", pid=node.pid)
            if report.ready:
                answers_since = loop.time()
        status = await node.ended()
        self._nodes.discard(node)
        if not reason:
            reason = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return _Life(node.pid, None if answers_since is None else loop.time() - answers_since, reason, status)

    def _give_up(self, life: _Life) -> None:
        if self._problem is None:
            self._problem = Problem(
                f"a node was started {STARTS_MAX} times and never came to answer, so all are stopped: {life.reason}",
                status=life.status if life.status > 0 else 3,
            )
        self.stop()

    def _kill(self) -> None:
        for node in self._nodes:
            node.kill()


class _Life(NamedTuple):
    """What became of a node."""

    pid: int | None
    #: seconds; None: it never did
    answered_for: float | None
    #: why it ended
    reason: str
    #: its exit status, or less than 0 for a signal
    status: int


class _Node:
    """The process of a node, as the command sees it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, order: Order, address: SharedAddress) -> _Node:
        """Start one more on this address."""
        ours, theirs = socket.socketpair()
        with theirs, address.sockets() as sockets:
            descriptors = [each.fileno() for each in sockets]
            # It finds its modules where this process does, and not in the folder it happens to be in.
            path = [] if os.getcwd() in sys.path or "" in sys.path else ["-P"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *path, "-m", "pliers_workflow.cli.node", str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=[theirs.fileno(), *descriptors], start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(msgspec.json.encode(msgspec.structs.replace(order, sockets=descriptors)) + b"\n")
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def reports(self, hung_after: float | None) -> AsyncIterator[Report]:
        """
        What it says of itself, until it ends. When it has answered and then said nothing for so many seconds, it is killed.

        While it starts it may take its time: who never comes to answer has no callers.
        """
        answers = False
        waited = 0
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    async with asyncio.timeout(hung_after / _LOOKS if hung_after and answers else None):
                        line = await self._reader.readline()
                except TimeoutError:
                    waited += 1
                    if waited < _LOOKS:
                        continue
                    self.kill()
                    yield Report(problem=f"it had said nothing for {hung_after:g} s, and was killed")
                    return
                if not line:
                    return
                waited = 0
                if line != b"\n":
                    report = msgspec.json.decode(line, type=Report)
                    answers = answers or report.ready
                    yield report

    async def ended(self) -> int:
        """Wait until it has ended: its exit status, or less than 0 for a signal."""
        status = await self._process.wait()
        self._writer.close()
        return status

    def stop(self) -> None:
        """End the line."""
        if not self._writer.is_closing():
            self._writer.write_eof()

    def kill(self) -> None:
        """`kill -9`."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
