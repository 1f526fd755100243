"""What the database's errors mean for a batch, what a caller is told when it refuses their command, and what goes no further."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import instances as storage

from .answers import EngineError, OutcomeUnknown, Overloaded

if TYPE_CHECKING:
    from typing import Any

    from .commit.queue import Pending

_log = structlog.get_logger(__name__)

#: The statement was rolled back and may simply be run again; where that does not help, with less in it.
TRANSIENT: Final = (
    asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError,
    asyncpg.OutOfMemoryError,
)  # fmt: skip
#: The constraint by which a key is used once.
KEY_CONSTRAINT: Final = "idempotency_records_pkey"
#: Nobody knows what became of the statement.
CONNECTION_LOST: Final = (
    asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError, asyncpg.CannotConnectNowError, OSError, asyncio.TimeoutError,
    asyncpg.InternalClientError, asyncpg.DiskFullError, asyncpg.ReadOnlySQLTransactionError,
)  # fmt: skip
#: What a service waits out and tries again; whatever else comes to it is a bug, and is told as one. (asyncpg's
#: InternalClientError is a connection, too, that broke while a statement was being prepared.)
DATABASE_AWAY: Final = (*CONNECTION_LOST, *TRANSIENT)
#: Why a command was not committed that is no fault of its own, however often and long: the database is away, or this node
#: has too much to do. Whatever else the engine raises may be a defect, and is not tried for ever.
NOT_NOW: Final = (Overloaded, OutcomeUnknown, *DATABASE_AWAY)


@contextlib.contextmanager
def set_apart(sweep: str, **about: str) -> Iterator[None]:
    """
    What goes wrong in the block is logged and goes no further: what comes after it is done all the same.

    For what is done again by itself, in the next round. `about` says whose it was.
    """
    try:
        yield
    except DATABASE_AWAY as error:
        _log.warning("sweep_waits_for_database", sweep=sweep, error=repr(error), **about)
    except Exception:
        _log.exception("sweep_failed", sweep=sweep, **about)


async def key_was_used(
    connection: asyncpg.Connection[Any], pending: Pending, error: asyncpg.UniqueViolationError
) -> bool:
    """
    Whether what the database found twice is the request itself: another of the same key was committed meanwhile.

    Then the next read finds its answer. The key's own constraint says so by its name; a start is stopped by its external
    key first, which another instance may have, or the very one that the first request has started.
    """
    request = pending.request
    if request is None or error.constraint_name == KEY_CONSTRAINT:
        return request is not None
    _, known = await storage.load(connection, [], [(pending.tenant_id, request.principal, request.route, request.key)])
    return bool(known)


def refuse(pending: Pending, error: Exception) -> None:
    """Tell the caller of a command that stands alone why the database would not take it."""
    _log.warning("command_refused_by_database", command=pending.command.id, error=repr(error))
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "workflow_instances_external_key":
        message = "An instance of this workflow has this external key already."
        pending.answer(Rejection(Reason.INSTANCE_EXISTS, message, {"field": "externalKey"}))
    elif isinstance(error, asyncpg.NotNullViolationError) and error.column_name == "workflow_version":
        pending.answer(Rejection(Reason.VERSION_ARCHIVED, Reason.VERSION_ARCHIVED.message))
    elif isinstance(
        error,
        asyncpg.DataError
        | asyncpg.IntegrityConstraintViolationError
        | asyncpg.StatementTooComplexError
        | asyncpg.ProgramLimitExceededError
        | ValueError,
    ):
        pending.answer(
            Rejection(
                Reason.DATA_INVALID,
                "The database cannot hold this value.",
                {"findings": [{"pointer": "", "message": error.args[0] if error.args else str(error)}]},
            )
        )
    else:
        pending.fail(EngineError(f"the database refused this command: {error}"))
