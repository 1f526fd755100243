"""Steps of type `plugin`: code of others that is installed on the node.

An asynchronous plugin runs in the node's event loop, another in a thread of its own, and one that asks for it in a process of
its own (`runtime.plugins.process`). What a step is given is checked again here: the definition was checked against the
plugin's schema when it was published, perhaps by another release of the plugin, and its input was not known then.

A thread cannot be stopped from outside. When its time is up its step fails and its result is dropped, and the thread keeps
its place until it ends; so many threads (`plugins.threads`) there are, and while none is free the node leaves such steps to
others.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from pliers_workflow.exact import told
from pliers_workflow.plugins import Cancelled, Context, Permanent, PluginFailure, Retryable
from pliers_workflow.plugins.calling import arguments, failure_of, output_of
from pliers_workflow.plugins.process import Request, Said
from pliers_workflow.storage import canonical

from ...plugins import process
from ..failures import Postponed, StepFailure
from ..outputs import Unkept, as_json

if TYPE_CHECKING:
    from pliers_workflow.settings import Settings

    from ...plugins.discovery import Found, Installed
    from ..claims import ClaimedStep

_log: Final = structlog.get_logger(__name__)
_plugins_log: Final = logging.getLogger("pliers.plugins")

PREFIX: Final = "plugin:"
#: Seconds that an asynchronous plugin has to end when it is cancelled, before it is left behind.
_GOODBYE: Final = 5.0
#: Seconds after which a step is tried again for which no thread was free.
_NO_THREAD: Final = 1.0
_DELAY_MAX: Final = 604_800.0
#: Bytes of a failure's details; of what is more, or no JSON, so many characters are kept.
_DETAILS_MAX: Final = 16_384
_EXCERPT: Final = 1_000

Made = tuple[Callable[..., Any], Callable[[], Any] | None]


class PluginExecutor:
    """See the module."""

    def __init__(self, installed: Installed, settings: Settings) -> None:
        self._installed = installed
        self._threads = settings.plugins.threads
        self._output_size_max = settings.steps.output_size_max
        self._time_max = settings.execution.max_step_execution_time
        #: what classes were made into, by plugin
        self._made: dict[str, Made] = {}
        self._making = threading.Lock()
        #: threads that work, those that are left behind included
        self.busy = 0
        #: calls whose steps are over and that have not ended, by plugin
        self.left_behind: dict[str, int] = {}

    def serves(self, queue: str) -> bool:
        """Whether the plugin is ready here, and a thread is free where it needs one."""
        found = self._installed.ready.get(queue.removeprefix(PREFIX))
        return found is not None and (not _in_thread(found) or self.busy < self._threads)

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
        """Close what plugins keep open. Threads that are left behind end with the process."""
        for id, (_, close) in self._made.items():
            if close is None:
                continue
            try:
                closing = close()
                if inspect.isawaitable(closing):
                    await asyncio.wait_for(closing, _GOODBYE)
            except Exception:
                _log.exception("plugin_not_closed", plugin=id)
        self._made.clear()

    def _seconds(self, found: Found, step: ClaimedStep) -> float:
        timeout_ms = step.payload.timeout_ms
        given = self._time_max if timeout_ms is None else timeout_ms / 1000
        return min(found.plugin.timeout, self._time_max, given)

    async def _run(self, found: Found, step: ClaimedStep, deadline: datetime) -> Any:
        run = step.payload.run
        configuration, given = _object(run.get("configuration")), _object(run.get("input"))
        fields = {
            "plugin_id": found.plugin.id,
            "tenant_id": step.tenant_id,
            "workflow": step.definition,
            "instance_id": step.instance_id,
            "step_id": str(run.get("stepId", step.name)),
            "attempt": step.payload.attempt,
            "idempotency_key": step.attempt_id,
        }
        if found.plugin.isolation == "process":
            asked = {**fields, "deadline": deadline.isoformat()}
            return _told(
                await process.run(Request(found.entry_point, configuration, given, asked, self._output_size_max))
            )
        context = Context(**fields, deadline=deadline, log=_plugins_log)  # type: ignore[arg-type]  # of many types
        try:
            called = arguments(found.plugin, configuration, given, context)
            work = self._in_loop if found.plugin.is_async else self._in_thread
            return output_of(found.plugin, await work(found, called, context))
        except StepFailure:
            raise
        except PluginFailure as failure:
            raise _failed(failure) from failure
        finally:
            context.cancel()

    async def _in_loop(self, found: Found, called: dict[str, Any], context: Context) -> Any:
        call, _ = self._make(found)
        task = asyncio.ensure_future(_guarded(found, call(**called)))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            context.cancel()
            task.cancel()
            await asyncio.wait({task}, timeout=_GOODBYE)
            if not task.done():
                self._leave(found.plugin.id)
                task.add_done_callback(lambda _: self._ended_late(found.plugin.id))
            raise
        if task.cancelled():
            raise _failed(Retryable(f"{found.plugin.id} cancelled itself."))
        return task.result()

    async def _in_thread(self, found: Found, called: dict[str, Any], context: Context) -> Any:
        if self.busy >= self._threads:
            raise Postponed(_NO_THREAD, "all threads for plugins are at work")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        abandoned = False

        def ended(value: Any, error: BaseException | None) -> None:
            self.busy -= 1
            if abandoned:
                self._ended_late(found.plugin.id)
            elif error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        def work() -> None:
            value, error = None, None
            try:
                call, _ = self._make(found)
                value = call(**called)
            except Cancelled:
                error = _failed(Retryable(f"{found.plugin.id} stopped because its time was up.", code="TIMEOUT"))
            except BaseException as raised:  # a thread's end is its own affair, whatever ends it
                error = _explained(found, raised)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there any more
                loop.call_soon_threadsafe(ended, value, error)

        # A thread that hangs must not keep the process from ending.
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(work,), daemon=True, name=f"plugin {found.plugin.id}"
        )
        self.busy += 1
        try:
            thread.start()
        except RuntimeError:
            self.busy -= 1
            raise Postponed(_NO_THREAD, "the machine gives no more threads") from None
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            context.cancel()
            if answer.done():
                answer.exception()  # nobody asks for it any more
            else:
                abandoned = True
                self._leave(found.plugin.id)
            raise

    def _make(self, found: Found) -> Made:
        with self._making:
            made = self._made.get(found.plugin.id)
            if made is None:
                made = self._made[found.plugin.id] = found.plugin.make()
            return made

    def _leave(self, id: str) -> None:
        self.left_behind[id] = self.left_behind.get(id, 0) + 1
        _log.warning("plugin_left_behind", plugin=id, calls=self.left_behind[id])

    def _ended_late(self, id: str) -> None:
        left = self.left_behind.get(id, 0) - 1
        if left > 0:
            self.left_behind[id] = left
        else:
            self.left_behind.pop(id, None)


def _in_thread(found: Found) -> bool:
    return found.plugin.isolation == "thread" and not found.plugin.is_async


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


async def _guarded(found: Found, work: Any) -> Any:
    try:
        return await work
    except Cancelled:
        raise _failed(Retryable(f"{found.plugin.id} stopped because its time was up.", code="TIMEOUT")) from None
    except (Exception, SystemExit) as error:  # one that ends itself must not end the node
        raise _explained(found, error) from error


def _explained(found: Found, error: BaseException) -> StepFailure:
    """What a plugin raised, as the step's failure; what its author did not mean to raise is in the log."""
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
    return {"excerpt": told(repr(given)[:_EXCERPT])} if given else {}


def _told(said: Said) -> Any:
    """What a process said, as the step's output or failure."""
    if not said.code:
        return said.output
    made: PluginFailure = (
        Permanent(said.code, said.message, details=said.details)
        if said.permanent
        else Retryable(said.message, code=said.code, delay=said.delay, details=said.details)
    )
    raise _failed(made)
