"""`python -m benchmarks`: run everything, print a table, and last a line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from pliers_workflow.storage.migrations import migrate

from . import in_process, later, limit, nodes, over_http
from .in_process import Load
from .workload import prepare

console = Console(stderr=False, width=130)


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """A server to measure on: the one given, else an embedded PostgreSQL of our own."""
    if url:
        yield url
        return
    from pliers_workflow.storage.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="pliers-bench-") as folder:
        embedded = EmbeddedPostgres(Path(folder) / "postgres")
        dsn = embedded.start()
        try:
            yield dsn
        finally:
            embedded.stop()


async def fresh(server_dsn: str, name: str) -> str:
    """A new, migrated database on the server."""
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    await migrate(dsn)
    return dsn


async def measure(server_dsn: str, arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = arguments.seconds
    console.print("in process …")
    loads = await in_process.run(await fresh(server_dsn, "bench_in_process"), seconds=seconds)
    console.print("pgbench …")
    dsn = await fresh(server_dsn, "bench_limit")
    engine = await in_process.open_settled(dsn)
    try:
        cast = await prepare(engine)
        reached = await limit.run(engine, cast, dsn, seconds=seconds)
    finally:
        await engine.close()
    if not arguments.no_http:
        console.print("over HTTP …")
        dsn = await fresh(server_dsn, "bench_http")
        engine = await in_process.open_settled(dsn)
        try:
            cast = await prepare(engine)
            loads.update(await over_http.run(engine, cast, dsn, seconds=seconds))
        finally:
            await engine.close()
    console.print("one node and two …")
    loads.update(await nodes.run(await fresh(server_dsn, "bench_nodes"), seconds=seconds))
    figures = table(loads, reached)
    if arguments.waiting:
        console.print(f"{arguments.waiting:,} waiting instances …")
        dsn = await fresh(server_dsn, "bench_waiting")
        before, after, memory, inbox = await in_process.waiting(dsn, seconds=seconds, count=arguments.waiting)
        figures |= {
            "waiting": arguments.waiting,
            "waiting_over_empty_16": round(after.rate / before.rate, 3),
            "waiting_bytes_of_memory_each": round(memory, 1),
            "inbox_ms_p50": round(inbox, 2),
        }
        console.print(
            f"16 callers beside {arguments.waiting:,} waiting instances: {after.rate:,.0f} tr/s, "
            f"{after.rate / before.rate:.2f} of {before.rate:,.0f} on an empty database; "
            f"{memory:,.0f} bytes of memory for each; inbox of their manager {inbox:.2f} ms"
        )
    if not arguments.no_later:
        figures |= await measure_later(server_dsn, seconds, arguments.timers)
    return figures


async def measure_later(server_dsn: str, seconds: float, count: int) -> dict[str, Any]:
    """Steps through the job table, and timers that are due at once; their figures by name."""
    console.print("steps …")
    steps = await later.steps(await fresh(server_dsn, "bench_steps"), seconds=seconds)
    console.print(
        f"steps through the job table: {steps.engine:,.0f} a second, {steps.over_raw:.2f} of the raw claims and deletes "
        f"({steps.raw:,.0f})"
    )
    figures: dict[str, Any] = {
        "steps_per_second": round(steps.engine),
        "raw_claims_per_second": round(steps.raw),
        "steps_over_raw_claims": round(steps.over_raw, 3),
    }
    if not count:
        return figures
    console.print(f"{count:,} timers due at once (the instances take a minute or two to make) …")
    timers = await later.timers(await fresh(server_dsn, "bench_timers"), count=count)
    quantiles = {
        f"beside_timers_{when}_p{share}_ms": round(later.quantile(latencies, share / 100), 2)
        for when, latencies in (("before", timers.before), ("meanwhile", timers.meanwhile))
        for share in (50, 99)
    }
    console.print(
        f"{count:,} timers due at once: {timers.rate:,.0f} a second, late by {timers.late_p50:.1f} s (p50) and "
        f"{timers.late_p99:.1f} s (p99); 100 transitions a second beside them took {quantiles['beside_timers_before_p50_ms']} / "
        f"{quantiles['beside_timers_before_p99_ms']} ms (p50 / p99) before, {quantiles['beside_timers_meanwhile_p50_ms']} / "
        f"{quantiles['beside_timers_meanwhile_p99_ms']} ms meanwhile"
    )
    return (
        figures
        | quantiles
        | {
            "timers": count,
            "timers_per_second": round(timers.rate),
            "timers_late_p50_s": round(timers.late_p50, 2),
            "timers_late_p99_s": round(timers.late_p99, 2),
        }
    )


def table(loads: dict[str, Load], reached: limit.Limit) -> dict[str, Any]:
    """Print the table; its figures by name."""
    view = Table(title="durable transitions of the expense workflow (1 kB of data)")
    for column in (
        "",
        "tr/s",
        "p50 ms",
        "p99 ms",
        "Python µs/tr",
        "WAL KiB/wf",
        "/ pgbench one",
        "/ pgbench batched",
        "/ bare",
    ):
        view.add_column(column, justify="left" if not column else "right")
    figures: dict[str, Any] = {}
    for clients, rate in reached.one.items():
        view.add_row(f"pgbench, one transition a transaction, c={clients}", f"{rate:,.0f}", "", "", "", "",
                     f"{rate / reached.one_best:.2f}", f"{rate / reached.batched_best:.2f}")  # fmt: skip
        figures[f"pgbench_one_{clients}"] = round(rate)
    for clients, rate in reached.batched.items():
        view.add_row(f"pgbench, the same rows in batches of {limit.BATCH}, c={clients}", f"{rate:,.0f}", "", "", "", "",
                     f"{rate / reached.one_best:.2f}", f"{rate / reached.batched_best:.2f}")  # fmt: skip
        figures[f"pgbench_batched_{clients}"] = round(rate)
    bare = loads.get("bare_16")
    for name, load in loads.items():
        over_bare = f"{load.rate / bare.rate:.2f}" if bare is not None else ""
        view.add_row(
            name, f"{load.rate:,.0f}", f"{load.quantile(0.5):.1f}", f"{load.quantile(0.99):.1f}", f"{load.cpu_us:.0f}",
            f"{load.wal_kib:.1f}", f"{load.rate / reached.one_best:.2f}", f"{load.rate / reached.batched_best:.2f}", over_bare,
        )  # fmt: skip
        figures[name] = {
            "transitions_per_second": round(load.rate),
            "p50_ms": round(load.quantile(0.5), 2),
            "p99_ms": round(load.quantile(0.99), 2),
            "python_us_per_transition": round(load.cpu_us),
            "wal_kib_per_workflow": round(load.wal_kib, 1),
            "over_pgbench_one": round(load.rate / reached.one_best, 3),
            "over_pgbench_batched": round(load.rate / reached.batched_best, 3),
        }
    console.print(view)
    figures["in_process_64_over_batched_limit"] = round(loads["in_process_64"].rate / reached.batched_best, 3)
    figures["two_nodes_over_one"] = round(loads["two_nodes"].rate / loads["one_node"].rate, 3)
    if bare is not None:
        figures["http_16_over_bare_fastapi"] = round(loads["http_16"].rate / bare.rate, 3)
        figures["http_p99_ms_at_half_load"] = round(loads["http_half"].quantile(0.99), 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--database-url", default=os.environ.get("PLIERS_BENCH_DATABASE_URL"),
                        help="a server on which databases may be created; default: an embedded PostgreSQL")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=4.0, help="for each load")
    parser.add_argument("--waiting", type=int, default=100_000, help="waiting instances to add; 0: leave that out")
    parser.add_argument("--no-http", action="store_true")
    parser.add_argument("--no-later", action="store_true", help="leave out steps and timers")
    parser.add_argument("--timers", type=int, default=100_000, help="timers due at once; 0: leave that out")
    arguments = parser.parse_args()
    console.print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with server(arguments.database_url) as dsn:
        figures = uvloop.run(measure(dsn, arguments))
    print(json.dumps(figures, sort_keys=True))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
