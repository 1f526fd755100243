"""Where the commit of a batch gets what it needs besides the instances: charts, directory facts, scripts' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.interpreter.facts import Fact, ScriptAnswer, ScriptRequest


class Charts(Protocol):
    """Where compiled charts come from."""

    def cached(self, tenant_id: str, definition_id: str) -> Chart | None:
        """The chart, where it is in memory."""

    async def chart(self, tenant_id: str, definition_id: str) -> Chart:
        """The chart, read and compiled where it has to be."""


class FactLoader(Protocol):
    """Where directory facts come from."""

    async def load_facts(self, connection: Any, tenant_id: str, keys: Sequence[str]) -> dict[str, Fact]:
        """The facts behind these keys, None for what does not exist."""


class Scripts(Protocol):
    """Where script conditions are run."""

    async def run(self, request: ScriptRequest) -> ScriptAnswer:
        """What the script came to."""
