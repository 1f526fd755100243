"""What was submitted: kept, changed, read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from msgspec.structs import replace as altered

from pliers_workflow.storage import canonical, identity
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..access.principal import Principal
from ..answers import RequestKey
from ..errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, PreconditionFailedError
from ..paging import uuid_cursor
from ..rows import SubmissionAnswer, SubmissionRow
from ..storable import BYTES_MAX, check_object, check_text
from .events import Told
from .jobs import Start, columns, failed_row, job_of
from .starts import Starts, sql, submission_row

#: How long the node that took a submission has for its starts before somebody else looks after them.
GRACE: Final = timedelta(seconds=30)
#: How often an update that others have overtaken is tried.
_ROUNDS: Final = 8
_MILLISECOND: Final = timedelta(milliseconds=1)


class Forms(Starts):
    """Keeps submissions."""

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
        owing = await self._pool.fetch(sql.to_start, tenant, form_id, "submission.created")
        if not owing:
            raise NotFoundError("unknown_tenant", "There is no such tenant any more.")
        now, real_now = owing[0]["now"], owing[0]["real_now"]
        submission_id = identity.new_instance_id(real_now)
        starts = await self._prepare(principal, owing, submission_id, 1, "submission.created", fields)
        told = self._events.told(
            tenant, "submission.created", submission_id=submission_id, form_id=form_id, revision=1, data=fields,
            submitted_by=principal.user_id, changed_by=principal.user_id, at=now, real_now=real_now,
        )  # fmt: skip
        key = request or RequestKey("", "", "", b"")
        row = await self._pool.fetchrow(
            sql.create, tenant, submission_id, form_id, encoded, principal.user_id, now,
            key.principal, key.route, key.key if request else None, key.body_hash, idempotency.TTL, GRACE,
            *columns(starts), *told.columns,
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
        return await self._carry_out(submission, starts, told if row["told"] else None)

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

        Instances of the submission that listen for it are told. They keep the data they were started with. Raises NotFoundError, ForbiddenError,
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
            owing = await self._pool.fetch(sql.to_start, tenant, before.form_id, "submission.updated")
            starts = await self._prepare(principal, owing, before.id, revision, "submission.updated", fields)
            told = self._events.told(
                tenant, "submission.updated", submission_id=before.id, form_id=before.form_id, revision=revision,
                data=fields, submitted_by=before.submitted_by, changed_by=principal.user_id, at=owing[0]["now"],
                real_now=owing[0]["real_now"],
            )  # fmt: skip
            heard = False
            async with self._pool.acquire() as connection, connection.transaction():
                made = await idempotency.claim(connection, tenant, request)
                if made is None and await connection.fetchval(
                    sql.update, tenant, before.id, encoded, owing[0]["now"], before.revision
                ):
                    await connection.execute(sql.add_jobs, tenant, GRACE, *columns(starts))
                    heard = bool(await connection.fetchval(sql.tell, tenant, owing[0]["now"], *told.columns))
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
                return await self._carry_out(now_there, starts, told if heard else None)
            before = now_there
        raise ConflictError("busy", "The submission is being changed by others all the time; try again.")

    async def _carry_out(
        self, submission: SubmissionRow, starts: Sequence[Start], told: Told | None
    ) -> SubmissionAnswer:
        """Start what is bound, and tell who listens, both at once."""
        if told is None:
            return await self._answer(submission, starts)
        answer, _ = await asyncio.gather(self._answer(submission, starts), self._events.act(told))
        return answer

    async def get(self, principal: Principal, submission_id: str) -> SubmissionRow | None:
        """Give a submission to its submitter, to operators and auditors; None to everybody else."""
        if not is_uuid(submission_id):
            return None
        row = await self._pool.fetchrow(sql.get, principal.tenant_id, submission_id)
        if row is None or not (row["submitted_by"] == principal.user_id or _sees_all(principal)):
            return None
        return submission_row(row)

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
        rows = await self._pool.fetch(sql.page, principal.tenant_id, form_id, submitted_by, before, limit + 1)
        return make_page(rows, limit, submission_row, lambda row: (row["id"],))

    async def _replay(self, principal: Principal, subject: str | None) -> SubmissionAnswer:
        """The answer of an earlier request with the same key: what it has made, and what it still owes is made now."""
        row = None
        if subject is not None and is_uuid(subject):
            # What is owed is read first: a start that follows between the two is then found among the instances, too.
            born = identity.birth(subject)
            rows = await self._pool.fetch(
                sql.jobs_of,
                principal.tenant_id,
                subject,
                identity.lowest_id(born),
                identity.lowest_id(born + _MILLISECOND),
            )
            row = await self._pool.fetchrow(sql.get, principal.tenant_id, subject)
        if row is None:
            raise NotFoundError("unknown_submission", "What this Idempotency-Key stands for is gone; take a new key.")
        submission = submission_row(row)
        dead = tuple(failed_row(row) for row in rows if row["status"] == "dead")
        owed = [await self._ready(job_of(row), submission) for row in rows if row["status"] == "ready"]
        answer = await self._answer(submission, owed)
        return altered(answer, instances=answer.submission.instances, failed=(*dead, *answer.failed), replayed=True)


def _checked(data: object) -> tuple[dict[str, Any], str]:
    """A form's data and its JSON; raises InvalidError where it cannot be kept."""
    fields = check_object("A submission's data", data)
    encoded = canonical.encode_loose(fields)
    if len(encoded) > BYTES_MAX:
        raise InvalidError(
            "data_too_large", f"A submission may have {BYTES_MAX // 1024} kB; keep large values as attachments."
        )
    return fields, encoded.decode()


def _sees_all(principal: Principal) -> bool:
    return principal.may("operator", "auditor")


def _unknown(submission_id: str) -> NotFoundError:
    return NotFoundError("unknown_submission", f"There is no submission {submission_id[:300]} that you may see.")
