"""Event subscriptions at the edge: who may, what is refused, and that secrets are not shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import World

HOOK: dict[str, Any] = {"type": "webhook", "url": "https://hooks.example.com/pliers"}
BODY: dict[str, Any] = {"name": "ledger", "sink": HOOK, "eventTypes": ["workflow.completed"]}


async def test_operators_keep_them_and_auditors_see_them(company: World) -> None:
    """Everybody else is refused; another tenant sees nothing."""
    operator, auditor = await company.person("eve", ("operator",)), await company.person("max", ("auditor",))
    await company.callers["ada"]("POST", "/event-subscriptions", BODY, status=403)
    made = await operator("POST", "/event-subscriptions", BODY, status=201)
    at = f"/event-subscriptions/{made.json()['id']}"
    assert made.headers["location"] == f"/api/v1{at}"
    assert made.json()["secret"].startswith("whsec_")
    assert made.json()["state"] == "active"
    assert (await auditor("GET", at, status=200)).json()["sink"] == {**HOOK, "headers": {}, "secret": "***"}
    await auditor("DELETE", at, status=403)
    await company.callers["ada"]("GET", at, status=403)
    listed = (await auditor("GET", "/event-subscriptions", status=200)).json()["items"]
    assert [each["name"] for each in listed] == ["ledger"]
    await operator("POST", "/event-subscriptions", BODY, status=409)
    other = (await company.admin("POST", "/tenants", {"id": "acme", "name": "Acme"}, status=201)).json()
    from tests.api.world import Caller

    stranger = Caller(company.http, other["adminToken"])
    await stranger("GET", at, status=404)
    await stranger("POST", f"{at}/pause", status=404)
    assert (await stranger("GET", "/event-subscriptions", status=200)).json()["items"] == []
    await stranger("POST", "/event-subscriptions", BODY, status=201)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"sink": {"type": "webhook", "url": "http://hooks.example.com"}}, "/sink/url"),
        ({"sink": {"type": "webhook", "url": "https://127.0.0.1/"}}, "/sink/url"),
        ({"sink": {"type": "webhook", "url": "https://[::1]:8443/"}}, "/sink/url"),
        ({"sink": {"type": "webhook", "url": "https://169.254.169.254/latest"}}, "/sink/url"),
        ({"sink": {"type": "webhook", "url": "https://ada:secret@hooks.example.com/"}}, "/sink/url"),
        ({"sink": {"type": "webhook", "url": "nonsense"}}, "/sink/url"),
        ({"sink": {**HOOK, "headers": {"Webhook-Id": "mine"}}}, "/sink/headers"),
        ({"sink": {**HOOK, "headers": {"X-A": "one\r\nX-B: two"}}}, "/sink/headers"),
        ({"sink": {**HOOK, "headers": {"X-A": "***"}}}, "/sink/headers"),
        ({"sink": {**HOOK, "secret": "short"}}, "/sink/secret"),
        ({"sink": {"type": "webhook", "url": "https://xn--a/"}}, "/sink/url"),
        ({"sink": {"type": "webhook", "url": "https://hooks..example.com/"}}, "/sink/url"),
        ({"sink": {"type": "nats", "servers": ["http://nats.example.com"]}}, "/sink/servers"),
        ({"sink": {"type": "nats", "servers": ["nats://u:p@nats.example.com"]}}, "/sink/servers"),
        ({"sink": {"type": "nats", "servers": ["nats://nats.example.com"], "subject": "a.{name}"}}, "/sink/subject"),
        ({"sink": {"type": "nats", "servers": ["nats://nats.example.com"], "subject": "a.>"}}, "/sink/subject"),
        ({"sink": {"type": "nats", "servers": ["nats://nats.example.com"], "token": "t", "user": "u"}}, "/sink/token"),
        ({"sink": {"type": "nats", "servers": ["nats://nats.example.com"], "password": "p"}}, "/sink/password"),
        ({"sink": {"type": "rabbitmq", "url": "amqp://10.0.0.1/", "exchange": ""}}, "/sink/url"),
        ({"sink": {"type": "redis", "url": "redis://redis.example.com", "stream": "a b"}}, "/sink/stream"),
        ({"sink": {"type": "redis", "url": "rediss://redis.example.com/0?ssl_ca_certs=/etc/passwd"}}, "/sink/url"),
        ({"sink": {"type": "rabbitmq", "url": "amqps://mq.example.com/?cafile=/x", "exchange": "e"}}, "/sink/url"),
        ({"sink": {"type": "kafka", "servers": ["kafka.example.com:port"]}}, "/sink/servers"),
        ({"sink": {"type": "kafka", "servers": ["kafka.example.com:9092"], "topic": "a/b"}}, "/sink/topic"),
        ({"sink": {"type": "smoke", "url": "x"}}, "/sink/type"),
        ({"eventTypes": ["workflow.*.entered"]}, "/eventTypes/0"),
        ({"definitions": ["Expense Report"]}, "/definitions/0"),
        ({"condition": "event.data."}, "/condition"),
        ({"condition": "data.amount > 3"}, "/condition"),
        ({"condition": "1 + 1"}, "/condition"),
        ({"position": "yesterday"}, "/position"),
        ({"lanes": 65}, "/lanes"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_place(
    world: World, change: dict[str, Any], pointer: str
) -> None:
    """A finding says where; nothing is kept."""
    refused = (await world.admin("POST", "/event-subscriptions", {**BODY, **change}, status=422)).json()
    assert pointer in [finding["pointer"] for finding in refused["findings"]], refused
    assert (await world.admin("GET", "/event-subscriptions", status=200)).json()["items"] == []


async def test_how_it_is_doing_is_always_told(world: World) -> None:
    """Its revision counts its own changes, not what it has sent; its ETag changes with both."""
    made = await world.admin("POST", "/event-subscriptions", BODY, status=201)
    at = f"/event-subscriptions/{made.json()['id']}"
    again = await world.admin("GET", at, headers={"If-None-Match": made.headers["etag"]}, status=200)
    assert again.json()["status"]["cursor"]


async def test_secrets_are_not_shown(world: World) -> None:
    """Passwords and header values come back masked, in answers, lists and the audit log."""
    sink = {
        "type": "rabbitmq", "url": "amqp://mq.example.com/", "exchange": "events", "user": "pliers", "password": "hush",
    }  # fmt: skip
    made = await world.admin("POST", "/event-subscriptions", {**BODY, "sink": sink}, status=201)
    assert made.json()["sink"]["password"] == "***"
    assert made.json()["secret"] is None
    at = f"/event-subscriptions/{made.json()['id']}"
    for path in (at, "/event-subscriptions", "/audit"):
        assert "hush" not in (await world.admin("GET", path, status=200)).text
    await world.admin("POST", f"{at}/rotate-secret", status=409)
    kept = await world.engine.pool.fetchval("SELECT secrets FROM event_subscription_secrets")
    assert kept == {"password": "hush"}


async def test_repeated_with_a_key(world: World) -> None:
    """The same Idempotency-Key makes one subscription; the second answer has no secret, because it is shown once."""
    headers = {"Idempotency-Key": "k1"}
    one = await world.admin("POST", "/event-subscriptions", BODY, headers=headers, status=201)
    two = await world.admin("POST", "/event-subscriptions", BODY, headers=headers, status=201)
    assert one.json()["id"] == two.json()["id"]
    assert (one.json()["secret"] is None, two.json()["secret"]) == (False, None)
    assert two.headers["idempotency-replayed"] == "true"
