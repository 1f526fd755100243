"""Making the starts that submissions owe, once each, and keeping those that could not be made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncpg
import structlog
from msgspec.structs import replace as altered

from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import canonical, identity, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency, tracing
from ..access.principal import Principal
from ..answers import Accepted, Answer, EngineError, RequestKey
from ..errors import InvalidError, NotFoundError
from ..failures import DATABASE_AWAY, set_apart
from ..paging import uuid_cursor
from ..rows import DefinitionRow, FailedStart, SubmissionAnswer, SubmissionRow
from ..storable import BYTES_MAX
from .events import SubmissionEvents
from .jobs import Job, Payload, Start, error_of, failed_row, failure_of, job_name, job_of
from .mapping import Failure, Order, Scope, holds, mapped

if TYPE_CHECKING:
    from ..access.audit import Audit
    from ..catalog import Catalog

_log = structlog.get_logger(__name__)
sql: Final = queries.load("submissions")

#: How long a start that is being retried is left alone.
LEASE: Final = timedelta(seconds=60)


class Starter(Protocol):
    """How an instance is started: `Engine.start_instance` with the ids given, so that a repeated start is no second one."""

    async def __call__(
        self,
        principal: Principal,
        definition: DefinitionRow,
        *,
        instance_id: str,
        command_id: str,
        data: dict[str, Any],
        context: dict[str, Any],
        requester: str,
        submission_id: str,
        submission: dict[str, Any],
    ) -> Answer:
        """Start it, or find it started. Raises `EngineError` where it cannot be known now."""


class Starts:
    """Makes starts, and lists and retries those that failed."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        catalog: Catalog,
        audit: Audit,
        start: Starter,
        events: SubmissionEvents | None = None,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._audit = audit
        self._start = start
        self._events = events or SubmissionEvents()
        #: tenant and id of jobs that are done and not yet dropped
        self._done: list[tuple[str, str]] = []
        self._dropping: asyncio.Task[None] | None = None

    async def failed_starts(
        self, principal: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[FailedStart]:
        """List what bindings should have started and could not, oldest first."""
        limit = max(1, min(limit, LIMIT_MAX))
        after = uuid_cursor(cursor)
        if not principal.may("operator", "auditor", "author"):
            return Page(())
        rows = await self._pool.fetch(sql.page_failed, principal.tenant_id, after, limit + 1)
        return make_page(rows, limit, failed_row, lambda row: (row["id"],))

    async def retry_start(
        self, principal: Principal, job_id: str, *, request: RequestKey | None = None
    ) -> SubmissionAnswer:
        """
        Try a failed start again, with the submission as it is now, still in its submitter's name.

        A repeated request tries nothing again, and is told what became of the start. Raises NotFoundError where no such
        start has failed, or somebody else is retrying it.
        """
        tenant, subject = principal.tenant_id, f"start:{job_id}"
        await self._audit.require(principal, "start.retry", subject, "operator")
        async with self._pool.acquire() as connection, connection.transaction():
            made = await idempotency.claim(connection, tenant, request)
            if made is None:
                row = await connection.fetchrow(sql.wake_job, tenant, job_id, LEASE) if is_uuid(job_id) else None
                if row is None:
                    raise NotFoundError("unknown_start", f"There is no failed start {job_id[:300]}.")
                job = job_of(row)
                # The job will be gone when it is done, so the key keeps what it was about.
                await idempotency.settle(connection, tenant, request, f"{job.payload.submission} {job.instance_id}")
                await self._audit.record(connection, tenant, "start.retried", f"start:{job.id}", {}, principal.user_id)
        if made is not None:
            return await self._replay_retry(tenant, job_id, *made.split())
        # Which version to start is asked again: the one that was refused may have been replaced since.
        job = altered(job, payload=altered(job.payload, definition=None))
        record = await self._pool.fetchrow(sql.get, tenant, job.payload.submission)
        assert record is not None, "submissions are never deleted"
        submission = submission_row(record)
        return await self._answer(submission, [await self._ready(job, submission)])

    async def _replay_retry(self, tenant: str, job_id: str, submission_id: str, instance_id: str) -> SubmissionAnswer:
        """What became of a start that was retried; where a crash has interrupted that, it is made now."""
        # What is owed is read first: a start that follows between the two is then found among the instances.
        row = await self._pool.fetchrow(sql.get_job, tenant, job_id)
        record = await self._pool.fetchrow(sql.get, tenant, submission_id)
        assert record is not None, "submissions are never deleted"
        submission = submission_row(record)
        if row is not None and row["status"] == "ready":
            answer = await self._answer(submission, [await self._ready(job_of(row), submission)])
            return altered(answer, replayed=True)
        return SubmissionAnswer(
            submission=submission,
            instances=(instance_id,) if instance_id in submission.instances else (),
            failed=() if row is None else (failed_row(row),),
            replayed=True,
        )

    async def run_pending_starts(self, limit: int = 100) -> int:
        """
        Finish what a crash interrupted, in all tenants; how many starts were settled.

        For a service to call now and then. Safe on several nodes at once.
        """
        rows = await self._pool.fetch(sql.claim_pending, limit, LEASE)
        settled = 0
        for row in rows:
            with set_apart("pending_start", tenant=row["tenant_id"], job=row["id"]):
                job = job_of(row)
                record = await self._pool.fetchrow(sql.get, job.tenant_id, job.payload.submission)
                assert record is not None, "submissions are never deleted"
                submission = submission_row(record)
                with tracing.within(job.payload.trace):
                    answer = await self._answer(submission, [await self._ready(job, submission)])
                settled += not answer.pending
        return settled

    async def close(self) -> None:
        """Drop the jobs that are done; they would only be found done later."""
        while self._dropping is not None:
            await asyncio.shield(self._dropping)

    async def _prepare(
        self,
        principal: Principal,
        owing: Sequence[asyncpg.Record],
        submission_id: str,
        revision: int,
        event: str,
        data: dict[str, Any],
    ) -> tuple[Start, ...]:
        """What the bindings of a form come to for one submission; those whose condition is false are left out."""
        starts = []
        for row in owing:
            if row["id"] is None:
                continue
            order = Order(
                id=row["id"],
                workflow=row["workflow_name"],
                version=row["version"],
                condition=row["condition"],
                mapping=canonical.decode(row["data_mapping"]),
            )
            job = Job(
                tenant_id=principal.tenant_id,
                id=identity.job_id(submission_id, job_name(order, revision)),
                instance_id=identity.child_instance_id(f"{submission_id}/{order.id}", revision, row["real_now"]),
                payload=Payload(
                    submission=submission_id,
                    revision=revision,
                    event=event,
                    user=principal.user_id,
                    username=principal.username,
                    permissions=tuple(sorted(principal.permissions)),
                    order=order,
                    trace=tracing.current(),
                ),
            )
            start = await self._evaluate(job, data, row["now"])
            if start is not None:
                starts.append(start)
        return tuple(starts)

    async def _evaluate(self, job: Job, data: dict[str, Any], now: datetime) -> Start | None:
        """Make a job ready to start: version, condition, data. None: its condition does not hold."""
        order = job.payload.order
        try:
            # A version that was resolved once stays: only its condition is not asked again.
            resolved = job.payload.definition is not None
            definition = await self._definition(job)
            scope = Scope(data, definition.definition.get("metadata", {}), now)
            if not resolved and not holds(order, scope):
                return None
            fields, context = mapped(order, scope)
            if max(len(canonical.encode_loose(fields)), len(canonical.encode_loose(context))) > BYTES_MAX:
                raise Failure("data_too_large", f"The mapping gives more than {BYTES_MAX // 1024} kB.")
        except Failure as failure:
            return Start(job, failure=failure_of(job, failure.code, failure.message, failure.details))
        except InvalidError as error:  # a range that was no finding when the binding was saved
            return Start(job, failure=failure_of(job, "no_startable_version", error.message))
        job = altered(job, payload=altered(job.payload, definition=definition.id))
        return Start(job, definition, fields, context)

    async def _definition(self, job: Job) -> DefinitionRow:
        order, known = job.payload.order, job.payload.definition
        if known is not None:
            found = await self._catalog.get(job.tenant_id, known)
        else:
            found = await self._catalog.resolve(job.tenant_id, order.workflow, order.version, deprecated=True)
        if found is not None and found.status in ("active", "deprecated"):
            return found
        wanted = f"{order.workflow} {order.version}" if order.version else order.workflow
        raise Failure(
            "no_startable_version", f"No published version of {wanted} takes new instances; publish one and retry."
        )

    async def _ready(self, job: Job, submission: SubmissionRow) -> Start:
        """Make a job ready again, for a retry: with the submission as it is now."""
        now = await self._pool.fetchval(sql.tenant_now, job.tenant_id)
        start = await self._evaluate(job, submission.data, now) or Start(job)
        if start.failure is not None:
            await self._bury(job, start.failure)
        return start

    async def _answer(self, submission: SubmissionRow, starts: Sequence[Start]) -> SubmissionAnswer:
        """Make the starts, settle their jobs, and say what became of each."""
        results = await asyncio.gather(*(self._run(submission, start) for start in starts))
        instances = tuple(id for id in results if isinstance(id, str))
        failed = tuple(result for result in results if isinstance(result, FailedStart))
        pending = tuple(
            start.job.instance_id for start, result in zip(starts, results, strict=True) if result is _PENDING
        )
        known = tuple(dict.fromkeys((*submission.instances, *instances)))
        return SubmissionAnswer(
            submission=altered(submission, instances=known), instances=instances, pending=pending, failed=failed
        )

    async def _run(self, submission: SubmissionRow, start: Start) -> str | FailedStart | _Pending | None:
        """The instance's id once it runs; or why it cannot; or that nobody knows yet; None: its condition does not hold."""
        job = start.job
        if start.failure is not None:
            return start.failure
        if start.definition is None:
            self._settled(job)
            return None
        payload = job.payload
        principal = Principal(
            tenant_id=job.tenant_id,
            user_id=payload.user,
            username=payload.username,
            permissions=frozenset(payload.permissions),
        )
        try:
            answer = await self._start(
                principal,
                start.definition,
                instance_id=job.instance_id,
                command_id=f"start:{job.id}",
                data=start.data,
                context=start.context,
                requester=submission.submitted_by,
                submission_id=submission.id,
                submission=submission.data,
            )
        except (EngineError, *DATABASE_AWAY) as error:
            # The job stays; `run_pending_starts` comes back to it.
            _log.warning("start_left_for_later", tenant=job.tenant_id, job=job.id, error=repr(error))
            return _PENDING
        match answer:
            case Accepted() | Rejection(reason=Reason.INSTANCE_EXISTS):
                self._settled(job)
                return job.instance_id
            case Rejection():
                failure = failure_of(job, str(answer.reason), answer.message, dict(answer.details))
            case _:
                failure = failure_of(job, "engine_error", f"The engine answered {type(answer).__name__}; report this.")
        await self._bury(job, failure)
        return failure

    async def _bury(self, job: Job, failure: FailedStart) -> None:
        """No use in trying again by itself: keep the job, dead, with the reason."""
        await self._pool.execute(sql.bury_job, job.tenant_id, job.id, error_of(failure))

    def _settled(self, job: Job) -> None:
        """Drop the job soon, together with others: should that fail, the start is found done later."""
        self._done.append((job.tenant_id, job.id))
        if self._dropping is None:
            self._dropping = asyncio.create_task(self._drop(), name="drop started jobs")

    async def _drop(self) -> None:
        try:
            while self._done:
                done, self._done = self._done, []
                await self._pool.execute(sql.drop_jobs, [job[0] for job in done], [job[1] for job in done])
        except DATABASE_AWAY as error:
            _log.warning("started_jobs_stay_for_now", error=repr(error))
        finally:
            self._dropping = None


class _Pending:
    """Nobody knows yet: the start is on record and follows by itself."""


_PENDING: Final = _Pending()


def submission_row(record: asyncpg.Record) -> SubmissionRow:
    """A submission as the statements' columns tell it."""
    return SubmissionRow.of(record, data=canonical.decode(record["data"]), instances=tuple(record["instances"]))
