"""The schema on the oldest and the newest server: what it lets in, who sees what, partitions, leases."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from pliers_workflow.storage import identity, leases, migrations, partitions, read_model
from pliers_workflow.storage.database import connect, open_pool
from tests.databases import Server
from tests.storage.filling import fill

if TYPE_CHECKING:
    from asyncpg.pool import Pool

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection as the tables' owner."""
    connection = await connect(database)
    yield connection
    await connection.close()


async def add_history(connection: Any, instance_id: str, seq: int = 1, tenant_id: str = "default") -> None:
    """A history row."""
    await connection.execute(
        "INSERT INTO workflow_execution_history (tenant_id, workflow_instance_id, seq, id, command_id, action_type, "
        "execution_data, executed_at, previous_hash, hash) "
        "VALUES ($1, $2, $3, $4, 'c', 'start', '{}', now(), '', sha256(''))",
        tenant_id,
        instance_id,
        seq,
        identity.history_id(instance_id, seq),
    )


# -- versions of PostgreSQL --------------------------------------------------------------------------------------------


async def test_the_schema_runs_on_the_oldest_server(oldest_empty_database: str) -> None:
    """PostgreSQL 15 takes every migration, once, and the engine's reads and partitions work on it."""
    dsn = oldest_empty_database
    answers = await asyncio.gather(*(migrations.migrate(dsn) for _ in range(3)))
    assert sorted(map(len, answers)) == [0, 0, len(migrations.migrations())]
    pool = await open_pool(dsn, max_size=1)
    async with pool.acquire() as connection:
        await fill(connection, 100)
        made = await partitions.keep_partitions(connection, datetime.now(UTC), 4)
    assert len(made) == 2  # one month more ahead, and January 2026, where the filling was born
    manager = read_model.Viewer("default", await pool.fetchval("SELECT number_id('u', 5)::text"), ("managers",))
    assert len((await read_model.list_instances(pool, manager, limit=200)).items) == 100
    assert len((await read_model.inbox(pool, manager, manager.user_id)).items) == 2
    assert (await read_model.health(pool))["server_version"].startswith("15")
    pool.terminate()


async def test_an_old_server_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server below the oldest we write for is refused before anything is changed."""
    monkeypatch.setattr(migrations, "SERVER_VERSION_MIN", 990000)
    with pytest.raises(migrations.MigrationError, match="at least 99 is needed"):
        await migrations.migrate(database)


# -- what must always hold ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE workflow_execution_history SET command_id = 'other'",
        "DELETE FROM workflow_execution_history",
        "TRUNCATE workflow_execution_history",
        "TRUNCATE audit_log",
    ],
)
async def test_the_log_is_append_only(connection: asyncpg.Connection[Any], statement: str) -> None:
    """Not even the owner changes what has been written, by any of SQL's ordinary means."""
    await add_history(connection, identity.new_instance_id(NOW))
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await connection.execute(statement)


async def test_versions_sort_as_semver_says(connection: asyncpg.Connection[Any]) -> None:
    """SemVer 2.0.0 §11's own list comes out in its order."""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "2.0.0"]
    rows = await connection.fetch(
        'SELECT v FROM unnest($1::text[]) v ORDER BY semver_key(v) COLLATE "C"', sorted(ordered, reverse=True)
    )
    assert [row["v"] for row in rows] == ordered


# -- row-level security ------------------------------------------------------------------------------------------------


@pytest.fixture
async def reporting(connection: asyncpg.Connection[Any]) -> AsyncIterator[str]:
    """A role for reporting, with two tenants to look at."""
    role = f"reporting_{uuid.uuid4().hex[:12]}"
    await connection.execute("INSERT INTO tenants (id, name) VALUES ('acme', 'Acme')")
    await connection.execute("INSERT INTO users (tenant_id, username) VALUES ('default', 'ada'), ('acme', 'bob')")
    await connection.execute(f"CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    await connection.execute(f"SET ROLE {role}")
    yield role
    await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.usefixtures("reporting")
async def test_others_see_one_tenant_and_must_say_which(connection: asyncpg.Connection[Any]) -> None:
    """A role that is not the engine's sees the tenant it names; where none is named, a query fails instead of lying."""
    for before in ("RESET pliers.tenant", "SET pliers.tenant = ''"):
        await connection.execute(before)
        with pytest.raises(asyncpg.UndefinedObjectError, match=r"pliers\.tenant"):
            await connection.fetch("SELECT username FROM users")
    for tenant, username in (("default", "ada"), ("acme", "bob")):
        await connection.execute(f"SET pliers.tenant = '{tenant}'")
        assert [row["username"] for row in await connection.fetch("SELECT username FROM users")] == [username]
        assert [row["id"] for row in await connection.fetch("SELECT id FROM tenants")] == [tenant]


async def test_a_partition_by_name_is_guarded_too(connection: asyncpg.Connection[Any], reporting: str) -> None:
    """Whoever names a partition of the log, the default one included, does not get around its policy."""
    await connection.execute("RESET ROLE")
    await add_history(connection, identity.new_instance_id(datetime.now(UTC)), tenant_id="acme")
    await add_history(connection, identity.new_instance_id(datetime(1999, 1, 1, tzinfo=UTC)), tenant_id="acme")
    await connection.execute(f"SET ROLE {reporting}; SET pliers.tenant = 'default'")
    month = f"workflow_execution_history_{datetime.now(UTC):%Y_%m}"
    for table in ("workflow_execution_history", "workflow_execution_history_default", month):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    await connection.execute("SET pliers.tenant = 'acme'")
    assert await connection.fetchval("SELECT count(*) FROM workflow_execution_history") == 2


async def test_the_engine_s_role_sees_all_and_cannot_rewrite_the_log(database: str) -> None:
    """The engine needs no setting and no ownership: it works, makes partitions, and cannot touch what is for ever."""
    pool = await open_pool(database, role="pliers_engine")
    assert await pool.fetchval("SELECT current_user") == "pliers_engine"
    await pool.execute("INSERT INTO users (tenant_id, username) VALUES ('default', 'ada')")
    assert await pool.fetchval("SELECT count(*) FROM users") == 1
    async with pool.acquire() as connection:
        await add_history(connection, identity.new_instance_id(datetime.now(UTC)))
        assert len(await partitions.keep_partitions(connection, datetime.now(UTC), 5)) == 2
        assert await leases.acquire(connection, "keeper", "node", seconds=30) == 1
    for statement in (
        "UPDATE workflow_execution_history SET command_id = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE workflow_execution_history",
        "DROP TABLE users",
        "DELETE FROM schema_migrations",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)
    pool.terminate()


async def test_without_the_right_to_make_roles_the_schema_still_comes(server: Server) -> None:
    """On a managed server whose user may not make roles, migrations run, and everybody but the owner is guarded."""
    owner = f"owner_{uuid.uuid4().hex[:12]}"
    name = f"test_{owner}"
    dsn = server.create(name, template="template0")
    try:
        server.execute(f"CREATE ROLE {owner} LOGIN NOCREATEROLE PASSWORD 'secret'")
        server.execute(f'ALTER DATABASE "{name}" OWNER TO {owner}')
        parts = urlsplit(dsn)
        own_dsn = parts._replace(netloc=f"{owner}:secret@{parts.hostname}:{parts.port}").geturl()
        assert len(await migrations.migrate(own_dsn)) == len(migrations.migrations())
        pool = await open_pool(own_dsn, max_size=1)
        async with pool.acquire() as connection:
            assert len(await partitions.keep_partitions(connection, datetime.now(UTC), 4)) == 1
        assert await pool.fetchval("SELECT count(*) FROM tenants") == 1
        pool.terminate()
    finally:
        server.drop(name)
        server.execute(f"DROP ROLE IF EXISTS {owner}")


# -- partitions --------------------------------------------------------------------------------------------------------


async def test_partitions_are_made_ahead(connection: asyncpg.Connection[Any]) -> None:
    """A year from now the coming months are made, once, and an instance born there lies in its month's partition."""
    later = NOW + timedelta(days=400)
    made = await partitions.keep_partitions(connection, later)
    assert made == [f"workflow_execution_history_{month}" for month in ("2027_12", "2028_01", "2028_02", "2028_03")]
    assert await partitions.keep_partitions(connection, later) == []
    born = identity.new_instance_id(datetime(2028, 1, 31, 23, 59, 59, 999000, tzinfo=UTC))
    await add_history(connection, born)
    assert await connection.fetchval("SELECT tableoid::regclass::text FROM workflow_execution_history") == made[1]
    assert partitions.month_of(born) == date(2028, 1, 1)
    assert await partitions.stray_rows(connection) == 0


async def test_bounds_agree_with_the_database(connection: asyncpg.Connection[Any]) -> None:
    """Python and SQL mean the same ids by a month."""
    for month in (date(2024, 2, 29), date(2026, 12, 31), date(1999, 1, 1)):
        low, high = partitions.partition_bounds(month)
        row = await connection.fetchrow(
            "SELECT lowest_id($1::timestamptz)::text AS low, lowest_id($1::timestamptz + interval '1 month')::text AS high",
            datetime(month.year, month.month, 1, tzinfo=UTC),
        )
        assert row is not None
        assert tuple(row) == (low, high)


async def test_strays_are_carried_over(connection: asyncpg.Connection[Any]) -> None:
    """Rows written while their month had no partition are moved into it, and the log is append-only again after that."""
    born = identity.new_instance_id(datetime(2024, 2, 10, tzinfo=UTC))
    for seq in (1, 2, 3):
        await add_history(connection, born, seq)
    assert await partitions.stray_rows(connection) == 3
    assert await partitions.keep_partitions(connection, datetime.now(UTC)) == ["workflow_execution_history_2024_02"]
    assert await partitions.stray_rows(connection) == 0
    assert await connection.fetchval("SELECT count(*) FROM workflow_execution_history_2024_02") == 3
    await add_history(connection, born, 4)
    for table in ("workflow_execution_history", "workflow_execution_history_default"):
        await add_history(connection, identity.new_instance_id(datetime(2023, 1, 1, tzinfo=UTC)))
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(f"DELETE FROM {table}")


async def test_keepers_do_not_collide(pool: Pool[Any]) -> None:
    """Several nodes that make the same partitions at once make each of them once."""

    async def keep() -> list[str]:
        async with pool.acquire() as connection:
            return await partitions.keep_partitions(connection, NOW + timedelta(days=400))

    made = await asyncio.gather(*(keep() for _ in range(4)))
    assert sorted(name for names in made for name in names) == sorted({name for names in made for name in names})
    assert sum(map(len, made)) == 4


# -- leases ------------------------------------------------------------------------------------------------------------


async def test_one_holds_a_lease(connection: asyncpg.Connection[Any]) -> None:
    """While one renews, no other gets it; given back, the next has it at once, under a new token."""
    assert await leases.acquire(connection, "relay", "a", seconds=30) == 1
    assert await leases.acquire(connection, "relay", "b", seconds=30) is None
    assert await leases.acquire(connection, "relay", "a", seconds=30) == 1
    assert await leases.renew(connection, "relay", "a", 1, seconds=30)
    assert await leases.holder(connection, "relay") == "a"
    assert not await leases.release(connection, "relay", "b")
    assert await leases.release(connection, "relay", "a")
    assert await leases.holder(connection, "relay") is None
    assert await leases.acquire(connection, "relay", "b", seconds=30) == 2


async def test_a_lapsed_lease_changes_hands(connection: asyncpg.Connection[Any]) -> None:
    """A holder that fell silent is replaced, and learns from its token that it is not the holder any more."""
    assert await leases.acquire(connection, "relay", "a", seconds=30) == 1
    await connection.execute("UPDATE service_leases SET until = now() - interval '1 second'")
    assert not await leases.renew(connection, "relay", "a", 1, seconds=30)
    assert await leases.acquire(connection, "relay", "b", seconds=30) == 2
    assert not await leases.renew(connection, "relay", "a", 1, seconds=30)
    assert await leases.acquire(connection, "relay", "a", seconds=30) is None


async def test_a_lease_goes_to_one_of_many(pool: Pool[Any]) -> None:
    """Of ten that ask at once, one has it."""
    tokens = await asyncio.gather(*(leases.acquire(pool, "relay", f"node{n}", seconds=30) for n in range(10)))  # type: ignore[arg-type]  # a pool runs single statements as well
    assert sorted(token for token in tokens if token is not None) == [1]
