"""Addresses: where a broker is, and who we are there. What is read or written there is for those who derive from them to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

Url: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2000)]
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)]
Servers: TypeAlias = Annotated[tuple[Word, ...], Meta(min_length=1, max_length=20)]


class Address(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", tag_field="type"):
    """Base of the kinds; whoever derives from one of them is of that kind."""

    #: the package that has the client
    library: ClassVar[str]
    #: the field that says where the broker is
    where: ClassVar[str]
    #: the schemes that may stand there, and for each the port of an address that names none
    ports: ClassVar[Mapping[str, int]]
    #: whether a password means something without a user
    password_alone: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """`nats`, `rabbitmq` …"""
        tag = type(self).__struct_config__.tag
        assert isinstance(tag, str), "each kind has one"
        return tag

    @property
    def urls(self) -> tuple[str, ...]:
        """Its servers, each with a scheme."""
        where: str | tuple[str, ...] = getattr(self, self.where)
        return (where,) if isinstance(where, str) else where

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """
        Host and port of each server.

        >>> RabbitMqAddress(url="amqps://mq.example.com/orders").hosts
        (('mq.example.com', 5671),)
        """
        read = map(urlsplit, self.urls)
        return tuple((each.hostname or "", each.port or self.ports[each.scheme]) for each in read)


class NatsAddress(Address, frozen=True, kw_only=True, tag="nats"):
    """NATS."""

    library: ClassVar[str] = "nats"
    where: ClassVar[str] = "servers"
    ports: ClassVar[Mapping[str, int]] = {"nats": 4222, "tls": 4222}

    #: `nats://host:4222`
    servers: Servers
    user: Word | None = None
    password: Word | None = None
    token: Word | None = None


class RabbitMqAddress(Address, frozen=True, kw_only=True, tag="rabbitmq"):
    """RabbitMQ."""

    library: ClassVar[str] = "aio_pika"
    where: ClassVar[str] = "url"
    ports: ClassVar[Mapping[str, int]] = {"amqp": 5672, "amqps": 5671}

    #: `amqp://host:5672/vhost` or `amqps://…`
    url: Url
    user: Word | None = None
    password: Word | None = None


class RedisAddress(Address, frozen=True, kw_only=True, tag="redis"):
    """Redis."""

    library: ClassVar[str] = "redis"
    where: ClassVar[str] = "url"
    ports: ClassVar[Mapping[str, int]] = {"redis": 6379, "rediss": 6379}
    password_alone: ClassVar[bool] = True

    #: `redis://host:6379/0` or `rediss://…`
    url: Url
    user: Word | None = None
    password: Word | None = None


class KafkaAddress(Address, frozen=True, kw_only=True, tag="kafka"):
    """Kafka."""

    library: ClassVar[str] = "aiokafka"
    where: ClassVar[str] = "servers"
    ports: ClassVar[Mapping[str, int]] = {"kafka": 9092}

    #: `host:9092`
    servers: Servers
    tls: bool = False
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    user: Word | None = None
    password: Word | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """With the scheme that Kafka's own addresses do without."""
        return tuple(f"kafka://{server}" for server in self.servers)


BrokerAddress: TypeAlias = NatsAddress | RabbitMqAddress | RedisAddress | KafkaAddress
