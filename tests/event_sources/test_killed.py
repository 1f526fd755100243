"""Real nodes, of which the one that reads is killed in the middle: nothing lost, nothing twice, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import DeliverEvent
from pliers_workflow.runtime.commit.history import decode_record
from tests.brokers.servers import AMQP, NATS, REDIS, need_server
from tests.nodes.processes import Cluster

from .office import PARCEL, moves, tell
from .test_brokers import Entries, Queue, Stream

pytestmark = pytest.mark.slow

PARCELS = [f"P-{number}" for number in range(8)]
ROUNDS = 25


class _Pool:
    """What `moves` asks, asked of the cluster's database."""

    def __init__(self, cluster: Cluster) -> None:
        self.fetch = cluster.fetch


@pytest.fixture(params=["nats", "rabbitmq", "redis"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Where messages lie: each broker in turn."""
    kind = request.param
    url = {"nats": NATS, "rabbitmq": AMQP, "redis": REDIS}[kind]
    need_server(url, kind)
    made = {"nats": lambda: Stream(NATS), "rabbitmq": Queue, "redis": lambda: Entries(REDIS)}[kind]()
    await made.open()
    yield made
    await made.close()


async def test_the_node_that_reads_is_killed(cluster: Cluster, place: Any) -> None:
    """SIGKILL under load, again and again; the other node goes on from what was committed and acknowledged."""
    settings: dict[str, Any] = {
        "FEED__LEASE": 5, "FEED__POLL": 0.1, "OUTBOUND__ALLOW_PRIVATE_NETWORKS": "true",
        "EVENT_SOURCES__RETRY_DELAY_MAX": 0.5,
    }  # fmt: skip
    nodes = list(await asyncio.gather(cluster.node(**settings), cluster.node(**settings)))
    await cluster.publish(nodes[0], PARCEL)
    body = {"name": "post", "broker": place.broker, "batchSize": 5}
    made = await nodes[0].api("POST", "/event-sources", cluster.admin, body)
    await tell(place.publish, PARCELS, range(ROUNDS))
    for threshold in (20, 90):
        while (await cluster.fetch("SELECT count(*) AS count FROM inbound_events"))[0]["count"] < threshold:
            await asyncio.sleep(0.01)
        victim = await _reading(cluster, nodes, made["id"])
        await victim.server.kill()
        nodes.remove(victim)
        nodes.append(await cluster.node(**settings))
    wanted = {parcel: list(range(1, ROUNDS)) for parcel in PARCELS}
    limit = asyncio.get_running_loop().time() + 90
    while (found := await moves(_Pool(cluster)))[0] != wanted:
        assert asyncio.get_running_loop().time() < limit, found
        await asyncio.sleep(0.2)
    assert found[1] == len(PARCELS)
    while await place.left():
        assert asyncio.get_running_loop().time() < limit, "not all is acknowledged"
        await asyncio.sleep(0.1)
    # What an event came to is written down after it has acted; by another node, where the one that did it was killed.
    while (kept := await _statuses(cluster)) != {"matched": ROUNDS * len(PARCELS)}:
        assert asyncio.get_running_loop().time() < limit, kept
        await asyncio.sleep(0.1)


async def _statuses(cluster: Cluster) -> dict[str, int]:
    rows = await cluster.fetch("SELECT status, count(*) AS count FROM inbound_events GROUP BY status")
    return {row["status"]: row["count"] for row in rows}


async def _reading(cluster: Cluster, nodes: list[Any], source: str) -> Any:
    """The node that holds the source's lane: its process id is in its name."""
    while True:
        rows = await cluster.fetch("SELECT lease_owner FROM feed_lanes WHERE reader = $1", f"source/{source}")
        for node in nodes:
            if rows[0]["lease_owner"] and f":{node.server.pid}:" in rows[0]["lease_owner"]:
                return node
        await asyncio.sleep(0.05)


FORM: dict[str, Any] = {
    "name": "form",
    "version": "1.0.0",
    "title": "Form",
    "stateMachine": {
        "initialState": "open",
        "states": {"open": {"type": "intermediate"}, "done": {"type": "final"}},
        "transitions": [
            {"from": "open", "to": "open", "trigger": "edited"},
            {"from": "open", "to": "done", "trigger": "close"},
        ],
    },
    "eventHooks": {
        "triggers": [
            {
                "id": "edited",
                "eventType": "submission.updated",
                "action": {"type": "advance_state", "trigger": "edited"},
            }
        ]
    },
}


async def test_a_node_is_killed_with_edits_in_the_inbox(cluster: Cluster) -> None:
    """Every edit that is on disk moves its instance exactly once, whoever is killed between its commit and that."""
    first, second = await asyncio.gather(cluster.node(), cluster.node())
    await cluster.publish(first, FORM)
    binding = {"formId": "f", "triggerEvents": ["submission.created"], "workflowId": "form"}
    await first.api("POST", "/submission-bindings", cluster.admin, binding)
    made = await asyncio.gather(
        *(first.api("POST", "/submissions", cluster.admin, {"formId": "f", "data": {"n": 0}}) for _ in range(6))
    )
    submissions = [each["id"] for each in made]
    while (await cluster.fetch("SELECT count(*) AS count FROM workflow_instances"))[0]["count"] < 6:
        await asyncio.sleep(0.05)

    async def edit(submission: str) -> None:
        for number in range(1, 200):
            await first.api("PUT", f"/submissions/{submission}", cluster.admin, {"data": {"n": number}})

    editing = [asyncio.create_task(edit(each)) for each in submissions]
    while (await cluster.fetch("SELECT count(*) AS count FROM inbound_events"))[0]["count"] < 60:
        await asyncio.sleep(0.01)
    await first.server.kill()
    await asyncio.gather(*editing, return_exceptions=True)
    # The dead node's minute is over, and what it led is led by nobody.
    await cluster.fetch("UPDATE inbound_events SET lease_until = now() WHERE status = 'received'")
    await cluster.fetch("UPDATE service_leases SET until = now()")
    limit = asyncio.get_running_loop().time() + 90
    while (await cluster.fetch("SELECT count(*) AS count FROM inbound_events WHERE status <> 'matched'"))[0]["count"]:
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.2)
    rows = await cluster.fetch("SELECT id::text, submission_id::text AS submission FROM workflow_instances")
    edits = 0
    for row in rows:
        history = await cluster.history(row["id"])
        told = [
            int(order.event.attributes["submissionrevision"])
            for line in history
            if isinstance(order := decode_record(line["record"]).command.order, DeliverEvent)
        ]
        kept = (await cluster.fetch("SELECT revision FROM form_submissions WHERE id = $1", row["submission"]))[0]
        assert sorted(told) == list(range(2, kept["revision"] + 1))
        edits += len(told)
    assert len(rows) == 6
    assert edits >= 60
    assert second.server.pid is not None
