"""Steps through the job table for as long as one likes, while somebody holds a snapshot all the time.

    python -m benchmarks.soak --minutes 30

A long report, or a replica that is read, keeps every row version that is done with; a claim that began at the first of them
would read more from minute to minute. One line for each window says what it came to: steps a second, the time of a claim, and
how much of the table is dead. Last comes a line of JSON; `last_over_first` compares the rates of the last and the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
import uvloop

from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.engine import Engine

from .__main__ import fresh, server
from .later import STEPS_EACH, open_node, publish_steps, quantile
from .workload import prepare

#: steps that are kept waiting, so that the worker always has something to claim, and instances begun at once
_BACKLOG = 2_000
_AT_ONCE = 32


@dataclass
class Window:
    """What happened within a part of the time."""

    second: int
    steps_per_second: int
    #: a claim of steps, in milliseconds
    claim_p50_ms: float
    claim_p99_ms: float
    #: of the job table: rows that are there, versions that are done with, and its size with its indexes
    rows: int
    dead: int
    mebibytes: float


_TABLE = """
SELECT (SELECT count(*) FROM workflow_jobs), n_dead_tup, pg_total_relation_size(relid) / 1048576.0
FROM pg_stat_user_tables WHERE relname = 'workflow_jobs'
"""


async def soak(dsn: str, *, minutes: float, window: float) -> list[Window]:
    """The windows; each is printed when it is over."""
    engine = await open_node(dsn)
    claims: list[float] = []
    claim = engine.step_claims.claim

    async def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        claimed = await claim(*arguments, **options)
        claims.append(time.perf_counter() - began)
        return claimed

    engine.step_claims.claim = timed  # type: ignore[method-assign]
    report = await asyncpg.connect(dsn)
    feeder: asyncio.Task[None] | None = None
    windows: list[Window] = []
    try:
        await prepare(engine)
        transaction = report.transaction(isolation="repeatable_read")
        await transaction.start()
        await report.fetchval("SELECT count(*) FROM workflow_jobs")
        feeder = asyncio.create_task(_feed(engine))
        await asyncio.sleep(5)
        began = time.monotonic()
        while (now := time.monotonic()) - began < minutes * 60:
            done = engine.step_worker.completed
            claims.clear()
            await asyncio.sleep(window)
            if feeder.done():
                feeder.result()
            rate = (engine.step_worker.completed - done) / (time.monotonic() - now)
            table = await engine.readers.fetchrow(_TABLE)
            assert table is not None, "the table is there"
            rows, dead, size = table
            windows.append(
                Window(
                    round(time.monotonic() - began), round(rate), round(quantile(claims, 0.5), 2),
                    round(quantile(claims, 0.99), 2), rows, dead, round(float(size), 1),
                )
            )  # fmt: skip
            print(json.dumps(asdict(windows[-1])), flush=True)
    finally:
        if feeder is not None:
            feeder.cancel()
        await report.close()
        await engine.close()
    return windows


async def _feed(engine: Engine) -> None:
    """Begin instances whenever less than the backlog is waiting."""
    admin, definition = await publish_steps(engine)
    begun = 0
    while True:
        if begun * STEPS_EACH - engine.step_worker.completed > _BACKLOG:
            await asyncio.sleep(0.02)
            continue
        answers = await asyncio.gather(*(engine.start_instance(admin, definition, data={}) for _ in range(_AT_ONCE)))
        assert all(isinstance(answer, Accepted) for answer in answers), answers
        begun += _AT_ONCE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--database-url", help="a server on which databases may be created; default: an embedded one")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--window", type=float, default=30.0, help="seconds of one line")
    arguments = parser.parse_args()

    async def work(server_dsn: str) -> list[Window]:
        dsn = await fresh(server_dsn, "bench_soak")
        return await soak(dsn, minutes=arguments.minutes, window=arguments.window)

    with server(arguments.database_url) as dsn:
        windows = uvloop.run(work(dsn))
    rates = [each.steps_per_second for each in windows]
    third = max(1, len(rates) // 3)
    first, last = statistics.mean(rates[:third]), statistics.mean(rates[-third:])
    print(json.dumps({"minutes": arguments.minutes, "first": round(first), "last": round(last),
                      "last_over_first": round(last / first, 3)}))  # fmt: skip


if __name__ == "__main__":
    main()
