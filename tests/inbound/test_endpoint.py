"""`POST /api/v1/events`: three forms of CloudEvents, who may send them, and what hostile senders are told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import company, world
from tests.api.world import World
from tests.inbound.office import PAID, PLACED, order_document

__all__ = ["company", "world"]

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/shop",
    "type": "order.placed",
    "data": {"order": "A1", "amount": 12.50},
}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
BINARY = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/shop", "ce-type": "order.placed"}


async def orders(world: World) -> list[dict[str, Any]]:
    return list((await world.admin("GET", "/workflows/order/instances", status=200)).json()["items"])


@pytest.fixture
async def shop(world: World) -> World:
    """A world in which `order.placed` starts an order."""
    document = order_document(PLACED, PAID)
    await world.publish(document)
    return world


async def test_the_structured_form(shop: World) -> None:
    """One JSON object; the answer says what became of it, and where to look later."""
    answer = (await shop.admin("POST", "/events", EVENT, headers=STRUCTURED, status=202)).json()["events"][0]
    (order,) = await orders(shop)
    assert answer["duplicate"] is False
    assert (answer["source"], answer["eventId"], answer["status"]) == ("/shop", "e1", "matched")
    assert answer["results"][0] | {"instanceId": order["id"], "outcome": "started"} == answer["results"][0]
    assert order["instanceData"] == {"order": "A1", "amount": 12.5}
    row = (await shop.admin("GET", f"/events/{answer['id']}", status=200)).json()
    assert (row["type"], row["data"], row["results"]) == ("order.placed", EVENT["data"], answer["results"])
    listed = (await shop.admin("GET", "/events", params={"status": "matched"}, status=200)).json()["items"]
    assert [each["id"] for each in listed] == [answer["id"]]
    again = (await shop.admin("POST", "/events", EVENT, headers=STRUCTURED, status=202)).json()["events"][0]
    assert again == answer | {"duplicate": True}


async def test_the_batch_form(shop: World) -> None:
    """Several events, each with its answer, in their order; a mistake in one refuses all, with its place."""
    events = [EVENT | {"id": f"e{number}"} for number in range(3)] + [EVENT | {"id": "e0"}]
    answers = (await shop.admin("POST", "/events", events, headers=BATCH, status=202)).json()["events"]
    assert [(each["eventId"], each["duplicate"]) for each in answers] == [
        ("e0", False), ("e1", False), ("e2", False), ("e0", True),
    ]  # fmt: skip
    assert len(await orders(shop)) == 3
    wrong = [EVENT | {"id": "e9"}, EVENT | {"id": 5}, {"id": "x", "source": "a b"}]
    refused = (await shop.admin("POST", "/events", wrong, headers=BATCH, status=422)).json()
    assert refused["code"] == "invalid_body"
    assert [finding["pointer"] for finding in refused["findings"]] == [
        "/1/id", "/2/specversion", "/2/type", "/2/source",
    ]  # fmt: skip
    assert len(await orders(shop)) == 3
    assert (await shop.admin("POST", "/events", [], headers=BATCH, status=202)).json() == {"events": []}


async def test_the_binary_form(shop: World) -> None:
    """Attributes are headers, percent-encoded; the body is the data, whatever it is."""
    json_ = BINARY | {"Content-Type": "application/json", "ce-subject": "Gr%C3%BC%C3%9Fe"}
    answer = (
        await shop.admin("POST", "/events", headers=json_, content=b'{"order": "A1", "amount": 1e1}', status=202)
    ).json()["events"][0]
    row = (await shop.admin("GET", f"/events/{answer['id']}", status=200)).json()
    assert (row["subject"], row["data"]) == ("Grüße", {"order": "A1", "amount": 10})
    assert row["attributes"] == {"datacontenttype": "application/json"}
    for content_type, body, data in (
        ("text/plain", "Größe".encode(), "Größe"),
        ("application/octet-stream", b"\x00\xff", "AP8="),
        ("text/plain", b"\xff", "/w=="),
        ("text/plain; charset=ISO-8859-1", b"Gr\xf6\xdfen", "Größen"),
        ('text/plain;charset="utf-16"', "Größe".encode("utf-16"), "Größe"),
        ("text/plain; charset=unheard-of", b"abc", "YWJj"),
        ("application/vnd.shop+json", b"[1]", [1]),
    ):
        headers = BINARY | {"Content-Type": content_type, "ce-id": content_type + str(body), "ce-type": "other"}
        headers["ce-id"] = f"{content_type}-{len(body)}".replace('"', "")
        answer = (await shop.admin("POST", "/events", headers=headers, content=body, status=202)).json()["events"][0]
        row = (await shop.admin("GET", f"/events/{answer['id']}", status=200)).json()
        assert row["data"] == data
    empty = BINARY | {"ce-id": "empty", "ce-type": "other", "ce-ttlseconds": "60"}
    await shop.admin("POST", "/events", headers=empty, status=202)


async def test_attributes_in_quotes(shop: World) -> None:
    """Older senders put a value with blanks in quotes; the binding has receivers take them off before they decode."""
    headers = BINARY | {"ce-id": '"an id"', "ce-type": '"other"', "ce-subject": '"say \\"50%25\\""', "ce-ext": 'a "b"'}
    answer = (await shop.admin("POST", "/events", headers=headers, status=202)).json()["events"][0]
    row = (await shop.admin("GET", f"/events/{answer['id']}", status=200)).json()
    assert (row["eventId"], row["type"], row["subject"]) == ("an id", "other", 'say "50%"')
    assert row["attributes"] == {"ext": 'a "b"'}


HOSTILE: list[tuple[dict[str, str], bytes, int, str]] = [
    ({"Content-Type": "application/json"}, b"{}", 415, "unsupported_media_type"),
    ({}, b"", 415, "unsupported_media_type"),
    ({"Content-Type": "application/cloudevents+avro"}, b"x", 415, "unsupported_media_type"),
    (STRUCTURED, b"", 422, "body_required"),
    (STRUCTURED, b"{", 400, "malformed_json"),
    (STRUCTURED, b"[]", 422, "invalid_body"),
    (STRUCTURED, b"null", 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"0.3","id":"1","source":"a","type":"t"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"","source":"a","type":"t"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t\\u0001"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","data":"\\u0000"}', 422, "unstorable_value"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","id":"2","source":"a","type":"t"}', 422, "unstorable_value"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","data":' + b"[" * 200 + b"]" * 200 + b"}", 422, "unstorable_value"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","ext":{}}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","BadName":"x"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","time":"yesterday"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","time":"0001-01-01T00:00:00+14:00"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","datacontenttype":5}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","dataschema":""}', 422, "invalid_body"),
    (BINARY | {"Content-Type": "text/plain", "ce-dataschema": ""}, b"a", 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","ttlseconds":-1}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","data":1,"data_base64":"AA=="}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","data":"' + b"x" * 300_000 + b'"}', 422, "invalid_body"),
    (STRUCTURED, b'{"specversion":"1.0","id":"1","source":"a","type":"t","data":"' + b"x" * 1_100_000 + b'"}', 413, "body_too_large"),
    (BATCH, b'{"specversion":"1.0","id":"1","source":"a","type":"t"}', 422, "invalid_body"),
    (BATCH, b"[" + b",".join([b"{}"] * 501) + b"]", 422, "invalid_body"),
    (BINARY | {"Content-Type": "application/json"}, b"{", 400, "malformed_json"),
    (BINARY | {"ce-id": "%ff"}, b"", 400, "invalid_header"),
    (BINARY | {"ce-data": "x"}, b"", 422, "invalid_body"),
    (BINARY | {"ce-type": "%00"}, b"", 422, "invalid_body"),
    (BINARY | {"Content-Type": "text/plain"}, b"a\x00b", 422, "invalid_body"),
]  # fmt: skip


async def test_what_is_no_event_is_refused(world: World) -> None:
    """Each mistake has its problem; nothing of it is kept."""
    for headers, body, status, code in HOSTILE:
        answer = await world.admin("POST", "/events", headers=headers, content=body)
        assert (answer.status_code, answer.json().get("code")) == (status, code), (body[:200], answer.text)
    assert (await world.admin("GET", "/events", status=200)).json()["items"] == []


async def test_what_a_failure_tells_whom(shop: World) -> None:
    """A sender learns what failed; where in the data, those who run the engine."""
    await shop.admin("POST", "/users", {"username": "till"}, status=201)
    till = await shop.person("till", ("events",))
    wrong = EVENT | {"data": {"order": "A1", "amount": "much"}}
    answer = (await till("POST", "/events", wrong, headers=STRUCTURED, status=202)).json()["events"][0]
    assert answer["status"] == "failed"
    assert (answer["results"][0]["code"], answer["results"][0]["details"]) == ("data_invalid", None)
    row = (await shop.admin("GET", f"/events/{answer['id']}", status=200)).json()
    assert row["results"][0]["details"] == {"findings": [{"pointer": "/amount"}]}
    again = (await shop.admin("POST", "/events", wrong, headers=STRUCTURED, status=202)).json()["events"][0]
    assert again["results"] == row["results"]


async def test_who_may_send_and_who_may_look(shop: World) -> None:
    """A token for events sends them and sees nothing; operators do both, others neither."""
    await shop.admin("POST", "/users", {"username": "till"}, status=201)
    await shop.admin("POST", "/users", {"username": "olga"}, status=201)
    till, olga = await shop.person("till", ("events",)), await shop.person("olga", ("operator",))
    await shop.admin("POST", "/users", {"username": "eve"}, status=201)
    eve = await shop.person("eve", ("author", "publisher"))
    event_id = (await till("POST", "/events", EVENT, headers=STRUCTURED, status=202)).json()["events"][0]["id"]
    for path in ("/events", f"/events/{event_id}"):
        await till("GET", path, status=403)
        await olga("GET", path, status=200)
    await till("GET", "/workflow-instances/" + (await orders(shop))[0]["id"], status=404)
    await till("POST", f"/events/{event_id}/retry", status=403)
    await olga("POST", f"/events/{event_id}/retry", status=409)
    await eve("POST", "/events", EVENT | {"id": "e2"}, headers=STRUCTURED, status=403)
    await shop.nobody("POST", "/events", EVENT, headers=STRUCTURED, status=401)
    assert (await eve("GET", "/events")).status_code == 403


async def test_an_idempotency_key_belongs_to_one_request(shop: World) -> None:
    """The same key with the same events is that answer again; with others it is refused, and they are not taken in."""
    headers = STRUCTURED | {"Idempotency-Key": "k"}
    first = await shop.admin("POST", "/events", EVENT, headers=headers, status=202)
    again = await shop.admin("POST", "/events", EVENT, headers=headers, status=202)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    await shop.admin("POST", "/events", EVENT | {"id": "e2"}, headers=headers, status=422)
    assert len(await orders(shop)) == 1


async def test_tenants_do_not_hear_each_other(shop: World) -> None:
    """The same event in two tenants is two, and starts what that tenant has published."""
    made = await shop.admin("POST", "/tenants", {"id": "other", "name": "Other"}, status=201)
    other = type(shop.admin)(shop.http, made.json()["adminToken"])
    answer = (await other("POST", "/events", EVENT, headers=STRUCTURED, status=202)).json()["events"][0]
    assert (answer["status"], answer["duplicate"]) == ("unmatched", False)
    assert await orders(shop) == []
    mine = (await shop.admin("POST", "/events", EVENT, headers=STRUCTURED, status=202)).json()["events"][0]
    assert (mine["status"], mine["duplicate"]) == ("matched", False)
    await other("GET", f"/events/{mine['id']}", status=404)


async def test_a_repetition_may_come_another_way(shop: World) -> None:
    """The same key with the same event is the same request, whichever node it is sent to and whoever carries it."""
    key = STRUCTURED | {"Idempotency-Key": "k1"}
    await shop.admin("POST", "/events", EVENT, headers=key | {"User-Agent": "one", "Host": "one:8081"}, status=202)
    again = await shop.admin(
        "POST", "/events", EVENT, headers=key | {"User-Agent": "two", "Host": "two:8082"}, status=202
    )
    assert again.json()["events"][0]["duplicate"]
    other = await shop.admin("POST", "/events", EVENT | {"id": "e2"}, headers=key, status=422)
    assert other.json()["code"] == "idempotency_key_reused"
