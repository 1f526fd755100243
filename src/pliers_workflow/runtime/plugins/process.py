"""Running a plugin in a process of its own, from the node's side.

Each attempt gets a fresh process, so that nothing of one is left for the next, and a session of its own, so that killing it
kills whatever it has started. It is killed when it has said what came of it, when the time is up, when the lease is lost, and
by itself when the node is gone. It is given none of the engine's settings, and so not the database's password.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
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
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "pliers_workflow.plugins.process", str(writing),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            pass_fds=(writing,), start_new_session=True, env=_environment(),
        )  # fmt: skip
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    printed: deque[bytes] = deque()
    assert process.stdout is not None
    copying = asyncio.create_task(_copy(process.stdout, printed))
    pipe = os.fdopen(reading, "rb", buffering=0)
    transport: asyncio.ReadTransport | None = None
    try:
        answers, transport = await _reader(pipe, request.output_size_max + _LINE_MAX)
        return await _converse(process, answers, request, copying, printed)
    finally:
        # While it has not been waited for, its id is nobody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if transport is None:
            pipe.close()
        else:
            transport.close()
        copying.cancel()
        await process.wait()


async def _converse(
    process: asyncio.subprocess.Process,
    answers: asyncio.StreamReader,
    request: Request,
    copying: asyncio.Task[None],
    printed: deque[bytes],
) -> Said:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(encode(request) + b"\n")
        await process.stdin.drain()
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


async def _reader(pipe: FileIO, limit: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader, transport


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
