"""Which reader serves which kind of broker. Client libraries are extras, so each is imported when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kinds import Broker, KafkaBroker, NatsBroker, RabbitMqBroker, RedisBroker

if TYPE_CHECKING:
    from ...outbound.guard import Guard
    from .port import BrokerReader


def open_reader(broker: Broker, guard: Guard, *, batch_size: int, timeout: float) -> BrokerReader:
    """A reader of a broker, not connected yet. Raises ImportError without its library."""
    match broker:
        case NatsBroker():
            from .nats import NatsReader

            return NatsReader(broker, guard, batch_size=batch_size, timeout=timeout)
        case RabbitMqBroker():
            from .rabbitmq import RabbitMqReader

            return RabbitMqReader(broker, guard, batch_size=batch_size, timeout=timeout)
        case RedisBroker():
            from .redis import RedisReader

            return RedisReader(broker, guard, batch_size=batch_size, timeout=timeout)
        case KafkaBroker():
            from .kafka import KafkaReader

            return KafkaReader(broker, guard, batch_size=batch_size, timeout=timeout)
