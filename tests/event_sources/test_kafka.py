"""Kafka, as far as its client's contract goes: there is no Kafka server among ours (see `tests.brokers.kafka_contract`)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pliers_workflow.runtime.event_sources.readers import kafka
from tests.brokers.kafka_contract import Coordinator
from tests.brokers.servers import listening
from tests.feed.conftest import until

from .office import Office, body, office_on

PARCELS = [f"P-{number}" for number in range(5)]


def broker(at: Coordinator, **more: Any) -> dict[str, Any]:
    return {"type": "kafka", "servers": [f"127.0.0.1:{at.port}"], "topic": at.topic, **more}


def tell(at: Coordinator, numbers: range) -> None:
    for number in numbers:
        for parcel in PARCELS:
            at.put(parcel.encode(), body(parcel, number))


async def test_what_is_read(office: Office) -> None:
    """Structured, binary with `ce_` headers, and plain with its key; offsets are committed when the events are kept."""
    async with listening(Coordinator()) as at:
        await office.publish()
        mapping = {"type": "'parcel.moved'", "subject": "message.key"}
        source = await office.source(broker(at), mapping=mapping)
        at.put(b"P-0", body("P-0", 0))
        binary = {"ce_specversion": "1.0", "ce_id": "x", "ce_source": "/post", "ce_type": "parcel.moved"}
        headers = [(name, value.encode()) for name, value in binary.items()]
        at.put(
            b"P-0", json.dumps({"parcel": "P-0", "n": 1}).encode(), [*headers, ("content-type", b"application/json")]
        )
        at.put(b"P-0", json.dumps({"parcel": "P-0", "n": 2}).encode())
        at.put(b"P-0", b"\xff")
        at.put(b"P-0", body("P-0", 3))
        await office.parcels({"P-0": 4})
        seen = await office.until(lambda seen: (seen["received"], seen["rejected"]) == (4, 1), source)
        assert seen["lastError"] is None
        assert sorted(at.committed.values()) == [0, 0, 5]
        listed = (await office.admin("GET", f"/events?eventSource={source}", status=200)).json()["items"]
        (plain,) = [each for each in listed if each["subject"] == "P-0"]
        assert plain["eventId"].startswith("parcels/")


@pytest.mark.parametrize("timestamp", [-1, 1_795_000_000_000_000_000, 2**63 - 1])
async def test_a_time_that_no_clock_shows(office: Office, timestamp: int) -> None:
    """Producers write times as they like, in nanoseconds or none at all: the record is read all the same."""
    async with listening(Coordinator()) as at:
        at.timestamp = timestamp
        await office.publish()
        source = await office.source(broker(at), mapping={"type": "'parcel.sent'"})
        at.put(b"P-0", json.dumps({"parcel": "P-0"}).encode())
        await office.parcels({"P-0": 1})
        assert (await office.look(source))["lastError"] is None


async def test_a_group_begins_once(database: str) -> None:
    """`now` is when the group began, for each partition: what comes while nobody reads is not skipped by the next node."""
    async with listening(Coordinator()) as at:
        tell(at, range(9, 10))
        async with office_on(database) as office:
            await office.publish()
            source = await office.source(broker(at, begin="now"))
            await until(lambda: at.committed == {number: len(each) for number, each in enumerate(at.partitions)})
            at.put(b"P-0", body("P-0", 0))
            await office.parcels({"P-0": 1})
        tell(at, range(1))
        tell(at, range(1, 2))
        async with office_on(database) as office:
            await office.parcels(dict.fromkeys(PARCELS, 2))
            await office.until(lambda seen: seen["received"] == 2 * len(PARCELS) + 1, source)


async def test_where_a_group_begins_is_not_guessed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker does not say where its partitions end, a group that begins `now` reads nothing, and says so."""

    async def gives_up(*_: Any) -> bool:
        return False

    monkeypatch.setattr(kafka.AIOKafkaConsumer, "seek_to_end", gives_up)
    async with listening(Coordinator()) as at:
        tell(at, range(1))
        await office.publish()
        source = await office.source(broker(at, begin="now"))
        seen = await office.until(lambda seen: seen["lastError"] is not None, source)
        assert seen["lastError"] == "The broker does not say where its partitions end."
        assert (seen["received"], at.committed) == (0, {})


async def test_a_partition_that_was_made_later(office: Office) -> None:
    """A group that has begun `now` reads all of it: what is in it came later."""
    async with listening(Coordinator()) as at:
        at.committed = {0: 0, 1: 0}
        tell(at, range(2))
        await office.publish()
        await office.source(broker(at, begin="now"))
        await office.parcels(dict.fromkeys(PARCELS, 2))


async def test_the_connection_breaks(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in the middle: a new consumer goes on from the offsets that were committed, and nothing acts twice."""
    monkeypatch.setattr(kafka, "_LOOK_EVERY", 0.2)
    async with listening(Coordinator()) as at, office_on(database, timeout=2) as office:
        await office.publish()
        source = await office.source(broker(at))
        tell(at, range(5))
        await office.parcels(dict.fromkeys(PARCELS, 5))
        await at.cut()
        tell(at, range(5, 10))
        await office.until(lambda seen: seen["failingSince"] is not None, source, seconds=40)
        await at.mend()
        tell(at, range(10, 12))
        await office.parcels(dict.fromkeys(PARCELS, 12), seconds=60)
        assert at.generation > 1
        await until(lambda: sum(at.committed.values()) == 12 * len(PARCELS))


async def test_another_has_taken_the_group(office: Office) -> None:
    """A commit of an old generation is refused: the messages come again, and are known."""
    async with listening(Coordinator()) as at:
        await office.publish()
        source = await office.source(broker(at))
        tell(at, range(2))
        await office.parcels(dict.fromkeys(PARCELS, 2))
        at.generation += 1
        tell(at, range(2, 4))
        await office.parcels(dict.fromkeys(PARCELS, 4), seconds=60)
        await office.until(lambda seen: seen["failingSince"] is None, source)
        await until(lambda: sum(at.committed.values()) == 4 * len(PARCELS))


async def test_a_topic_that_is_not_there(office: Office) -> None:
    """It is told as that."""
    async with listening(Coordinator()) as at:
        source = await office.source(broker(at, topic="nobodys"))
        seen = await office.until(lambda seen: seen["lastError"] is not None, source)
        assert seen["lastError"] == "There is no topic nobodys; make it."
