"""Idempotency keys of requests that are no command to an instance.

A request takes its key first and says last what it has made, both in the transaction that makes it: after a crash either
both are there or neither. Two requests with one key at the same time: the second waits for the first and is then given
its answer. A request that is refused rolls back and leaves its key free. (Commands to instances carry their keys into
the commit of their batch, `storage.instances`; `Housekeeping` forgets expired keys of both kinds.)
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pliers_workflow.storage import canonical, queries

from .answers import RequestKey
from .errors import KeyReusedError
from .storable import check_text

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

_sql: Final = queries.load("requests")

#: How long a key is remembered unless told otherwise.
TTL: Final = timedelta(days=1)


def request_key(principal: str, route: str, key: str, body: object) -> RequestKey:
    """Make the key of a request from its `Idempotency-Key` header; raises InvalidError for one that cannot be kept."""
    check_text("Idempotency-Key", key, length_max=255)
    return RequestKey(principal=principal, route=route, key=key, body_hash=sha256(canonical.encode(body)).digest())


async def claim(
    connection: Connection, tenant_id: str, request: RequestKey | None, *, ttl: timedelta = TTL
) -> str | None:
    """
    Take the key in the caller's transaction. None: it is new, go on. Otherwise what the first request made.

    Raises KeyReusedError where the key was used with another body.
    """
    if request is None:
        return None
    taken = await connection.fetchval(
        _sql.claim, tenant_id, request.principal, request.route, request.key, request.body_hash, str(uuid4()), ttl
    )
    if taken:
        return None
    return await known(connection, tenant_id, request)


async def known(connection: Connection | asyncpg.Pool[Any], tenant_id: str, request: RequestKey | None) -> str | None:
    """Say what an earlier request with this key made, or None. Raises KeyReusedError for another body."""
    if request is None:
        return None
    row = await connection.fetchrow(_sql.known, tenant_id, request.principal, request.route, request.key)
    if row is None:
        return None
    if row["body_hash"] != request.body_hash:
        raise KeyReusedError
    subject: str = row["subject"] or ""
    return subject


async def settle(connection: Connection, tenant_id: str, request: RequestKey | None, subject: str) -> None:
    """Say, in the same transaction, what the request has made."""
    if request is not None:
        await connection.execute(_sql.settle, tenant_id, request.principal, request.route, request.key, subject)


async def release(connection: Connection, tenant_id: str, request: RequestKey | None) -> None:
    """Give a key back that was claimed in this transaction, where the transaction goes on without having made anything."""
    if request is not None:
        await connection.execute(_sql.release, tenant_id, request.principal, request.route, request.key)
