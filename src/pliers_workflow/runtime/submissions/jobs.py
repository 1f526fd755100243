"""A start that a submission owes, as the job in which it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.interpreter.commands import Trace
from pliers_workflow.storage import canonical

from ..rows import DefinitionRow, FailedStart
from .mapping import Order

if TYPE_CHECKING:
    import asyncpg


class Payload(Struct, frozen=True, omit_defaults=True):
    """What a job of kind `start` keeps."""

    submission: str
    revision: int
    event: str
    #: who submitted or changed the form: the starter. The requester is the submitter, whoever changed it
    user: str
    username: str
    permissions: tuple[str, ...]
    order: Order
    #: the version that was resolved; None: it could not be, and a retry asks again
    definition: str | None = None
    #: of the request that owes it
    trace: Trace | None = None
    format: int = 1


class Job(Struct, frozen=True):
    """A start that is owed."""

    tenant_id: str
    id: str
    instance_id: str
    payload: Payload


class Start(Struct, frozen=True):
    """A job made ready: what to start, or why it cannot be."""

    job: Job
    definition: DefinitionRow | None = None
    data: dict[str, Any] = {}
    context: dict[str, Any] = {}
    failure: FailedStart | None = None


_read_payload: Final = msgspec.json.Decoder(Payload).decode


def job_name(order: Order, revision: int) -> str:
    """What a job is called: its submission, revision and binding have one job together, whoever makes it."""
    return f"start/{order.id}/{revision}"


def columns(starts: Sequence[Start]) -> tuple[list[Any], ...]:
    """Jobs as the statements take them: id, instance id, name, payload, error."""
    jobs = [start.job for start in starts]
    return (
        [job.id for job in jobs],
        [job.instance_id for job in jobs],
        [job_name(job.payload.order, job.payload.revision) for job in jobs],
        [canonical.encode_loose(job.payload).decode() for job in jobs],
        [error_of(start.failure) if start.failure else None for start in starts],
    )


def error_of(failure: FailedStart) -> str:
    """A failure as a job keeps it."""
    return canonical.encode({"code": failure.code, "message": failure.message, "details": failure.details}).decode()


def failure_of(job: Job, code: str, message: str, details: dict[str, Any] | None = None) -> FailedStart:
    """Why a job could not be done."""
    return FailedStart(
        id=job.id,
        submission_id=job.payload.submission,
        binding_id=job.payload.order.id,
        workflow=job.payload.order.workflow,
        code=code,
        message=message,
        details=details or {},
    )


def job_of(row: asyncpg.Record) -> Job:
    """A job as it is kept."""
    return Job(row["tenant_id"], row["id"], row["instance_id"], _read_payload(row["payload"]))


def failed_row(row: asyncpg.Record) -> FailedStart:
    """A dead job."""
    error = canonical.decode(row["last_error"])
    return failure_of(job_of(row), error["code"], error["message"], error["details"])
