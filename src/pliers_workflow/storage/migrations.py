"""Migrations: forward only, numbered, each a file in `migrations/`, remembered by name and sha256.

A file runs in one transaction. The lines at its top that begin with `-- pliers:` say what differs:

- `-- pliers: no-transaction` for `CREATE INDEX CONCURRENTLY` and its like. Statements are sent one by one, and a file
  that failed half-way is run again from its beginning, so each must stand being repeated (`IF NOT EXISTS`). An index
  that a failed build left invalid is dropped first.
- `-- pliers: lock-timeout 2s` for how long a statement may wait for a lock (5 s otherwise). While a migration waits for
  a lock on a table, everybody behind it waits too; so it gives up, lets the others pass, and tries again.

Any number of nodes may migrate at once: one does, the others find nothing left. They take turns by *polling*
`pg_try_advisory_lock`, because a session that waits inside `pg_advisory_lock` holds a snapshot, and another one's
`CREATE INDEX CONCURRENTLY` waits for that snapshot: tried, and PostgreSQL had to kill one of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from msgspec import Struct

from . import queries
from .sql import split_statements, without_comments

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["Migration", "MigrationError", "check_schema", "migrate", "migrations"]

#: the oldest server whose SQL we write
SERVER_VERSION_MIN: Final = 150000
#: "plier" in a number; taken for as long as one node migrates
LOCK: Final = 0x706C696572
LOCK_TIMEOUT: Final = "5s"
#: how often a file is tried that cannot get a lock
TRIES: Final = 12

_NAME: Final = re.compile(r"^[0-9]{4}_[a-z0-9_]+\.sql$")
_MARK: Final = re.compile(r"^-- pliers: *(?P<mark>[a-z-]+) *(?P<value>\S*)[ \t]*$", re.MULTILINE)
_sql: Final = queries.load("migrations")


class MigrationError(Exception):
    """The database cannot be brought to this release's schema; the message says what to do. Nothing was half-done."""


class Migration(Struct, frozen=True):
    """One file."""

    #: without `.sql`: `0001_foundation`
    name: str
    text: str
    #: of the file's bytes
    sha256: bytes
    in_transaction: bool = True
    lock_timeout: str = LOCK_TIMEOUT


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """Read the migration files in their order. Raises MigrationError when two share a number or a mark is unknown."""
    found: list[Migration] = []
    entries = (folder or files(__package__).joinpath("migrations")).iterdir()
    for entry in sorted((entry for entry in entries if entry.name.endswith(".sql")), key=lambda entry: entry.name):
        if not _NAME.match(entry.name):
            raise MigrationError(f"{entry.name} is no name for a migration; call it like 0003_what_it_does.sql")
        if found and found[-1].name[:4] == entry.name[:4]:
            raise MigrationError(f"{found[-1].name} and {entry.name} have the same number; give one of them the next")
        data = entry.read_bytes()
        text = data.decode()
        marks = {mark["mark"]: mark["value"] for mark in _MARK.finditer(text)}
        if unknown := marks.keys() - {"no-transaction", "lock-timeout"}:
            raise MigrationError(f"{entry.name} has an unknown mark: {', '.join(sorted(unknown))}")
        found.append(
            Migration(
                name=entry.name.removesuffix(".sql"),
                text=text,
                sha256=sha256(data).digest(),
                in_transaction="no-transaction" not in marks,
                lock_timeout=marks.get("lock-timeout") or LOCK_TIMEOUT,
            )
        )
    return found


async def migrate(
    dsn: str, *, dry_run: bool = False, patience: float = 600, folder: Traversable | None = None
) -> list[str]:
    """
    Bring a database to this release's schema; the names of the migrations that this call applied, in their order.

    `dry_run` only says which are missing. `patience` is how many seconds to wait for another node that is migrating.
    The connection must reach PostgreSQL itself, not a pooler in transaction mode, and its user owns (or will own) the
    tables.

    Raises MigrationError: the server is too old, a file was changed after it had been applied, the database belongs to a
    newer release, another node has been migrating for too long, or a lock could not be had.
    """
    known = migrations(folder)
    connection = await asyncpg.connect(
        dsn,
        timeout=30,
        server_settings={
            "application_name": "pliers migrate",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "idle_session_timeout": "0",
            "lock_timeout": LOCK_TIMEOUT,
            "default_transaction_isolation": "read committed",
        },
    )
    try:
        await _check_server(connection)
        if dry_run:
            return [migration.name for migration in _missing(known, await _applied(connection))]
        await _take_turn(connection, patience)
        try:
            return await _migrate(connection, known)
        finally:
            if not connection.is_closed():
                await connection.execute(_sql.unlock, LOCK)
    finally:
        await connection.close(timeout=10)


async def check_schema(dsn: str, *, folder: Traversable | None = None) -> None:
    """Raise MigrationError unless the database has this release's schema, no older and no newer one; changes nothing."""
    missing = await migrate(dsn, dry_run=True, folder=folder)
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise MigrationError(
            f"this database misses {len(missing)} of this release's migrations ({named}): "
            "run `pliers migrate` as the owner of its tables first"
        )


async def _migrate(connection: asyncpg.Connection[Any], known: Sequence[Migration]) -> list[str]:
    missing = _missing(known, await _applied(connection))
    if missing:  # who may not make tables may still ask whether anything is missing
        await _make_table(connection)
    for migration in missing:
        await _apply(connection, migration)
    if missing:
        await _analyze(connection, missing)
    return [migration.name for migration in missing]


async def _make_table(connection: asyncpg.Connection[Any]) -> None:
    try:
        await connection.execute(_sql.create_table)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
        found = await connection.fetchrow(_sql.whereabouts)
        assert found is not None
        raise MigrationError(
            f"{found['login']} may not make tables in the schema {found['schema']}: let the database's owner run "
            f"`GRANT USAGE, CREATE ON SCHEMA {found['schema']} TO {found['login']}`, or migrate as the owner of the tables"
        ) from error


async def _check_server(connection: asyncpg.Connection[Any]) -> None:
    version = int(await connection.fetchval(_sql.server_version))
    if version < SERVER_VERSION_MIN:
        raise MigrationError(
            f"this server is PostgreSQL {version // 10000}; at least {SERVER_VERSION_MIN // 10000} is needed: upgrade it"
        )
    if (encoding := await connection.fetchval(_sql.encoding)) != "UTF8":
        raise MigrationError(
            f"this database is encoded in {encoding}; create one with ENCODING 'UTF8' and name that one"
        )


async def _applied(connection: asyncpg.Connection[Any]) -> dict[str, bytes]:
    if await connection.fetchval(_sql.table_exists) is None:
        return {}
    return {row["name"]: row["sha256"] for row in await connection.fetch(_sql.applied)}


def _missing(known: Sequence[Migration], applied: dict[str, bytes]) -> list[Migration]:
    by_name = {migration.name: migration for migration in known}
    for name, digest in applied.items():
        if name not in by_name:
            raise MigrationError(
                f"this database has been migrated by another release ({name} is not ours): "
                "run that release or a newer one, or restore a backup from before"
            )
        if digest != by_name[name].sha256:
            raise MigrationError(
                f"{name}.sql is not the file that was applied here: migrations never change once they have run; "
                "put the old file back and write what you want as the next one"
            )
    last = max(applied, default="")
    missing = [migration for migration in known if migration.name not in applied]
    if missing and missing[0].name < last:
        raise MigrationError(
            f"{missing[0].name} is missing below {last}, which has been applied: give it a number after {last[:4]}; or, "
            "where it was applied and somebody has deleted its row of schema_migrations, put that back"
        )
    return missing


async def _take_turn(connection: asyncpg.Connection[Any], patience: float) -> None:
    deadline = asyncio.get_running_loop().time() + patience
    while not await connection.fetchval(_sql.try_lock, LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationError(
                f"another node has been migrating for {patience:g} s: look for 'pliers migrate' in pg_stat_activity"
            )
        await asyncio.sleep(0.1)


async def _apply(connection: asyncpg.Connection[Any], migration: Migration) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            if migration.in_transaction:
                async with connection.transaction():
                    await connection.execute(_sql.set_lock_timeout, migration.lock_timeout)
                    await connection.execute(migration.text)
                    await connection.execute(_sql.remember, migration.name, migration.sha256)
            else:
                await _apply_one_by_one(connection, migration)
        except asyncpg.LockNotAvailableError as error:
            if attempt == TRIES:
                raise MigrationError(
                    f"{migration.name} could not get a lock within {migration.lock_timeout}, {TRIES} times: "
                    "a long transaction is in its way (see pg_stat_activity); try again when it is over"
                ) from error
            await asyncio.sleep(min(0.2 * 2**attempt, 10))
        except asyncpg.PostgresError as error:
            kept = "nothing of it was kept" if migration.in_transaction else "it will be run again from its beginning"
            raise MigrationError(f"{migration.name} failed, and {kept}: {error}") from error
        else:
            return


async def _apply_one_by_one(connection: asyncpg.Connection[Any], migration: Migration) -> None:
    await connection.execute(_sql.set_session_lock_timeout, migration.lock_timeout)
    try:
        for row in await connection.fetch(_sql.invalid_indexes):
            if _mentions(migration, row["name"]):
                await connection.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{row["name"]}"')
        for statement in split_statements(migration.text):
            await connection.execute(statement)
        await connection.execute(_sql.remember, migration.name, migration.sha256)
    finally:
        await connection.execute(_sql.set_session_lock_timeout, LOCK_TIMEOUT)


async def _analyze(connection: asyncpg.Connection[Any], applied: Sequence[Migration]) -> None:
    """Let the planner know what changed: statistics of every table that an applied file mentions."""
    for row in await connection.fetch(_sql.own_tables):
        if any(_mentions(migration, row["name"]) for migration in applied):
            await connection.execute(f'ANALYZE "{row["name"]}"')


def _mentions(migration: Migration, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", without_comments(migration.text)) is not None
