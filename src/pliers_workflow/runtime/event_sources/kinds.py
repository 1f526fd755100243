"""Where and what a source reads, by the kind of broker: an address, and what is read there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

from ..brokers.addresses import KafkaAddress, NatsAddress, RabbitMqAddress, RedisAddress, Word
from ..brokers.checks import FieldFindings, check_client, check_servers, check_user
from ..brokers.secrets import Secrets

if TYPE_CHECKING:
    from pliers_workflow.definition.findings import Finding

    from ..outbound.guard import Guard

Begin: TypeAlias = Literal["beginning", "now"]
"""Where reading begins when nobody has read under this name before."""


class NatsBroker(NatsAddress, frozen=True, kw_only=True):
    """A JetStream stream, read by a durable pull consumer."""

    stream: Word
    #: the durable consumer; one that is not there is made. It is this source's alone
    consumer: Word = "pliers"
    #: of a consumer that is made: which subjects of the stream it reads; without it all
    subject: Word | None = None
    #: of a consumer that is made: where it begins
    begin: Begin = "beginning"
    #: of a consumer that is made: seconds after which a message that was not acknowledged comes again
    ack_wait_seconds: Annotated[int, Meta(ge=1, le=3600)] = 30


class RabbitMqBroker(RabbitMqAddress, frozen=True, kw_only=True):
    """A queue."""

    queue: Annotated[str, Meta(min_length=1, max_length=255)]
    #: have the broker let nobody else read the queue; false for a queue with a single active consumer
    exclusive: bool = True


class RedisBroker(RedisAddress, frozen=True, kw_only=True):
    """A stream, read in a consumer group (Redis 6.2 or newer)."""

    stream: Word
    #: one that is not there is made. It is this source's alone
    group: Word = "pliers"
    #: of a group that is made: where it begins
    begin: Begin = "beginning"
    #: the field of an entry that holds the message; the others are headers
    field: Word = "event"


class KafkaBroker(KafkaAddress, frozen=True, kw_only=True):
    """A topic, read in a consumer group."""

    topic: Word
    #: it is this source's alone
    group: Word = "pliers"
    #: where a group begins that has read nothing
    begin: Begin = "beginning"


Broker: TypeAlias = NatsBroker | RabbitMqBroker | RedisBroker | KafkaBroker

SECRETS: Final = Secrets[Broker](Broker)

#: fields that say what is read, and from where on
_WHAT: Final = ("url", "servers", "stream", "consumer", "subject", "queue", "group", "topic", "begin")
#: a name in NATS, and a subject with its wildcards
_NATS_NAME: Final = re.compile(r"[^\s.*>/\\]+")
_SUBJECT: Final = re.compile(r"[^\s.>]+(\.[^\s.>]+)*(\.>)?|>")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def what_is_read(broker: Mapping[str, Any]) -> dict[str, Any]:
    """That part of a source's configuration of which it has a place: it goes on there when anything else is changed."""
    return {name: broker[name] for name in _WHAT if name in broker}


def under_one_name(broker: Mapping[str, Any]) -> dict[str, Any]:
    """That part of which there may be one source: two that read under one name each get a part, in no order."""
    return {name: value for name, value in what_is_read(broker).items() if name not in ("subject", "begin")}


def check(broker: Broker, guard: Guard) -> list[Finding]:
    """Everything that is wrong with it, as far as that can be known without calling it."""
    findings = FieldFindings("broker")

    def named(name: str, value: str, form: re.Pattern[str], what: str) -> None:
        if not form.fullmatch(value):
            findings.wrong(name, f"{value[:100]!r} is no {what}.")

    check_client(broker, findings)
    check_servers(broker, guard, findings)
    match broker:
        case NatsBroker():
            named("stream", broker.stream, _NATS_NAME, "name of a stream")
            named("consumer", broker.consumer, _NATS_NAME, "name of a consumer")
            if broker.subject is not None:
                named("subject", broker.subject, _SUBJECT, "subject")
        case RabbitMqBroker():
            named("queue", broker.queue, re.compile(r"[^\x00-\x1f\x7f]+"), "name of a queue")
        case RedisBroker():
            for name in ("stream", "group", "field"):
                named(name, getattr(broker, name), re.compile(r"[^\s\x00-\x1f\x7f]+"), f"name of a {name}")
        case KafkaBroker():
            named("topic", broker.topic, _TOPIC, "topic")
            named("group", broker.group, re.compile(r"[^\s\x00-\x1f\x7f]+"), "name of a group")
    check_user(broker, findings)
    return findings
