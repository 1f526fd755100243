"""Brokers, the real ones: confirmed, in order per instance, and nothing lost when the broker goes away in the middle."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aio_pika
import nats
import pytest
from nats.js.api import DiscardPolicy, StreamConfig
from redis.asyncio import Redis

from pliers_workflow.runtime.commit.history import decode_record
from pliers_workflow.runtime.feed.envelope import type_of
from pliers_workflow.runtime.feed.published import is_told
from tests.brokers.servers import (
    AMQP,
    NATS,
    REDIS,
    Cable,
    amqp_address,
    listening,
    need_server,
    private_nats,
    private_redis,
)

from .conftest import until
from .sending import Sender, in_order, places, sending

Taken = Callable[[], Awaitable[list[str]]]
"""Gives the ids of the events that the broker holds, in its order."""


async def talk(sender: Sender, instances: int, pushes: int) -> list[str]:
    """Instances that are pushed at the same time."""
    ids = await asyncio.gather(*(sender.instance() for _ in range(instances)))

    async def push(instance_id: str) -> None:
        for number in range(pushes):
            await sender.push(instance_id, number)

    await asyncio.gather(*map(push, ids))
    return list(ids)


async def whole(sender: Sender, taken: Taken, instances: list[str], seconds: float = 20) -> list[str]:
    """Wait until the broker holds every event of these that is published, each instance's in order; all that it holds."""
    wanted = {each: await published(sender, each) for each in instances}
    limit = asyncio.get_running_loop().time() + seconds
    while True:
        ids = await taken()
        if all(set(places(ids, each)) == wanted[each] for each in instances):
            assert in_order(ids)
            return ids
        assert asyncio.get_running_loop().time() < limit, f"only {len(ids)} have come"
        await asyncio.sleep(0.05)


async def published(sender: Sender, instance_id: str) -> set[tuple[int, int]]:
    """Seq and index of an instance's events that are published."""
    return {
        (row["seq"], index)
        for row in await sender.world.rows(instance_id)
        for index, event in enumerate(decode_record(row["record"]).events)
        if is_told(type_of(event))
    }


async def through_an_outage(
    sender: Sender, taken: Taken, stop: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[None]]
) -> None:
    """Events before, while and after the broker is away: all of them arrive, in order."""
    before = await talk(sender, 4, 2)
    await whole(sender, taken, before)
    pushing = asyncio.create_task(talk(sender, 6, 4))
    await asyncio.sleep(0.02)
    await stop()
    during = await pushing
    subscription = (await sender.admin("GET", "/event-subscriptions", status=200)).json()["items"][0]
    for _ in range(400):
        status = (await sender.status(subscription))["status"]
        if status["failures"] and status["lastError"]:
            break
        await asyncio.sleep(0.02)
    assert status["failures"] > 0
    assert status["lastError"]
    await start()
    after = await talk(sender, 2, 4)
    await whole(sender, taken, before + during + after)


# -- NATS --------------------------------------------------------------------------------------------------------------


async def nats_stream(url: str, prefix: str) -> tuple[Any, Taken]:
    """A stream for all subjects below a prefix, and what it holds."""
    client = await nats.connect(url, allow_reconnect=False)
    jetstream = client.jetstream()
    name = prefix.replace(".", "_")
    await jetstream.add_stream(StreamConfig(name=name, subjects=[f"{prefix}.>"]))

    async def taken() -> list[str]:
        reading = await nats.connect(url, allow_reconnect=False)
        try:
            context = reading.jetstream()
            count = (await context.stream_info(name)).state.messages
            found = [await context.get_msg(name, seq) for seq in range(1, count + 1)]
            return [json.loads(each.data or b"{}")["id"] for each in found]
        finally:
            await reading.close()

    return client, taken


async def test_nats(database: str) -> None:
    """A message for each event, on the subject that the template makes, with the event's key for the duplicate window."""
    need_server(NATS, "NATS")
    prefix = f"pliers_test_{uuid.uuid4().hex[:8]}"
    client, taken = await nats_stream(NATS, prefix)
    try:
        async with sending(database) as sender:
            sink = {"type": "nats", "servers": [NATS], "subject": f"{prefix}.{{tenant}}.{{type}}"}
            made = await sender.subscribe(sink)
            instances = await talk(sender, 5, 4)
            ids = await whole(sender, taken, instances)
            assert len(set(ids)) == len(ids)
            first = await client.jetstream().get_msg(prefix, 1)
            assert first.subject == f"{prefix}.default.workflow.started"
            assert first.headers == {
                "Nats-Msg-Id": f"{ids[0]}/{made['id']}",
                "content-type": "application/cloudevents+json",
            }
            # What comes again within the duplicate window is taken once.
            await sender.act(made, "replay", {"position": "beginning"})
            more = await talk(sender, 1, 1)
            again = await whole(sender, taken, instances + more)
            assert len(set(again)) == len(again)
    finally:
        await client.jetstream().delete_stream(prefix)
        await client.close()


async def test_nats_goes_away(database: str, tmp_path: Path) -> None:
    """The server is killed and started again."""
    async with private_nats(tmp_path) as server, sending(database) as sender:
        url = f"nats://127.0.0.1:{server.port}"
        client, taken = await nats_stream(url, "pliers")
        await client.close()
        await sender.subscribe({"type": "nats", "servers": [url]})
        await through_an_outage(sender, taken, server.kill, server.start)


async def test_nats_without_a_stream(database: str) -> None:
    """A subject that no stream takes is an error that says so, and the event waits."""
    need_server(NATS, "NATS")
    async with sending(database) as sender:
        made = await sender.subscribe({"type": "nats", "servers": [NATS], "subject": f"nobody_{uuid.uuid4().hex}.x"})
        await sender.instance()
        await failing(sender, made, "No JetStream stream takes the subject nobody_")


async def test_nats_with_a_stream_that_is_full(database: str) -> None:
    """A stream that takes no more says so, in its words; when there is room, what waited is sent."""
    need_server(NATS, "NATS")
    prefix = f"pliers_test_{uuid.uuid4().hex[:8]}"
    client, taken = await nats_stream(NATS, prefix)
    full = StreamConfig(name=prefix, subjects=[f"{prefix}.>"], max_msgs=3, discard=DiscardPolicy.NEW)
    try:
        await client.jetstream().update_stream(full)
        async with sending(database) as sender:
            made = await sender.subscribe({"type": "nats", "servers": [NATS], "subject": f"{prefix}.{{type}}"}, lanes=1)
            instances = await talk(sender, 2, 2)
            await failing(sender, made, "The broker did not take it: ", "maximum messages exceeded")
            await client.jetstream().update_stream(StreamConfig(name=prefix, subjects=[f"{prefix}.>"]))
            ids = await whole(sender, taken, instances)
            assert len(set(ids)) == len(ids)
    finally:
        await client.jetstream().delete_stream(prefix)
        await client.close()


async def failing(sender: Sender, subscription: dict[str, Any], message: str, said: str = "") -> None:
    for _ in range(300):
        status = (await sender.status(subscription))["status"]
        if (status["lastError"] or "").startswith(message):
            break
        await asyncio.sleep(0.02)
    assert status["lastError"].startswith(message)
    assert said in status["lastError"]
    assert status["failures"] > 0


# -- RabbitMQ ----------------------------------------------------------------------------------------------------------


class Rabbit:
    """An exchange with a queue that takes everything of it."""

    def __init__(self) -> None:
        self.exchange = f"pliers_test_{uuid.uuid4().hex[:8]}"
        self.messages: list[Any] = []

    async def open(self) -> None:
        self.connection = await aio_pika.connect(AMQP)
        self.channel = await self.connection.channel()
        exchange = await self.channel.declare_exchange(self.exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        self.queue = await self.channel.declare_queue(self.exchange, durable=True)
        await self.queue.bind(exchange, "workflow.#")
        await self.queue.consume(self._take)

    async def _take(self, message: Any) -> None:
        self.messages.append(message)
        await message.ack()

    async def taken(self) -> list[str]:
        return [json.loads(message.body)["id"] for message in self.messages]

    async def close(self) -> None:
        await self.queue.delete(if_unused=False, if_empty=False)
        await self.channel.exchange_delete(self.exchange)
        await self.connection.close()


@pytest.fixture
async def rabbit() -> Any:
    need_server(AMQP, "RabbitMQ")
    opened = Rabbit()
    await opened.open()
    yield opened
    await opened.close()


def amqp_sink(rabbit: Rabbit, port: int | None = None) -> dict[str, Any]:
    return {**amqp_address(port), "exchange": rabbit.exchange}


async def test_rabbitmq(database: str, rabbit: Rabbit) -> None:
    """A persistent message for each event, routed by its type, with the event's key as its id."""
    async with sending(database) as sender:
        made = await sender.subscribe(amqp_sink(rabbit))
        instances = await talk(sender, 5, 4)
        ids = await whole(sender, rabbit.taken, instances)
        assert len(set(ids)) == len(ids)
        first = rabbit.messages[0]
        assert first.routing_key == first.type == json.loads(first.body)["type"]
        assert first.message_id == f"{ids[0]}/{made['id']}"
        assert first.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert first.content_type == "application/cloudevents+json"


async def test_rabbitmq_is_cut_off(database: str, rabbit: Rabbit) -> None:
    """The connection breaks and cannot be made for a while."""
    async with listening(Cable(AMQP)) as laid, sending(database) as sender:
        await sender.subscribe(amqp_sink(rabbit, laid.port))
        await through_an_outage(sender, rabbit.taken, laid.cut, laid.mend)
        assert laid.connections > 1


async def test_rabbitmq_without_a_queue(database: str, rabbit: Rabbit) -> None:
    """What no queue takes counts as refused; once a queue is bound it is sent."""
    async with sending(database) as sender:
        made = await sender.subscribe({**amqp_sink(rabbit), "routingKey": "other.{type}"})
        instances = await talk(sender, 1, 1)
        await failing(sender, made, "No queue takes the routing key other.workflow.started")
        await rabbit.queue.bind(rabbit.exchange, "other.#")
        await whole(sender, rabbit.taken, instances)
        gone = await sender.subscribe({**amqp_sink(rabbit), "exchange": "no_such_exchange"}, name="gone")
        await talk(sender, 1, 0)
        await failing(sender, gone, "There is no exchange no_such_exchange")


async def test_rabbitmq_refuses(database: str, rabbit: Rabbit) -> None:
    """A queue that is full, an exchange that is deleted: told as that, and sent when it is mended, nothing left out."""
    await rabbit.queue.unbind(rabbit.exchange, "workflow.#")
    arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
    full = await rabbit.channel.declare_queue(f"{rabbit.exchange}_full", arguments=arguments)
    await full.bind(rabbit.exchange, "workflow.#")
    async with sending(database) as sender:
        made = await sender.subscribe(amqp_sink(rabbit), lanes=1)
        instances = await talk(sender, 2, 2)
        await failing(sender, made, "The broker refused the message.")
        await full.consume(rabbit._take)
        await whole(sender, rabbit.taken, instances)
        await rabbit.channel.exchange_delete(rabbit.exchange)
        more = await talk(sender, 1, 3)
        await failing(sender, made, "There is no exchange", rabbit.exchange)
        exchange = await rabbit.channel.declare_exchange(rabbit.exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        await full.bind(exchange, "workflow.#")
        ids = await whole(sender, rabbit.taken, instances + more)
        assert len(set(ids)) == len(ids)
        await full.delete(if_unused=False, if_empty=False)


# -- Redis -------------------------------------------------------------------------------------------------------------


def redis_stream(url: str, stream: str) -> Taken:
    async def taken() -> list[str]:
        async with Redis.from_url(url) as client:
            entries = await client.xrange(stream)
            return [json.loads(fields[b"event"])["id"] for _, fields in entries]

    return taken


async def test_redis(database: str) -> None:
    """An entry for each event, with its key; the stream is kept at about the length that was asked for."""
    need_server(REDIS, "Redis")
    stream = f"pliers_test:{uuid.uuid4().hex[:8]}"
    async with Redis.from_url(REDIS) as client, sending(database) as sender:
        try:
            sink = {"type": "redis", "url": REDIS, "stream": f"{stream}:{{tenant}}"}
            made = await sender.subscribe(sink)
            instances = await talk(sender, 5, 4)
            ids = await whole(sender, redis_stream(REDIS, f"{stream}:default"), instances)
            ((_, fields),) = await client.xrange(f"{stream}:default", count=1)
            assert fields[b"key"].decode() == f"{ids[0]}/{made['id']}"
            assert fields[b"type"] == b"workflow.started"
            short = {**sink, "stream": f"{stream}:short", "lengthMax": 10}
            await sender.subscribe(short, name="short", position="beginning")
            await until(lambda: len(sender.world.engine.feed.lanes.held) == 8)
            (last,) = await talk(sender, 1, 100)
            short_ids = redis_stream(REDIS, f"{stream}:short")
            while not any(each.startswith(f"{last}/101/") for each in await short_ids()):
                await asyncio.sleep(0.02)
            assert await client.xlen(f"{stream}:short") < 250
        finally:
            await client.delete(f"{stream}:default", f"{stream}:short")


async def test_redis_refuses(database: str) -> None:
    """What the server says of a stream that is none stands in the subscription's last error."""
    need_server(REDIS, "Redis")
    stream = f"pliers_test:{uuid.uuid4().hex[:8]}"
    async with Redis.from_url(REDIS) as client, sending(database) as sender:
        await client.set(stream, "no stream")
        try:
            made = await sender.subscribe({"type": "redis", "url": REDIS, "stream": stream})
            instances = await talk(sender, 1, 1)
            await failing(sender, made, "The broker did not take it: ResponseError: WRONGTYPE")
            await client.delete(stream)
            await whole(sender, redis_stream(REDIS, stream), instances)
        finally:
            await client.delete(stream)


async def test_redis_goes_away(database: str, tmp_path: Path) -> None:
    """The server is killed and started again."""
    async with private_redis(tmp_path) as server, sending(database) as sender:
        url = f"redis://127.0.0.1:{server.port}/0"
        await sender.subscribe({"type": "redis", "url": url, "stream": "events"})
        await through_an_outage(sender, redis_stream(url, "events"), server.kill, server.start)
