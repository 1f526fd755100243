"""The command `pliers replay`: a server, the replay, the comparison, a summary in JSON.

Without `--url` the server is a process of its own on a database that survives it, so it can be killed at any moment
(`--kill-every`) and started again; calls that were under way are repeated under their Idempotency-Keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pliers_workflow.client.api import Api
from pliers_workflow.client.http import HttpClient
from pliers_workflow.client.progress import Meter
from pliers_workflow.client.server import LocalServer
from pliers_workflow.installation import admin_token, database

from .cases import (
    Case,
    Expectation,
    Expected,
    LogError,
    Verdict,
    disagreements,
    log_name,
    read_cases,
    read_expected,
    walk,
)
from .run import CaseRun, Replayer
from .whole import Trip, WholeReplayer, read_trips

#: differences told in full; the rest are counted
_TOLD_MAX = 20


def replay(
    log: Path,
    expected: Path,
    *,
    url: str = "",
    token: str = "",
    callers: int = 24,
    limit: int = 0,
    kill_every: float = 0,
    verify: bool = False,
    whole: bool = False,
    database_url: str = "",
) -> int:
    """
    Replay a log and compare; 0 when nothing differs, 1 when something does, 2 when it could not be begun.

    `whole`: trip, permit and declaration of a case together, on a virtual clock, instead of each document alone.
    """
    try:
        expectations = read_expected(expected, log_name(log))
        if url and (kill_every or not token):
            raise LogError("with --url there must be a --token, and no --kill-every: we only kill servers of our own")
        if url:
            _check(url)
        if whole and (kill_every or verify):
            raise LogError("--whole-cases goes by a clock; --kill-every and --verify are for documents alone")
        trips = read_trips(log, limit) if whole else []
        loads = [] if whole else [(one, read_cases(log, one.document, limit)) for one in expectations.expectations]
    except LogError as error:
        print(f"pliers replay: {error}", file=sys.stderr)
        return 2
    if whole:
        work = _replay_whole(log, expectations, trips, url, token, callers, limit, database_url)
    else:
        work = _replay(log, expectations, loads, url, token, callers, limit, kill_every, verify, database_url)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_until_told(work))
    return uvloop.run(_until_told(work))


def _check(url: str) -> None:
    """Raise LogError for what is no server's address."""
    try:
        HttpClient(url)
    except ValueError as error:
        raise LogError(f"--url: {error}") from None


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """Run it as a task that Ctrl-C and SIGTERM cancel, so that the server and the database we started end with us."""
    main = asyncio.ensure_future(work)
    told: list[bool] = []

    def stop() -> None:
        told.append(True)
        main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        return await main
    except asyncio.CancelledError:
        if not told:
            raise
        print("pliers replay: stopped before the end", file=sys.stderr)
        return 130


async def _replay(
    log: Path,
    expected: Expected,
    loads: Sequence[tuple[Expectation, list[Case]]],
    url: str,
    token: str,
    callers: int,
    limit: int,
    kill_every: float,
    verify: bool,
    database_url: str,
) -> int:
    async with contextlib.AsyncExitStack() as stack:
        server: LocalServer | None = None
        if not url:
            own, token = await stack.enter_async_context(_own_server(database_url))
            server, url = own, own.url
        http = await stack.enter_async_context(HttpClient(url, connections=callers))
        api = Api(http, token)
        summaries = []
        for number, (expectation, cases) in enumerate(loads, start=1):
            if len(loads) > 1 and server is not None:
                # Each document's replay has a tenant of its own: its cases bear the same names.
                tenant = f"replay-{int(time.time())}-{number}"
                made = await api.do("POST", "/api/v1/tenants", {"id": tenant, "name": expectation.name})
                admin = api.as_user(made["adminToken"])
            else:
                admin = api
            summaries.append(
                await _replay_one(expectation, expected, cases, admin, server, callers, limit, kill_every, verify)
            )
    summary = summaries[0] if len(summaries) == 1 else _together(log_name(log), summaries)
    print(json.dumps(summary))
    return 1 if summary["differences"] else 0


async def _replay_whole(
    log: Path,
    expected: Expected,
    trips: Sequence[Trip],
    url: str,
    token: str,
    callers: int,
    limit: int,
    database_url: str,
) -> int:
    async with contextlib.AsyncExitStack() as stack:
        if not url:
            own, token = await stack.enter_async_context(_own_server(database_url))
            url = own.url
        http = await stack.enter_async_context(HttpClient(url, connections=callers))
        tenant = f"trips-{int(time.time())}"
        first = min(each.at for trip in trips for each in trip.moments)
        made = await Api(http, token).do(
            "POST", "/api/v1/tenants", {"id": tenant, "name": log_name(log), "virtualNow": first.isoformat()}
        )
        admin = Api(http, made["adminToken"])
        replayer = WholeReplayer(admin, tenant, expected.rows, expected.start, trips)
        await replayer.prepare()
        began = time.monotonic()
        with Meter(f"{log_name(log)}, whole cases", sum(len(trip.moments) for trip in trips)) as meter:
            await replayer.replay(callers=callers, done=meter.advance)
        seconds = time.monotonic() - began
        with Meter("judged", len(trips)) as meter:
            await replayer.judge(callers=callers, done=meter.advance)
        differences = [f"{run.trip.id}: {fault}" for run in replayer.runs for fault in run.faults]
        if not limit:
            for expectation in expected.expectations:
                if expectation.document is not None:
                    differences += disagreements(expectation, replayer.outcomes(expectation.document))
    _tell(differences)
    summary = {
        "log": log_name(log),
        **replayer.summary(),
        "differences": len(differences),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(summary))
    return 1 if differences else 0


def _tell(differences: Sequence[str]) -> None:
    for line in differences[:_TOLD_MAX]:
        print(f"different: {line}", file=sys.stderr)
    if len(differences) > _TOLD_MAX:
        print(f"… and {len(differences) - _TOLD_MAX} more", file=sys.stderr)


@asynccontextmanager
async def _own_server(database_url: str) -> AsyncIterator[tuple[LocalServer, str]]:
    """A server of our own on a database of its own, or on the one given."""
    from pliers_workflow.storage.migrations import migrate

    # The parent folder stays 0700 as `mkdtemp` makes it, except that the account that runs PostgreSQL must pass.
    with tempfile.TemporaryDirectory(prefix="pliers-replay-") as place:
        folder = Path(place)
        folder.chmod(0o711)
        async with database(database_url, None if database_url else folder / "database") as dsn:
            await migrate(dsn)
            token = await admin_token(dsn, name="replay")
            server = LocalServer(dsn, folder / "server.log")
            try:
                await server.start()
                yield server, token
            finally:
                await server.stop()


async def _replay_one(
    expectation: Expectation,
    expected: Expected,
    cases: list[Case],
    admin: Api,
    server: LocalServer | None,
    callers: int,
    limit: int,
    kill_every: float,
    verify: bool,
) -> dict[str, Any]:
    deeds = {(step.act, step.by) for case in cases for step in case.steps}
    replayer = Replayer(admin, expected.rows, expected.start, sorted(deeds))
    await replayer.prepare()
    events = sum(len(case.steps) for case in cases)
    kills = 0
    began = time.monotonic()
    with Meter(expectation.name, events) as meter:
        killer = asyncio.create_task(_kill_now_and_then(server, kill_every, meter)) if server and kill_every else None
        try:
            runs = await replayer.replay(cases, callers=callers, done=_counts_steps(meter))
        finally:
            if killer is not None:
                killer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await killer
            if server is not None:
                kills = server.starts - 1
                if server.pid is None:
                    await server.start()
    seconds = time.monotonic() - began
    if verify:
        with Meter(f"{expectation.name}, histories", len(runs)) as meter:
            await replayer.verify(runs, callers=callers, done=lambda _: meter.advance())
    differences = _differences(expectation, expected, runs, whole=not limit)
    _tell(differences)
    done = sum(len(run.states) + (run.refused is not None) for run in runs)
    summary: dict[str, Any] = {
        "log": expectation.name,
        "cases": len(runs),
        "replayed": sum(run.refused is None and len(run.states) == len(run.case.steps) for run in runs),
        "refused": sum(run.refused is not None for run in runs),
        "final_states": dict(Counter(run.states[-1] for run in runs if run.refused is None and run.states)),
        "differences": len(differences),
        "seconds": round(seconds, 1),
        "events_per_second": round(done / seconds, 1) if seconds else 0.0,
        "accepted": sum(len(run.states) for run in runs),
    }
    if verify:
        summary["histories_verified"] = len(runs)
    if kill_every:
        summary["kills"] = kills
        summary["calls_repeated"] = replayer.repeated
    return summary


def _counts_steps(meter: Meter) -> Callable[[CaseRun], None]:
    return lambda run: meter.advance(len(run.case.steps))


def _differences(expectation: Expectation, expected: Expected, runs: Sequence[CaseRun], *, whole: bool) -> list[str]:
    """Every fault, every case that went otherwise than the table says, and, of a whole log, what does not add up."""
    found = []
    outcomes: dict[str, Verdict] = {}
    for run in runs:
        found += [f"{expectation.name}: {run.case.id}: {fault}" for fault in run.faults]
        must = walk(expected.rows, expected.start, run.case.steps)
        if run.outcome != must:
            found.append(f"{expectation.name}: {run.case.id}: went {run.outcome}, the table says {must}")
        if run.case.id in outcomes:
            found.append(f"{expectation.name}: {run.case.id} stands twice in the log")
        outcomes[run.case.id] = run.outcome
    if whole:
        found += disagreements(expectation, outcomes)
    return found


async def _kill_now_and_then(server: LocalServer, every: float, meter: Meter) -> None:
    """`kill -9` and start again, until cancelled; never cancelled between the two."""
    while True:
        await asyncio.sleep(every)
        await asyncio.shield(asyncio.ensure_future(_kill_once(server)))
        meter.note(f"killed {server.starts - 1} times")


async def _kill_once(server: LocalServer) -> None:
    await server.kill()
    await server.start()


def _together(log: str, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several documents' replays, with theirs inside."""
    finals: Counter[str] = Counter()
    for summary in summaries:
        finals.update(summary["final_states"])
    seconds = sum(summary["seconds"] for summary in summaries)
    events = sum(summary["events_per_second"] * summary["seconds"] for summary in summaries)
    together: dict[str, Any] = {
        key: sum(summary[key] for summary in summaries)
        for key in ("cases", "replayed", "refused", "differences", "accepted")
    }
    return {
        "log": log,
        **together,
        "final_states": dict(finals),
        "seconds": round(seconds, 1),
        "events_per_second": round(events / seconds, 1) if seconds else 0.0,
        "documents": list(summaries),
    }
