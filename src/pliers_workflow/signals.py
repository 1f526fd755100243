"""SIGINT and SIGTERM, as every program of ours takes them: the first asks it to stop in good order, the second ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[int], None], *, last: Callable[[], None] = lambda: None) -> Iterator[None]:
    """
    `stop` is called by the running loop with the first signal's number. At the second, `last` is called and the process
    ends with status 128 + its number, whatever the loop is doing: it may be what hangs.

    One handler from beginning to end. A loop's own handlers would have to be taken away after the first signal, and between
    that and setting others the second would end the process by default: without `last`, and with another status.
    """
    loop = asyncio.get_running_loop()
    told = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            last()
            sys.stderr.write("stopped at once\n")
            sys.stderr.flush()
            os._exit(128 + number)
        told = True
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop, number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    for number in SIGNALS:
        signal.siginterrupt(number, False)  # libraries in C need not expect calls that break off
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
