"""Who runs steps in the node: one executor for each type of step.

A step's queue says its type: `http`, `script`, `notification`, `plugin:NAME`. (`external:TOPIC` is served by workers over
the API, and by no executor.) An executor gets `configuration` and `input` with all expressions evaluated, and gives the
step's output, any JSON value; or raises `StepFailure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..claims import ClaimedStep


class Executor(Protocol):
    """Runs steps of one type."""

    def serves(self, queue: str) -> bool:
        """Whether steps of this queue can be run here, on this node."""

    def target(self, step: ClaimedStep) -> str | None:
        """What a circuit breaker watches: the host that is called, the plugin; None: nothing outside."""

    async def run(self, step: ClaimedStep) -> Any:
        """
        Run a step; its output. Cancelled when its time is up, its lease is lost, or the node stops.

        Raises `StepFailure`; `Postponed` where it cannot even be begun here now.
        """

    async def close(self) -> None:
        """Let go of what is kept open."""


class Executors:
    """All executors of a node, by type of step."""

    def __init__(self, executors: Mapping[str, Executor]) -> None:
        self._by_type = dict(executors)

    def of(self, queue: str) -> Executor | None:
        """Who runs steps of this queue here."""
        executor = self._by_type.get(queue.partition(":")[0])
        return executor if executor is not None and executor.serves(queue) else None

    def add(self, type_: str, executor: Executor) -> None:
        """Have steps of this type run."""
        assert type_ != "external", "those are left to workers outside"
        self._by_type[type_] = executor

    async def close(self) -> None:
        """Close all."""
        for executor in self._by_type.values():
            await executor.close()
