"""Submitted forms, and the bindings by which they start workflows.

A submission and the starts it owes are written in one statement: a row, and a job for each binding that matches. Then the
starts are made at once, and their jobs are dropped. Whatever dies in between leaves the jobs, and `run_pending_starts`
makes what they owe. No start is made twice, because the instance's id follows from submission, revision and binding, and
its command's id from that: the second start finds the first.

A start that is refused (the workflow is not published, a mapping gives an error, the data does not fit) takes nothing
from the submission: it stays as a dead job, which an operator can see and retry when the cause is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncpg
import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace as altered

from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import canonical, identity, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from . import idempotency
from .answers import Accepted, Answer, EngineError, RequestKey
from .bindings import Bindings
from .errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, PreconditionFailedError
from .failures import DATABASE_AWAY
from .mapping import Failure, Order, Scope, holds, mapped
from .paging import uuid_cursor
from .principal import Principal
from .rows import DefinitionRow, FailedStart, SubmissionAnswer, SubmissionRow
from .storable import BYTES_MAX, check_object, check_text

if TYPE_CHECKING:
    from .audit import Audit
    from .catalog import Catalog

_log = structlog.get_logger(__name__)
_sql: Final = queries.load("submissions")

#: How long the node that took a submission has for its starts before somebody else looks after them.
GRACE: Final = timedelta(seconds=30)
#: How long a start that is being retried is left alone.
LEASE: Final = timedelta(seconds=60)
#: How often an update that others have overtaken is tried.
_ROUNDS: Final = 8
_MILLISECOND: Final = timedelta(milliseconds=1)


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


class _Payload(Struct, frozen=True, omit_defaults=True):
    """What a job of kind `start` keeps."""

    submission: str
    revision: int
    event: str
    #: who submitted, in whose name the instance starts
    user: str
    username: str
    permissions: tuple[str, ...]
    order: Order
    #: the version that was resolved; None: it could not be, and a retry asks again
    definition: str | None = None
    format: int = 1


class _Job(Struct, frozen=True):
    """A start that is owed."""

    tenant_id: str
    id: str
    instance_id: str
    payload: _Payload


class _Start(Struct, frozen=True):
    """A job made ready: what to start, or why it cannot be."""

    job: _Job
    definition: DefinitionRow | None = None
    data: dict[str, Any] = {}
    context: dict[str, Any] = {}
    failure: FailedStart | None = None


_read_payload: Final = msgspec.json.Decoder(_Payload).decode


class Submissions(Bindings):
    """Keeps submissions and bindings, and makes the starts they owe."""

    def __init__(self, pool: asyncpg.Pool[Any], catalog: Catalog, audit: Audit, start: Starter) -> None:
        super().__init__(pool, catalog, audit)
        self._start = start
        #: tenant and id of jobs that are done and not yet dropped
        self._done: list[tuple[str, str]] = []
        self._dropping: asyncio.Task[None] | None = None

    # -- submissions ---------------------------------------------------------------------------------------------------

    async def create(
        self, principal: Principal, form_id: str, data: object, *, request: RequestKey | None = None
    ) -> SubmissionAnswer:
        """
        Keep a submitted form and start what is bound to it; the principal is its submitter.

        When this returns the submission is on disk, whatever its starts came to. Raises InvalidError, KeyReusedError.
        """
        tenant = principal.tenant_id
        check_text("A form's id", form_id, length_max=255)
        fields, encoded = _checked(data)
        owing = await self._pool.fetch(_sql.to_start, tenant, form_id, "submission.created")
        if not owing:
            raise NotFoundError("unknown_tenant", "There is no such tenant any more.")
        now, real_now = owing[0]["now"], owing[0]["real_now"]
        submission_id = identity.new_instance_id(real_now)
        starts = await self._prepare(principal, owing, submission_id, 1, "submission.created", fields)
        key = request or RequestKey("", "", "", b"")
        row = await self._pool.fetchrow(
            _sql.create, tenant, submission_id, form_id, encoded, principal.user_id, now,
            key.principal, key.route, key.key if request else None, key.body_hash, idempotency.TTL, GRACE,
            *_columns(starts),
        )  # fmt: skip
        if row is None:
            subject = await idempotency.known(self._pool, tenant, request)
            return await self._replay(principal, subject)
        submission = SubmissionRow(
            id=submission_id,
            tenant_id=tenant,
            form_id=form_id,
            data=fields,
            revision=row["revision"],
            submitted_by=principal.user_id,
            submitted_by_username=principal.username,
            created_at=now,
            updated_at=now,
        )
        return await self._answer(submission, starts)

    async def update(
        self,
        principal: Principal,
        submission_id: str,
        data: object,
        if_match: int | None = None,
        *,
        request: RequestKey | None = None,
    ) -> SubmissionAnswer:
        """
        Replace a submission's data and start what is bound to its update; its submitter or an operator may.

        Instances that run already keep the data they were started with. Raises NotFoundError, ForbiddenError,
        PreconditionFailedError, InvalidError, KeyReusedError.
        """
        tenant, subject = principal.tenant_id, f"submission:{submission_id}"
        fields, encoded = _checked(data)
        before = await self.get(principal, submission_id)
        if before is None:
            raise _unknown(submission_id)
        if before.submitted_by != principal.user_id and not principal.may("operator"):
            await self._audit.denied(principal, "submission.update", subject, ("operator",))
            raise ForbiddenError(
                "permission_denied",
                "Only who submitted the form, or an operator, may change it.",
                {"permissions": ["operator"]},
            )
        for _ in range(_ROUNDS):
            if if_match is not None and if_match != before.revision:
                # The same request may have been the one that changed it.
                made = await idempotency.known(self._pool, tenant, request)
                if made is not None:
                    return await self._replay(principal, made)
                raise PreconditionFailedError(
                    "revision_conflict",
                    "The submission has changed since you read it; read it again.",
                    {"revision": before.revision},
                )
            # Prepared before the transaction, which so needs one connection only and is short.
            revision = before.revision + 1
            owing = await self._pool.fetch(_sql.to_start, tenant, before.form_id, "submission.updated")
            starts = await self._prepare(principal, owing, before.id, revision, "submission.updated", fields)
            async with self._pool.acquire() as connection, connection.transaction():
                made = await idempotency.claim(connection, tenant, request)
                if made is None and await connection.fetchval(
                    _sql.update, tenant, before.id, encoded, owing[0]["now"], before.revision
                ):
                    await connection.execute(_sql.add_jobs, tenant, GRACE, *_columns(starts))
                    await idempotency.settle(connection, tenant, request, before.id)
                    await self._audit.record(
                        connection, tenant, "submission.updated", f"submission:{before.id}", {"revision": revision},
                        principal.user_id,
                    )  # fmt: skip
                    updated = True
                else:
                    updated = False
                    if made is None:
                        await idempotency.release(connection, tenant, request)
            if made is not None:
                return await self._replay(principal, made)
            now_there = await self.get(principal, before.id)
            assert now_there is not None, "submissions are never deleted"
            if updated:
                return await self._answer(now_there, starts)
            before = now_there
        raise ConflictError("busy", "The submission is being changed by others all the time; try again.")

    async def get(self, principal: Principal, submission_id: str) -> SubmissionRow | None:
        """Give a submission to its submitter, to operators and auditors; None to everybody else."""
        if not is_uuid(submission_id):
            return None
        row = await self._pool.fetchrow(_sql.get, principal.tenant_id, submission_id)
        if row is None or not (row["submitted_by"] == principal.user_id or _sees_all(principal)):
            return None
        return _submission(row)

    async def list(
        self,
        principal: Principal,
        *,
        form_id: str | None = None,
        submitted_by: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[SubmissionRow]:
        """List submissions, newest first: one's own; operators and auditors see all, or one user's (id)."""
        limit = max(1, min(limit, LIMIT_MAX))
        if form_id is not None:
            check_text("A form's id", form_id, length_max=255)
        if not _sees_all(principal):
            if submitted_by not in (None, principal.user_id):
                return Page(())
            submitted_by = principal.user_id
        if submitted_by is not None and not is_uuid(submitted_by):
            return Page(())
        before = uuid_cursor(cursor)
        rows = await self._pool.fetch(_sql.page, principal.tenant_id, form_id, submitted_by, before, limit + 1)
        return make_page(rows, limit, _submission, lambda row: (row["id"],))

    # -- starts --------------------------------------------------------------------------------------------------------

    async def failed_starts(
        self, principal: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[FailedStart]:
        """List what bindings should have started and could not, oldest first."""
        limit = max(1, min(limit, LIMIT_MAX))
        after = uuid_cursor(cursor)
        if not principal.may("operator", "auditor", "author"):
            return Page(())
        rows = await self._pool.fetch(_sql.page_failed, principal.tenant_id, after, limit + 1)
        return make_page(rows, limit, _failed, lambda row: (row["id"],))

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
                row = await connection.fetchrow(_sql.wake_job, tenant, job_id, LEASE) if is_uuid(job_id) else None
                if row is None:
                    raise NotFoundError("unknown_start", f"There is no failed start {job_id[:300]}.")
                job = _job(row)
                # The job will be gone when it is done, so the key keeps what it was about.
                await idempotency.settle(connection, tenant, request, f"{job.payload.submission} {job.instance_id}")
                await self._audit.record(connection, tenant, "start.retried", f"start:{job.id}", {}, principal.user_id)
        if made is not None:
            return await self._replay_retry(tenant, job_id, *made.split())
        # Which version to start is asked again: the one that was refused may have been replaced since.
        job = altered(job, payload=altered(job.payload, definition=None))
        record = await self._pool.fetchrow(_sql.get, tenant, job.payload.submission)
        assert record is not None, "submissions are never deleted"
        submission = _submission(record)
        return await self._answer(submission, [await self._ready(job, submission)])

    async def _replay_retry(self, tenant: str, job_id: str, submission_id: str, instance_id: str) -> SubmissionAnswer:
        """What became of a start that was retried; where a crash has interrupted that, it is made now."""
        record = await self._pool.fetchrow(_sql.get, tenant, submission_id)
        assert record is not None, "submissions are never deleted"
        submission = _submission(record)
        row = await self._pool.fetchrow(_sql.get_job, tenant, job_id)
        if row is not None and row["status"] == "ready":
            answer = await self._answer(submission, [await self._ready(_job(row), submission)])
            return altered(answer, replayed=True)
        return SubmissionAnswer(
            submission=submission,
            instances=(instance_id,) if instance_id in submission.instances else (),
            failed=() if row is None else (_failed(row),),
            replayed=True,
        )

    async def run_pending_starts(self, limit: int = 100) -> int:
        """
        Finish what a crash interrupted, in all tenants; how many starts were settled.

        For a service to call now and then. Safe on several nodes at once.
        """
        rows = await self._pool.fetch(_sql.claim_pending, limit, LEASE)
        settled = 0
        for row in rows:
            job = _job(row)
            record = await self._pool.fetchrow(_sql.get, job.tenant_id, job.payload.submission)
            assert record is not None, "submissions are never deleted"
            submission = _submission(record)
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
    ) -> tuple[_Start, ...]:
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
            job = _Job(
                tenant_id=principal.tenant_id,
                id=identity.job_id(submission_id, _job_name(order, revision)),
                instance_id=identity.child_instance_id(f"{submission_id}/{order.id}", revision, row["real_now"]),
                payload=_Payload(
                    submission=submission_id,
                    revision=revision,
                    event=event,
                    user=principal.user_id,
                    username=principal.username,
                    permissions=tuple(sorted(principal.permissions)),
                    order=order,
                ),
            )
            start = await self._evaluate(job, data, row["now"])
            if start is not None:
                starts.append(start)
        return tuple(starts)

    async def _evaluate(self, job: _Job, data: dict[str, Any], now: datetime) -> _Start | None:
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
            return _Start(job, failure=_failure(job, failure.code, failure.message, failure.details))
        except InvalidError as error:  # a range that was no finding when the binding was saved
            return _Start(job, failure=_failure(job, "no_startable_version", error.message))
        job = altered(job, payload=altered(job.payload, definition=definition.id))
        return _Start(job, definition, fields, context)

    async def _definition(self, job: _Job) -> DefinitionRow:
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

    async def _ready(self, job: _Job, submission: SubmissionRow) -> _Start:
        """Make a job ready again, for a retry: with the submission as it is now."""
        now = await self._pool.fetchval(_sql.tenant_now, job.tenant_id)
        start = await self._evaluate(job, submission.data, now) or _Start(job)
        if start.failure is not None:
            await self._bury(job, start.failure)
        return start

    async def _answer(self, submission: SubmissionRow, starts: Sequence[_Start]) -> SubmissionAnswer:
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

    async def _run(self, submission: SubmissionRow, start: _Start) -> str | FailedStart | _Pending | None:
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
                requester=payload.user,
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
                failure = _failure(job, str(answer.reason), answer.message, dict(answer.details))
            case _:
                failure = _failure(job, "engine_error", f"The engine answered {type(answer).__name__}; report this.")
        await self._bury(job, failure)
        return failure

    async def _bury(self, job: _Job, failure: FailedStart) -> None:
        """No use in trying again by itself: keep the job, dead, with the reason."""
        await self._pool.execute(_sql.bury_job, job.tenant_id, job.id, _error(failure))

    def _settled(self, job: _Job) -> None:
        """Drop the job soon, together with others: should that fail, the start is found done later."""
        self._done.append((job.tenant_id, job.id))
        if self._dropping is None:
            self._dropping = asyncio.create_task(self._drop(), name="drop started jobs")

    async def _drop(self) -> None:
        try:
            while self._done:
                done, self._done = self._done, []
                await self._pool.execute(_sql.drop_jobs, [job[0] for job in done], [job[1] for job in done])
        except DATABASE_AWAY as error:
            _log.warning("started_jobs_stay_for_now", error=repr(error))
        finally:
            self._dropping = None

    async def _replay(self, principal: Principal, subject: str | None) -> SubmissionAnswer:
        """The answer of an earlier request with the same key: what it has made, and what it still owes is made now."""
        row = (
            await self._pool.fetchrow(_sql.get, principal.tenant_id, subject) if subject and is_uuid(subject) else None
        )
        if row is None:
            raise NotFoundError("unknown_submission", "What this Idempotency-Key stands for is gone; take a new key.")
        submission = _submission(row)
        born = identity.birth(submission.id)
        rows = await self._pool.fetch(
            _sql.jobs_of, principal.tenant_id, submission.id, identity.lowest_id(born),
            identity.lowest_id(born + _MILLISECOND),
        )  # fmt: skip
        dead = tuple(_failed(row) for row in rows if row["status"] == "dead")
        owed = [await self._ready(_job(row), submission) for row in rows if row["status"] == "ready"]
        answer = await self._answer(submission, owed)
        return altered(answer, instances=answer.submission.instances, failed=(*dead, *answer.failed), replayed=True)


class _Pending:
    """Nobody knows yet: the start is on record and follows by itself."""


_PENDING: Final = _Pending()


def _job_name(order: Order, revision: int) -> str:
    return f"start/{order.id}/{revision}"


def _checked(data: object) -> tuple[dict[str, Any], str]:
    """A form's data and its JSON; raises InvalidError where it cannot be kept."""
    fields = check_object("A submission's data", data)
    encoded = canonical.encode_loose(fields)
    if len(encoded) > BYTES_MAX:
        raise InvalidError(
            "data_too_large", f"A submission may have {BYTES_MAX // 1024} kB; keep large values as attachments."
        )
    return fields, encoded.decode()


def _columns(starts: Sequence[_Start]) -> tuple[list[Any], ...]:
    """Jobs as the statements take them: id, instance id, name, payload, error."""
    jobs = [start.job for start in starts]
    return (
        [job.id for job in jobs],
        [job.instance_id for job in jobs],
        [_job_name(job.payload.order, job.payload.revision) for job in jobs],
        [canonical.encode_loose(job.payload).decode() for job in jobs],
        [_error(start.failure) if start.failure else None for start in starts],
    )


def _error(failure: FailedStart) -> str:
    return canonical.encode({"code": failure.code, "message": failure.message, "details": failure.details}).decode()


def _failure(job: _Job, code: str, message: str, details: dict[str, Any] | None = None) -> FailedStart:
    return FailedStart(
        id=job.id,
        submission_id=job.payload.submission,
        binding_id=job.payload.order.id,
        workflow=job.payload.order.workflow,
        code=code,
        message=message,
        details=details or {},
    )


def _job(row: asyncpg.Record) -> _Job:
    return _Job(row["tenant_id"], row["id"], row["instance_id"], _read_payload(row["payload"]))


def _failed(row: asyncpg.Record) -> FailedStart:
    error = canonical.decode(row["last_error"])
    return _failure(_job(row), error["code"], error["message"], error["details"])


def _sees_all(principal: Principal) -> bool:
    return principal.may("operator", "auditor")


def _unknown(submission_id: str) -> NotFoundError:
    return NotFoundError("unknown_submission", f"There is no submission {submission_id[:300]} that you may see.")


def _submission(row: asyncpg.Record) -> SubmissionRow:
    return SubmissionRow(
        id=row["id"],
        tenant_id=row["tenant_id"],
        form_id=row["form_id"],
        data=canonical.decode(row["data"]),
        revision=row["revision"],
        submitted_by=row["submitted_by"],
        submitted_by_username=row["submitted_by_username"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        instances=tuple(row["instances"]),
    )
