"""What instances owe each other: orders that travel, and sub-workflows that start.

No command ever locks two instances. A parent that cancels its child, a child that tells its parent how it ended: each
leaves an order as a job in its own commit, and the dispatcher carries it out. It is carried out exactly once, because the
job's id is an idempotency key in the target's own commit; so a job may be claimed any number of times.

A sub-workflow that cannot start fails its parent's step with the reason, also where the parent does not wait for its end:
such a step waits until the other workflow has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from pliers_workflow.interpreter.commands import Command, CompleteStep, FailStep, StartInstance
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import queries
from pliers_workflow.storage.identity import is_uuid

from .. import tracing
from ..answers import Accepted, Answer, EngineError, InstanceTooNew, NotFound, RequestKey, ShuttingDown
from ..errors import RequestError
from ..failures import NOT_NOW
from .payloads import CHILD, ORDER, ChildPayload, OrderPayload, read_child, read_order
from .service import AWAY, TOO_NEW, Again, ClaimedJob, Failed, JobService, Result, Served
from .settling import ENGINE, GONE, Execute, settle

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

    from ..catalog import Catalog
    from ..rows import DefinitionRow

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("jobs")

#: The code of a sub-workflow's step where the sub-workflow cannot start.
NOT_STARTED: Final = "SUB_WORKFLOW_NOT_STARTED"
#: Seconds until an order is tried again whose target has not started yet, and one whose target is suspended.
_NOT_YET: Final = 0.2
_SUSPENDED: Final = 15.0


class _Dispatcher(JobService):
    def __init__(self, pool: asyncpg.Pool[Any], execute: Execute, settings: Settings, *, owner: str) -> None:
        super().__init__(pool, settings, owner=owner)
        self._execute = execute

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Result]:
        """Carry out orders."""
        return await asyncio.gather(*(self._guarded(tenant_id, job) for job in jobs))

    async def _guarded(self, tenant_id: str, job: ClaimedJob) -> Result:
        try:
            return await self._carry_out(tenant_id, job)
        except ShuttingDown:
            return Served.KEPT
        except InstanceTooNew:
            return TOO_NEW
        except NOT_NOW as error:
            _log.warning("order_left_for_later", kind=self.kind, job=job.id, error=repr(error))
            return AWAY
        except EngineError as error:
            return Failed(str(error))
        except msgspec.DecodeError as error:
            return Failed(f"the job cannot be read: {error}")

    async def _carry_out(self, tenant_id: str, job: ClaimedJob) -> Result:
        raise NotImplementedError


class OrderDispatcher(_Dispatcher):
    """Carries out orders for other instances."""

    kind = ORDER

    async def _carry_out(self, tenant_id: str, job: ClaimedJob) -> Result:
        payload = read_order(job.payload)
        tracing.adopt(payload.trace)
        if isinstance(payload.order, CompleteStep | FailStep):
            await settle(
                self._execute, tenant_id, payload.to, payload.order, command_id=f"job:{job.id}",
                key=lambda suffix: _key(job, suffix),
            )  # fmt: skip
            return Served.DONE
        answer = await self._give(tenant_id, job, payload)
        if isinstance(answer, NotFound):
            if await self._starts_later(tenant_id, job, payload.to):
                return Again(_NOT_YET)
            answer = await self._give(tenant_id, job, payload)  # it may have been started while we asked
        match answer:
            case Accepted() | NotFound():
                return Served.DONE
            case Rejection(reason=Reason.SUSPENDED):
                return Again(_SUSPENDED)
            case Rejection() if answer.reason in GONE:
                return Served.DONE
            case Rejection():
                return Failed(answer.message, for_good=True)
            case _:
                return Failed(f"the engine answered {type(answer).__name__}", for_good=True)

    async def _give(self, tenant_id: str, job: ClaimedJob, payload: OrderPayload) -> Answer:
        command = Command(f"job:{job.id}", ENGINE, payload.order)
        return await self._execute(tenant_id, payload.to, command, request=_key(job), background=True)

    async def _starts_later(self, tenant_id: str, job: ClaimedJob, target: str) -> bool:
        """Whether the sender still owes the start of the instance that this order, to cancel it, is for."""
        await self._pool.execute(_sql.drop_dead_start, tenant_id, job.instance_id, target)
        return bool(await self._pool.fetchval(_sql.owes_start, tenant_id, job.instance_id, target))


class ChildStarter(_Dispatcher):
    """Starts sub-workflows."""

    kind = CHILD

    def __init__(
        self, pool: asyncpg.Pool[Any], execute: Execute, catalog: Catalog, settings: Settings, *, owner: str
    ) -> None:
        super().__init__(pool, execute, settings, owner=owner)
        self._catalog = catalog

    async def _carry_out(self, tenant_id: str, job: ClaimedJob) -> Result:
        payload = read_child(job.payload)
        tracing.adopt(payload.trace)
        wanted = f"{payload.workflow} {payload.version}" if payload.version else payload.workflow
        try:
            definition = await self._definition(tenant_id, payload)
        except RequestError as error:
            return await self._refused(tenant_id, job, payload, error.code, error.message)
        if definition is None:
            return await self._refused(
                tenant_id, job, payload, "no_startable_version",
                f"No published version of {wanted} takes new instances; publish one and retry.",
            )  # fmt: skip
        order = StartInstance(
            instance_id=payload.to,
            definition_id=definition.id,
            data=payload.data,
            context=payload.context,
            requester=payload.requester,
            parent=payload.parent,
        )
        answer = await self._execute(
            tenant_id, payload.to, Command(f"job:{job.id}", ENGINE, order), request=_key(job), background=True
        )
        match answer:
            case Accepted() | Rejection(reason=Reason.INSTANCE_EXISTS):
                return Served.DONE
            case Rejection():
                return await self._refused(
                    tenant_id, job, payload, answer.reason.value, f"{wanted} did not start: {answer.message}",
                    answer.details,
                )  # fmt: skip
            case _:
                return Failed(f"the engine answered {type(answer).__name__}")

    async def _definition(self, tenant_id: str, payload: ChildPayload) -> DefinitionRow | None:
        if is_uuid(payload.workflow):
            found = await self._catalog.get(tenant_id, payload.workflow)
            return found if found is not None and found.status in ("active", "deprecated") else None
        return await self._catalog.resolve(tenant_id, payload.workflow, payload.version, deprecated=True)

    async def _refused(
        self,
        tenant_id: str,
        job: ClaimedJob,
        payload: ChildPayload,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
    ) -> Result:
        """Tell the parent, whose step waits at least for the start."""
        failure = not_started(payload, reason, message, details)
        await settle(
            self._execute, tenant_id, payload.parent.instance, failure, command_id=f"job:{job.id}:refused",
            key=lambda suffix: _key(job, f":refused{suffix}"),
        )  # fmt: skip
        return Served.DONE


def not_started(payload: ChildPayload, reason: str, message: str, details: dict[str, Any] | None = None) -> FailStep:
    """How the step of a sub-workflow fails that cannot start, or is not to start any more."""
    parent = payload.parent
    told = {**(details or {}), "reason": reason, "workflow": payload.workflow, "version": payload.version}
    return FailStep(parent.step, parent.attempt, NOT_STARTED, message, retryable=False, details=told)


def _key(job: ClaimedJob, suffix: str = "") -> RequestKey:
    """The key under which a job is carried out once; the payload never changes under one id."""
    return RequestKey("engine", "job", job.id + suffix, sha256(job.payload.encode()).digest())
