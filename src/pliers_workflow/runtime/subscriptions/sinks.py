"""Sinks: where events are sent, as a subscription names it.

Secrets (passwords, header values, the signing secret) are part of a sink when it is written, and are kept apart from it. Whoever
reads a sink gets `***` in their place; whoever writes `***` keeps what is there, so what was read can be written back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from pliers_workflow.definition.findings import Finding, pointer

from ..outbound.client import check_url
from ..outbound.errors import OutboundError
from ..outbound.signing import HEADERS, decode_secret
from .transports.port import unknown_places

if TYPE_CHECKING:
    from ..outbound.guard import Guard

#: stands for a secret that is not shown
MASK: Final = "***"
#: fields of sinks that are secrets
SECRETS: Final = ("secret", "headers", "password", "token")

Url: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2000)]
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)]
Servers: TypeAlias = Annotated[tuple[Word, ...], Meta(min_length=1, max_length=20)]


class _Sink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", tag_field="type"):
    pass


class WebhookSink(_Sink, frozen=True, kw_only=True, tag="webhook"):
    """A POST for each event, signed (Standard Webhooks)."""

    url: Url
    #: sent with each call, such as `Authorization`; their values are secrets
    headers: dict[str, Annotated[str, Meta(max_length=4000)]] = {}
    #: signs the calls, `whsec_…`; by default one is made, and shown in the answer to the request that made it
    secret: Annotated[str, Meta(max_length=200)] | None = None


class NatsSink(_Sink, frozen=True, kw_only=True, tag="nats"):
    """A message in a JetStream stream that takes these subjects."""

    #: `nats://host:4222`
    servers: Servers
    #: `{tenant}`, `{type}`, `{workflow}` and `{instance}` stand for the event's own
    subject: Word = "pliers.{tenant}.{type}"
    user: Word | None = None
    password: Word | None = None
    token: Word | None = None


class RabbitMqSink(_Sink, frozen=True, kw_only=True, tag="rabbitmq"):
    """A persistent message at an exchange; one that no queue takes counts as refused."""

    #: `amqp://host:5672/vhost` or `amqps://…`
    url: Url
    exchange: Annotated[str, Meta(max_length=127)]
    routing_key: Word = "{type}"
    user: Word | None = None
    password: Word | None = None


class RedisSink(_Sink, frozen=True, kw_only=True, tag="redis"):
    """An entry of a stream."""

    #: `redis://host:6379/0` or `rediss://…`
    url: Url
    stream: Word = "pliers:{tenant}"
    #: older entries are dropped beyond about so many
    length_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    user: Word | None = None
    password: Word | None = None


class KafkaSink(_Sink, frozen=True, kw_only=True, tag="kafka"):
    """A record of a topic, keyed by the instance."""

    #: `host:9092`
    servers: Servers
    #: with `{type}` in it events of one instance go to different topics, between which there is no order
    topic: Word = "pliers.{tenant}"
    tls: bool = False
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    user: Word | None = None
    password: Word | None = None


Sink: TypeAlias = WebhookSink | NatsSink | RabbitMqSink | RedisSink | KafkaSink


class SigningSecret(Struct, frozen=True, omit_defaults=True):
    """A secret that signs webhooks; `until`: it has been replaced, and signs beside its successor for so long."""

    secret: str
    until: datetime | None = None


def split(sink: Sink) -> tuple[dict[str, Any], dict[str, Any]]:
    """A sink without its secrets, and the secrets: what is kept in each of the two tables."""
    whole: dict[str, Any] = msgspec.to_builtins(sink)
    secrets = {name: whole.pop(name) for name in SECRETS if whole.get(name)}
    return {name: value for name, value in whole.items() if value is not None and name not in SECRETS}, secrets


def join(sink: Mapping[str, Any], secrets: Mapping[str, Any]) -> Sink:
    """The whole of it again."""
    known = {name: secrets[name] for name in SECRETS if name in secrets}
    whole: Sink = msgspec.convert({**sink, **known}, Sink)
    return whole


def masked(sink: Mapping[str, Any], secrets: Mapping[str, Any]) -> Sink:
    """The sink as it is shown."""
    hidden: dict[str, Any] = {name: MASK for name in SECRETS if name in secrets and name != "headers"}
    if "signing" in secrets:
        hidden["secret"] = MASK
    if "headers" in secrets:
        hidden["headers"] = dict.fromkeys(secrets["headers"], MASK)
    return join(sink, hidden)


def unmasked(sink: Sink, secrets: Mapping[str, Any]) -> Sink:
    """A sink as it was sent, with the secrets that are to be kept put in."""
    changes: dict[str, Any] = {}
    for name in SECRETS:
        value = getattr(sink, name, None)
        if name == "headers":
            if value:
                kept = secrets.get("headers", {})
                changes[name] = {key: kept.get(key, text) if text == MASK else text for key, text in value.items()}
        elif value == MASK:
            changes[name] = secrets.get(name)
    return msgspec.structs.replace(sink, **changes) if changes else sink


# -- checking ----------------------------------------------------------------------------------------------------------

_LIBRARIES: Final = {"nats": "nats", "rabbitmq": "aio_pika", "redis": "redis", "kafka": "aiokafka"}
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_RESERVED: Final = frozenset({*HEADERS, "host", "content-type", "content-length", "transfer-encoding", "connection"})
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


def type_of(sink: Struct) -> str:
    """`webhook`, `nats` …"""
    tag: str = type(sink).__struct_config__.tag  # type: ignore[assignment]  # each has one
    return tag


def check(sink: Sink, guard: Guard, *, schemes: Iterable[str]) -> list[Finding]:
    """Everything that is wrong with a sink, as far as that can be known without calling it."""
    findings: list[Finding] = []

    def wrong(name: str, message: str, hint: str | None = None, code: str = "bad_format") -> None:
        findings.append(Finding(pointer("sink", name), code, message, hint))

    check_library(type_of(sink), wrong)
    match sink:
        case WebhookSink():
            _check_webhook(sink, guard, tuple(schemes), wrong)
        case NatsSink():
            for server in sink.servers:
                check_server(server, ("nats", "tls"), "servers", guard, wrong)
            _check_template(sink.subject, "subject", _SUBJECT, wrong)
        case RabbitMqSink():
            check_server(sink.url, ("amqp", "amqps"), "url", guard, wrong)
            _check_template(sink.routing_key, "routingKey", re.compile(r".{1,255}"), wrong)
        case RedisSink():
            check_server(sink.url, ("redis", "rediss"), "url", guard, wrong)
            _check_template(sink.stream, "stream", re.compile(r"\S+"), wrong)
        case KafkaSink():
            for server in sink.servers:
                check_server(f"kafka://{server}", ("kafka",), "servers", guard, wrong)
            _check_template(sink.topic, "topic", _TOPIC, wrong)
    if getattr(sink, "password", None) and not getattr(sink, "user", None) and not isinstance(sink, RedisSink):
        wrong("password", "A password needs a `user`.", None, "missing")
    return findings


def check_library(kind: str, wrong: Any) -> None:
    """Say by `wrong` when the client of a kind of broker is not installed."""
    library = _LIBRARIES.get(kind)
    if library is not None and find_spec(library) is None:
        hint = f"pip install 'pliers-workflow-engine[{kind}]'"
        wrong("type", f"This engine has no client for {kind}.", hint, "not_installed")


def _check_webhook(sink: WebhookSink, guard: Guard, schemes: tuple[str, ...], wrong: Any) -> None:
    try:
        url = check_url(sink.url)
    except OutboundError as error:
        wrong("url", error.message)
    else:
        if url.scheme not in schemes:
            hint = "An operator can allow others with `subscriptions.webhook_schemes`."
            wrong("url", f"Webhooks are called by {' or '.join(schemes)} only.", hint)
        _check_address(url.host, url.port or (443 if url.scheme == "https" else 80), "url", guard, wrong)
    for name, value in sink.headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _RESERVED:
            wrong("headers", f"{name[:100]!r} is no header that a subscription may set.")
        elif any(not (32 <= ord(character) < 127 or character == "\t") for character in value):
            wrong("headers", f"The value of {name} holds a character that no header may hold.")
    if sink.secret is not None:
        try:
            decode_secret(sink.secret)
        except ValueError as error:
            wrong("secret", f"{str(error).capitalize()}.")


def check_server(url: str, schemes: tuple[str, ...], name: str, guard: Guard, wrong: Any) -> None:
    """Say by `wrong` what is wrong with the address of a broker, that of a network the engine may not call included."""
    try:
        read = urlsplit(url)
        host, port = read.hostname, read.port
    except ValueError:
        host, port = None, None
        read = urlsplit("")
    if read.scheme not in schemes or not host or any(ord(character) < 33 for character in url):
        wrong(name, f"{url[:200]!r} is no address of {' or '.join(schemes)}.")
    elif read.username or read.password:
        wrong(name, "An address holds no user and no password.", "Put them into `user` and `password`.")
    elif read.query or read.fragment:
        # Client libraries take options from there, names of local files among them.
        wrong(name, "An address of a broker has nothing after `?` or `#`.")
    else:
        _check_address(host, port or DEFAULT_PORTS[read.scheme], name, guard, wrong)


#: by scheme
DEFAULT_PORTS: Final = {"nats": 4222, "tls": 4222, "amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "kafka": 9092}  # fmt: skip


def _check_address(host: str, port: int, name: str, guard: Guard, wrong: Any) -> None:
    """An address written as numbers can be judged at once; a name is when it is called."""
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return
    if not guard.permits(host, port, address):
        hint = "An operator can allow it with `outbound.allowed_hosts`."
        wrong(name, f"The engine may not call {host}:{port}.", hint, "forbidden_address")


def _check_template(template: str, name: str, form: re.Pattern[str], wrong: Any) -> None:
    if unknown := unknown_places(template):
        hint = "Known are `{tenant}`, `{type}`, `{workflow}` and `{instance}`."
        wrong(name, f"{unknown[0][:50]} stands for nothing.", hint)
    elif not form.fullmatch(re.sub(r"\{\w+\}", "x", template)):
        wrong(name, f"{template[:100]!r} is no name that the broker takes.")
