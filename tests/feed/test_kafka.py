"""Kafka, as far as its client's contract goes: there is no Kafka server among ours (see `tests.brokers.kafka_contract`)."""

from __future__ import annotations

import json

from tests.brokers.kafka_contract import Leader
from tests.brokers.servers import listening

from .sending import sending
from .test_brokers import talk, through_an_outage, whole


async def ids_of(broker: Leader) -> list[str]:
    return [json.loads(record.value)["id"] for record in broker.records]


async def test_what_is_sent(database: str) -> None:
    """A record for each event, keyed by the instance and in one partition, by an idempotent producer that waits for all."""
    async with listening(Leader()) as broker, sending(database) as sender:
        made = await sender.subscribe({"type": "kafka", "servers": [f"127.0.0.1:{broker.port}"]})
        instances = await talk(sender, 6, 4)

        async def taken() -> list[str]:
            return await ids_of(broker)

        ids = await whole(sender, taken, instances)
        assert len(set(ids)) == len(ids)
        for record in broker.records:
            told = json.loads(record.value)
            assert record.topic == "pliers.default"
            assert record.key.decode() == told["subject"] == told["partitionkey"]
            assert record.headers["content-type"] == b"application/cloudevents+json"
            assert record.headers["key"].decode() == f"{told['id']}/{made['id']}"
            assert (record.acks, record.producer_id) == (-1, 1001)
        for instance_id in instances:
            assert len({each.partition for each in broker.records if each.key.decode() == instance_id}) == 1


async def test_the_connection_breaks(database: str) -> None:
    """Cut off in the middle: everything arrives, in order; a new producer goes on."""
    async with listening(Leader()) as broker, sending(database) as sender:
        await sender.subscribe({"type": "kafka", "servers": [f"127.0.0.1:{broker.port}"]})

        async def taken() -> list[str]:
            return await ids_of(broker)

        await through_an_outage(sender, taken, broker.cut, broker.mend)
        assert broker.producers > 1


async def test_what_the_broker_refuses(database: str) -> None:
    """A record that is too large for the topic is an error that is told, and the lane waits."""
    async with listening(Leader()) as broker, sending(database) as sender:
        made = await sender.subscribe({"type": "kafka", "servers": [f"127.0.0.1:{broker.port}"]})
        broker.errors = [10] * 3  # MESSAGE_TOO_LARGE
        instances = await talk(sender, 1, 1)

        async def taken() -> list[str]:
            return await ids_of(broker)

        await whole(sender, taken, instances)
        status = (await sender.status(made))["status"]
        assert "MessageSizeTooLargeError" in status["lastError"]
