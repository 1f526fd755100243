"""Sinks: where events are sent, as a subscription names it: a webhook, or the address of a broker and what is written there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ..brokers.addresses import KafkaAddress, NatsAddress, RabbitMqAddress, RedisAddress, Url, Word
from ..brokers.checks import FieldFindings, check_client, check_host, check_servers, check_user
from ..brokers.secrets import MASK, Secrets
from ..outbound.client import check_url
from ..outbound.errors import OutboundError
from ..outbound.signing import HEADERS, decode_secret
from .transports.port import unknown_places

if TYPE_CHECKING:
    from pliers_workflow.definition.findings import Finding

    from ..outbound.guard import Guard


class WebhookSink(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel", tag_field="type", tag="webhook"
):
    """A POST for each event, signed (Standard Webhooks)."""

    url: Url
    #: sent with each call, such as `Authorization`; their values are secrets
    headers: dict[str, Annotated[str, Meta(max_length=4000)]] = {}
    #: signs the calls, `whsec_…`; by default one is made, and shown in the answer to the request that made it
    secret: Annotated[str, Meta(max_length=200)] | None = None


class NatsSink(NatsAddress, frozen=True, kw_only=True):
    """A message in a JetStream stream that takes these subjects."""

    #: `{tenant}`, `{type}`, `{workflow}` and `{instance}` stand for the event's own
    subject: Word = "pliers.{tenant}.{type}"


class RabbitMqSink(RabbitMqAddress, frozen=True, kw_only=True):
    """A persistent message at an exchange; one that no queue takes counts as refused."""

    exchange: Annotated[str, Meta(max_length=127)]
    routing_key: Word = "{type}"


class RedisSink(RedisAddress, frozen=True, kw_only=True):
    """An entry of a stream."""

    stream: Word = "pliers:{tenant}"
    #: older entries are dropped beyond about so many
    length_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None


class KafkaSink(KafkaAddress, frozen=True, kw_only=True):
    """A record of a topic, keyed by the instance."""

    #: with `{type}` in it events of one instance go to different topics, between which there is no order
    topic: Word = "pliers.{tenant}"


Sink: TypeAlias = WebhookSink | NatsSink | RabbitMqSink | RedisSink | KafkaSink


class SigningSecret(Struct, frozen=True, omit_defaults=True):
    """A secret that signs webhooks; `until`: it has been replaced, and signs beside its successor for so long."""

    secret: str
    until: datetime | None = None


class _SinkSecrets(Secrets[Sink]):
    """
    Those of brokers, and a webhook's: the values of its headers, and what signs its calls.

    A secret that signs is kept as `signing`, beside those that it replaced (`SigningSecret`), so it is never joined again.
    """

    def __init__(self) -> None:
        super().__init__(Sink, "secret", "headers")

    def masked(self, kept: Mapping[str, Any], secrets: Mapping[str, Any]) -> Sink:
        hidden: dict[str, Any] = dict.fromkeys(secrets, MASK)
        if "signing" in secrets:
            hidden["secret"] = MASK
        if "headers" in secrets:
            hidden["headers"] = dict.fromkeys(secrets["headers"], MASK)
        return self.join(kept, hidden)

    def unmasked(self, whole: Sink, secrets: Mapping[str, Any]) -> Sink:
        if isinstance(whole, WebhookSink) and whole.headers:
            known = secrets.get("headers", {})
            headers = {
                name: known.get(name, value) if value == MASK else value for name, value in whole.headers.items()
            }
            whole = msgspec.structs.replace(whole, headers=headers)
        return super().unmasked(whole, secrets)


SECRETS: Final = _SinkSecrets()


# -- checking ----------------------------------------------------------------------------------------------------------

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_RESERVED: Final = frozenset({*HEADERS, "host", "content-type", "content-length", "transfer-encoding", "connection"})
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


def check(sink: Sink, guard: Guard, *, schemes: Iterable[str]) -> list[Finding]:
    """Everything that is wrong with a sink, as far as that can be known without calling it."""
    findings = FieldFindings("sink")
    if isinstance(sink, WebhookSink):
        _check_webhook(sink, guard, tuple(schemes), findings)
        return findings
    check_client(sink, findings)
    check_servers(sink, guard, findings)
    match sink:
        case NatsSink():
            _check_template(sink.subject, "subject", _SUBJECT, findings)
        case RabbitMqSink():
            _check_template(sink.routing_key, "routingKey", re.compile(r".{1,255}"), findings)
        case RedisSink():
            _check_template(sink.stream, "stream", re.compile(r"\S+"), findings)
        case KafkaSink():
            _check_template(sink.topic, "topic", _TOPIC, findings)
    check_user(sink, findings)
    return findings


def _check_webhook(sink: WebhookSink, guard: Guard, schemes: tuple[str, ...], findings: FieldFindings) -> None:
    try:
        url = check_url(sink.url)
    except OutboundError as error:
        findings.wrong("url", error.message)
    else:
        if url.scheme not in schemes:
            hint = "An operator can allow others with `subscriptions.webhook_schemes`."
            findings.wrong("url", f"Webhooks are called by {' or '.join(schemes)} only.", hint)
        check_host(url.host, url.port or (443 if url.scheme == "https" else 80), "url", guard, findings)
    for name, value in sink.headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _RESERVED:
            findings.wrong("headers", f"{name[:100]!r} is no header that a subscription may set.")
        elif value == MASK:
            findings.wrong(
                "headers", f"`{MASK}` keeps a value that is there, and there is none of {name}; say what it is."
            )
        elif any(not (32 <= ord(character) < 127 or character == "\t") for character in value):
            findings.wrong("headers", f"The value of {name} holds a character that no header may hold.")
    if sink.secret is not None:
        try:
            decode_secret(sink.secret)
        except ValueError as error:
            findings.wrong("secret", f"{str(error).capitalize()}.")


def _check_template(template: str, name: str, form: re.Pattern[str], findings: FieldFindings) -> None:
    if unknown := unknown_places(template):
        hint = "Known are `{tenant}`, `{type}`, `{workflow}` and `{instance}`."
        findings.wrong(name, f"{unknown[0][:50]} stands for nothing.", hint)
    elif not form.fullmatch(re.sub(r"\{\w+\}", "x", template)):
        findings.wrong(name, f"{template[:100]!r} is no name that the broker takes.")
