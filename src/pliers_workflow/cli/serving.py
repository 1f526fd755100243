"""What operators do at the command line: run a server, migrate the schema, make tokens and tenants."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .problems import Problem

if TYPE_CHECKING:
    from pliers_workflow.runtime.nodes import Role


def _run(work: Any) -> Any:
    """Run a coroutine on the fast loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


# -- serve -------------------------------------------------------------------------------------------------------------


def serve(
    *, host: str, port: int, role: Role | None, database_url: str, data: Path | None, migrate: bool, quiet: bool
) -> int:
    """Run a node until SIGINT or SIGTERM; then finish what has begun, and stop. A second signal stops it at once."""
    try:
        return int(_run(_serve(host, port, role, database_url, data, migrate, quiet)))
    except KeyboardInterrupt:
        return 0


async def _serve(
    host: str, port: int, role: Role | None, database_url: str, data: Path | None, migrate: bool, quiet: bool
) -> int:
    import uvicorn

    from pliers_workflow.app import create_app
    from pliers_workflow.installation import database
    from pliers_workflow.runtime.collector import settle_collector
    from pliers_workflow.runtime.engine import open_engine
    from pliers_workflow.settings import Settings
    from pliers_workflow.storage.migrations import check_schema
    from pliers_workflow.storage.migrations import migrate as apply_migrations

    from .http_server import HttpServer

    _log_lines()
    settings = Settings()
    if role is not None:
        settings.node.role = role
    host = host or settings.server.host
    port = port if port >= 0 else settings.server.port
    _check_address(host, port)
    async with database(database_url, data) as dsn:
        settings = settings.model_copy(update={"database": settings.database.model_copy(update={"url": dsn})})
        if migrate:
            for name in await apply_migrations(dsn):
                _say(f"applied migration {name}", quiet)
        else:
            # Statements of another schema fail one by one, in the middle of somebody's request: rather not begin.
            await check_schema(dsn)
        engine = await open_engine(settings)
        try:
            first_token = await engine.tokens.bootstrap("default")
        except BaseException:
            engine.abandon()
            raise
        if first_token is not None:
            # Shown once and kept nowhere; so it is printed even where everything else is quiet.
            print(f"one-time admin token (keep it, it is not shown again): {first_token}", flush=True)
        config = uvicorn.Config(
            create_app(engine), host=host, port=port, log_config=None, access_log=False, server_header=False,
            date_header=False, proxy_headers=False, lifespan="on", timeout_graceful_shutdown=math.ceil(settings.node.drain_grace), timeout_keep_alive=75, backlog=4096,
        )  # fmt: skip
        server = HttpServer(config, engine, say=lambda text: _say(text, quiet))
        settle_collector()
        await server.serve()
        if not server.started:
            raise Problem(f"the server could not start on {host}:{port}; the lines above say why", status=3)
    return 0


def _check_address(host: str, port: int) -> None:
    """Refuse an address nobody can listen on, before the database is touched and a token is shown."""
    try:
        places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Problem(
            f"there is no address {host!r} to listen on ({error.strerror}); name another with --host"
        ) from None
    for family, kind, protocol, _, place in places:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    what = f"port {port} of {host} is taken by another program; name another with --port, or 0 for a free one"
                elif error.errno == errno.EACCES:
                    what = f"port {port} of {host} needs rights that you do not have; name one above 1023 with --port"
                elif error.errno == errno.EADDRNOTAVAIL:
                    what = f"{host} is no address of this machine; name one of its own with --host"
                elif error.errno == errno.EAFNOSUPPORT:
                    # such as IPv6 where the machine has none; `localhost` has another address
                    continue
                else:
                    what = f"the server cannot listen on {host}:{port}: {error.strerror}"
                raise Problem(what, status=3) from None


def _log_lines() -> None:
    """
    Logs are lines of JSON on standard error; tracebacks without the values of variables, which may be secret.

    What libraries log (the driver, the HTTP server, asyncio) goes the same way, from warnings up; what plugins log, from information up.
    """
    import logging

    import structlog

    first: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*first, renderer],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("pliers.plugins").setLevel(logging.INFO)


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

    names = _run(work())
    for name in names:
        print(f"{'would apply' if dry_run else 'applied'} {name}")
    if not names:
        print("the schema is up to date")
    return 0


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

    if expires_days < 0:
        raise Problem("--expires-days is a number of days, or 0 for a token that does not expire")
    print(_run(work()))
    return 0


def create_tenant(*, tenant: str, name: str, virtual: bool, database_url: str, data: Path | None) -> int:
    """Print the token of the new tenant's administrator, and nothing else on standard output."""

    async def work() -> str:
        from pliers_workflow import installation

        async with installation.database(database_url, data) as dsn:
            return await installation.create_tenant(dsn, tenant=tenant, name=name, virtual=virtual)

    secret = _run(work())
    print(f"tenant {tenant} is there; the token of its administrator:", file=sys.stderr)
    print(secret)
    return 0
