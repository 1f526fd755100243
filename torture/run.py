"""One seed: bring everything up, load it and break it, let it come to rest, judge it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import asyncpg

from pliers_workflow.client.api import Api, Unexpected
from pliers_workflow.client.http import ConnectionLost, HttpClient
from pliers_workflow.installation import admin_token
from pliers_workflow.storage.migrations import migrate

from . import histories, logs
from .caller import Calls
from .chaos import Chaos
from .cluster import ROLES, Cluster, Node
from .load import Load, prepare
from .outside import Outside
from .people import OPERATOR, make_people
from .review import review
from .verdict import Verdict

#: Seconds within which everything must have come to rest: longer than the slowest safety net, the dispatcher's sweep.
_REST_WITHIN: Final = 120.0


#: Seconds within which a node must raise no alarm any more, once everything rests.
_WELL_WITHIN: Final = 60.0


async def run_seed(
    seed: str, seconds: float, *, at_once: int, calm: float, kept: Path, keep_all: bool = False
) -> Verdict:
    """Run one seed; what the nodes said is kept in a folder when it fails."""
    verdict = Verdict(seed)
    # The parent folder stays 0700 as `mkdtemp` makes it, except that the account that runs PostgreSQL must pass.
    folder = Path(tempfile.mkdtemp(prefix="pliers-torture-"))
    folder.chmod(0o711)
    cluster = Cluster(folder)
    try:
        try:
            dsn = await cluster.start()
            await _torture(verdict, cluster, dsn, seconds, at_once, calm)
        finally:
            await cluster.stop()
        for node in cluster.nodes:
            verdict.faults += node.faults
        _read_logs(verdict, cluster)
    except Exception as error:  # the harness itself failed: that is no green seed either
        verdict.faults.append(f"the run could not be finished: {error!r}")
        verdict.evidence += traceback.format_exc().splitlines()
    finally:
        if verdict.faults or keep_all:
            _keep(verdict, cluster, kept / f"seed-{seed}")
        shutil.rmtree(folder, ignore_errors=True)
    return verdict


async def _torture(verdict: Verdict, cluster: Cluster, dsn: str, seconds: float, at_once: int, calm: float) -> None:
    await migrate(dsn)
    token = await admin_token(dsn, name="torture")
    roles = Random(f"{verdict.seed}/roles").choice(ROLES)
    outside = Outside(verdict.seed)
    await outside.start()
    await cluster.start_nodes(dsn, roles, outside.port)
    async with HttpClient(cluster.nodes[0].url) as http:
        admin = Api(http, token)
        cast = await make_people(admin)
        await prepare(admin, outside.url)
    calls = Calls([node.url for node in cluster.nodes if node.answers])
    load = Load(verdict.seed, calls, cast, at_once=at_once)
    chaos = Chaos(verdict.seed, cluster, dsn, calm=calm)
    began = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(seconds))
            try:
                await chaos.run(seconds)
            finally:
                await chaos.end()
                brought_up = time.monotonic()
        await _rest(verdict, dsn)
        for node in cluster.nodes:
            if node.answers:
                await _be_well(verdict, node, cast.tokens[OPERATOR])
    finally:
        calls.close()
        await outside.stop()
    verdict.evidence += ["chaos:", *chaos.diary, ""]
    verdict.counts |= {
        "seconds": round(time.monotonic() - began, 1),
        "rest_seconds": round(time.monotonic() - brought_up, 1),
        "workflows": len(load.workflows),
        "roles": "/".join(roles),
        "calls": len(calls.made),
        "accepted": sum(call.ok for call in calls.made),
        "refused": sum(400 <= call.status < 500 for call in calls.made),
        "repeated": dict(calls.repeated),
        "chaos": dict(chaos.done),
        "outside": dict(outside.moods),
    }
    verdict.faults += calls.faults
    for workflow in load.workflows:
        verdict.faults += [f"workflow {workflow.number}: {fault}" for fault in workflow.faults]
    await review(verdict, dsn, calls.made, cast, outside)


async def _rest(verdict: Verdict, dsn: str) -> None:
    """Wait until every instance has ended and nothing is left to do, but the second looks for people who have left."""
    connection = await asyncpg.connect(dsn)
    give_up_at = time.monotonic() + _REST_WITHIN
    try:
        while True:
            left = await connection.fetchrow(
                "SELECT (SELECT count(*) FROM workflow_instances WHERE tenant_id = $1 AND status NOT IN "
                "('completed', 'cancelled', 'failed')) AS instances, "
                "(SELECT count(*) FROM workflow_jobs WHERE tenant_id = $1 AND NOT (kind = 'departure' AND due_at > now())) AS jobs",
                histories.TENANT,
            )
            assert left is not None
            if left["instances"] == left["jobs"] == 0:
                break
            if time.monotonic() > give_up_at:
                verdict.faults.append(
                    f"after {_REST_WITHIN:g} s {left['instances']} instances and {left['jobs']} jobs are left"
                )
                break
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _be_well(verdict: Verdict, node: Node, token: str) -> None:
    """Wait until a node says that it is well and raises no alarm: the log's readers have caught up, nothing is late."""
    give_up_at = time.monotonic() + _WELL_WITHIN
    said: object = None
    async with HttpClient(node.url, timeout=10) as http:
        api = Api(http, token, patience=_WELL_WITHIN)
        while time.monotonic() < give_up_at:
            try:
                said = (await api.get("/api/v1/workflows/health"))["details"]
            except (ConnectionLost, Unexpected) as error:
                said = str(error)
            if isinstance(said, dict) and said["state"] == "ok":
                return
            await asyncio.sleep(0.5)
    alarms = said.get("alarms") if isinstance(said, dict) else said
    verdict.faults.append(f"{node.name} is not well after {_WELL_WITHIN:g} s: {alarms}")


def _read_logs(verdict: Verdict, cluster: Cluster) -> None:
    said: Counter[str] = Counter()
    for node in cluster.nodes:
        wrong, events = logs.judge(node.log)
        said += events
        verdict.faults += wrong
    verdict.counts["logged"] = dict(said)


def _keep(verdict: Verdict, cluster: Cluster, kept: Path) -> None:
    """Put everything that helps to understand a failed seed into one folder."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in [*(node.log for node in cluster.nodes), cluster.folder / "database" / "server.log"]:
        with contextlib.suppress(OSError):
            shutil.copy(log, kept / (log.name if log.parent == cluster.folder else "postgresql.log"))
    (kept / "faults.txt").write_text("\n".join(verdict.faults) + "\n")
    (kept / "evidence.txt").write_text("\n".join(verdict.evidence) + "\n")
