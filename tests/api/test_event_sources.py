"""Event sources at the edge: who may, what is refused, that secrets are not shown, and what becomes of rejects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import Caller, World

NATS: dict[str, Any] = {"type": "nats", "servers": ["nats://nats.example.com"], "stream": "ORDERS"}
BODY: dict[str, Any] = {"name": "orders", "broker": NATS, "enabled": False}


async def test_operators_keep_them_and_auditors_see_them(company: World) -> None:
    """Everybody else is refused, another tenant sees nothing, and every change is in the audit log."""
    operator, auditor = await company.person("eve", ("operator",)), await company.person("max", ("auditor",))
    await company.callers["ada"]("POST", "/event-sources", BODY, status=403)
    made = await operator("POST", "/event-sources", BODY, status=201)
    at = f"/event-sources/{made.json()['id']}"
    assert made.headers["location"] == f"/api/v1{at}"
    seen = (await auditor("GET", at, status=200)).json()
    assert seen["broker"] == {
        **NATS, "consumer": "pliers", "subject": None, "begin": "beginning", "ackWaitSeconds": 30, "user": None,
        "password": None, "token": None,
    }  # fmt: skip
    assert (seen["received"], seen["rejected"], seen["lastError"], seen["batchSize"]) == (0, 0, None, 100)
    for method, path in (("DELETE", at), ("POST", f"{at}/enable"), ("PUT", at)):
        await auditor(method, path, BODY if method == "PUT" else None, status=403)
    await company.callers["ada"]("GET", at, status=403)
    assert [each["name"] for each in (await auditor("GET", "/event-sources", status=200)).json()["items"]] == ["orders"]
    await operator("POST", "/event-sources", BODY, status=409)
    other = (await company.admin("POST", "/tenants", {"id": "acme", "name": "Acme"}, status=201)).json()
    stranger = Caller(company.http, other["adminToken"])
    for path in (at, f"{at}/rejects"):
        await stranger("GET", path, status=404)
    for method, path in (("POST", f"{at}/enable"), ("PUT", at), ("DELETE", at)):
        await stranger(method, path, BODY if method == "PUT" else None, status=404)
    assert (await stranger("GET", "/event-sources", status=200)).json()["items"] == []
    await stranger("POST", "/event-sources", BODY, status=201)
    await operator("POST", f"{at}/enable", status=200)
    await operator("POST", f"{at}/disable", status=200)
    await operator("DELETE", at, status=204)
    await operator("GET", at, status=404)
    log = (await company.admin("GET", "/audit", status=200)).json()["items"]
    actions = [each["action"] for each in log if each["subject"] == f"event_source:{made.json()['id']}"]
    assert [each for each in actions if each != "denied"] == [
        "event_source.deleted", "event_source.disabled", "event_source.enabled", "event_source.created",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("broker", "other"),
    [
        (NATS, {"consumer": "second"}),
        ({"type": "redis", "url": "redis://redis.example.com", "stream": "s"}, {"group": "second"}),
        ({"type": "rabbitmq", "url": "amqp://rabbit.example.com", "queue": "q", "exclusive": False}, {"queue": "r"}),
        ({"type": "kafka", "servers": ["kafka.example.com:9092"], "topic": "t"}, {"group": "second"}),
    ],
)
async def test_two_do_not_read_under_one_name(world: World, broker: dict[str, Any], other: dict[str, Any]) -> None:
    """Each would get a part, in no order: it is refused when the second is made, or changed to it."""
    await world.admin("POST", "/event-sources", {**BODY, "broker": broker}, status=201)
    second = {**BODY, "name": "second", "broker": broker}
    refused = (await world.admin("POST", "/event-sources", second, status=409)).json()
    assert refused["detail"].startswith("The event source orders reads that already")
    second["broker"] = {**broker, **other}
    made = (await world.admin("POST", "/event-sources", second, status=201)).json()
    at = f"/event-sources/{made['id']}"
    await world.admin("PUT", at, {**second, "batchSize": 7}, status=200)
    await world.admin("PUT", at, {**second, "broker": broker}, status=409)


async def test_changed_with_if_match(world: World) -> None:
    """The revision counts; the kind of broker stays."""
    made = await world.admin("POST", "/event-sources", BODY, status=201)
    at, tag = f"/event-sources/{made.json()['id']}", made.headers["etag"]
    changed = {**BODY, "name": "orders.eu", "mapping": {"type": "'order.placed'"}, "batchSize": 7}
    done = await world.admin("PUT", at, changed, headers={"If-Match": tag}, status=200)
    assert done.json()["mapping"] == {
        "type": "'order.placed'", "id": "message.id", "source": None, "subject": None, "time": None,
    }  # fmt: skip
    await world.admin("PUT", at, changed, headers={"If-Match": tag}, status=412)
    redis = {"type": "redis", "url": "redis://redis.example.com", "stream": "s"}
    await world.admin("PUT", at, {**BODY, "broker": redis}, status=409)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "Orders!"}, "/name"),
        ({"broker": {"type": "smoke"}}, "/broker/type"),
        ({"broker": {"type": "nats", "servers": ["nats://nats.example.com"]}}, "/broker/stream"),
        ({"broker": {**NATS, "servers": ["http://nats.example.com"]}}, "/broker/servers"),
        ({"broker": {**NATS, "servers": ["nats://127.0.0.1"]}}, "/broker/servers"),
        ({"broker": {**NATS, "servers": ["nats://u:p@nats.example.com"]}}, "/broker/servers"),
        ({"broker": {**NATS, "stream": "a.b"}}, "/broker/stream"),
        ({"broker": {**NATS, "consumer": "a b"}}, "/broker/consumer"),
        ({"broker": {**NATS, "subject": "a..b"}}, "/broker/subject"),
        ({"broker": {**NATS, "password": "p"}}, "/broker/password"),
        ({"broker": {**NATS, "token": "t", "user": "u"}}, "/broker/token"),
        ({"broker": {"type": "rabbitmq", "url": "amqp://10.0.0.1", "queue": "q"}}, "/broker/url"),
        ({"broker": {"type": "rabbitmq", "url": "amqps://mq.example.com/?cafile=/x", "queue": "q"}}, "/broker/url"),
        ({"broker": {"type": "rabbitmq", "url": "amqp://mq.example.com", "queue": ""}}, "/broker/queue"),
        ({"broker": {"type": "redis", "url": "redis://redis.example.com", "stream": "a b"}}, "/broker/stream"),
        ({"broker": {"type": "kafka", "servers": ["k.example.com:port"], "topic": "t"}}, "/broker/servers"),
        ({"broker": {"type": "kafka", "servers": ["k.example.com:9092"], "topic": "a/b"}}, "/broker/topic"),
        ({"mapping": {}}, "/mapping/type"),
        ({"mapping": {"type": "order.placed"}}, "/mapping/type"),
        ({"mapping": {"type": "'a'", "id": "event.id"}}, "/mapping/id"),
        ({"mapping": {"type": "'a'", "time": "message."}}, "/mapping/time"),
        ({"batchSize": 501}, "/batchSize"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_place(
    world: World, change: dict[str, Any], pointer: str
) -> None:
    """A finding says where, and what to do; nothing is kept."""
    refused = (await world.admin("POST", "/event-sources", {**BODY, **change}, status=422)).json()
    assert pointer in [finding["pointer"] for finding in refused["findings"]], refused
    assert (await world.admin("GET", "/event-sources", status=200)).json()["items"] == []


async def test_secrets_are_not_shown(world: World) -> None:
    """They come back masked everywhere, and what was read can be written back."""
    broker = {"type": "rabbitmq", "url": "amqp://mq.example.com/", "queue": "q", "user": "pliers", "password": "hush"}
    made = await world.admin("POST", "/event-sources", {**BODY, "broker": broker}, status=201)
    shown = made.json()["broker"]
    assert shown["password"] == "***"
    at = f"/event-sources/{made.json()['id']}"
    await world.admin("PUT", at, {**BODY, "broker": {**shown, "queue": "other"}}, status=200)
    for path in (at, "/event-sources", "/audit"):
        assert "hush" not in (await world.admin("GET", path, status=200)).text
    kept = await world.engine.pool.fetchrow("SELECT secrets FROM event_source_secrets")
    assert kept["secrets"] == {"password": "hush"}


async def test_repeated_with_a_key(world: World) -> None:
    """The same Idempotency-Key makes one source."""
    headers = {"Idempotency-Key": "k1"}
    one = await world.admin("POST", "/event-sources", BODY, headers=headers, status=201)
    two = await world.admin("POST", "/event-sources", BODY, headers=headers, status=201)
    assert one.json()["id"] == two.json()["id"]
    assert two.headers["idempotency-replayed"] == "true"


async def _reject(world: World, source: str, number: int, body: bytes = b'{"n": 1}') -> None:
    await world.engine.pool.execute(
        "INSERT INTO event_source_rejects (tenant_id, event_source_id, id, message, reason, address, body, size) "
        "VALUES ('default', $1::text::uuid, $2::text::uuid, $3, 'no mapping', 'here', $4, $5)",
        source, f"019cabd8-3800-7bc6-8000-{number:012d}", f"m/{number}", body, len(body),
    )  # fmt: skip


async def test_rejects(world: World) -> None:
    """Retried by the source as it is now; discarded; each change is on record; old ones are swept."""
    made = await world.admin("POST", "/event-sources", BODY, status=201)
    source = made.json()["id"]
    at = f"/event-sources/{source}"
    for number in range(3):
        await _reject(world, source, number)
    listed = (await world.admin("GET", f"{at}/rejects?limit=2", status=200)).json()
    assert [each["message"] for each in listed["items"]] == ["m/2", "m/1"]
    rest = (await world.admin("GET", f"{at}/rejects?cursor={listed['nextCursor']}", status=200)).json()
    assert [each["message"] for each in rest["items"]] == ["m/0"]
    newest = listed["items"][0]
    assert (newest["body"], newest["size"], newest["whole"]) == ('{"n": 1}', 8, True)
    one = f"{at}/rejects/{newest['id']}"
    refused = (await world.admin("POST", f"{one}/retry", status=422)).json()
    assert "no mapping" in refused["detail"]
    await world.admin("PUT", at, {**BODY, "mapping": {"type": "'order.placed'"}}, status=200)
    key = {"Idempotency-Key": "once-more"}
    done = (await world.admin("POST", f"{one}/retry", headers=key, status=200)).json()
    again = (await world.admin("POST", f"{one}/retry", headers=key, status=200)).json()
    assert [each["id"] for each in again["events"]] == [each["id"] for each in done["events"]]
    assert [(each["eventId"], each["status"]) for each in done["events"]] == [("m/2", "unmatched")]
    await world.admin("POST", f"{one}/retry", status=404)
    key = {"Idempotency-Key": "away"}
    await world.admin("DELETE", f"{at}/rejects/{listed['items'][1]['id']}", headers=key, status=204)
    await world.admin("DELETE", f"{at}/rejects/{listed['items'][1]['id']}", headers=key, status=204)
    await world.admin("DELETE", f"{at}/rejects/{listed['items'][1]['id']}", status=404)
    actions = [each["action"] for each in (await world.admin("GET", "/audit", status=200)).json()["items"]]
    assert "event_source.reject_retried" in actions
    assert "event_source.reject_discarded" in actions
    await world.engine.rejects.sweep()
    assert (await world.admin("GET", f"{at}/rejects", status=200)).json()["items"] == []


async def test_rejects_are_bounded(world: World) -> None:
    """Beyond so many of one source the oldest go."""
    from pliers_workflow.runtime.event_sources import rejects
    from pliers_workflow.runtime.event_sources.readers.port import BrokerMessage

    made = await world.admin("POST", "/event-sources", BODY, status=201)
    source = made.json()["id"]
    async with world.engine.pool.acquire() as connection:
        for start in (0, 5, 5):
            found = [
                rejects.Rejected(BrokerMessage(id=f"m/{number}", address="here", body=b"x"), "bad")
                for number in range(start, start + 5)
            ]
            await rejects.keep(connection, "default", source, found, rejects_max=7)
    listed = (await world.admin("GET", f"/event-sources/{source}/rejects", status=200)).json()["items"]
    assert [each["message"] for each in listed] == [f"m/{number}" for number in range(9, 2, -1)]
