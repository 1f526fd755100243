"""What a command on this machine needs before it can do anything: a database with the schema, and somebody's token.

A database is taken in this order: the DSN that was given, the setting `PLIERS_DATABASE__URL`, the embedded PostgreSQL.
Commands that make tokens and tenants speak to the database themselves, not to a server: whoever can reach the database
administers the installation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.runtime.access.principal import Principal

#: stands for the command line where a user's id is asked for and there is no user yet
_NOBODY = str(UUID(int=0))
#: connections of an embedded server beside those of nodes: for commands, and whoever looks into it
_CONNECTIONS_SPARE = 20


class BadDsn(Exception):
    """What should name a database cannot be read; the message says what to look for, and nothing of what it holds."""


def database(url: str = "", folder: Path | None = None) -> AbstractAsyncContextManager[str]:
    """
    A DSN to work with; an embedded server that was started for it is stopped at the end.

    With a `folder`, the embedded server there is meant, and the setting is not asked. Raises EmbeddedError, with what
    to do, when the embedded PostgreSQL cannot run.
    """
    return opened(whereabouts(url, folder))


def whereabouts(url: str = "", folder: Path | None = None) -> str | Path:
    """Which database is meant: its DSN, or the folder of the embedded server."""
    from pliers_workflow.settings import Settings
    from pliers_workflow.storage.embedded import default_folder

    settings = Settings().database
    if not url and folder is None:
        url = settings.url
    if url:
        _check_dsn(url)
        return url
    return folder or (Path(settings.embedded_folder) if settings.embedded_folder else default_folder())


def _check_dsn(dsn: str) -> None:
    """Refuse what the driver would fail at without a word of use: it takes a part of an unescaped password for a port."""
    from urllib.parse import urlsplit

    try:
        hosts = urlsplit(dsn).netloc.rpartition("@")[2]
    except ValueError:
        raise BadDsn(
            "the DSN is not usable: an IPv6 address stands in brackets, as in postgresql://[::1]:5432/pliers."
        ) from None
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    if not all(port == "" or (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536) for port in ports):
        raise BadDsn(
            "the DSN is not usable: after the host's colon stands no port (1 to 65535). Check it; in a user's name or a "
            "password, `#`, `/`, `?`, `@` and `:` are written as %23, %2F, %3F, %40 and %3A."
        )


@asynccontextmanager
async def opened(place: str | Path, *, connections: int = 0) -> AsyncIterator[str]:
    """
    The DSN of that database, and the use of it when it is embedded.

    An embedded server that has to be started is made for so many `connections`, and some for others beside them.
    """
    import asyncio

    from pliers_workflow.storage.embedded import SETTINGS, EmbeddedPostgres

    if isinstance(place, str):
        yield place
        return
    connections = max(connections + _CONNECTIONS_SPARE, int(SETTINGS["max_connections"]))
    server = EmbeddedPostgres(place, settings={"max_connections": str(connections)})
    dsn = await asyncio.to_thread(server.start)
    try:
        yield dsn
    finally:
        await asyncio.to_thread(server.stop)


async def admin_token(dsn: str, tenant: str = "default", *, name: str = "command line") -> str:
    """A token with the permission admin: the one-time token where there is none yet, else a new one."""
    async with _services(dsn) as (pool, audit):
        from pliers_workflow.runtime.access.tokens import Tokens

        tokens = Tokens(pool, audit)
        secret = await tokens.bootstrap(tenant)
        if secret is None:
            principal = await _command_line(pool, audit, tenant)
            _, secret = await tokens.create(principal, principal.user_id, ["admin"], name)
        assert secret is not None, "only a repeated request is given none"
        return secret


async def one_time_token(dsn: str, tenant: str = "default") -> str | None:
    """The first administrator's token where nobody has one that works; None where somebody has."""
    async with _services(dsn) as (pool, audit):
        from pliers_workflow.runtime.access.tokens import Tokens

        return await Tokens(pool, audit).bootstrap(tenant)


async def create_token(
    dsn: str, *, tenant: str, user: str, permissions: Sequence[str], name: str, expires_days: int = 0
) -> str:
    """A token for a user, who is made if there is none of that name."""
    from pliers_workflow.runtime.access.tokens import Tokens
    from pliers_workflow.runtime.directory import Directory
    from pliers_workflow.runtime.rows import UserInput

    async with _services(dsn) as (pool, audit):
        principal = await _command_line(pool, audit, tenant)
        directory = Directory(pool, audit)
        if await directory.get_user(tenant, user) is None:
            await directory.create_user(principal, UserInput(username=user))
        expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
        _, secret = await Tokens(pool, audit).create(principal, user, permissions, name, expires_at)
        assert secret is not None, "only a repeated request is given none"
        return secret


async def create_tenant(dsn: str, *, tenant: str, name: str, virtual: bool = False) -> str:
    """A tenant, and the token of its first administrator."""
    from pliers_workflow.runtime.access.tenants import Tenants
    from pliers_workflow.runtime.access.tokens import Tokens

    async with _services(dsn) as (pool, audit):
        now = datetime.now(UTC) if virtual else None
        _, secret = await Tenants(pool, audit, Tokens(pool, audit)).create(None, tenant, name, virtual_now=now)
        assert secret is not None, "only a repeated request is given none"
        return secret


@asynccontextmanager
async def _services(dsn: str) -> AsyncIterator[tuple[asyncpg.Pool[Any], Any]]:
    from pliers_workflow.runtime.access.audit import Audit
    from pliers_workflow.storage.database import open_pool

    pool = await open_pool(dsn, min_size=1, max_size=2, purpose="write")
    try:
        yield pool, Audit(pool)
    finally:
        await pool.close()


async def _command_line(pool: asyncpg.Pool[Any], audit: Any, tenant: str) -> Principal:
    """Whoever sits at the command line acts as the tenant's administrator."""
    from pliers_workflow.runtime.access.principal import Principal
    from pliers_workflow.runtime.access.tokens import ADMINISTRATOR
    from pliers_workflow.runtime.directory import Directory

    directory = Directory(pool, audit)
    user = await directory.user_by_name(tenant, ADMINISTRATOR)
    if user is None:
        from pliers_workflow.runtime.rows import UserInput

        nobody = Principal(tenant, _NOBODY, ADMINISTRATOR, frozenset({"admin"}))
        user = await directory.create_user(nobody, UserInput(username=ADMINISTRATOR, name="Administrator"))
    return Principal(tenant, user.id, ADMINISTRATOR, frozenset({"admin"}))
