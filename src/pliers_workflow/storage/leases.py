"""Leases: of a service that exists on every node, one does the work.

A lease is a row with a deadline, kept by the database's clock. Its holder renews it well before that; when a holder falls
silent, the next one to ask takes it over. Each change of hands raises the fencing token, so a holder that was merely slow
and writes under its old token can be told from the present one.
"""

from __future__ import annotations

from typing import Final

from . import queries
from .database import AnyConnection

__all__ = ["acquire", "holder", "release", "renew"]

_sql: Final = queries.load("leases")


async def acquire(connection: AnyConnection, service: str, owner: str, *, seconds: float) -> int | None:
    """
    Take a service's lease, or renew it where it is ours, for `seconds`; the fencing token, or None while another holds it.

    The token stays the same as long as the lease is renewed in time, and is one more after every change of hands.
    """
    token: int | None = await connection.fetchval(_sql.acquire, service, owner, seconds)
    return token


async def renew(connection: AnyConnection, service: str, owner: str, token: int, *, seconds: float) -> bool:
    """Prolong a lease that is still ours under this token; false: it has lapsed and gone to another, so stop working."""
    return await connection.fetchval(_sql.renew, service, owner, seconds, token) is not None


async def release(connection: AnyConnection, service: str, owner: str) -> bool:
    """Give a lease back, so that nobody has to wait for it to lapse; false: it was not ours."""
    return await connection.fetchval(_sql.release, service, owner) is not None


async def holder(connection: AnyConnection, service: str) -> str | None:
    """Say who holds a service's lease now; None: nobody."""
    name: str | None = await connection.fetchval(_sql.holder, service)
    return name
