"""Real nodes, of which the one that reads is killed in the middle: nothing lost, nothing twice, in order."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.feed.brokers import REDIS, need_server
from tests.nodes.processes import Cluster

from .office import PARCEL, body, moves

pytestmark = pytest.mark.slow

PARCELS = [f"P-{number}" for number in range(8)]
ROUNDS = 25


class _Pool:
    """What `moves` asks, asked of the cluster's database."""

    def __init__(self, cluster: Cluster) -> None:
        self.fetch = cluster.fetch


@pytest.fixture
async def cluster(database: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(database, tmp_path)
    await cluster.prepare()
    yield cluster
    await cluster.close()


async def test_the_node_that_reads_is_killed(cluster: Cluster) -> None:
    """SIGKILL under load, again and again; the other node goes on from what was committed and acknowledged."""
    need_server(REDIS, "Redis")
    stream = f"pliers_test:{uuid.uuid4().hex[:8]}"
    settings: dict[str, Any] = {
        "FEED__LEASE": 5, "FEED__POLL": 0.1, "OUTBOUND__ALLOW_PRIVATE_NETWORKS": "true",
        "EVENT_SOURCES__RETRY_DELAY_MAX": 0.5,
    }  # fmt: skip
    nodes = list(await asyncio.gather(cluster.node(**settings), cluster.node(**settings)))
    await cluster.publish(nodes[0], PARCEL)
    broker = {"type": "redis", "url": REDIS, "stream": stream}
    made = await nodes[0].api(
        "POST", "/event-sources", cluster.admin, {"name": "post", "broker": broker, "batchSize": 5}
    )
    async with Redis.from_url(REDIS) as client:
        try:
            for number in range(ROUNDS):
                for parcel in PARCELS:
                    await client.xadd(stream, {"event": body(parcel, number)})
            for threshold in (20, 90):
                while (await cluster.fetch("SELECT count(*) AS count FROM inbound_events"))[0]["count"] < threshold:
                    await asyncio.sleep(0.01)
                victim = await _reading(cluster, nodes, made["id"])
                await victim.server.kill()
                nodes.remove(victim)
                nodes.append(await cluster.node(**settings))
            wanted = {parcel: list(range(1, ROUNDS)) for parcel in PARCELS}
            limit = asyncio.get_running_loop().time() + 60
            while (found := await moves(_Pool(cluster)))[0] != wanted:
                assert asyncio.get_running_loop().time() < limit, found
                await asyncio.sleep(0.2)
            assert found[1] == len(PARCELS)
            # What was acknowledged is exactly what was committed.
            while (await client.xpending(stream, "pliers"))["pending"]:
                assert asyncio.get_running_loop().time() < limit
                await asyncio.sleep(0.1)
            (kept,) = await cluster.fetch("SELECT count(*) AS count FROM inbound_events WHERE status = 'matched'")
            assert kept["count"] == ROUNDS * len(PARCELS)
        finally:
            await client.delete(stream)


async def _reading(cluster: Cluster, nodes: list[Any], source: str) -> Any:
    """The node that holds the source's lane: its process id is in its name."""
    while True:
        rows = await cluster.fetch("SELECT lease_owner FROM feed_lanes WHERE reader = $1", f"source/{source}")
        for node in nodes:
            if rows[0]["lease_owner"] and f":{node.server.pid}:" in rows[0]["lease_owner"]:
                return node
        await asyncio.sleep(0.05)
