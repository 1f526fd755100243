"""A step's result finds its instance: applied once, refused for good, or nobody's any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias
from uuid import uuid4

from msgspec.structs import replace

from pliers_workflow.interpreter.commands import Actor, Command, CompleteStep, FailStep
from pliers_workflow.interpreter.rejections import Reason, Rejection

from ..answers import Accepted, Answer, EngineError, NotFound, RequestKey
from .outputs import Unkept, as_json

ENGINE: Final = Actor()
#: Refusals that mean that nobody waits for this any more.
GONE: Final = frozenset({Reason.STEP_GONE, Reason.INSTANCE_ENDED, Reason.TIMER_GONE, Reason.NOT_AWAITED})

#: The code of a step whose output its instance cannot take.
OUTPUT_REFUSED: Final = "OUTPUT_REFUSED"

Result: TypeAlias = CompleteStep | FailStep


class Execute(Protocol):
    """`Engine.execute`."""

    def __call__(
        self,
        tenant_id: str,
        instance_id: str,
        command: Command,
        *,
        request: RequestKey | None = None,
        background: bool = False,
    ) -> Awaitable[Answer]:
        """Give an instance a command."""


class Settled(Enum):
    """What became of a result."""

    #: it is in the history
    APPLIED = "applied"
    #: the step is not at this attempt any more: drop the result
    GONE = "gone"


async def settle(
    execute: Execute,
    tenant_id: str,
    instance_id: str,
    result: Result,
    *,
    command_id: str | None = None,
    key: Callable[[str], RequestKey] | None = None,
) -> Settled:
    """
    Give a result to its instance.

    An output that the instance cannot take (too large, say) fails the step instead, for good: nothing is gained by running
    it again. Details of a failure that no database holds are left out: a failure is always told. `key` makes the request's
    key, of which the fallback has one of its own. Raises `EngineError` where it cannot be known now whether it was applied:
    repeat it.
    """
    if isinstance(result, FailStep) and result.details:
        result = replace(result, details=_kept(result.details))
    answer = await execute(
        tenant_id, instance_id, Command(command_id or f"step:{uuid4().hex}", ENGINE, result),
        request=key("") if key else None, background=True,
    )  # fmt: skip
    match answer:
        case Accepted():
            return Settled.APPLIED
        case NotFound():
            return Settled.GONE
        case Rejection() if answer.reason in GONE:
            return Settled.GONE
        case Rejection() if isinstance(result, CompleteStep):
            refused = FailStep(
                result.step, result.attempt, OUTPUT_REFUSED, answer.message, retryable=False,
                details={"reason": answer.reason.value, **answer.details},
            )  # fmt: skip
            return await settle(
                execute, tenant_id, instance_id, refused,
                command_id=f"{command_id}:refused" if command_id else None,
                key=(lambda suffix: key(f":refused{suffix}")) if key else None,
            )  # fmt: skip
        case Rejection():
            raise EngineError(f"the instance refuses a step's failure: {answer.message}")
        case _:
            raise EngineError(f"the engine answered {type(answer).__name__}")


def _kept(details: dict[str, Any]) -> dict[str, Any]:
    """
    What a failure says besides, as it can be kept; else why it is left out.

    >>> _kept({"at": (1, 2)}), _kept({"at": "\\0"})
    ({'at': [1, 2]}, {'left_out': 'at /at: A text may not hold a NUL character; take it out.'})
    """
    try:
        kept: dict[str, Any] = as_json(details)
    except Unkept as error:
        return {"left_out": str(error)}
    return kept
