"""Incidents resolved by operators: one, or all of one cause at once.

Resolving one is a command to its instance, and its history says who did it and why. Resolving many is that command for
each of them, in the operator's name; what was asked and how far it has come is a row, and the whole act is in the audit
log. As many as can be done in a moment are done before the operator is answered; a job does the rest. Each incident is
resolved once whatever dies in between, because the act and the incident are the command's key.

An incident that was raised after the act began does not belong to it: a retry that fails again is not retried by the same
act for ever.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.commands import Actor, Command, ResolveIncident
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.storage import canonical, identity, queries
from pliers_workflow.storage.read_model import IncidentFilter

from .. import idempotency
from ..answers import Accepted, Answer, EngineError, RequestKey, ShuttingDown
from ..errors import InvalidError, NotFoundError
from ..failures import NOT_NOW
from ..storable import check_text, find_unstorable
from .payloads import RESOLUTION
from .service import AWAY, Again, ClaimedJob, Failed, JobService, Result, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from pliers_workflow.settings import Settings

    from ..access.audit import Audit
    from ..access.principal import Principal
    from .settling import Execute

_sql: Final = queries.load("resolutions")
_jobs: Final = queries.load("jobs")

Action = Literal["retry", "skip", "give_up"]

#: Incidents that are resolved together.
_PAGE: Final = 100
#: Seconds for which whoever asked is kept waiting while incidents are being resolved.
_AT_ONCE: Final = 2.0
_LEASE: Final = timedelta(seconds=60)
REASON_MAX: Final = 2_000


class Resolution(Struct, frozen=True, kw_only=True):
    """Many incidents resolved at once: what was asked, and how far it has come."""

    id: str
    filter: dict[str, Any]
    action: Action
    reason: str
    #: incidents that were handled so far
    handled: int
    resolved: int
    refused: int
    #: the first of those refused: `{instanceId, incident, code, message}`
    refusals: list[dict[str, Any]]
    created_by: str
    created_at: datetime
    #: None: there are more to come
    finished_at: datetime | None


class Incidents:
    """Resolves many incidents at once, for operators."""

    def __init__(
        self, pool: asyncpg.Pool[Any], audit: Audit, resolver: IncidentResolver, *, owner: str, wake: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._audit = audit
        self._resolver = resolver
        self._owner = owner
        #: tells workers that there is more to do
        self._wake = wake

    async def resolve_many(
        self,
        principal: Principal,
        wanted: IncidentFilter,
        *,
        action: Action,
        reason: str,
        patch: dict[str, Any] | None = None,
        output: Any = None,
        request: RequestKey | None = None,
    ) -> Resolution:
        """
        Resolve every open incident that fits; how far that has come in a moment. A job does the rest.

        Raises InvalidError where nothing is said about which, KeyReusedError.
        """
        tenant = principal.tenant_id
        check_text("A reason", reason, length_max=REASON_MAX)
        if wanted == IncidentFilter():
            raise InvalidError("missing_field", "Say which incidents: a fingerprint, a code, a workflow or a step.")
        for what, value in (("The patch", patch), ("The output", output)):
            if (finding := find_unstorable(value)) is not None:
                raise InvalidError(finding.code, f"{what} cannot be kept: {finding.message}", findings=(finding,))
        await self._audit.require(principal, "incidents.resolve", "incidents:", "operator")
        resolution_id = identity.new_instance_id(datetime.now(UTC))
        async with self._pool.acquire() as connection, connection.transaction():
            made = await idempotency.claim(connection, tenant, request)
            if made is None:
                details = {"filter": msgspec.to_builtins(wanted), "action": action, "reason": reason}
                token = await connection.fetchval(
                    _sql.create, tenant, resolution_id, _json(wanted), action, reason, _json(patch), _json(output),
                    principal.user_id, self._owner, _LEASE,
                )  # fmt: skip
                await idempotency.settle(connection, tenant, request, resolution_id)
                await self._audit.record(
                    connection, tenant, "incidents.resolved", f"incidents:{resolution_id}", details, principal.user_id
                )
        if made is not None:
            return await self.resolution(tenant, made)
        until = time.monotonic() + _AT_ONCE
        job = ClaimedJob(resolution_id, None, "resolution", datetime.now(UTC), token, 1, "{}")
        (result,) = await self._resolver.serve(tenant, [job])
        while isinstance(result, Again) and time.monotonic() < until:
            (result,) = await self._resolver.serve(tenant, [job])
        if result is Served.DONE:
            await self._pool.execute(_jobs.drop_claimed, tenant, [job.id], [job.token])
        else:
            await self._pool.execute(_jobs.give_back, tenant, [job.id], [job.token])
            self._wake()
        return await self.resolution(tenant, resolution_id)

    async def resolution(self, tenant_id: str, resolution_id: str) -> Resolution:
        """How far an act has come. Raises NotFoundError."""
        row = await self._pool.fetchrow(_sql.get, tenant_id, resolution_id) if identity.is_uuid(resolution_id) else None
        if row is None:
            raise NotFoundError("unknown_resolution", f"No incidents were resolved under {resolution_id[:100]}.")
        return _resolution(row)


class IncidentResolver(JobService):
    """Goes on resolving where there are more than a moment's worth."""

    kind = RESOLUTION

    def __init__(self, pool: asyncpg.Pool[Any], execute: Execute, settings: Settings, *, owner: str) -> None:
        super().__init__(pool, settings, owner=owner, batch_size=10, lease=_LEASE.total_seconds())
        self._execute = execute

    async def serve(self, tenant_id: str, jobs: Sequence[ClaimedJob]) -> Sequence[Result]:
        """Resolve the next page of each."""
        return [await self._page(tenant_id, job) for job in jobs]

    async def _page(self, tenant_id: str, job: ClaimedJob) -> Result:
        act = await self._pool.fetchrow(_sql.get, tenant_id, job.id)
        if act is None or act["finished_at"] is not None:
            return Served.DONE
        wanted = msgspec.convert(act["filter"], IncidentFilter)
        incidents = await self._pool.fetch(
            _sql.next, tenant_id, *wanted.parameters, act["raised_before"], act["seen_at"], act["seen_instance"],
            act["seen_incident"], _PAGE,
        )  # fmt: skip
        answers = await asyncio.gather(
            *(self._resolve(tenant_id, act, each) for each in incidents), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, ShuttingDown):
                return Served.KEPT
            if isinstance(answer, NOT_NOW):
                return AWAY
            if isinstance(answer, EngineError):
                return Failed(str(answer))  # the whole page again: what is done is found done
            if isinstance(answer, BaseException):
                raise answer
        refusals = [
            {"instanceId": each["instance_id"], "incident": each["incident"], **_refusal(answer)}
            for each, answer in zip(incidents, answers, strict=True)
            if not isinstance(answer, Accepted)
        ]
        last = incidents[-1] if incidents else None
        finished = len(incidents) < _PAGE
        await self._pool.execute(
            _sql.advance, tenant_id, job.id, len(incidents), len(incidents) - len(refusals), len(refusals),
            canonical.encode_loose(refusals).decode(), last and last["raised_at"], last and last["instance_id"],
            last and last["incident"], finished, act["handled"],
        )  # fmt: skip
        return Served.DONE if finished else Again(0.0)

    async def _resolve(self, tenant_id: str, act: asyncpg.Record, incident: asyncpg.Record) -> Answer:
        order = ResolveIncident(
            incident["incident"],
            act["action"],
            act["reason"],
            patch=None if act["patch"] is None else canonical.decode(act["patch"]),
            output=None if act["output"] is None else canonical.decode(act["output"]),
        )
        name = f"{act['id']}:{incident['instance_id']}:{incident['incident']}"
        command = Command(f"resolve:{name}", Actor(act["created_by"], ("operator",)), order)
        key = RequestKey("engine", "resolution", name, sha256(name.encode()).digest())
        return await self._execute(tenant_id, incident["instance_id"], command, request=key, background=True)


def _refusal(answer: Answer | BaseException) -> dict[str, Any]:
    if isinstance(answer, Rejection):
        return {"code": answer.reason.value, "message": answer.message}
    return {"code": "not_found", "message": "There is no such instance any more."}


def _json(value: object) -> str | None:
    return None if value is None else canonical.encode_loose(value).decode()


def _resolution(row: asyncpg.Record) -> Resolution:
    return Resolution(**{name: row[name] for name in Resolution.__struct_fields__})
