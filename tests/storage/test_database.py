"""Connections: exact values both ways, limits, and what is cheap about them."""

from __future__ import annotations

import asyncio
import doctest
import importlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import pytest

from pliers_workflow.storage import canonical, identity, queries
from pliers_workflow.storage.database import connect, open_pool
from pliers_workflow.storage.migrations import migrate

if TYPE_CHECKING:
    from asyncpg.pool import Pool


@pytest.mark.parametrize(
    "module", ["canonical", "identity", "paging", "partitions", "queries", "read_model.viewer", "sql"]
)
def test_examples(module: str) -> None:
    """The examples in the docstrings are true."""
    result = doctest.testmod(importlib.import_module(f"pliers_workflow.storage.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("type_", ["jsonb", "json"])
async def test_json_keeps_numbers_exact(pool: Pool[Any], type_: str) -> None:
    """Values go in and come out as Python objects with exact numbers, in arrays too; bytes are JSON already."""
    value = {"a": Decimal("1.50"), "b": [2**70, -1, True, None, "ä\u2028"], "c": {}}
    assert await pool.fetchval(f"SELECT $1::{type_}", value) == value
    assert str((await pool.fetchval(f"SELECT $1::{type_}", value))["a"]) == "1.50"
    assert await pool.fetchval(f"SELECT $1::{type_}", b'{"x": 1}') == {"x": 1}
    assert await pool.fetchval(f"SELECT $1::{type_}[]", [value, b"[2]", "text"]) == [value, [2], "text"]
    assert await pool.fetchval(f"SELECT $1::{type_}", None) is None


async def test_a_string_subclass_is_a_string(pool: Pool[Any]) -> None:
    """What libraries make of strings is stored as one."""

    class Text(str):
        __slots__ = ()

    assert await pool.fetchval("SELECT $1::jsonb", {"a": Text("x")}) == {"a": "x"}


async def test_what_json_cannot_hold_is_an_error(pool: Pool[Any]) -> None:
    """NaN never reaches a row."""
    with pytest.raises(asyncpg.PostgresError):
        await pool.fetchval("SELECT $1::jsonb", {"a": Decimal("NaN")})
    with pytest.raises(ValueError, match="no NaN"):
        canonical.encode({"a": Decimal("Infinity")})
    assert canonical.encode({"a": "NaN"}) == b'{"a":"NaN"}'


def test_canonical_json_is_one_sequence_of_bytes() -> None:
    """The same value gives the same bytes, whatever the order it was made in, and comes back as it was."""
    one = {"b": 1, "a": {"y": Decimal("2.0"), "x": [1]}}
    other = {"a": {"x": [1], "y": Decimal("2.0")}, "b": 1}
    assert canonical.encode(one) == canonical.encode(other) == b'{"a":{"x":[1],"y":2.0},"b":1}'
    assert canonical.decode(canonical.encode(one)) == one
    with pytest.raises(msgspec.DecodeError):
        canonical.decode(b"{")


async def test_limits_hold(database: str) -> None:
    """A statement that takes too long is ended, and readers cannot write."""
    pool = await open_pool(database, statement_timeout=0.05, max_size=1)
    with pytest.raises(asyncpg.QueryCanceledError):
        await pool.execute("SELECT pg_sleep(10)")
    assert await pool.fetchval("SHOW idle_in_transaction_session_timeout") == "50ms"
    assert await pool.fetchval("SHOW application_name") == "pliers write"
    pool.terminate()
    readers = await open_pool(database, purpose="read", max_size=1)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await readers.execute("INSERT INTO tenants (id, name) VALUES ('x', 'X')")
    readers.terminate()


async def test_what_is_set_for_everybody_is_not_for_the_engine(database: str) -> None:
    """A role's or a database's own timeouts and isolation would break what the engine's statements rest on."""
    name = database.rpartition("/")[2]
    for setting in (
        "idle_session_timeout = '1ms'", "lock_timeout = '1ms'", "default_transaction_isolation = 'serializable'",
        "statement_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'", "timezone = 'Asia/Tokyo'",
    ):  # fmt: skip
        await _do(database, f'ALTER DATABASE "{name}" SET {setting}')
    pool = await open_pool(database, max_size=1)
    await asyncio.sleep(0.05)
    shown = [
        await pool.fetchval(f"SHOW {name}")
        for name in ("idle_session_timeout", "lock_timeout", "transaction_isolation")
    ]
    assert shown == ["0", "0", "read committed"]
    assert await pool.fetchval("SHOW statement_timeout") == "10s"
    pool.terminate()
    assert await migrate(database) == []


async def _do(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(
        dsn, server_settings={"idle_session_timeout": "0", "statement_timeout": "0", "lock_timeout": "0"}
    )
    await connection.execute(statement)
    await connection.close()


async def test_a_release_rolls_back_and_sends_nothing_more(database: str) -> None:
    """A connection that comes back inside a transaction is rolled back; one that comes back clean costs no round trip."""
    pool = await open_pool(database, min_size=1, max_size=1)
    async with pool.acquire() as connection:
        await connection.execute("BEGIN; INSERT INTO tenants (id, name) VALUES ('x', 'X')")
    assert await pool.fetchval("SELECT count(*) FROM tenants") == 1
    seen: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(lambda record: seen.append(record.query))
    async with pool.acquire() as connection:
        pass
    assert seen == []
    pool.terminate()


async def test_one_connection_alone(database: str) -> None:
    """A connection outside any pool speaks as those inside do."""
    connection = await connect(database, purpose="listen")
    assert await connection.fetchval("SELECT $1::jsonb", {"a": 1}) == {"a": 1}
    assert await connection.fetchval("SHOW application_name") == "pliers listen"
    await connection.close()


def test_ids_grow_and_say_when() -> None:
    """Ids of one process grow strictly, within a millisecond too, are UUIDv7, and carry the moment of birth."""
    now = datetime(2026, 11, 23, 12, 0, 0, 123000, tzinfo=UTC)
    ids = [identity.new_instance_id(now) for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert all(one[14] == "7" and one[19] in "89ab" and identity.is_uuid(one) for one in ids)
    assert identity.birth(ids[0]) == now
    # 4,096 ids fit into a millisecond; what comes after borrows from the next.
    assert identity.birth(ids[-1]) - now <= timedelta(milliseconds=2)
    later = identity.new_instance_id(now - timedelta(milliseconds=5))
    assert later > ids[-1], "a clock that stepped back does not make an older id"
    past = identity.new_instance_id(now - timedelta(days=365))
    assert identity.birth(past) == now - timedelta(days=365), "a hand-moved clock may go where it likes"


def test_derived_ids_follow_from_the_instance() -> None:
    """The same question gives the same id, another question another one, and all begin with the instance's birth."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    one, two = identity.new_instance_id(now), identity.new_instance_id(now)
    made = {
        identity.approval_id(one, "item/1"), identity.approval_id(one, "item/2"), identity.approval_id(two, "item/1"),
        identity.job_id(one, "timer/1"), identity.job_id(one, "start"), identity.history_id(one, 1),
        identity.history_id(one, 2),
    }  # fmt: skip
    assert len(made) == 7
    assert all(identity.is_uuid(id_) and id_[14] == "8" and id_[:13] == one[:13] for id_ in made)
    assert identity.approval_id(one, "item/1") == identity.approval_id(one, "item/1")
    child = identity.child_instance_id(one, 1, now)
    assert child == identity.child_instance_id(one, 1, now) != identity.child_instance_id(one, 2, now)
    assert identity.birth(child) == now
    assert child[14] == "7"


@pytest.mark.parametrize(
    "text", ["", "x" * 36, "019ca3b5-1000-7000-8000-00000000000", "{019ca3b5-1000-7000-8000-000000000000}"]
)
def test_other_texts_are_no_ids(text: str) -> None:
    """Nothing but the usual spelling of a UUID reaches a uuid parameter."""
    assert not identity.is_uuid(text)


def test_malformed_query_files_are_refused() -> None:
    """A name given twice, SQL that belongs to nothing, and a fragment that is not there are found at load."""
    with pytest.raises(ValueError, match="two sections are named a"):
        queries.sections("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;")
    with pytest.raises(ValueError, match="before the first section"):
        queries.sections("SELECT 1;\n-- name: a\nSELECT 2;")
    with pytest.raises(KeyError, match="missing"):
        queries.sections("-- name: a\nSELECT {missing};")
