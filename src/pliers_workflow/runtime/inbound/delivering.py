"""Acting on a match: an instance is started, or a living one is given the event. Both may be repeated.

What is started has an id that follows from the event, the workflow and the trigger, and a start that was made before is
found made. A command to a living instance carries an idempotency key of event, instance and trigger into its own commit;
repeated, it is answered from there. The key is remembered as long as the event itself, and a while longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

from pliers_workflow.interpreter.commands import Actor, Command, DeliverEvent, StartInstance
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import canonical, identity
from pliers_workflow.storage.identity import is_uuid

from .. import tracing
from ..answers import Accepted, RequestKey
from ..errors import InvalidError
from ..storable import find_unstorable
from ..submissions.mapping import Failure
from .rows import Result, Stored

if TYPE_CHECKING:
    from pliers_workflow.definition.listening import Doing

    from ..answers import Answer
    from ..catalog import Catalog
    from ..directory import Directory
    from .matching import Match

_ENGINE: Final = Actor()
#: What a trigger's action is called in an instance.
_ACTIONS: Final[dict[Doing, Any]] = {
    "advance_state": "advance",
    "execute_step": "execute",
    "escalate": "escalate",
    "handle": "handle",
    "receive": "receive",
}
#: The instance is not there any more.
_GONE: Final = frozenset({Reason.INSTANCE_ENDED})
#: The instance listened, and what it was to do could not be done: nothing that waiting would mend. Every other refusal is
#: of the moment (another state, a guard, a suspension), and is asked again.
_FAILURES: Final = frozenset(
    {
        Reason.NOT_ALLOWED,
        Reason.DATA_INVALID,
        Reason.EXECUTION_ERROR,
        Reason.ENDLESS_LOOP,
        Reason.BUDGET_EXCEEDED,
        Reason.DATA_TOO_LARGE,
        Reason.UNKNOWN_STEP,
    }
)
#: places of one refusal that are named, and bytes of what is kept of it
_FINDINGS_MAX: Final = 20
_DETAILS_MAX: Final = 2_000


class Execute(Protocol):
    """`Engine.execute`."""

    def __call__(
        self, tenant_id: str, instance_id: str, command: Command, *, request: RequestKey | None = None, background: bool
    ) -> Awaitable[Answer]:
        """Give an instance a command."""


class Deliverer:
    """Starts instances and gives them events."""

    def __init__(self, execute: Execute, catalog: Catalog, directory: Directory, *, key_ttl: float) -> None:
        self._execute = execute
        self._catalog = catalog
        self._directory = directory
        #: seconds that the key of a delivery is remembered
        self._key_ttl = int(key_ttl)

    async def start(self, stored: Stored, match: Match) -> Result:
        """Start what a trigger orders, or find it started; a start that is refused is a failed result."""
        try:
            order = await self._order(stored, match)
        except Failure as failure:
            return failed(match, failure)
        command = Command(id=_command_id(stored, match), actor=_ENGINE, order=order)
        with tracing.within(stored.trace):
            answer = await self._execute(stored.tenant_id, order.instance_id, command, background=True)
        if isinstance(answer, Accepted):
            return result(match, "started", instance=order.instance_id)
        if not isinstance(answer, Rejection):
            return failed(match, Failure("engine_error", f"The engine answered {type(answer).__name__}; report this."))
        if answer.reason is not Reason.INSTANCE_EXISTS:
            return failed(match, Failure(str(answer.reason), answer.message, _without_values(answer.details)))
        if answer.details.get("field") == "externalKey":
            return result(match, "refused", code=str(answer.reason), message=answer.message)
        return result(match, "started", instance=order.instance_id)

    async def _order(self, stored: Stored, match: Match) -> StartInstance:
        candidate, rule = match.candidate, match.candidate.rule.rule
        definition_id = candidate.definition_ids[0]
        if rule.workflow is not None or rule.version is not None:
            name = rule.workflow or candidate.workflow
            try:
                found = await self._catalog.resolve(stored.tenant_id, name, rule.version, deprecated=True)
            except InvalidError as error:
                raise Failure("no_startable_version", error.message) from None
            if found is None:
                wanted = f"{name} {rule.version}" if rule.version else name
                raise Failure("no_startable_version", f"No published version of {wanted} takes new instances.")
            definition_id = found.id
        event, submission = stored.event, stored.of_submission
        requester = await self._requester(stored.tenant_id, match.requester)
        data = match.parameters
        if data is None:
            data = stored.event.data if isinstance(stored.event.data, dict) else {}
        return StartInstance(
            instance_id=identity.child_instance_id(
                f"{stored.id}/{candidate.workflow}/{candidate.trigger_id}", 1, identity.birth(stored.id)
            ),
            definition_id=definition_id,
            data=data,
            # What a submission starts runs for its submitter, as what a binding starts does.
            requester=event.attributes["submittedby"] if submission and requester is None else requester,
            submission_id=event.subject if submission else None,
            submission=event.data if submission else {},
            external_key=match.external_key,
            depth=stored.depth,
        )

    async def _requester(self, tenant_id: str, named: str | None) -> str | None:
        """The id of the person that a trigger names; raises Failure for one the directory does not know."""
        if named is None or is_uuid(named):
            return named
        user = await self._directory.user_by_name(tenant_id, named)
        if user is None:
            raise Failure("unknown_user", f"`requester` names {named[:200]!r}, whom the directory does not know.")
        return user.id

    async def deliver(self, stored: Stored, match: Match, instance_id: str, steps: tuple[str, ...] = ()) -> Answer:
        """Give a living instance, or `steps` of it that wait, the event; repeated, the first answer comes again."""
        rule = match.candidate.rule.rule
        order = DeliverEvent(
            event=stored.event,
            action=_ACTIONS[rule.action],
            matched=match.candidate.trigger_id,
            trigger=rule.trigger,
            target=rule.target,
            step=rule.step,
            steps=steps,
            parameters=match.parameters,
            depth=stored.depth,
        )
        key = f"{stored.id}/{instance_id}/{digest(match)}"
        request = RequestKey("engine", "event", key, sha256(key.encode()).digest(), ttl=self._key_ttl)
        command = Command(id=_command_id(stored, match), actor=_ENGINE, order=order)
        with tracing.within(stored.trace):
            return await self._execute(stored.tenant_id, instance_id, command, request=request, background=True)


def digest(match: Match) -> str:
    """A trigger, short, in keys and command ids; ids of triggers may be long."""
    return sha256(match.candidate.trigger_id.encode()).hexdigest()[:16]


def _command_id(stored: Stored, match: Match) -> str:
    return f"event:{stored.id}:{sha256(match.candidate.workflow.encode()).hexdigest()[:8]}{digest(match)}"


def taken(answer: Answer) -> bool:
    """Whether an instance has taken the event, now or before."""
    return isinstance(answer, Accepted)


def result(match: Match, outcome: Any, **more: Any) -> Result:
    """What a match came to."""
    candidate = match.candidate
    return Result(candidate.workflow, candidate.trigger_id, candidate.rule.rule.action, outcome, **more)


def failed(match: Match, failure: Failure) -> Result:
    """A match that could not be carried out."""
    # An author's expression may have put into its error what the database does not hold.
    message = failure.message.replace("\0", " ").encode(errors="replace").decode()
    return result(match, "failed", code=failure.code, message=message, details=failure.details)


def refused(match: Match, instance_id: str, answer: Answer) -> Result | None:
    """Why an instance has not taken the event: for now, or for good (a failure); None: it is not there any more."""
    if not isinstance(answer, Rejection) or answer.reason in _GONE:
        return None
    return result(
        match,
        "failed" if answer.reason in _FAILURES else "refused",
        instance=instance_id,
        code=str(answer.reason),
        message=answer.message,
        details=_without_values(answer.details),
    )


def _without_values(details: dict[str, Any]) -> dict[str, Any]:
    """What a refusal says besides, without what is in the data: it lies with the event, which more people read."""
    told = dict(details)
    if "findings" in told:
        told["findings"] = [{"pointer": each["pointer"]} for each in told["findings"][:_FINDINGS_MAX]]
    if isinstance(explanation := told.get("explanation"), dict):
        told["explanation"] = {
            name: explanation[name] for name in ("error", "guard", "expression") if name in explanation
        }
    kept = find_unstorable(told) is None and len(canonical.encode_loose(told)) <= _DETAILS_MAX
    return told if kept else {}


async def in_order(orders: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Begin all in their order, and wait for all; the first error is raised when all have ended."""
    tasks = [asyncio.ensure_future(order()) for order in orders]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
