"""Steps of type `script`: an author's Python in the sandbox, which sees `input` and nothing else."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.interpreter.facts import ScriptRequest

from ...scripts import TIMEOUT_MS_MAX
from ..failures import StepFailure

if TYPE_CHECKING:
    from ...commit.sources import Scripts
    from ..claims import ClaimedStep

#: How an answer begins that says nothing about the script: it was not run at all.
_NOT_RUN: Final = ("the script was not run", "scripts need", "its worker died")


class ScriptExecutor:
    """See the module."""

    def __init__(self, sandbox: Scripts) -> None:
        self._sandbox = sandbox

    def serves(self, queue: str) -> bool:
        """Every node can, or says what it lacks."""
        return queue == "script"

    def target(self, step: ClaimedStep) -> str | None:
        """Nobody outside is asked."""
        return None

    async def run(self, step: ClaimedStep) -> Any:
        """The value of the script's last line."""
        run = step.payload.run
        source = str((run.get("configuration") or {}).get("script", ""))
        given = run.get("input") or {}
        limit = TIMEOUT_MS_MAX if step.payload.timeout_ms is None else min(step.payload.timeout_ms, TIMEOUT_MS_MAX)
        request = ScriptRequest(
            key=f"step:{sha256(source.encode('utf-8', 'replace')).hexdigest()}:{step.attempt_id}",
            source=source,
            input={"input": given},
            timeout_ms=max(1, limit),
        )
        answer = await self._sandbox.run(request)
        if answer.error is None:
            return answer.value
        if any(text in answer.error for text in _NOT_RUN):
            raise StepFailure("SCRIPT_NOT_RUN", answer.error)
        raise StepFailure("SCRIPT_FAILED", answer.error, retryable=False)

    async def close(self) -> None:
        """The sandbox is the node's."""
