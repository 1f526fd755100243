"""Connections to PostgreSQL: one pool for writing, one for reading, and plans that fit the tables' real size.

Values of `json` and `jsonb` columns are Python objects with exact numbers, in arrays too; `bytes` are taken as JSON that
has been encoded already. Connections are not reset when they come back: a reset query on every release costs a round
trip, and nobody here changes a session's settings other than by `SET LOCAL`. An open transaction is still rolled back.

**Plans.** A prepared statement's plan is made for the tables as they were then. Prepared on empty tables, the batch
statements of a full system took 200 to 500 ms, after `DISCARD PLANS` 12 to 19. So each pool knows the size of the hot
tables (asked at most once a minute), each connection remembers the sizes it planned for, and a connection whose tables
have grown tenfold since throws its plans away when it is taken from the pool. `plan_cache_mode` and `enable_*` stay as
they are: forcing generic plans took 70 seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from . import canonical, queries

if TYPE_CHECKING:
    from asyncpg.pool import Pool

    _Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

__all__ = [
    "HOT_TABLES",
    "AnyConnection",
    "EngineConnection",
    "after_bulk_load",
    "connect",
    "connections_allowed",
    "discard_stale_plans",
    "open_pool",
]

#: The tables whose size decides the plans of the statements that run all day.
HOT_TABLES: Final = (
    "workflow_instances",
    "workflow_execution_history",
    "workflow_approvals",
    "workflow_jobs",
    "idempotency_records",
    "users",
    "directory_members",
)
#: how much a table must have grown for plans to be made anew
GROWTH: Final = 10
#: pages below which a table counts as this small
SMALL: Final = 1
#: seconds between two looks at the tables' sizes, for each pool
LOOK_EVERY: Final = 60.0
#: and while the largest has fewer pages than `YOUNG`: on empty tables every index that begins with the tenant looks as
#: good as the right one, and a plan made then took 70 ms for 64 rows within the first minute of load instead of 5
LOOK_EVERY_YOUNG: Final = 1.0
YOUNG: Final = 2_000

_sql: Final = queries.load("database")

#: Either a connection of one's own or one borrowed from a pool.
AnyConnection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"


class _Sizes:
    """What a pool knows of the hot tables: pages by table name, and when it looked last."""

    def __init__(self) -> None:
        self.pages: Mapping[str, int] | None = None
        self.looked_at = float("-inf")
        self.look_every = LOOK_EVERY_YOUNG
        #: grows when everybody is to discard, whatever the sizes say
        self.generation = 0


class EngineConnection(_Connection):
    """A connection that remembers for which table sizes its plans were made, and is not reset on release."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sizes = _Sizes()
        self.planned_for: Mapping[str, int] | None = None
        self.generation = 0

    def get_reset_query(self) -> str:
        """Say what is sent when the connection goes back to its pool: nothing."""
        return ""


async def open_pool(
    dsn: str,
    *,
    min_size: int = 2,
    max_size: int = 10,
    purpose: Literal["write", "read"] = "write",
    statement_timeout: float = 10,
    connect_timeout: float = 10,
    role: str | None = None,
) -> Pool[Any]:
    """
    Open a pool of connections.

    `purpose` names the connections in `pg_stat_activity` (`pliers write`, `pliers read`) and makes readers' transactions
    read-only. Timeouts are seconds: `statement_timeout` bounds each statement and, on writers and readers alike, a
    transaction that idles, so that nobody holds row locks or the log's horizon for longer. `role`: act as this role
    (`pliers_engine`) although the DSN's user is another one that may take it on.

    Raises asyncpg's errors and OSError when the server does not answer within `connect_timeout`.
    """
    sizes = _Sizes()

    async def init(connection: asyncpg.Connection[Any]) -> None:
        await _set_codecs(connection)
        cast(EngineConnection, connection).sizes = sizes

    async def setup(connection: PoolConnectionProxy[Any]) -> None:
        await discard_stale_plans(connection)

    return await asyncpg.create_pool(
        dsn,
        min_size=min(min_size, max_size),
        max_size=max_size,
        init=init,
        setup=setup,
        connection_class=EngineConnection,
        # A connection is for good. asyncpg would replace it after 50,000 queries or 5 idle minutes, and forget what it has
        # prepared after 5 minutes, or at once when that is longer than 15 kB, as our writing statement may be.
        max_queries=1_000_000_000,
        max_inactive_connection_lifetime=0,
        statement_cache_size=400,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=256 * 1024,
        timeout=connect_timeout,
        server_settings=_session(purpose, statement_timeout, role),
    )


async def connect(
    dsn: str, *, purpose: str = "write", statement_timeout: float = 10, timeout: float = 10, role: str | None = None
) -> EngineConnection:
    """Open one connection outside any pool, with the same codecs and limits: for LISTEN, leases and tools."""
    connection = await asyncpg.connect(
        dsn,
        timeout=timeout,
        connection_class=EngineConnection,
        server_settings=_session(purpose, statement_timeout, role),
    )
    await _set_codecs(connection)
    return connection


async def connections_allowed(dsn: str) -> int:
    """Say how many connections the server allows to all who use it together."""
    connection = await connect(dsn, purpose="read")
    try:
        return int(await connection.fetchval(_sql.connections_allowed))
    finally:
        await connection.close(timeout=10)


async def discard_stale_plans(connection: AnyConnection) -> bool:
    """
    Make this connection plan anew when a hot table has grown tenfold since it planned; true when it did.

    Pools call it whenever a connection is taken. A connection that is held for long must call it from time to time: it
    costs a comparison of seven numbers, and once a minute for each pool one small query.
    """
    held = cast(EngineConnection, getattr(connection, "_con", connection))
    sizes = held.sizes
    now = time.monotonic()
    if now - sizes.looked_at >= sizes.look_every:
        sizes.looked_at = now  # before the query: of many connections that come here at once, one asks
        sizes.pages = {row["name"]: row["pages"] for row in await connection.fetch(_sql.hot_pages, list(HOT_TABLES))}
        sizes.look_every = LOOK_EVERY_YOUNG if max(sizes.pages.values(), default=0) < YOUNG else LOOK_EVERY
    pages = sizes.pages
    if pages is None or (held.planned_for is pages and held.generation == sizes.generation):
        return False
    stale = held.generation != sizes.generation or (held.planned_for is not None and _outgrown(held.planned_for, pages))
    if stale:
        await connection.execute("DISCARD PLANS")
    if stale or held.planned_for is None:
        held.planned_for = pages
        held.generation = sizes.generation
    return stale


async def after_bulk_load(pool: Pool[Any]) -> None:
    """Tell a pool that much has been loaded: statistics are brought up to date, and every connection plans anew."""
    async with pool.acquire() as connection:
        held = cast(EngineConnection, getattr(connection, "_con", connection))
        # ANALYZE of millions of rows may take longer than any statement of the engine should.
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute("ANALYZE " + ", ".join(HOT_TABLES))
        held.sizes.looked_at = float("-inf")
        held.sizes.generation += 1
        await discard_stale_plans(connection)


def _outgrown(planned_for: Mapping[str, int], pages: Mapping[str, int]) -> bool:
    return any(now >= GROWTH * max(planned_for.get(table, 0), SMALL) for table, now in pages.items())


def _session(purpose: str, statement_timeout: float, role: str | None) -> dict[str, str]:
    milliseconds = str(max(1, round(statement_timeout * 1000)))
    settings = {
        "application_name": f"pliers {purpose}",
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        # What we rely on, whatever the role or the database has been given for everybody else: connections that rest, locks
        # that are waited for, and statements of one transaction of which each sees what others have committed.
        "idle_session_timeout": "0",
        "lock_timeout": "0",
        "default_transaction_isolation": "read committed",
        # Compiling a statement that runs for a millisecond costs a hundred.
        "jit": "off",
        "timezone": "UTC",
    }
    if purpose == "read":
        settings["default_transaction_read_only"] = "on"
    if role is not None:
        settings["role"] = role
    return settings


async def _set_codecs(connection: asyncpg.Connection[Any]) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=_encode_json, decoder=canonical.decode, format="binary"
    )


def _encode_json(value: object) -> bytes:
    return value if isinstance(value, bytes) else canonical.encode_loose(value)


def _encode_jsonb(value: object) -> bytes:
    # PostgreSQL's binary format of jsonb: a version, then text.
    return b"\x01" + _encode_json(value)


def _decode_jsonb(data: bytes) -> Any:
    return canonical.decode(data[1:])
