"""Every way to connect that a Kafka address can ask for is one that its clients accept, whether they read or write."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pliers_workflow.runtime.event_sources.kinds import KafkaBroker
from pliers_workflow.runtime.event_sources.readers.kafka import KafkaReader
from pliers_workflow.runtime.outbound.guard import Guard
from pliers_workflow.runtime.subscriptions.sinks import KafkaSink
from pliers_workflow.runtime.subscriptions.transports.kafka import KafkaTransport
from pliers_workflow.settings import OutboundSettings


@pytest.mark.parametrize(
    ("more", "protocol", "mechanism"),
    [
        ({}, "PLAINTEXT", None),
        ({"tls": True}, "SSL", None),
        ({"user": "u", "password": "p"}, "SASL_PLAINTEXT", "PLAIN"),
        ({"user": "u", "password": "p", "tls": True, "mechanism": "SCRAM-SHA-512"}, "SASL_SSL", "SCRAM-SHA-512"),
    ],
)
async def test_the_clients_take_our_options(more: dict[str, Any], protocol: str, mechanism: str | None) -> None:
    """A consumer and a producer are made with the same security."""
    guard = Guard(OutboundSettings())
    broker = KafkaBroker(servers=("k:1",), topic="t", **more)
    reading = KafkaReader(broker, guard, batch_size=10, timeout=10).options()
    writing = KafkaTransport(KafkaSink(servers=("k:1",), **more), guard, timeout=10).options()
    for options in (reading, writing):
        assert options["security_protocol"] == protocol
        assert options.get("sasl_mechanism") == mechanism
    consumer = AIOKafkaConsumer("t", **reading)
    await consumer.stop()
    producer = AIOKafkaProducer(**writing)
    await producer.stop()
