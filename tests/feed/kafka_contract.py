"""As much of a Kafka broker as a producer needs to meet, because there is no Kafka among the servers that tests use.

It is no Kafka, and proves nothing about one. What is real is the client: `aiokafka` connects over a socket, asks for
versions, metadata and a producer id, and sends record batches, which are read here with the client's own structs. So it
holds what we owe that client and what it then sends: acknowledgement by all replicas, an idempotent producer, keys,
headers, one partition for each instance, and what becomes of it when the connection breaks.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from typing import Any

from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.api import RequestHeader_v1, ResponseHeader_v0
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v3
from aiokafka.protocol.transaction import InitProducerIdResponse_v0
from aiokafka.record.memory_records import MemoryRecords
from msgspec import Struct

PARTITIONS = 3
#: what it understands: key of the request, lowest and highest version
VERSIONS = [(0, 3, 3), (3, 1, 1), (18, 0, 0), (22, 0, 0)]


class Record(Struct):
    """A record as it was sent."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]
    producer_id: int
    acks: int


class Leader:
    """The one broker, and leader of every partition."""

    def __init__(self) -> None:
        self.port = 0
        self.records: list[Record] = []
        self.producers = 0
        #: error code of the next answers to produce requests, in turn
        self.errors: list[int] = []
        self._expected: dict[tuple[int, str, int], int] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._up = True

    def cut(self) -> None:
        """Nobody is connected any more, nor can be."""
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
                answer = ResponseHeader_v0(correlation_id).encode() + self._answer(api_key, data).encode()
                writer.write(struct.pack(">i", len(answer)) + answer)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    def _answer(self, api_key: int, data: BytesIO) -> Any:
        if api_key == 18:
            return ApiVersionResponse_v0(0, VERSIONS)
        if api_key == 3:
            topics = MetadataRequest_v1.decode(data).topics or []
            partitions = [(0, partition, 1, [1], [1]) for partition in range(PARTITIONS)]
            return MetadataResponse_v1(
                [(1, "127.0.0.1", self.port, None)], 1, [(0, topic, False, partitions) for topic in topics]
            )
        if api_key == 22:
            self.producers += 1
            return InitProducerIdResponse_v0(0, 0, 1000 + self.producers, 0)
        assert api_key == 0
        request = ProduceRequest_v3.decode(data)
        return ProduceResponse_v3(
            [
                (
                    topic,
                    [
                        (partition, self._take(request, topic, partition, messages), 0, -1)
                        for partition, messages in each
                    ],
                )
                for topic, each in request.topics
            ],
            0,
        )

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
                return 45  # OUT_OF_ORDER_SEQUENCE_NUMBER
            for record in batch:
                headers = dict(record.headers)
                kept = Record(
                    topic, partition, record.key, record.value, headers, batch.producer_id, request.required_acks
                )
                self.records.append(kept)
                self._expected[at] = self._expected.get(at, 0) + 1
        return 0


@asynccontextmanager
async def leader() -> AsyncIterator[Leader]:
    """A leader for as long as the block."""
    made = Leader()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.cut()
        server.close()
