"""The HTTP server of a node: uvicorn, which says where it listens, and stops in good order."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from pliers_workflow.app import create_app
from pliers_workflow.runtime.commit.collector import settle_collector
from pliers_workflow.signals import stopped_by_signals

from . import address
from .http_protocol import receiving_within
from .problems import Problem

if TYPE_CHECKING:
    from pliers_workflow.runtime.engine import Engine


class HttpServer(uvicorn.Server):
    """
    Serves an engine's application until SIGINT or SIGTERM.

    The first signal makes the node not ready at once and lets its services finish; answers say `Connection: close` from
    then on; the port is closed `node.drain_delay` seconds later, and the process ends when the requests in flight are
    answered and their commands committed. The second signal ends the process at once: what was in flight is as after
    `kill -9`, which loses nothing that was acknowledged.
    """

    def __init__(self, engine: Engine, host: str, port: int, *, listening: Callable[[str], None]) -> None:
        """`listening` is told the URL as soon as requests are answered there."""
        drain_grace = math.ceil(engine.settings.node.drain_grace)
        super().__init__(uvicorn.Config(
            create_app(engine), host=host, port=port, log_config=None, access_log=False, server_header=False,
            date_header=False, proxy_headers=False, lifespan="on", timeout_graceful_shutdown=drain_grace,
            timeout_keep_alive=75, backlog=4096,
            ws="none", http=receiving_within(engine.settings.server.receive_timeout),
        ))  # fmt: skip
        self._engine = engine
        self._listening = listening
        self._stopping = False

    async def serve(self, sockets: Any = None) -> None:
        """Answer requests until told to stop, on these sockets where there are some. Raises Problem when it cannot start."""
        settle_collector()
        await super().serve(sockets)
        if not self.started:
            where = f"{self.config.host}:{self.config.port}"
            raise Problem(f"the server could not start on {where}; the lines above say why", status=3)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Being asked to stop is no failure: uvicorn would raise the signal again at the end, for a shell to see."""
        with stopped_by_signals(lambda _: self.stop()):
            yield

    def stop(self) -> None:
        """What the first signal does. May be called more than once, and does not count as a signal."""
        if not self._stopping:
            self._stopping = True
            self._engine.drain()
            asyncio.get_running_loop().call_later(self._engine.settings.node.drain_delay, self._close_port)

    def _close_port(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        if self.started and self.servers:
            self._listening(address.url(self.servers[0].sockets[0].getsockname()))
