"""Transitions per second over HTTP, and of the bare FastAPI endpoint beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pliers_workflow.client.http import ConnectionLost, HttpClient
from pliers_workflow.client.server import LocalServer, free_port
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.engine import Engine
from pliers_workflow.storage.database import after_bulk_load

from .in_process import Load, checkpoint, wal_position
from .limit import _rows, _statement
from .workload import Cast, one_workflow


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process so far (Linux); 0 where that is not known."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


async def _drive(plan: dict[str, Any], pid: int, dsn: str) -> Load:
    await checkpoint(dsn)
    wal, cpu = await wal_position(dsn), _cpu_seconds(pid)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(plan))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.http_client", str(path), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the load generator failed on {plan['kind']}")
    result = json.loads(output.splitlines()[-1])
    # The second of warming up is in CPU and WAL as well: they are scaled to what was measured.
    share = plan["seconds"] / (plan["seconds"] + 1.0)
    return Load(
        plan["callers"], result["transitions"], result["seconds"], result["latencies"],
        (_cpu_seconds(pid) - cpu) * share, int((await wal_position(dsn) - wal) * share),
    )  # fmt: skip


async def _settle(engine: Engine, plan: dict[str, Any], pid: int, dsn: str) -> None:
    """Tables of some size, with statistics, before anything is measured; plans made on empty ones are thrown away."""
    await _drive({**plan, "callers": 16, "seconds": 1.0}, pid, dsn)
    await after_bulk_load(engine.pool)


@contextlib.asynccontextmanager
async def _bare(engine: Engine, cast: Cast, dsn: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    await one_workflow(engine, cast, [], lambda: 0.0)
    async with engine.pool.acquire() as connection:
        instance_id = await connection.fetchval(
            "SELECT id::text FROM workflow_instances WHERE tenant_id = 'default' AND status = 'completed' "
            "ORDER BY id DESC LIMIT 1"
        )
        steps = await _rows(connection, instance_id)
    statements = folder / "statements.json"
    statements.write_text(json.dumps([_statement(step, rows, "$1::uuid", "") for step, rows in enumerate(steps)]))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "benchmarks.bare_app:app", "--port", str(port), "--log-level", "warning",
        "--no-access-log", "--loop", "uvloop", "--http", "httptools",
        env={**os.environ, "BENCH_DSN": dsn, "BENCH_STATEMENTS": str(statements)},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    http = HttpClient(url, connections=1)
    try:
        for _ in range(200):
            with contextlib.suppress(ConnectionLost):
                await http.request("GET", "/openapi.json")
                break
            await asyncio.sleep(0.05)
        yield url, process.pid
    finally:
        http.close()
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def run(
    engine: Engine, cast: Cast, dsn: str, *, seconds: float, callers: tuple[int, ...] = (1, 16, 64)
) -> dict[str, Load]:
    """The loads by name: `http_N`, `bare_N`, and `http_half` at half the rate of `http_16`, paced."""
    loads: dict[str, Load] = {}
    admin_row = await engine.directory.user_by_name("default", "admin")
    assert admin_row is not None
    admin = Principal("default", admin_row.id, "admin", frozenset({"admin"}))
    tokens = {}
    for name in ("ada", "grace", "edsger"):
        _, tokens[name] = await engine.tokens.create(admin, name, name=f"bench {name}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _bare(engine, cast, dsn, folder) as (url, pid):
            plan = {"kind": "bare", "url": url}
            await _settle(engine, plan, pid, dsn)
            for count in callers:
                loads[f"bare_{count}"] = await _drive({**plan, "callers": count, "seconds": seconds}, pid, dsn)
        server = LocalServer(dsn, folder / "server.log")
        await server.start()
        try:
            assert server.pid is not None
            plan = {"kind": "engine", "url": server.url, "seconds": seconds, "tokens": tokens,
                    "workflow": cast.definition.name}  # fmt: skip
            await _settle(engine, plan, server.pid, dsn)
            for count in callers:
                loads[f"http_{count}"] = await _drive({**plan, "callers": count}, server.pid, dsn)
            half = loads["http_16"].rate / 2
            loads["http_half"] = await _drive({**plan, "callers": 64, "rate": half}, server.pid, dsn)
        finally:
            await server.stop()
    return loads
