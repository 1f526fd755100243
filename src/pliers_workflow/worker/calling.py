"""One call of a task's function, in the loop or in a thread, and what came of it as the API takes it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import re
import threading
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from pliers_workflow.exact import excerpt, plain, told

from .api import encode
from .errors import FAILED, Permanent, Retryable, TaskFailure, TaskLost
from .task import Task

_log: Final = logging.getLogger("pliers.worker")

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}")
#: As the API takes them.
_MESSAGE_MAX: Final = 2_000
_DELAY_MAX: Final = 604_800.0
_DETAILS_MAX: Final = 16_384

Function = Callable[[Task], Any]


class Handler(Struct, frozen=True):
    """Who does the tasks of a topic."""

    topic: str
    function: Function
    #: seconds
    lease: int

    @property
    def is_async(self) -> bool:
        """Whether it runs in the loop."""
        return inspect.iscoroutinefunction(self.function)


class Outcome(Struct, frozen=True):
    """What came of a task: `complete` or `fail`, with the body of that call."""

    what: str
    body: dict[str, Any]


async def call(handler: Handler, task: Task, ended: Callable[[], None]) -> Outcome:
    """
    Do a task. `ended` is called when its function has come to its end, which in a thread may be after a cancellation.

    Raises `TaskLost` where the function did.
    """
    try:
        value = await (_in_loop(handler, task, ended) if handler.is_async else _in_thread(handler, task, ended))
    except TaskFailure as failure:
        return failed(failure)
    except (asyncio.CancelledError, TaskLost, KeyboardInterrupt):
        raise
    except BaseException as error:  # also those that libraries make of a panic: the task failed, and the worker goes on
        _log.error("the task %s of %s failed", task.idempotency_key, task.topic, exc_info=error)
        # Its text stays here: nobody has said that it may be shown.
        return failed(Retryable(f"The worker failed with {type(error).__name__}; its log says more.", code=FAILED))
    try:
        output = plain(value)
        encode(output)
    except (TypeError, ValueError, RecursionError) as error:
        return failed(Permanent("OUTPUT_INVALID", f"The output cannot be kept as JSON: {error}"))
    return Outcome("complete", {"output": output})


def failed(failure: TaskFailure) -> Outcome:
    """A failure as the API takes it, whatever stands in it."""
    code, message = str(failure.code), told(failure.message)
    if not _CODE.fullmatch(code):
        code, message = "INVALID_CODE", f"{told(code)[:100]!r}: {message}"
    body: dict[str, Any] = {
        "code": code,
        "message": message[:_MESSAGE_MAX],
        "retryable": not isinstance(failure, Permanent),
        "details": _details(failure.details),
    }
    if isinstance(failure, Retryable) and failure.delay is not None:
        body["retryAfterSeconds"] = min(max(0.0, float(failure.delay)), _DELAY_MAX)
    return Outcome("fail", body)


def _details(given: Any) -> dict[str, Any]:
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        details = plain(given)
        if isinstance(details, dict) and len(encode(details)) <= _DETAILS_MAX:
            return details
    return {"excerpt": excerpt(given, 1_000)} if given else {}


CANCELLED_ITSELF: Final = failed(Retryable("The task's function cancelled itself."))


async def _in_loop(handler: Handler, task: Task, ended: Callable[[], None]) -> Any:
    try:
        return await handler.function(task)
    finally:
        ended()


async def _in_thread(handler: Handler, task: Task, ended: Callable[[], None]) -> Any:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def deliver(value: Any, error: BaseException | None) -> None:
        ended()
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(value)
        elif isinstance(error, StopIteration | KeyboardInterrupt):
            # A future takes no StopIteration; and a KeyboardInterrupt that was raised in a thread is nobody's Ctrl-C.
            answer.set_exception(RuntimeError(f"the function raised {type(error).__name__}"))
        else:
            answer.set_exception(error)

    def work() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = handler.function(task)
        except BaseException as raised:  # whatever ends the thread ends no more than that
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, value, error)

    # A function that hangs must not keep the process from ending.
    name = f"task {task.topic}"
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True, name=name).start()
    return await answer
