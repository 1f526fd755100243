"""Commands that are too much for a batch: interpreted alone, in a process of their own.

One slow command in a batch of two hundred makes everybody wait. What exceeds the batch's budget, and every command of a
very large chart, is interpreted here with a larger budget; a process that does not come back in time is killed, and the
command is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final, Protocol

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.document import WorkflowDefinition
from pliers_workflow.interpreter.facts import Needs
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome, Overrun
from pliers_workflow.interpreter.rejections import Reason, Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.interpreter.commands import Command
    from pliers_workflow.interpreter.facts import Fact
    from pliers_workflow.interpreter.instance import Instance

_CHARTS_MAX: Final = 20
_charts: OrderedDict[str, Chart] = OrderedDict()


class Documents(Protocol):
    """Where documents come from."""

    async def document(self, tenant_id: str, definition_id: str) -> dict[str, Any]:
        """The definition's document, as decoded JSON."""


class SoloInterpreter:
    """A pool of one process, started when it is first needed and replaced when it hangs or dies."""

    def __init__(self, documents: Documents, *, budget_steps: int, retry_attempts: int, timeout: float = 15.0) -> None:
        self._documents = documents
        self._retry_attempts = retry_attempts
        self._budget_steps = budget_steps
        self._timeout = timeout
        self._pool: ProcessPoolExecutor | None = None
        #: the process takes one command at a time; the others wait without their clock running
        self._turn = asyncio.Lock()

    async def interpret(
        self,
        tenant_id: str,
        definition_id: str,
        chart: Chart,
        instance: Instance | None,
        command: Command,
        facts: Mapping[str, Fact],
        now: datetime,
        *,
        refused: Rejection | None = None,
    ) -> Outcome | Rejection | Needs:
        """As `interpreter.interpret`, but never longer than the timeout."""
        document = await self._documents.document(tenant_id, definition_id)
        async with self._turn:
            return await self._interpret(document, chart.content_hash, instance, command, dict(facts), now, refused)

    async def _interpret(
        self,
        document: dict[str, Any],
        content_hash: str,
        instance: Instance | None,
        command: Command,
        facts: dict[str, Fact],
        now: datetime,
        refused: Rejection | None,
    ) -> Outcome | Rejection | Needs:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
        job = asyncio.get_running_loop().run_in_executor(
            self._pool,
            _job,
            document,
            content_hash,
            instance,
            command,
            facts,
            now,
            refused,
            self._budget_steps,
            self._retry_attempts,
        )
        try:
            result = await asyncio.wait_for(job, self._timeout)
        except (TimeoutError, BrokenExecutor):
            self.close()
            return Rejection(Reason.BUDGET_EXCEEDED, f"Interpreting this command took longer than {self._timeout:g} s.")
        if isinstance(result, Overrun):
            return Rejection(
                Reason.BUDGET_EXCEEDED, f"Interpreting this command took more than {self._budget_steps:,} steps."
            )
        return result

    def close(self) -> None:
        """End the process, whatever it is doing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):  # no public way to end a hung worker before 3.14
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            pool.shutdown(wait=False, cancel_futures=True)


def _job(
    document: dict[str, Any],
    content_hash: str,
    instance: Instance | None,
    command: Command,
    facts: dict[str, Fact],
    now: datetime,
    refused: Rejection | None,
    budget_steps: int,
    retry_attempts: int,
) -> Outcome | Rejection | Needs | Overrun:
    chart = _charts.get(content_hash)
    if chart is None:
        chart = _charts[content_hash] = compile_definition(
            WorkflowDefinition.model_validate(document, by_alias=True, by_name=False), retry_attempts=retry_attempts
        )
        if len(_charts) > _CHARTS_MAX:
            _charts.popitem(last=False)
    return interpret(chart, instance, command, facts, now, budget_steps=budget_steps, refused=refused)
