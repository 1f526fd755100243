"""Which transport serves which sink. Client libraries are extras, so each is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..sinks import KafkaSink, NatsSink, RabbitMqSink, RedisSink, SigningSecret, Sink, WebhookSink
from .port import EventTransport
from .webhook import WebhookTransport

if TYPE_CHECKING:
    from pliers_workflow.settings import SubscriptionSettings

    from ...outbound import Outbound


def open_transport(
    sink: Sink, secrets: Sequence[SigningSecret], outbound: Outbound, settings: SubscriptionSettings
) -> EventTransport:
    """The transport of a sink; it connects when it first has something to send. Raises ImportError without its library."""
    timeout = settings.publish_timeout
    match sink:
        case WebhookSink():
            return WebhookTransport(sink, secrets, outbound, timeout=settings.webhook_timeout)
        case NatsSink():
            from .nats import NatsTransport

            return NatsTransport(sink, outbound.guard, timeout=timeout)
        case RabbitMqSink():
            from .rabbitmq import RabbitMqTransport

            return RabbitMqTransport(sink, outbound.guard, timeout=timeout)
        case RedisSink():
            from .redis import RedisTransport

            return RedisTransport(sink, outbound.guard, timeout=timeout)
        case KafkaSink():
            from .kafka import KafkaTransport

            return KafkaTransport(sink, outbound.guard, timeout=timeout)
