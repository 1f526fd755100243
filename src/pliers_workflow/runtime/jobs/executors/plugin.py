"""Steps of type `plugin`: code of others that is installed on the node.

An asynchronous plugin runs in the node's event loop, another in a thread (`runtime.plugins.calls`), and one that asks for it in
a process of its own (`runtime.plugins.process`). What a step is given is checked again here: the definition was checked against
the plugin's schema when it was published, perhaps by another release of the plugin, and its input was not known then.

A thread cannot be stopped from outside. When its time is up its step fails and its result is dropped, and the thread keeps
its place until it ends; so many threads (`plugins.threads`) there are, and while none is free the node leaves such steps to
others.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from pliers_workflow.exact import excerpt, told
from pliers_workflow.plugins import Cancelled, Context, Permanent, PluginFailure, Retryable
from pliers_workflow.plugins.calling import arguments, failure_of, output_of
from pliers_workflow.plugins.process import Request, Said
from pliers_workflow.storage import canonical

from ... import tracing
from ...plugins import process
from ...plugins.calls import GOODBYE, Calls, start_thread
from ..failures import Postponed, StepFailure
from ..outputs import Unkept, as_json

if TYPE_CHECKING:
    from pliers_workflow.settings import Settings

    from ...plugins.discovery import Found, Installed
    from ..claims import ClaimedStep

_log: Final = structlog.get_logger(__name__)
_plugins_log: Final = logging.getLogger("pliers.plugins")

PREFIX: Final = "plugin:"
_DELAY_MAX: Final = 604_800.0
#: Bytes of a failure's details; of what is more, or no JSON, so many characters are kept.
_DETAILS_MAX: Final = 16_384
_EXCERPT: Final = 1_000

Made = tuple[Callable[..., Any], Callable[[], Any] | None]


class PluginExecutor:
    """See the module."""

    def __init__(self, installed: Installed, settings: Settings) -> None:
        self._installed = installed
        self._output_size_max = settings.steps.output_size_max
        self._time_max = settings.execution.max_step_execution_time
        self.calls = Calls(settings.plugins.threads)
        #: what classes were made into, by plugin; and who is at making one: that may take long, and holds up no other plugin
        self._made: dict[str, Made] = {}
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def serves(self, queue: str) -> bool:
        """Whether the plugin is ready here, and a thread is free where it needs one."""
        found = self._installed.ready.get(queue.removeprefix(PREFIX))
        return found is not None and (not _in_thread(found) or self.calls.free)

    def target(self, step: ClaimedStep) -> str | None:
        """The plugin: after failures in a row it is left alone for a while."""
        return step.queue

    async def run(self, step: ClaimedStep) -> Any:
        """Call the plugin; what it gives. Raises `StepFailure`, and `Postponed` where no thread is free."""
        found = self._installed.ready[step.queue.removeprefix(PREFIX)]
        seconds = self._seconds(found, step)
        try:
            async with asyncio.timeout(seconds):
                return await self._run(found, step, datetime.now(UTC) + timedelta(seconds=seconds))
        except TimeoutError:
            raise StepFailure("TIMEOUT", f"The plugin {found.plugin.id} took longer than {seconds:g} s.") from None

    async def close(self) -> None:
        """Close what plugins keep open, and wait some seconds for it. Calls that are left behind end with the process."""
        made, self._made = self._made, {}
        for id, (_, close) in made.items():
            if close is None:
                continue
            try:
                async with asyncio.timeout(GOODBYE):
                    await _closed(id, close)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                _log.warning("plugin_not_closed", plugin=id, error="it cancelled itself")
            except Exception:
                _log.exception("plugin_not_closed", plugin=id)

    def _seconds(self, found: Found, step: ClaimedStep) -> float:
        timeout_ms = step.payload.timeout_ms
        given = self._time_max if timeout_ms is None else timeout_ms / 1000
        return min(found.plugin.timeout, self._time_max, given)

    async def _run(self, found: Found, step: ClaimedStep, deadline: datetime) -> Any:
        run, id = step.payload.run, found.plugin.id
        configuration, given = _object(run.get("configuration")), _object(run.get("input"))
        fields: dict[str, Any] = {
            "plugin_id": id,
            "tenant_id": step.tenant_id,
            "workflow": step.definition,
            "instance_id": step.instance_id,
            "step_id": str(run.get("stepId", step.name)),
            "attempt": step.payload.attempt,
            "idempotency_key": step.attempt_id,
            "trace_headers": tracing.headers(step.payload.trace, {}),
        }
        if found.plugin.isolation == "process":
            asked = {**fields, "deadline": deadline.isoformat()}
            return _said(
                await process.run(
                    Request(found.entry_point, configuration, given, asked, self._output_size_max, found.plugin.memory)
                )
            )
        context = Context(**fields, deadline=deadline, log=_plugins_log)
        try:
            called = arguments(found.plugin, configuration, given, context)
            if found.plugin.is_async:
                value = await self.calls.in_loop(id, lambda: self._awaited(found, called))
            else:
                value = await self.calls.in_thread(id, lambda: self._called(found, called))
            return output_of(found.plugin, value)
        except PluginFailure as failure:
            raise _failed(failure) from failure
        except (StepFailure, Postponed):
            raise
        except Exception as error:  # of a validator or a serializer of its types
            raise _explained(found, error) from None
        finally:
            context.cancel()

    async def _awaited(self, found: Found, called: dict[str, Any]) -> Any:
        try:
            call, _ = self._make(found)
            return await call(**called)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # one that ends itself, or falls in a library of another language, ends no node
            raise _explained(found, error) from None

    def _called(self, found: Found, called: dict[str, Any]) -> Any:
        try:
            call, _ = self._make(found)
            return call(**called)
        except BaseException as error:  # a thread's end is its own affair, whatever ends it
            raise _explained(found, error) from None

    def _make(self, found: Found) -> Made:
        id = found.plugin.id
        with self._making[id]:  # asynchronous ones are made in the loop only, and so wait for nobody here
            made = self._made.get(id)
            if made is None:
                made = self._made[id] = found.plugin.make()
            return made


async def _closed(id: str, close: Callable[[], Any]) -> None:
    """Call a plugin's `close`: asynchronous in the loop, else in a thread, because it may wait."""
    if inspect.iscoroutinefunction(close):
        try:
            await close()
        except (Exception, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise _fell(error) from error
        return
    ended = asyncio.get_running_loop().create_future()

    def tell(_: Any, error: BaseException | None) -> None:
        if ended.cancelled():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(_fell(error))

    if start_thread(f"closing {id}", close, tell):
        await ended


def _fell(error: BaseException) -> Exception:
    """What may end neither the node's loop nor its going down; a future takes no StopIteration."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"it raised {type(error).__name__}")


def _in_thread(found: Found) -> bool:
    return found.plugin.isolation == "thread" and not found.plugin.is_async


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _explained(found: Found, error: BaseException) -> StepFailure:
    """What a plugin raised, as the step's failure; what its author did not mean to raise is in the log."""
    if isinstance(error, Cancelled):
        return _failed(Retryable(f"{found.plugin.id} stopped because its time was up.", code="TIMEOUT"))
    if not isinstance(error, PluginFailure):
        _plugins_log.error("%s failed", found.plugin.id, exc_info=error)
    return _failed(failure_of(found.plugin, error))


def _failed(failure: PluginFailure) -> StepFailure:
    """A failure of a plugin as one of its step: whatever stands in it, it can be kept."""
    delay = failure.delay if isinstance(failure, Retryable) else None
    return StepFailure(
        str(failure.code),
        told(failure.message),
        retryable=not isinstance(failure, Permanent),
        retry_after=None if delay is None else min(max(0.0, float(delay)), _DELAY_MAX),
        details=_details(failure.details),
    )


def _details(given: object) -> dict[str, Any]:
    try:
        details = as_json(given)
        if isinstance(details, dict) and len(canonical.encode_loose(details)) <= _DETAILS_MAX:
            return details
    except Unkept:
        pass
    return {"excerpt": excerpt(given, _EXCERPT)} if given else {}


def _said(said: Said) -> Any:
    """What a process said, as the step's output or failure."""
    if not said.failed:
        return said.output
    made: PluginFailure = (
        Permanent(said.code, said.message, details=said.details)
        if said.permanent
        else Retryable(said.message, code=said.code, delay=said.delay, details=said.details)
    )
    raise _failed(made)
