"""Migrations run once, in their order, by one of many, and never change afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from pliers_workflow.storage.migrations import MigrationError, check_schema, migrate, migrations

ROLLED_BACK = "SELECT sum(xact_rollback) > 0 FROM pg_stat_database WHERE datname = current_database()"


def write(folder: Path, **files: str) -> Path:
    """Migration files, by name."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name[1:]}.sql").write_text(text)
    return folder


async def fetchval(dsn: str, query: str) -> object:
    """One value of a database."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_one_of_three_applies(empty_database: str) -> None:
    """Of three nodes that migrate at once, one applies everything and the others find nothing left."""
    answers = await asyncio.gather(*(migrate(empty_database) for _ in range(3)))
    everything = [migration.name for migration in migrations()]
    assert sorted(answers) == sorted([everything, [], []])


async def test_concurrent_index_builds_do_not_deadlock(empty_database: str, tmp_path: Path) -> None:
    """Nodes that wait for their turn hold no snapshot, so an index build of the one whose turn it is never waits for them."""
    folder = write(
        tmp_path / "m",
        _0001_table="CREATE TABLE things AS SELECT n FROM generate_series(1, 20000) AS n;",
        _0002_index="-- pliers: no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS things_n ON things (n);\n"
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS things_m ON things ((n + 1));",
    )
    answers = await asyncio.wait_for(asyncio.gather(*(migrate(empty_database, folder=folder) for _ in range(4))), 60)
    assert sorted(map(len, answers)) == [0, 0, 0, 2]


async def test_dry_run_changes_nothing(empty_database: str) -> None:
    """A dry run names what is missing and writes nothing, not even its own table."""
    assert await migrate(empty_database, dry_run=True) == [migration.name for migration in migrations()]
    assert (
        await fetchval(empty_database, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    )


async def test_a_changed_file_is_refused(empty_database: str, tmp_path: Path) -> None:
    """A file that was applied may not change, and the message says what to do instead."""
    await migrate(empty_database, folder=write(tmp_path / "m", _0001_a="CREATE TABLE a ();"))
    changed = write(tmp_path / "m", _0001_a="CREATE TABLE a (n int);")
    with pytest.raises(MigrationError, match=r"0001_a\.sql is not the file .* write what you want as the next one"):
        await migrate(empty_database, folder=changed)


async def test_a_newer_database_is_refused(empty_database: str, tmp_path: Path) -> None:
    """A release does not touch a database that a newer one has migrated."""
    await migrate(
        empty_database, folder=write(tmp_path / "new", _0001_a="CREATE TABLE a ();", _0002_b="CREATE TABLE b ();")
    )
    with pytest.raises(MigrationError, match=r"another release \(0002_b is not ours\)"):
        await migrate(empty_database, folder=write(tmp_path / "old", _0001_a="CREATE TABLE a ();"))


async def test_a_schema_is_checked_without_touching_it(empty_database: str, tmp_path: Path) -> None:
    """An older schema and a newer one are refused with what to do, ours is not, and nothing is written."""
    older = write(tmp_path / "older", _0001_a="CREATE TABLE a ();")
    ours = write(tmp_path / "ours", _0001_a="CREATE TABLE a ();", _0002_b="CREATE TABLE b ();")
    with pytest.raises(MigrationError, match=r"misses 2 .*\(0001_a, 0002_b\): run `pliers migrate`"):
        await check_schema(empty_database, folder=ours)
    assert await fetchval(empty_database, "SELECT to_regclass('schema_migrations')") is None
    await migrate(empty_database, folder=older)
    with pytest.raises(MigrationError, match=r"misses 1 .*\(0002_b\)"):
        await check_schema(empty_database, folder=ours)
    await migrate(empty_database, folder=ours)
    await check_schema(empty_database, folder=ours)
    with pytest.raises(MigrationError, match=r"another release \(0002_b is not ours\)"):
        await check_schema(empty_database, folder=older)


async def test_a_late_number_is_refused(empty_database: str, tmp_path: Path) -> None:
    """A migration that turns up below an applied one is refused: its order could not be kept."""
    await migrate(empty_database, folder=write(tmp_path / "m", _0002_b="CREATE TABLE b ();"))
    with pytest.raises(MigrationError, match="0001_a is missing below 0002_b"):
        await migrate(empty_database, folder=write(tmp_path / "m", _0001_a="CREATE TABLE a ();"))


async def test_a_failing_file_leaves_nothing(empty_database: str, tmp_path: Path) -> None:
    """What fails is rolled back whole, and what went before it stays."""
    folder = write(tmp_path / "m", _0001_a="CREATE TABLE a ();", _0002_b="CREATE TABLE b (); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match="0002_b failed, and nothing of it was kept: division by zero"):
        await migrate(empty_database, folder=folder)
    assert await fetchval(empty_database, "SELECT array_agg(name) FROM schema_migrations") == ["0001_a"]
    assert await fetchval(empty_database, "SELECT to_regclass('b')") is None


async def test_a_lock_is_not_waited_for_in_the_way_of_others(empty_database: str, tmp_path: Path) -> None:
    """A migration gives up a lock it cannot have, lets others pass, and gets it when the way is free."""
    await migrate(empty_database, folder=write(tmp_path / "m", _0001_a="CREATE TABLE a (n int);"))
    folder = write(tmp_path / "m", _0002_b="-- pliers: lock-timeout 50ms\nALTER TABLE a ADD COLUMN m int;")
    holder = await asyncpg.connect(empty_database)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("LOCK TABLE a IN ACCESS SHARE MODE")
    running = asyncio.create_task(migrate(empty_database, folder=folder))
    # Its first try must have failed before the lock is let go: the server counts it.
    async with asyncio.timeout(30):
        while not await fetchval(empty_database, ROLLED_BACK):
            await asyncio.sleep(0.05)
    await transaction.rollback()
    assert await running == ["0002_b"]
    await holder.close()


async def test_an_invalid_index_is_built_again(empty_database: str, tmp_path: Path) -> None:
    """An index that a failed concurrent build left invalid does not pass for the one that is wanted."""
    folder = write(tmp_path / "m", _0001_a="CREATE TABLE a AS SELECT 1 AS n FROM generate_series(1, 2);")
    await migrate(empty_database, folder=folder)
    write(
        tmp_path / "m",
        _0002_b="-- pliers: no-transaction\nDELETE FROM a WHERE ctid = '(0,1)' AND 0 = (SELECT count(*) FROM c);\n"
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);",
    )
    await fetchval(empty_database, "CREATE TABLE c AS SELECT 1")
    with pytest.raises(MigrationError, match="could not create unique index"):
        await migrate(empty_database, folder=folder)
    await fetchval(empty_database, "DELETE FROM c")
    assert await migrate(empty_database, folder=folder) == ["0002_b"]
    assert await fetchval(empty_database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_n'::regclass") is True


async def test_statistics_are_brought_up_to_date(empty_database: str, tmp_path: Path) -> None:
    """After migrations the planner knows what they changed."""
    await migrate(
        empty_database, folder=write(tmp_path / "m", _0001_a="CREATE TABLE a AS SELECT generate_series(1, 1000) AS n;")
    )
    assert await fetchval(empty_database, "SELECT reltuples::int FROM pg_class WHERE relname = 'a'") == 1000


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    """Numbers give the order, so each is there once."""
    with pytest.raises(MigrationError, match="have the same number"):
        migrations(write(tmp_path / "m", _0001_a="", _0001_b=""))


def test_an_unknown_mark_is_refused(tmp_path: Path) -> None:
    """A mark that does nothing would be a promise not kept."""
    with pytest.raises(MigrationError, match="unknown mark: no-transactions"):
        migrations(write(tmp_path / "m", _0001_a="-- pliers: no-transactions\nSELECT 1;"))
