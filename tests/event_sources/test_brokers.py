"""Brokers, the real ones: nothing lost, nothing twice, in order for each instance, when they go away in the middle too."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from redis.asyncio import Redis

from pliers_workflow.runtime.event_sources.readers import nats as nats_reader
from pliers_workflow.runtime.event_sources.readers import rabbitmq
from pliers_workflow.runtime.outbound.guard import Guard
from pliers_workflow.settings import OutboundSettings
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

from .office import Office, Publish, body, office_on, tell

PARCELS = [f"P-{number}" for number in range(6)]


async def through_an_outage(
    office: Office,
    source: str,
    publish: Publish,
    stop: Callable[[], Awaitable[None]],
    start: Callable[[], Awaitable[None]],
) -> None:
    """Messages before the broker is away and after it: all are taken in once and in order, and the source tells of it."""
    await tell(publish, PARCELS, range(5))
    await office.parcels(dict.fromkeys(PARCELS, 5))
    await tell(publish, PARCELS, range(5, 12))
    await stop()
    seen = await office.until(lambda seen: seen["failingSince"] is not None, source)
    assert seen["lastError"]
    await start()
    await tell(publish, PARCELS, range(12, 20))
    await office.parcels(dict.fromkeys(PARCELS, 20))
    await office.until(lambda seen: seen["failingSince"] is None and seen["received"] >= 20 * len(PARCELS), source)


async def through_changes(office: Office, broker: dict[str, Any], publish: Publish) -> None:
    """A source that is changed, disabled and enabled while it reads: nothing is lost, doubled or out of order."""
    source = await office.source(broker, batchSize=5)
    telling = asyncio.create_task(tell(publish, PARCELS, range(30)))
    for number in range(6):
        await asyncio.sleep(0.15)
        change = {"name": f"post.{number}", "broker": broker, "batchSize": 3 + number, "enabled": number % 3 != 1}
        await office.admin("PUT", f"/event-sources/{source}", change, status=200)
    await telling
    await office.admin("POST", f"/event-sources/{source}/enable", status=200)
    await office.parcels(dict.fromkeys(PARCELS, 30), seconds=60)


# -- NATS --------------------------------------------------------------------------------------------------------------


class Stream:
    """A JetStream stream of a test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"pliers_test_{uuid.uuid4().hex[:8]}"

    async def open(self) -> None:
        client = await nats.connect(self.url, allow_reconnect=False)
        await client.jetstream().add_stream(StreamConfig(name=self.name, subjects=[f"{self.name}.>"]))
        await client.close()

    async def send(self, data: bytes, headers: dict[str, str] | None = None) -> None:
        client = await nats.connect(self.url, allow_reconnect=False)
        await client.jetstream().publish(f"{self.name}.parcels", data, headers=headers)
        await client.close()

    async def publish(self, parcel: str, number: int) -> None:
        await self.send(body(parcel, number))

    async def left(self) -> int:
        """Messages that nobody has acknowledged."""
        client = await nats.connect(self.url, allow_reconnect=False)
        info = await client.jetstream().consumer_info(self.name, "pliers")
        await client.close()
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def close(self) -> None:
        client = await nats.connect(self.url, allow_reconnect=False)
        await client.jetstream().delete_stream(self.name)
        await client.close()

    @property
    def broker(self) -> dict[str, Any]:
        return {"type": "nats", "servers": [self.url], "stream": self.name, "ackWaitSeconds": 2}


@pytest.fixture
async def stream() -> AsyncIterator[Stream]:
    need_server(NATS, "NATS")
    made = Stream(NATS)
    await made.open()
    yield made
    await made.close()


async def test_nats(office: Office, stream: Stream) -> None:
    """The three forms, and plain JSON by a mapping; what lay there before is read as well."""
    await office.publish()
    await stream.publish("P-0", 0)
    mapping = {
        "type": "'parcel.' + message.body.what", "id": "message.headers.nr", "source": "'/' + message.address",
    }  # fmt: skip
    source = await office.source(stream.broker, mapping=mapping)
    await stream.send(b"[%s, %s]" % (body("P-0", 1), body("P-1", 0)))
    binary = {"ce-specversion": "1.0", "ce-id": "x", "ce-source": "/post", "ce-type": "parcel.moved"}
    await stream.send(json.dumps({"parcel": "P-0", "n": 2}).encode(), {**binary, "content-type": "application/json"})
    await stream.send(json.dumps({"what": "moved", "parcel": "P-0", "n": 3}).encode(), {"nr": "17"})
    await stream.send(b"no event at all")
    await stream.publish("P-0", 4)
    await office.parcels({"P-0": 5, "P-1": 1})
    seen = await office.until(lambda seen: seen["received"] == 5 and seen["rejected"] == 1, source)
    assert seen["failingSince"] is None
    (reject,) = await office.rejects(source)
    assert reject["reason"].startswith("It is no JSON")
    assert reject["body"] == "no event at all"
    assert reject["message"].startswith(f"{stream.name}/5/")
    listed = await office.admin("GET", f"/events?eventSource={source}&type=parcel.moved", status=200)
    assert {each["eventId"] for each in listed.json()["items"]} == {"P-0/1", "x", "17", "P-0/4"}


async def test_nats_goes_away(database: str, tmp_path: Path) -> None:
    """The server is killed and started again."""
    async with private_nats(tmp_path) as server, office_on(database) as office:
        stream = Stream(f"nats://127.0.0.1:{server.port}")
        await stream.open()
        await office.publish()
        source = await office.source(stream.broker)
        await through_an_outage(office, source, stream.publish, server.kill, server.start)


async def test_nats_gave_to_a_reader_that_died(office: Office, stream: Stream) -> None:
    """What was given and not acknowledged comes again before what lies behind it: whoever reads next waits for that."""
    await office.publish()
    client = await nats.connect(NATS)
    jetstream = client.jetstream()
    wanted = ConsumerConfig(durable_name="pliers", ack_policy=AckPolicy.EXPLICIT, ack_wait=2)
    await jetstream.add_consumer(stream.name, wanted)
    await tell(stream.publish, PARCELS[:2], range(4))
    dead = await jetstream.pull_subscribe_bind(consumer="pliers", stream=stream.name)
    given = await dead.fetch(5, timeout=5)
    assert [json.loads(each.data)["id"] for each in given] == ["P-0/0", "P-1/0", "P-0/1", "P-1/1", "P-0/2"]
    await client.close()
    source = await office.source(stream.broker)
    await office.parcels(dict.fromkeys(PARCELS[:2], 4))
    assert (await office.look(source))["lastError"] is None
    order = await office.engine.pool.fetch("SELECT event ->> 'id' AS name FROM inbound_events ORDER BY id")
    assert [row["name"] for row in order] == [f"{parcel}/{number}" for number in range(4) for parcel in PARCELS[:2]]


async def test_nats_loses_the_consumer(office: Office, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that is removed is made anew; what comes again is known."""
    monkeypatch.setattr(nats_reader, "_LOOK_EVERY", 0.1)
    await office.publish()
    source = await office.source(stream.broker)
    await tell(stream.publish, PARCELS[:2], range(3))
    await office.parcels(dict.fromkeys(PARCELS[:2], 3))
    client = await nats.connect(NATS)
    await client.jetstream().delete_consumer(stream.name, "pliers")
    await client.close()
    await tell(stream.publish, PARCELS[:2], range(3, 5))
    await office.parcels(dict.fromkeys(PARCELS[:2], 5))
    seen = await office.until(lambda seen: seen["failingSince"] is None and seen["received"] >= 10, source)
    assert seen["lastError"]


async def test_nats_as_it_should_not_be(office: Office, stream: Stream) -> None:
    """A stream that is not there, and a consumer of another kind, are told as what they are; nothing spins."""
    source = await office.source({**stream.broker, "stream": "nobodys"})
    seen = await office.until(lambda seen: seen["lastError"] is not None, source)
    assert seen["lastError"] == "There is no stream nobodys; make it."
    client = await nats.connect(NATS)
    await client.jetstream().add_consumer(stream.name, durable_name="pusher", deliver_subject="somewhere")
    await client.close()
    other = await office.source({**stream.broker, "consumer": "pusher"}, name="other")
    seen = await office.until(lambda seen: seen["lastError"] is not None, other)
    assert seen["lastError"].startswith("The consumer pusher does not pull")


async def test_nats_loses_the_consumer_of_a_source_that_began_now(
    office: Office, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the consumer is made anew is not skipped: the source began once."""
    monkeypatch.setattr(nats_reader, "_LOOK_EVERY", 0.5)
    await office.publish()
    await stream.publish("P-0", 9)
    source = await office.source({**stream.broker, "begin": "now"})
    client = await nats.connect(NATS, allow_reconnect=False)
    while not [each for each in await client.jetstream().consumers_info(stream.name) if each.num_waiting]:
        await asyncio.sleep(0.02)
    for number in range(2):
        await client.jetstream().delete_consumer(stream.name, "pliers")
        await stream.publish("P-0", number)
        await office.parcels({"P-0": number + 1})
    await client.close()
    await office.until(lambda seen: seen["received"] == 2, source)


async def test_nats_another_node_goes_on_where_one_was(database: str, stream: Stream) -> None:
    """The consumer is taken away while no node reads: what came meanwhile is read, and nothing of what was read before."""
    await stream.publish("P-0", 9)
    client = await nats.connect(NATS, allow_reconnect=False)
    async with office_on(database) as office:
        await office.publish()
        source = await office.source({**stream.broker, "begin": "now"})
        while await office.place(source) is None:
            await asyncio.sleep(0.02)
        await stream.publish("P-0", 0)
        await office.parcels({"P-0": 1})
    await client.jetstream().delete_consumer(stream.name, "pliers")
    await stream.publish("P-0", 1)
    async with office_on(database) as office:
        await office.parcels({"P-0": 2})
        await office.until(lambda seen: seen["received"] == 2, source)
    # A stream that is made anew is read from its beginning, though it has come further than the one before.
    await client.jetstream().delete_stream(stream.name)
    await stream.open()
    for number in (2, 3, 4, 5):
        await stream.publish("P-0", number)
    async with office_on(database) as office:
        await office.parcels({"P-0": 6})
        await office.until(lambda seen: seen["received"] == 6, source)
    await client.close()


async def test_nats_while_it_is_changed(office: Office, stream: Stream) -> None:
    """Changes do it no harm."""
    await office.publish()
    await through_changes(office, {**stream.broker, "ackWaitSeconds": 1}, stream.publish)


async def test_nats_of_a_work_queue(office: Office, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that forgets what was acknowledged lets nobody begin in its middle, and need not."""
    monkeypatch.setattr(nats_reader, "_LOOK_EVERY", 0.1)
    client = await nats.connect(NATS, allow_reconnect=False)
    jetstream = client.jetstream()
    await jetstream.delete_stream(stream.name)
    subjects = [f"{stream.name}.>"]
    await jetstream.add_stream(name=stream.name, subjects=subjects, retention=RetentionPolicy.WORK_QUEUE)
    await office.publish()
    source = await office.source(stream.broker)
    for number in range(3):
        await stream.publish("P-0", number)
        await office.parcels({"P-0": number + 1})
        await jetstream.delete_consumer(stream.name, "pliers")
        await office.until(lambda seen, number=number: seen["received"] > number, source)  # type: ignore[misc]
    await client.close()


async def test_nats_a_part_of_the_stream(office: Office, stream: Stream) -> None:
    """A source that is changed to another part than its consumer reads says so, and does not read on as before."""
    await office.publish()
    part = {**stream.broker, "subject": f"{stream.name}.parcels"}
    source = await office.source(part)
    await stream.publish("P-0", 0)
    await office.parcels({"P-0": 1})
    for subject, told in ((f"{stream.name}.letters", f"the source {stream.name}.letters;"), (None, "the source all;")):
        body = {"name": "post", "broker": {**part, "subject": subject}}
        await office.admin("PUT", f"/event-sources/{source}", body, status=200)
        seen = await office.until(lambda seen: seen["lastError"] is not None, source)
        assert seen["lastError"].startswith(
            f"The consumer pliers reads {stream.name}.parcels of the stream, and {told}"
        )
    await office.admin("PUT", f"/event-sources/{source}", {"name": "post", "broker": part}, status=200)
    await stream.publish("P-0", 1)
    await office.parcels({"P-0": 2})


# -- RabbitMQ ----------------------------------------------------------------------------------------------------------


class Queue:
    """A durable queue of a test's own."""

    def __init__(self) -> None:
        self.name = f"pliers_test_{uuid.uuid4().hex[:8]}"

    async def open(self) -> None:
        self.connection = await aio_pika.connect(AMQP)
        self.channel = await self.connection.channel()
        self.queue = await self.channel.declare_queue(self.name, durable=True)

    async def send(self, data: bytes, **properties: Any) -> None:
        message = aio_pika.Message(data, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
        await self.channel.default_exchange.publish(message, self.name)

    async def publish(self, parcel: str, number: int) -> None:
        await self.send(body(parcel, number), content_type="application/cloudevents+json")

    async def left(self) -> int:
        """Messages that wait. (Those that are out are not counted by the broker here.)"""
        return (await self.channel.declare_queue(self.name, passive=True)).declaration_result.message_count or 0

    async def close(self) -> None:
        await self.queue.delete(if_unused=False, if_empty=False)
        await self.connection.close()

    @property
    def broker(self) -> dict[str, Any]:
        return self.through(None)

    def through(self, port: int | None) -> dict[str, Any]:
        """The same by another port of this machine."""
        return {**amqp_address(port), "queue": self.name}


@pytest.fixture
async def queue() -> AsyncIterator[Queue]:
    need_server(AMQP, "RabbitMQ")
    made = Queue()
    await made.open()
    yield made
    await made.close()


async def test_rabbitmq(office: Office, queue: Queue) -> None:
    """Structured, binary by AMQP's own prefixes, and plain; a message without an id, which the mapping needs, is rejected."""
    await office.publish()
    source = await office.source(queue.broker, mapping={"type": "'parcel.moved'"})
    await queue.publish("P-0", 0)
    for number, prefix in ((1, "cloudEvents:"), (2, "cloudEvents_")):
        attributes = {"specversion": "1.0", "id": f"b{number}", "source": "/post", "type": "parcel.moved"}
        headers = {f"{prefix}{name}": value for name, value in attributes.items()}
        data = json.dumps({"parcel": "P-0", "n": number}).encode()
        await queue.send(data, headers=headers, content_type="application/json")
    await queue.send(b'{"parcel": "P-0", "n": 3}', message_id="m1")
    await queue.send(b'{"parcel": "P-0", "n": 9}', message_id=" ")
    await queue.send(b'{"parcel": "P-0", "n": 3}', message_id="m1")
    await queue.publish("P-0", 4)
    await office.parcels({"P-0": 5})
    await office.until(lambda seen: seen["received"] == 6 and seen["rejected"] == 1, source)
    (reject,) = await office.rejects(source)
    assert reject["reason"] == "The mapping of `id` gives nothing, and an event needs it."
    for _ in range(100):
        if not await queue.left():
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("not all is acknowledged")


async def test_rabbitmq_is_cut_off(database: str, queue: Queue) -> None:
    """The connection breaks and cannot be made for a while; what was not acknowledged comes again, and is known."""
    async with listening(Cable(AMQP)) as laid, office_on(database) as office:
        await office.publish()
        source = await office.source(queue.through(laid.port))
        await through_an_outage(office, source, queue.publish, laid.cut, laid.mend)
        assert laid.connections > 1


async def test_rabbitmq_while_it_is_changed(office: Office, queue: Queue) -> None:
    """Changes do it no harm."""
    await office.publish()
    await through_changes(office, queue.broker, queue.publish)


async def test_rabbitmq_as_it_should_not_be(office: Office, queue: Queue) -> None:
    """A queue that is not there, or that somebody else reads, is told as that; when the other is gone, it is read."""
    gone = await office.source({**queue.broker, "queue": "nobodys"}, name="gone")
    seen = await office.until(lambda seen: seen["lastError"] is not None, gone)
    assert seen["lastError"] == "There is no queue nobodys; declare it."
    await office.publish()

    async def nobody(_: Any) -> None:
        """Takes messages and does nothing."""

    tag = await queue.queue.consume(nobody, no_ack=False)
    source = await office.source(queue.broker)
    seen = await office.until(lambda seen: seen["lastError"] is not None, source)
    assert seen["lastError"].startswith("Somebody else reads the queue")
    await queue.queue.cancel(tag)
    await queue.publish("P-0", 0)
    await office.parcels({"P-0": 1})


async def test_rabbitmq_loses_the_queue(office: Office, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is deleted is told as that, though the broker says nothing; declared again, it is read again."""
    monkeypatch.setattr(rabbitmq, "_LOOK_EVERY", 0.1)
    await office.publish()
    source = await office.source(queue.broker)
    await queue.publish("P-0", 0)
    await office.parcels({"P-0": 1})
    await queue.queue.delete(if_unused=False, if_empty=False)
    seen = await office.until(lambda seen: seen["failingSince"] is not None, source)
    queue.queue = await queue.channel.declare_queue(queue.name, durable=True)
    await queue.publish("P-0", 1)
    await office.parcels({"P-0": 2})
    assert seen["lastError"]


async def test_addresses_are_guarded_by_name(database: str, entries: Entries) -> None:
    """A name that leads to this machine is not connected to, unless an operator has allowed it."""
    async with office_on(database) as office:
        office.engine.outbound.guard = Guard(OutboundSettings())
        url = f"redis://localhost:{urlsplit(REDIS).port}/0"
        source = await office.source({**entries.broker, "url": url})
        seen = await office.until(lambda seen: seen["lastError"] is not None, source)
        assert "outbound.allowed_hosts" in seen["lastError"]


# -- Redis -------------------------------------------------------------------------------------------------------------


class Entries:
    """A Redis stream of a test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"pliers_test:{uuid.uuid4().hex[:8]}"

    async def add(self, fields: dict[Any, Any]) -> None:
        async with Redis.from_url(self.url) as client:
            await client.xadd(self.name, fields)

    async def publish(self, parcel: str, number: int) -> None:
        await self.add({"event": body(parcel, number)})

    async def open(self) -> None:
        """A stream is made by its first entry."""

    async def left(self) -> int:
        """Entries that were given and not acknowledged."""
        async with Redis.from_url(self.url) as client:
            return int((await client.xpending(self.name, "pliers"))["pending"])

    async def close(self) -> None:
        async with Redis.from_url(self.url) as client:
            await client.delete(self.name)

    @property
    def broker(self) -> dict[str, Any]:
        return {"type": "redis", "url": self.url, "stream": self.name}


@pytest.fixture
async def entries() -> AsyncIterator[Entries]:
    need_server(REDIS, "Redis")
    made = Entries(REDIS)
    yield made
    await made.close()


async def test_redis(office: Office, entries: Entries) -> None:
    """What our own sink writes, attributes as fields, plain JSON; and first of all what a dead consumer had been given."""
    await office.publish()
    await entries.publish("P-0", 0)
    await entries.publish("P-0", 1)
    async with Redis.from_url(REDIS) as client:
        await client.xgroup_create(entries.name, "pliers", id="0")
        given = await client.xreadgroup("pliers", "a consumer that died", {entries.name: ">"}, count=2)
        assert given
    await entries.publish("P-0", 2)
    source = await office.source(entries.broker, mapping={"type": "message.headers.kind"})
    binary = {"ce_specversion": "1.0", "ce_id": "x", "ce_source": "/post", "ce_type": "parcel.moved"}
    await entries.add({**binary, "event": json.dumps({"parcel": "P-0", "n": 3})})
    await entries.add({"kind": "parcel.moved", "event": json.dumps({"parcel": "P-0", "n": 4})})
    await entries.add({"something": "else"})
    await office.parcels({"P-0": 5})
    await office.until(lambda seen: seen["received"] == 5 and seen["rejected"] == 1, source)
    assert await entries.left() == 0


async def test_redis_loses_the_group(office: Office, entries: Entries) -> None:
    """Somebody removes the group, or the stream with it: it is made anew, and what comes again is known."""
    await office.publish()
    source = await office.source(entries.broker)
    await tell(entries.publish, PARCELS, range(3))
    await office.parcels(dict.fromkeys(PARCELS, 3))
    async with Redis.from_url(REDIS) as client:
        await client.xgroup_destroy(entries.name, "pliers")
        await tell(entries.publish, PARCELS, range(3, 5))
        await office.parcels(dict.fromkeys(PARCELS, 5))
        await client.delete(entries.name)
        await tell(entries.publish, PARCELS, range(5, 7))
        await office.parcels(dict.fromkeys(PARCELS, 7))
    await office.until(lambda seen: seen["failingSince"] is None, source)


async def test_redis_loses_the_group_of_a_source_that_began_now(office: Office, entries: Entries) -> None:
    """What comes before the group, or its stream, is made anew is not skipped: the source began once."""
    await office.publish()
    await entries.publish("P-0", 9)
    source = await office.source({**entries.broker, "begin": "now"})
    async with Redis.from_url(REDIS) as client:
        while not await client.xinfo_groups(entries.name):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # a group does not say that it is being waited for
        async with client.pipeline(transaction=True) as at_once:
            at_once.xgroup_destroy(entries.name, "pliers")
            at_once.xadd(entries.name, {"event": body("P-0", 0)})
            await at_once.execute()
        await office.parcels({"P-0": 1})
        async with client.pipeline(transaction=True) as at_once:
            at_once.delete(entries.name)
            at_once.xadd(entries.name, {"event": body("P-0", 1)})
            await at_once.execute()
        await office.parcels({"P-0": 2})
        async with client.pipeline(transaction=True) as at_once:
            at_once.delete(entries.name)
            at_once.xadd(entries.name, {"event": body("P-0", 2)}, id="1-1")
            await at_once.execute()
        await office.parcels({"P-0": 3})
    await office.until(lambda seen: seen["received"] == 3, source)


@pytest.mark.parametrize("begin", ["now", "beginning"])
async def test_redis_another_node_goes_on_where_one_was(database: str, entries: Entries, begin: str) -> None:
    """The group is taken away while no node reads: what came meanwhile is read, and nothing of what was read before."""
    async with office_on(database) as office, Redis.from_url(REDIS) as client:
        await office.publish()
        source = await office.source({**entries.broker, "begin": begin})
        while await office.place(source) is None:
            await asyncio.sleep(0.02)
        await entries.publish("P-0", 0)
        await office.parcels({"P-0": 1})
        await office.admin("POST", f"/event-sources/{source}/disable", status=200)
        await client.xgroup_destroy(entries.name, "pliers")
        await entries.publish("P-0", 1)
    async with office_on(database) as office:
        await office.admin("POST", f"/event-sources/{source}/enable", status=200)
        await office.parcels({"P-0": 2})
        await office.until(lambda seen: seen["received"] == 2, source)


async def test_a_source_that_reads_something_else_begins_there(office: Office, entries: Entries) -> None:
    """The place in one stream says nothing of another; a change of how it is read keeps it."""
    source = await office.source({**entries.broker, "begin": "now"})
    while await office.place(source) is None:
        await asyncio.sleep(0.02)
    for change, kept in (({"field": "body"}, True), ({"stream": f"{entries.name}:2"}, False)):
        broker = {**entries.broker, "begin": "now", **change}
        await office.admin("POST", f"/event-sources/{source}/disable", status=200)
        body = {"name": "post", "broker": broker, "enabled": False}
        await office.admin("PUT", f"/event-sources/{source}", body, status=200)
        assert (await office.place(source) is not None) is kept


async def test_redis_while_it_is_changed(office: Office, entries: Entries) -> None:
    """Changes do it no harm."""
    await office.publish()
    await through_changes(office, entries.broker, entries.publish)


async def test_redis_as_it_should_not_be(office: Office, entries: Entries) -> None:
    """What the server says of a stream that is none stands in the source's last error."""
    async with Redis.from_url(REDIS) as client:
        await client.set(entries.name, "no stream")
        source = await office.source(entries.broker)
        seen = await office.until(lambda seen: seen["lastError"] is not None, source)
        assert seen["lastError"].startswith("The broker is away, or refused: ResponseError: WRONGTYPE")


async def test_redis_goes_away(database: str, tmp_path: Path) -> None:
    """The server is killed and started again."""
    async with private_redis(tmp_path) as server, office_on(database) as office:
        entries = Entries(f"redis://127.0.0.1:{server.port}/0")
        await office.publish()
        source = await office.source(entries.broker)
        await through_an_outage(office, source, entries.publish, server.kill, server.start)
