"""As much of a Kafka broker as our producers and consumers need to meet, because there is no Kafka among the servers of our tests.

It is no Kafka, and proves nothing about one. What is real is the client: `aiokafka` connects over a socket, asks for versions
and metadata, and what it sends is read here with the client's own structs. So it holds what we owe that client, and what
becomes of it when the connection breaks:

- `Leader`, to whom a producer sends: acknowledgement by all replicas, idempotence, keys, headers, one partition for each
  instance;
- `Coordinator`, of whom a consumer reads in a group: all partitions to its only member, offsets that are committed by hand.
"""

from __future__ import annotations

import asyncio
import struct
from abc import abstractmethod
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.api import RequestHeader_v1, ResponseHeader_v0
from aiokafka.protocol.commit import (
    OffsetCommitRequest_v2,
    OffsetCommitResponse_v2,
    OffsetFetchRequest_v1,
    OffsetFetchResponse_v1,
)
from aiokafka.protocol.coordination import FindCoordinatorResponse_v0
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4
from aiokafka.protocol.group import (
    HeartbeatResponse_v0,
    JoinGroupRequest_v0,
    JoinGroupResponse_v0,
    LeaveGroupResponse_v0,
    SyncGroupRequest_v0,
    SyncGroupResponse_v0,
)
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1
from aiokafka.protocol.offset import OffsetRequest_v1, OffsetResponse_v1
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v3
from aiokafka.protocol.transaction import InitProducerIdResponse_v0
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from msgspec import Struct

from .servers import Breakable

PARTITIONS = 3
UNKNOWN_TOPIC = 3
ILLEGAL_GENERATION = 22
OUT_OF_ORDER_SEQUENCE_NUMBER = 45


class KafkaContract(Breakable):
    """The one broker, and leader of every partition."""

    #: what it understands beside versions and metadata: key of the request, lowest and highest version
    versions: ClassVar[list[tuple[int, int, int]]]
    #: the only topics there are; None: whichever is named
    topics: list[str] | None = None

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            data = BytesIO(await reader.readexactly(size))
            api_key, _, correlation_id, _ = RequestHeader_v1.SCHEMA.decode(data)
            match api_key:
                case 18:
                    made = ApiVersionResponse_v0(0, [*self.versions, (3, 1, 1), (18, 0, 0)])
                case 3:
                    made = self._metadata(MetadataRequest_v1.decode(data).topics or self.topics or [])
                case _:
                    made = await self.answer(api_key, data)
            answer = ResponseHeader_v0(correlation_id).encode() + made.encode()
            writer.write(struct.pack(">i", len(answer)) + answer)
            await writer.drain()

    @abstractmethod
    async def answer(self, api_key: int, data: BytesIO) -> Any:
        """The answer to a request of one of `versions`."""

    def _metadata(self, topics: list[str]) -> Any:
        partitions = [(0, partition, 1, [1], [1]) for partition in range(PARTITIONS)]
        found = [
            (0, topic, False, partitions)
            if self.topics is None or topic in self.topics
            else (UNKNOWN_TOPIC, topic, False, [])
            for topic in topics
        ]
        return MetadataResponse_v1([(1, "127.0.0.1", self.port, None)], 1, found)


# -- for producers -----------------------------------------------------------------------------------------------------


class Record(Struct):
    """A record as it was sent."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]
    producer_id: int
    acks: int


class Leader(KafkaContract):
    """Takes what producers send."""

    versions = [(0, 3, 3), (22, 0, 0)]

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.producers = 0
        #: error code of the next answers to produce requests, in turn
        self.errors: list[int] = []
        self._expected: dict[tuple[int, str, int], int] = {}

    async def answer(self, api_key: int, data: BytesIO) -> Any:
        if api_key == 22:
            self.producers += 1
            return InitProducerIdResponse_v0(0, 0, 1000 + self.producers, 0)
        assert api_key == 0
        request = ProduceRequest_v3.decode(data)
        taken = [
            (
                topic,
                [(partition, self._take(request, topic, partition, messages), 0, -1) for partition, messages in each],
            )
            for topic, each in request.topics
        ]
        return ProduceResponse_v3(taken, 0)

    def _take(self, request: Any, topic: str, partition: int, messages: bytes) -> int:
        """Keep a batch, as an idempotent producer may expect: once, and in the order of its sequence."""
        if self.errors:
            return self.errors.pop(0)
        records = MemoryRecords(messages)
        while (batch := records.next_batch()) is not None:
            base = struct.unpack(">i", messages[53:57])[0]
            at = (batch.producer_id, topic, partition)
            if base < self._expected.get(at, 0):
                continue  # it is here already
            if base > self._expected.get(at, 0):
                return OUT_OF_ORDER_SEQUENCE_NUMBER
            for record in batch:
                headers = dict(record.headers)
                kept = Record(
                    topic, partition, record.key, record.value, headers, batch.producer_id, request.required_acks
                )
                self.records.append(kept)
                self._expected[at] = self._expected.get(at, 0) + 1
        return 0


# -- for consumers -----------------------------------------------------------------------------------------------------


class Coordinator(KafkaContract):
    """Gives a topic to the one member that a group has; the latest to join is it."""

    versions = [(1, 4, 4), (2, 1, 1), (8, 2, 2), (9, 1, 1), *((key, 0, 0) for key in (10, 11, 12, 13, 14))]

    def __init__(self, topic: str = "parcels") -> None:
        super().__init__()
        self.topic = topic
        self.topics = [topic]
        self.partitions: list[list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]] = [
            [] for _ in range(PARTITIONS)
        ]
        self.committed: dict[int, int] = {}
        #: of records, as their producer has written it
        self.timestamp = 1_790_000_000_000
        self.generation = 0

    def put(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        """A record, in the partition of its key."""
        self.partitions[sum(key) % PARTITIONS].append((key, value, headers or []))

    async def answer(self, api_key: int, data: BytesIO) -> Any:
        match api_key:
            case 10:
                return FindCoordinatorResponse_v0(0, 1, "127.0.0.1", self.port)
            case 11:
                request = JoinGroupRequest_v0.decode(data)
                self.generation += 1
                name, metadata = request.group_protocols[0]
                member = f"m{self.generation}"
                return JoinGroupResponse_v0(0, self.generation, name, member, member, [(member, metadata)])
            case 14:
                mine = dict(SyncGroupRequest_v0.decode(data).group_assignment)
                (assignment,) = mine.values()
                given = ConsumerProtocolMemberAssignment.decode(assignment)
                assert sorted(given.assignment[0][1]) == list(range(PARTITIONS)), "the only member has all partitions"
                return SyncGroupResponse_v0(0, assignment)
            case 12:
                return HeartbeatResponse_v0(0)
            case 13:
                return LeaveGroupResponse_v0(0)
            case 9:
                ((topic, asked),) = OffsetFetchRequest_v1.decode(data).topics
                return OffsetFetchResponse_v1([(topic, [(one, self.committed.get(one, -1), "", 0) for one in asked])])
            case 8:
                return self._commit(OffsetCommitRequest_v2.decode(data))
            case 2:
                return self._offsets(OffsetRequest_v1.decode(data))
        assert api_key == 1
        return await self._fetch(FetchRequest_v4.decode(data))

    def _commit(self, request: Any) -> Any:
        ((topic, offsets),) = request.topics
        if request.consumer_group_generation_id != self.generation:
            return OffsetCommitResponse_v2([(topic, [(one[0], ILLEGAL_GENERATION) for one in offsets])])
        self.committed.update({partition: offset for partition, offset, _ in offsets})
        return OffsetCommitResponse_v2([(topic, [(one[0], 0) for one in offsets])])

    def _offsets(self, request: Any) -> Any:
        ((topic, asked),) = request.topics
        ends = [(one, 0, -1, 0 if timestamp == -2 else len(self.partitions[one])) for one, timestamp in asked]
        return OffsetResponse_v1([(topic, ends)])

    async def _fetch(self, request: Any) -> Any:
        ((topic, asked),) = request.topics
        if all(len(self.partitions[one]) <= offset for one, offset, _ in asked):
            await asyncio.sleep(request.max_wait_time / 1000)
        found: list[Any] = []
        for one, offset, _ in asked:
            end = len(self.partitions[one])
            found.append((one, 0, end, end, [], _batch(self.partitions[one][offset:], offset, self.timestamp)))
        return FetchResponse_v4(0, [(topic, found)])


def _batch(records: list[Any], base: int, timestamp: int) -> bytes:
    if not records:
        return b""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for place, (key, value, headers) in enumerate(records):
        assert builder.append(place, timestamp, key, value, headers) is not None
    return struct.pack(">q", base) + bytes(builder.build())[8:]
