"""As much of a Kafka broker as a consumer in a group needs to meet, because there is no Kafka among the servers of our tests.

It is no Kafka, and proves nothing about one. What is real is the client: `aiokafka` connects over a socket, finds its
coordinator, joins a group, is given all partitions, asks for its committed offsets, fetches record batches and commits. So
it holds what we owe that client: a group, manual offsets, headers and keys, and what becomes of it when it breaks.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from typing import Any

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
from aiokafka.record.default_records import DefaultRecordBatchBuilder

PARTITIONS = 3
#: what it understands: key of the request, lowest and highest version
VERSIONS = [(1, 4, 4), (2, 1, 1), (3, 1, 1), (8, 2, 2), (9, 1, 1), *((key, 0, 0) for key in (10, 11, 12, 13, 14, 18))]
UNKNOWN_TOPIC = 3
ILLEGAL_GENERATION = 22


class Coordinator:
    """The one broker: leader of every partition and coordinator of every group."""

    def __init__(self, topic: str = "parcels") -> None:
        self.port = 0
        self.topic = topic
        self.partitions: list[list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]] = [
            [] for _ in range(PARTITIONS)
        ]
        self.committed: dict[int, int] = {}
        self.generation = 0
        self.commits = 0
        self._up = True
        self._writers: set[asyncio.StreamWriter] = set()

    def put(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        """A record, in the partition of its key."""
        self.partitions[sum(key) % PARTITIONS].append((key, value, headers or []))

    def cut(self) -> None:
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._up = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.close()
            return
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                data = BytesIO(await reader.readexactly(size))
                api_key, _, correlation_id, _ = RequestHeader_v1.SCHEMA.decode(data)  # type: ignore[no-untyped-call]
                answer = ResponseHeader_v0(correlation_id).encode() + (await self._answer(api_key, data)).encode()
                writer.write(struct.pack(">i", len(answer)) + answer)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, api_key: int, data: BytesIO) -> Any:
        match api_key:
            case 18:
                return ApiVersionResponse_v0(0, VERSIONS)
            case 3:
                return self._metadata(MetadataRequest_v1.decode(data).topics or [self.topic])
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

    def _metadata(self, topics: list[str]) -> Any:
        partitions = [(0, partition, 1, [1], [1]) for partition in range(PARTITIONS)]
        found = [
            (0, topic, False, partitions) if topic == self.topic else (UNKNOWN_TOPIC, topic, False, [])
            for topic in topics
        ]
        return MetadataResponse_v1([(1, "127.0.0.1", self.port, None)], 1, found)

    def _commit(self, request: Any) -> Any:
        ((topic, offsets),) = request.topics
        if request.consumer_group_generation_id != self.generation:
            return OffsetCommitResponse_v2([(topic, [(one[0], ILLEGAL_GENERATION) for one in offsets])])
        self.commits += 1
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
        found = []
        for one, offset, _ in asked:
            end = len(self.partitions[one])
            found.append((one, 0, end, end, [], _batch(self.partitions[one][offset:], offset)))
        return FetchResponse_v4(0, [(topic, found)])


def _batch(records: list[Any], base: int) -> bytes:
    if not records:
        return b""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for place, (key, value, headers) in enumerate(records):
        assert builder.append(place, 1_790_000_000_000, key, value, headers) is not None
    return struct.pack(">q", base) + bytes(builder.build())[8:]


@asynccontextmanager
async def coordinator() -> AsyncIterator[Coordinator]:
    """A coordinator for as long as the block."""
    made = Coordinator()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.cut()
        server.close()
