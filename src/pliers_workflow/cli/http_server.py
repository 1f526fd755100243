"""The HTTP server of a node: uvicorn, which says where it listens, and stops in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from pliers_workflow.runtime.engine import Engine

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class HttpServer(uvicorn.Server):
    """
    Serves an engine's application until SIGINT or SIGTERM.

    The first signal makes the node not ready at once and lets its services finish; answers say `Connection: close` from
    then on; the port is closed `node.drain_delay` seconds later, and the process ends when the requests in flight are
    answered and their commands committed. The second signal ends the process at once: what was in flight is as after
    `kill -9`, which loses nothing that was acknowledged.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, *, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self._engine = engine
        self._say = say

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Being asked to stop is no failure: uvicorn would raise the signal again at the end, for a shell to see."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            # Outside the loop, which may be what hangs.
            signal.signal(number, _stop_at_once)
        self._engine.drain()
        loop.call_later(self._engine.settings.node.drain_delay, self._close_port)

    def _close_port(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen, and say where."""
        await super().startup(sockets)
        if self.started and self.servers:
            name = self.servers[0].sockets[0].getsockname()
            shown = "127.0.0.1" if name[0] == "0.0.0.0" else f"[{name[0]}]" if ":" in name[0] else name[0]
            address = f"http://{shown}:{name[1]}"
            if self._engine.settings.node.role == "worker":
                self._say(f"working; {address}/health/ready says whether all is well")
            else:
                self._say(f"serving on {address}, documentation on {address}/docs")


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    print("stopped at once", file=sys.stderr, flush=True)
    os._exit(128 + number)
