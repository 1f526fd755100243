"""The same workload on one node and on two: what a second process on the same PostgreSQL brings.

Each node is a process of its own, with all its services at work, and has its share of the callers in it. The parent lets
them begin at the same moment. `python -m benchmarks.nodes DSN CALLERS SECONDS` is one of them: it says `ready`, waits for
a line, and prints what it came to as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

from pliers_workflow.runtime.commit.collector import settle_collector
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import Settings
from pliers_workflow.storage.database import after_bulk_load

from .in_process import Load, checkpoint, wal_position
from .workload import one_workflow, prepare

CALLERS = 64


async def run(dsn: str, *, seconds: float) -> dict[str, Load]:
    """The loads by name: `one_node` and `two_nodes`, with as many callers in all."""
    await _prepare(dsn)
    return {
        "one_node": await _measure(dsn, nodes=1, seconds=seconds),
        "two_nodes": await _measure(dsn, nodes=2, seconds=seconds),
    }


async def _prepare(dsn: str) -> None:
    """People and definition once, before any node looks for them."""
    settings = Settings()
    settings.database.url = dsn
    engine = await open_engine(settings)
    await engine.start(services=False)
    try:
        await prepare(engine)
    finally:
        await engine.close()


async def _measure(dsn: str, *, nodes: int, seconds: float) -> Load:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.nodes", dsn, str(CALLERS // nodes), str(seconds),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(nodes)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        while (line := await process.stdout.readline()) != b"ready\n":  # the node's log comes before
            if not line:
                raise SystemExit("a node did not come up; its own words stand above")
    await checkpoint(dsn)
    wal = await wal_position(dsn)
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    results: list[dict[str, Any]] = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    return Load(
        CALLERS,
        sum(result["transitions"] for result in results),
        max(result["seconds"] for result in results),
        [latency for result in results for latency in result["latencies"]],
        sum(result["cpu_seconds"] for result in results),
        await wal_position(dsn) - wal,
    )


async def _node(dsn: str, callers: int, seconds: float) -> None:
    settings = Settings()
    settings.database.url = dsn
    engine = await open_engine(settings)
    await engine.start()
    settle_collector()  # as `pliers serve` does
    clock = time.perf_counter
    latencies: list[float] = []
    try:
        cast = await prepare(engine)

        async def caller(until: float) -> None:
            while clock() < until:
                await one_workflow(engine, cast, latencies, clock)

        await asyncio.gather(*(caller(clock() + 0.5) for _ in range(callers)))
        await after_bulk_load(engine.pool)
        await asyncio.gather(*(caller(clock() + 0.3) for _ in range(callers)))
        latencies.clear()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        cpu, began = time.process_time(), clock()
        await asyncio.gather(*(caller(began + seconds) for _ in range(callers)))
        elapsed, cpu = clock() - began, time.process_time() - cpu
    finally:
        await engine.close()
    result = {"transitions": len(latencies), "seconds": elapsed, "cpu_seconds": cpu, "latencies": latencies}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(_node(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
