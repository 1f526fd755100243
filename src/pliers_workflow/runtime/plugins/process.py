"""Running a plugin in a process of its own, from the node's side.

Each attempt gets a fresh process, so that nothing of one is left for the next, and a session of its own, so that killing it
kills whatever it has started, unless that has made a session of its own. It is killed when it has said what came of it, when
the time is up, when the lease is lost, and by itself when the node is gone. It is given none of the engine's settings, and so
not the database's password.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from io import FileIO
from typing import Final

from pliers_workflow.plugins.process import Request, Said, encode, read_said

from ..jobs.failures import StepFailure

_log: Final = logging.getLogger("pliers.plugins")

#: Bytes of what it printed that are kept with a failure.
_PRINTED_MAX: Final = 2_000
#: Bytes of a line of its log, with its name around.
_LINE_MAX: Final = 64 * 1024


async def run(request: Request) -> Said:
    """
    Start the process, and wait for what comes of it.

    Raises `StepFailure` (`PLUGIN_CRASHED`) when it ends without a word. Cancelled: the process is killed first.
    """
    with contextlib.ExitStack() as ends:
        # None of these is a pipe of asyncio's own: that takes a process for running while anybody holds the other end of one,
        # and what a plugin has started may live on, in a session of its own.
        told, hears = socket.socketpair()
        ends.enter_context(told)
        reading, writing = os.pipe()
        answers_pipe = ends.enter_context(os.fdopen(reading, "rb", buffering=0))
        printing, printed_to = os.pipe()
        printed_pipe = ends.enter_context(os.fdopen(printing, "rb", buffering=0))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "pliers_workflow.plugins.process", str(writing),
                stdin=hears.fileno(), stdout=printed_to, stderr=asyncio.subprocess.STDOUT,
                pass_fds=(writing,), start_new_session=True, env=_environment(),
            )  # fmt: skip
        finally:
            hears.close()
            os.close(writing)
            os.close(printed_to)
        printed: deque[bytes] = deque()
        copying: asyncio.Task[None] | None = None
        try:
            prints = await _reader(printed_pipe, _PRINTED_MAX, ends)
            copying = asyncio.create_task(_copy(prints, printed))
            answers = await _reader(answers_pipe, request.output_size_max + _LINE_MAX, ends)
            _, asks = await asyncio.open_connection(sock=told)
            ends.callback(asks.transport.abort)
            return await _converse(process, asks, answers, request, copying, printed)
        finally:
            # While it has not been waited for, its id is nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            if copying is not None:
                copying.cancel()
            await process.wait()


async def _converse(
    process: asyncio.subprocess.Process,
    asks: asyncio.StreamWriter,
    answers: asyncio.StreamReader,
    request: Request,
    copying: asyncio.Task[None],
    printed: deque[bytes],
) -> Said:
    with contextlib.suppress(ConnectionError):
        asks.write(encode(request) + b"\n")
        await asks.drain()
    ended = asyncio.ensure_future(process.wait())
    try:
        while True:
            line = asyncio.ensure_future(answers.readline())
            try:
                await asyncio.wait({line, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    # What it said last may still be in the pipe.
                    await asyncio.wait({line}, timeout=1)
                text = line.result() if line.done() else b""
            except ValueError:
                raise StepFailure(
                    "OUTPUT_TOO_LARGE", "The plugin's process said more than is kept.", retryable=False
                ) from None
            finally:
                line.cancel()
            if not text.endswith(b"\n"):
                await asyncio.wait({copying}, timeout=1)
                raise StepFailure(
                    "PLUGIN_CRASHED",
                    f"The plugin's process ended before it was done{await _how(ended)}.",
                    details={"printed": b"".join(printed).decode("utf-8", "replace")},
                )
            said = read_said(text)
            if said.ended:
                return said
            _log.log(said.level or logging.INFO, "%s", said.text)
    finally:
        ended.cancel()


async def _how(ended: asyncio.Future[int]) -> str:
    done, _ = await asyncio.wait({ended}, timeout=1)
    if not done:
        return ""
    status = ended.result()
    if status >= 0:
        return f", with status {status}"
    with contextlib.suppress(ValueError):
        return f", by {signal.Signals(-status).name}"
    return f", by signal {-status}"


async def _reader(pipe: FileIO, limit: int, ends: contextlib.ExitStack) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=limit)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    ends.callback(transport.close)
    return reader


async def _copy(stream: asyncio.StreamReader, printed: deque[bytes]) -> None:
    """Keep the end of what is printed."""
    size = 0
    while block := await stream.read(4096):
        printed.append(block[-_PRINTED_MAX:])
        size += len(printed[-1])
        while size - len(printed[0]) >= _PRINTED_MAX:
            size -= len(printed.popleft())


def _environment() -> dict[str, str]:
    """The node's, without the engine's settings; modules are found where the node finds them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLIERS_")}
    return kept | {
        "PYTHONPATH": os.pathsep.join(os.path.abspath(each) for each in sys.path),
        "PYTHONUNBUFFERED": "1",
    }
