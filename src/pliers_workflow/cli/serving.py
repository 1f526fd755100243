"""What operators do at the command line: run a server, migrate the schema, make tokens and tenants."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import address
from .problems import Problem
from .program import log_lines, run

if TYPE_CHECKING:
    from pliers_workflow.runtime.nodes.registrar import Role
    from pliers_workflow.settings import Settings


# -- serve -------------------------------------------------------------------------------------------------------------


def serve(
    *,
    host: str,
    port: int | None,
    role: Role | None,
    processes: int | None,
    database_url: str,
    data: Path | None,
    migrate: bool,
    quiet: bool,
) -> int:
    """Run a node, or several, until SIGINT or SIGTERM; then finish what has begun, and stop. A second signal stops at once."""
    from pliers_workflow.settings import Settings

    log_lines()
    settings = Settings()
    if role is not None:
        settings.node.role = role
    if processes is not None:
        settings.server.processes = processes
    settings.server.host = host or settings.server.host
    settings.server.port = settings.server.port if port is None else port
    serving = _serve if settings.server.processes == 1 else _serve_together
    try:
        run(serving(settings, database_url, data, migrate, quiet))
    except KeyboardInterrupt:
        pass
    return 0


async def _serve(settings: Settings, database_url: str, data: Path | None, migrate: bool, quiet: bool) -> None:
    """A node in this process."""
    from pliers_workflow.installation import database
    from pliers_workflow.runtime.engine import open_engine

    from .http_server import HttpServer

    host, port = settings.server.host, settings.server.port
    address.check(host, port)  # before the database is touched and a token is shown
    async with database(database_url, data) as dsn:
        settings = settings.model_copy(update={"database": settings.database.model_copy(update={"url": dsn})})
        await _prepare_schema(dsn, migrate, quiet)
        engine = await open_engine(settings)
        try:
            first_token = await engine.tokens.bootstrap("default")
        except BaseException:
            engine.abandon()
            raise
        _show(first_token)
        await HttpServer(engine, host, port, listening=lambda url: _say(_where(settings, url), quiet)).serve()


async def _serve_together(settings: Settings, database_url: str, data: Path | None, migrate: bool, quiet: bool) -> None:
    """Several nodes, each a process of its own; this one holds their address and their database, and looks after them."""
    from pliers_workflow.installation import one_time_token, opened, whereabouts

    from .processes import Processes

    database = whereabouts(database_url, data)
    with address.SharedAddress(settings.server.host, settings.server.port) as place:
        async with opened(database, connections=settings.connections_of_all) as dsn:
            await _check_connections(settings, dsn, embedded=isinstance(database, Path))
            await _prepare_schema(dsn, migrate, quiet)
            _show(await one_time_token(dsn))
            await Processes(settings, place, database, ready=lambda: _say(_where(settings, place.url), quiet)).run()


async def _prepare_schema(dsn: str, migrate: bool, quiet: bool) -> None:
    from pliers_workflow.storage.migrations import check_schema
    from pliers_workflow.storage.migrations import migrate as apply_migrations

    if migrate:
        for name in await apply_migrations(dsn):
            _say(f"applied migration {name}", quiet)
    else:
        # Statements of another schema fail one by one, in the middle of somebody's request: rather not begin.
        await check_schema(dsn)


async def _check_connections(settings: Settings, dsn: str, *, embedded: bool) -> None:
    """Refuse nodes for which the database can never have enough connections: they would fail one by one, under load."""
    from pliers_workflow.storage.database import connections_allowed

    if settings.database.direct_url:
        return  # a pooler stands between, and hands out fewer of them
    allowed = await connections_allowed(dsn)
    if settings.connections_of_all > allowed:
        mend = (
            "stop whoever else uses this embedded server, which is then started with enough"
            if embedded
            else "raise max_connections of the server"
        )
        raise Problem(
            f"{settings.server.processes} nodes take up to {settings.connections_max} connections to PostgreSQL each, "
            f"{settings.connections_of_all} in all, and it allows {allowed}: {mend}, or lower --processes or "
            "PLIERS_DATABASE__MAX_CONNECTIONS",
            status=3,
        )


def _show(first_token: str | None) -> None:
    if first_token is not None:
        # Shown once and kept nowhere; so it is printed even where everything else is quiet.
        print(f"one-time admin token (keep it, it is not shown again): {first_token}", flush=True)


def _where(settings: Settings, url: str) -> str:
    count = settings.server.processes
    if settings.node.role == "worker":
        return f"working{f' with {count} nodes' if count > 1 else ''}; {url}/health/ready says whether all is well"
    return f"serving on {url}{f' with {count} nodes' if count > 1 else ''}, documentation on {url}/docs"


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, flush=True)


# -- migrate -----------------------------------------------------------------------------------------------------------


def migrate(*, database_url: str, data: Path | None, dry_run: bool) -> int:
    """Apply what is missing, or only say what that is."""

    async def work() -> list[str]:
        from pliers_workflow.installation import database
        from pliers_workflow.storage.migrations import migrate as apply_migrations

        async with database(database_url, data) as dsn:
            return await apply_migrations(dsn, dry_run=dry_run)

    names = run(work())
    for name in names:
        print(f"{'would apply' if dry_run else 'applied'} {name}")
    if not names:
        print("the schema is up to date")
    return 0


#: a thousand years
_EXPIRES_DAYS_MAX: Final = 365_000

# -- tokens and tenants ------------------------------------------------------------------------------------------------


def create_token(
    *,
    user: str,
    permissions: Sequence[str],
    name: str,
    tenant: str,
    expires_days: int,
    database_url: str,
    data: Path | None,
) -> int:
    """Print the secret of a new token, and nothing else on standard output."""

    async def work() -> str:
        from pliers_workflow import installation

        async with installation.database(database_url, data) as dsn:
            return await installation.create_token(
                dsn, tenant=tenant, user=user, permissions=permissions, name=name, expires_days=expires_days
            )

    if not 0 <= expires_days <= _EXPIRES_DAYS_MAX:
        raise Problem(
            f"--expires-days is a number of days up to {_EXPIRES_DAYS_MAX:,}, or 0 for a token that does not expire"
        )
    print(run(work()))
    return 0


def create_tenant(*, tenant: str, name: str, virtual: bool, database_url: str, data: Path | None) -> int:
    """Print the token of the new tenant's administrator, and nothing else on standard output."""

    async def work() -> str:
        from pliers_workflow import installation

        async with installation.database(database_url, data) as dsn:
            return await installation.create_tenant(dsn, tenant=tenant, name=name, virtual=virtual)

    secret = run(work())
    print(f"tenant {tenant} is there; the token of its administrator:", file=sys.stderr)
    print(secret)
    return 0
