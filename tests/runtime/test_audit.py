"""The audit log: one chain for each tenant, in which no change stays unseen."""

from __future__ import annotations

import asyncio

import pytest

from pliers_workflow.runtime.errors import InvalidError
from pliers_workflow.runtime.rows import UserInput

from .conftest import Services


async def fill(services: Services, count: int = 5) -> None:
    """A few rows."""
    for n in range(count):
        async with services.pool.acquire() as connection, connection.transaction():
            await services.audit.record(
                connection, "default", "test.done", f"test:{n}", {"n": n}, services.admin.user_id
            )


async def test_a_whole_chain_verifies(services: Services) -> None:
    """Rows of any number, also none, are intact; tenants have chains of their own."""
    assert (await services.audit.verify("default")).rows == 0
    await fill(services)
    verified = await services.audit.verify("default")
    assert (verified.intact, verified.rows) == (True, 5)
    assert (await services.audit.verify("other")).rows == 0


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit_log SET record = '{\"n\": 7}' WHERE seq = 3",
        "UPDATE audit_log SET action = 'nothing.happened' WHERE seq = 3",
        "UPDATE audit_log SET subject = 'test:9' WHERE seq = 3",
        "UPDATE audit_log SET executed_by = NULL WHERE seq = 3",
        "UPDATE audit_log SET executed_at = executed_at - interval '1 microsecond' WHERE seq = 3",
        "UPDATE audit_log SET hash = sha256('x') WHERE seq = 3",
        "UPDATE audit_log SET previous_hash = sha256('x') WHERE seq = 3",
        "DELETE FROM audit_log WHERE seq = 3",
        "DELETE FROM audit_log WHERE seq = 1",
        "UPDATE audit_log SET seq = 99 WHERE seq = 3",
        "UPDATE audit_log SET tenant_id = 'other' WHERE seq <= 5",
    ],
)
async def test_tampering_shows(services: Services, tampering: str) -> None:
    """Whoever gets past the trigger and changes, removes, moves or hands over a row is found out, and where."""
    await fill(services)
    await services.pool.execute("ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only")
    await services.pool.execute(tampering)
    results = [await services.audit.verify(tenant) for tenant in ("default", "other")]
    assert not all(result.intact for result in results)
    broken = next(result for result in results if not result.intact)
    assert broken.broken_at is not None
    assert broken.problem


async def test_the_log_is_append_only(services: Services) -> None:
    """The database itself refuses to change or delete rows."""
    await fill(services, 1)
    for statement in ("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(Exception, match="append-only"):
            await services.pool.execute(statement)


async def test_concurrent_writers_leave_no_gap(services: Services) -> None:
    """Many transactions at once, some rolled back: seqs follow one another and the chain holds."""

    async def one(n: int) -> None:
        async with services.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await services.audit.record(connection, "default", "test.done", f"test:{n}", {}, None)
            await (transaction.rollback() if n % 3 == 0 else transaction.commit())

    await asyncio.gather(*(one(n) for n in range(30)))
    verified = await services.audit.verify("default")
    assert (verified.intact, verified.rows) == (True, 20)


async def test_a_failed_change_leaves_no_row(services: Services) -> None:
    """The row belongs to the transaction that does what it tells."""
    with pytest.raises(InvalidError):
        await services.directory.create_user(
            services.admin, UserInput(username="ada", roles=("unknown",), manager="nobody")
        )
    assert await services.log() == []


async def test_pages_of_the_log(services: Services) -> None:
    """Newest first, every row once; filters by action and subject."""
    await fill(services)
    first = await services.audit.list("default", limit=3)
    second = await services.audit.list("default", limit=3, cursor=first.next_cursor)
    assert [row.seq for row in (*first.items, *second.items)] == [5, 4, 3, 2, 1]
    assert second.next_cursor is None
    assert [row.details for row in (await services.audit.list("default", subject="test:2")).items] == [{"n": 2}]
    assert (await services.audit.list("other")).items == ()
