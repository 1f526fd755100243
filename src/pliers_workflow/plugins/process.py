"""The process of a plugin that runs in one of its own: `python -P -m pliers_workflow.plugins.process FD`.

It reads one line of JSON from standard input, runs the plugin, and writes lines of JSON to the descriptor FD: what the
plugin logs, and last its output or failure. Then it waits to be ended. When standard input closes before, its node is gone,
and it ends itself with all that it has started. What the plugin prints goes where the node has led standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.exact import excerpt, told

from .calling import arguments, failure_of, output_of
from .context import Context
from .declaring import Plugin
from .errors import MEMORY_EXCEEDED, Cancelled, Permanent, PluginFailure, Retryable


class Request(Struct, frozen=True):
    """What is to be run."""

    #: where the plugin is: `package.module:name`
    entry_point: str
    configuration: dict[str, Any]
    input: dict[str, Any]
    #: fields of `Context`, but for its log
    context: dict[str, Any]
    #: bytes of JSON
    output_size_max: int
    #: MiB; None: no bound of its own
    memory: int | None = None


class Said(Struct, frozen=True, omit_defaults=True):
    """A line of what the process says: a record of its log, or what came of the plugin."""

    #: of a record: its level by number, and its text
    level: int | None = None
    text: str = ""
    #: it is done
    ended: bool = False
    output: Any = None
    #: it has failed, with this code, whatever that is
    failed: bool = False
    code: str = ""
    message: str = ""
    details: dict[str, Any] = {}
    permanent: bool = False
    delay: float | None = None


encode: Final = msgspec.json.Encoder(decimal_format="number").encode
read_said: Final = msgspec.json.Decoder(Said, float_hook=Decimal).decode
read_request: Final = msgspec.json.Decoder(Request, float_hook=Decimal).decode

_TEXT_MAX: Final = 4_000
_EXCERPT: Final = 1_000
#: Bytes of a failure's details: the node keeps no more either.
_DETAILS_MAX: Final = 16_384


def main(descriptor: int) -> None:
    """Run what standard input says, and say what came of it."""
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_the_node, daemon=True).start()
    os.set_inheritable(descriptor, False)
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        lock = threading.Lock()

        def say(said: Said) -> None:
            with lock:
                out.write(encode(said) + b"\n")

        say(_outcome(read_request(line), say))
    threading.Event().wait()


def load(entry_point: str) -> Plugin:
    """The plugin that an entry point names. Raises what importing it raises, and TypeError for something else."""
    module, _, names = entry_point.partition(":")
    found: Any = importlib.import_module(module.strip())
    for name in filter(None, names.strip().split(".")):
        found = getattr(found, name)
    if not isinstance(found, Plugin):
        raise TypeError(f"{entry_point} is no plugin; declare it with `pliers_workflow.plugins.plugin`")
    return found


def _outcome(request: Request, say: Any) -> Said:
    """What came of it, within the memory that it may have."""
    if request.memory is None:
        return _run(request, say)
    before = _bounded(request.memory)
    try:
        said = _run(request, say)
    except Exception as error:
        if not _is_short(error):
            raise
        said = None
    finally:
        # Whatever is said now must have room.
        resource.setrlimit(resource.RLIMIT_DATA, before)
    if said is None:
        message = f"It needs more than the {request.memory} MiB of memory that its declaration gives it."
        return _failed(Permanent(MEMORY_EXCEEDED, message))
    return said


def _bounded(memory: int) -> tuple[int, int]:
    """
    Bound this process, and each that it starts, before anything of the plugin is imported; gives the bound before.

    What is bound is what is a process's own to write on (`RLIMIT_DATA`): not the code of libraries, nor address space that
    is only set aside, of which there are gigabytes in any program with threads.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted, hard = memory * 1024 * 1024, before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    return before


def _is_short(error: BaseException | None) -> bool:
    """Whether it was memory that was wanting, in this error or one that it stands for."""
    for _ in range(10):
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        # As the loader of libraries says it.
        if isinstance(error, ImportError) and ("annot allocate memory" in str(error) or "failed to map" in str(error)):
            return True
        if error is None:
            return False
        error = error.__cause__ or error.__context__
    return False


def _run(request: Request, say: Any) -> Said:
    bounded = request.memory is not None
    try:
        plugin = load(request.entry_point)
    except Exception as error:
        if bounded and _is_short(error):
            raise
        return _failed(Retryable(f"The plugin cannot be loaded: {type(error).__name__}.", code="PLUGIN_NOT_LOADED"))
    log = logging.getLogger("pliers.plugins")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(_Tell(say))
    fields = {**request.context, "deadline": datetime.fromisoformat(request.context["deadline"])}
    context = Context(**fields, log=log)
    try:
        output = output_of(plugin, _called(plugin, request, context))
        size = len(encode(output))
        if size > request.output_size_max:
            message = f"The output has {size:,} bytes, at most {request.output_size_max:,} are kept."
            raise Permanent("OUTPUT_TOO_LARGE", message)
        return Said(ended=True, output=output)
    except Cancelled:
        return _failed(Retryable("The plugin stopped because its time was up.", code="TIMEOUT"))
    except Exception as error:
        if bounded and not isinstance(error, PluginFailure) and _is_short(error):
            raise
        if not isinstance(error, PluginFailure):
            log.exception("%s failed", plugin.id)
        return _failed(failure_of(plugin, error))


def _called(plugin: Plugin, request: Request, context: Context) -> Any:
    given = arguments(plugin, request.configuration, request.input, context)
    if plugin.is_async:
        return asyncio.run(_awaited(plugin, given))
    run, close = plugin.make()
    try:
        return run(**given)
    finally:
        if close is not None:
            with _not_closed(plugin):
                closing = close()
                if asyncio.iscoroutine(closing):
                    asyncio.run(closing)


async def _awaited(plugin: Plugin, given: dict[str, Any]) -> Any:
    """Made, run and closed in one loop, because what it has opened belongs to that."""
    run, close = plugin.make()
    try:
        return await run(**given)
    finally:
        if close is not None:
            with _not_closed(plugin):
                closing = close()
                if asyncio.iscoroutine(closing):
                    await closing


@contextlib.contextmanager
def _not_closed(plugin: Plugin) -> Iterator[None]:
    """One that cannot be closed has done its work, or failed at it, before: that counts, and not how it was closed."""
    try:
        yield
    except Exception:
        logging.getLogger("pliers.plugins").exception("%s could not be closed", plugin.id)


def _failed(failure: PluginFailure) -> Said:
    return Said(
        ended=True,
        failed=True,
        code=told(failure.code)[:_EXCERPT],
        message=told(failure.message)[:_TEXT_MAX],
        details=_details(failure.details),
        permanent=isinstance(failure, Permanent),
        delay=failure.delay if isinstance(failure, Retryable) else None,
    )


def _details(given: object) -> dict[str, Any]:
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        if isinstance(given, dict) and len(encode(given)) <= _DETAILS_MAX:
            return given
    return {"excerpt": excerpt(given, _EXCERPT)}


class _Tell(logging.Handler):
    """Hands records to the node."""

    def __init__(self, say: Any) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._say(Said(level=record.levelno, text=told(self.format(record))[:_TEXT_MAX]))


def _end_with_the_node() -> None:
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    # Whatever it has started is in its process group.
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
