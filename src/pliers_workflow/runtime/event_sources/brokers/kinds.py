"""Where and what a source reads, by the kind of broker.

Secrets are part of it when it is written, and are kept apart. Whoever reads a source gets `***` in their place; whoever
writes `***` keeps what is there, as with the sinks of subscriptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from pliers_workflow.definition.findings import Finding, pointer

from ...subscriptions.sinks import MASK, Servers, Url, Word, check_library, check_server, type_of

if TYPE_CHECKING:
    from ...outbound.guard import Guard

Begin: TypeAlias = Literal["beginning", "now"]
"""Where reading begins when nobody has read under this name before."""


class _Broker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", tag_field="type"):
    pass


class NatsBroker(_Broker, frozen=True, kw_only=True, tag="nats"):
    """A JetStream stream, read by a durable pull consumer."""

    #: `nats://host:4222`
    servers: Servers
    stream: Word
    #: the durable consumer; one that is not there is made. It is this source's alone
    consumer: Word = "pliers"
    #: of a consumer that is made: which subjects of the stream it reads; without it all
    subject: Word | None = None
    #: of a consumer that is made: where it begins
    begin: Begin = "beginning"
    #: of a consumer that is made: seconds after which a message that was not acknowledged comes again
    ack_wait_seconds: Annotated[int, Meta(ge=1, le=3600)] = 30
    user: Word | None = None
    password: Word | None = None
    token: Word | None = None


class RabbitMqBroker(_Broker, frozen=True, kw_only=True, tag="rabbitmq"):
    """A queue."""

    #: `amqp://host:5672/vhost` or `amqps://…`
    url: Url
    queue: Annotated[str, Meta(min_length=1, max_length=255)]
    #: have the broker let nobody else read the queue; false for a queue with a single active consumer
    exclusive: bool = True
    user: Word | None = None
    password: Word | None = None


class RedisBroker(_Broker, frozen=True, kw_only=True, tag="redis"):
    """A stream, read in a consumer group (Redis 6.2 or newer)."""

    #: `redis://host:6379/0` or `rediss://…`
    url: Url
    stream: Word
    #: one that is not there is made. It is this source's alone
    group: Word = "pliers"
    #: of a group that is made: where it begins
    begin: Begin = "beginning"
    #: the field of an entry that holds the message; the others are headers
    field: Word = "event"
    user: Word | None = None
    password: Word | None = None


class KafkaBroker(_Broker, frozen=True, kw_only=True, tag="kafka"):
    """A topic, read in a consumer group."""

    #: `host:9092`
    servers: Servers
    topic: Word
    #: it is this source's alone
    group: Word = "pliers"
    #: where a group begins that has read nothing
    begin: Begin = "beginning"
    tls: bool = False
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    user: Word | None = None
    password: Word | None = None


Broker: TypeAlias = NatsBroker | RabbitMqBroker | RedisBroker | KafkaBroker

_SECRETS: Final = ("password", "token")
#: a name in NATS, and a subject with its wildcards
_NATS_NAME: Final = re.compile(r"[^\s.*>/\\]+")
_SUBJECT: Final = re.compile(r"[^\s.>]+(\.[^\s.>]+)*(\.>)?|>")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def split(broker: Broker) -> tuple[dict[str, Any], dict[str, Any]]:
    """A broker without its secrets, and the secrets: what is kept in each of the two tables."""
    whole: dict[str, Any] = msgspec.to_builtins(broker)
    secrets = {name: whole.pop(name) for name in _SECRETS if whole.get(name)}
    return {name: value for name, value in whole.items() if value is not None and name not in _SECRETS}, secrets


def join(broker: Mapping[str, Any], secrets: Mapping[str, Any]) -> Broker:
    """The whole of it again."""
    known = {name: secrets[name] for name in _SECRETS if name in secrets}
    whole: Broker = msgspec.convert({**broker, **known}, Broker)
    return whole


def masked(broker: Mapping[str, Any], secrets: Mapping[str, Any]) -> Broker:
    """The broker as it is shown."""
    return join(broker, dict.fromkeys(secrets, MASK))


def unmasked(broker: Broker, secrets: Mapping[str, Any]) -> Broker:
    """A broker as it was sent, with the secrets that are to be kept put in."""
    changes = {name: secrets.get(name) for name in _SECRETS if getattr(broker, name, None) == MASK}
    return msgspec.structs.replace(broker, **changes) if changes else broker


def check(broker: Broker, guard: Guard) -> list[Finding]:
    """Everything that is wrong with it, as far as that can be known without calling it."""
    findings: list[Finding] = []

    def wrong(name: str, message: str, hint: str | None = None, code: str = "bad_format") -> None:
        findings.append(Finding(pointer("broker", name), code, message, hint))

    def named(name: str, value: str, form: re.Pattern[str], what: str) -> None:
        if not form.fullmatch(value):
            wrong(name, f"{value[:100]!r} is no {what}.")

    check_library(type_of(broker), wrong)
    match broker:
        case NatsBroker():
            for server in broker.servers:
                check_server(server, ("nats", "tls"), "servers", guard, wrong)
            named("stream", broker.stream, _NATS_NAME, "name of a stream")
            named("consumer", broker.consumer, _NATS_NAME, "name of a consumer")
            if broker.subject is not None:
                named("subject", broker.subject, _SUBJECT, "subject")
            if broker.token and (broker.user or broker.password):
                wrong("token", "Either a token, or a user and a password.", None, "misplaced")
        case RabbitMqBroker():
            check_server(broker.url, ("amqp", "amqps"), "url", guard, wrong)
            named("queue", broker.queue, re.compile(r"[^\x00-\x1f\x7f]+"), "name of a queue")
        case RedisBroker():
            check_server(broker.url, ("redis", "rediss"), "url", guard, wrong)
            for name in ("stream", "group", "field"):
                named(name, getattr(broker, name), re.compile(r"[^\s\x00-\x1f\x7f]+"), f"name of a {name}")
        case KafkaBroker():
            for server in broker.servers:
                check_server(f"kafka://{server}", ("kafka",), "servers", guard, wrong)
            named("topic", broker.topic, _TOPIC, "topic")
            named("group", broker.group, re.compile(r"[^\s\x00-\x1f\x7f]+"), "name of a group")
    if broker.password and not broker.user and not isinstance(broker, RedisBroker):
        wrong("password", "A password needs a `user`.", None, "missing")
    return findings
