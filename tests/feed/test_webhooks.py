"""Webhooks: signed, in order per instance, tried again until they are taken, given up when they never are."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pliers_workflow.runtime.feed import Stuck
from pliers_workflow.runtime.feed.cloudevents import MEDIA_TYPE
from pliers_workflow.runtime.outbound.client import Received
from pliers_workflow.runtime.subscriptions.transports import TransportError
from pliers_workflow.runtime.subscriptions.transports.webhook import RETRY_AFTER_MAX, _retry_after
from tests.outbound.server import OutsideServer, Request, outside, reply
from tests.outbound.tls import certificate, tls_server

from .conftest import until
from .sending import Sender, in_order, places, script, sending


@pytest.fixture
async def receiver() -> AsyncIterator[OutsideServer]:
    async with outside() as server:
        server.answer = reply(204)
        yield server


@pytest.fixture
async def sender(database: str) -> AsyncIterator[Sender]:
    async with sending(database) as sender:
        yield sender


def sink(receiver: OutsideServer, **options: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"{receiver.url}/hook", **options}


def event(request: Request) -> dict[str, Any]:
    return dict(json.loads(request.body))


def ids(receiver: OutsideServer) -> list[str]:
    return [event(request)["id"] for request in receiver.requests]


def signatures(request: Request, *secrets: str) -> str:
    """What a receiver computes, by the standard's own description."""
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    made = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        made.append("v1," + base64.b64encode(hmac.new(key, signed, sha256).digest()).decode())
    return " ".join(made)


async def test_every_event_is_posted_signed_and_in_order(sender: Sender, receiver: OutsideServer) -> None:
    """A CloudEvent in structured mode, the Standard Webhooks headers, the headers that were asked for."""
    made = await sender.subscribe(sink(receiver, headers={"X-Team": "finance"}))
    assert made["sink"] == {**sink(receiver), "headers": {"X-Team": "***"}, "secret": "***"}
    instances = [await sender.instance(3) for _ in range(3)]
    last = f"{instances[-1]}/4"
    await until(lambda: any(each.startswith(last) for each in ids(receiver)))
    await until(lambda: receiver.requests and in_order(ids(receiver)))
    for request in receiver.requests:
        told = event(request)
        assert request.headers["content-type"].startswith(MEDIA_TYPE)
        assert request.headers["webhook-id"] == f"{told['id']}/{made['id']}"
        assert request.headers["webhook-signature"] == signatures(request, made["secret"])
        assert request.headers["x-team"] == "finance"
        assert told["workflowname"] == "turnstile"
    assert len(set(ids(receiver))) == len(receiver.requests), "nothing failed, so nothing comes twice"
    assert {event(each)["type"] for each in receiver.requests} >= {"workflow.started", "workflow.state.entered"}
    assert not any(event(each)["type"] == "workflow.title.changed" for each in receiver.requests)


async def test_what_fails_comes_again_and_nothing_overtakes_it(sender: Sender, receiver: OutsideServer) -> None:
    """Errors, redirects and a busy receiver: the event is sent again with the same id, later ones of its instance wait."""
    receiver.answer = script(
        reply(500, b"no"), reply(302, Location="http://127.0.0.1:1/elsewhere"), reply(503, Retry_After="0"), reply(400)
    )
    made = await sender.subscribe(sink(receiver), lanes=1)
    instance_id = await sender.instance(2)
    await until(lambda: max(places(ids(receiver), instance_id), default=(0, 0)) >= (3, 0))
    first = ids(receiver)[0]
    assert ids(receiver)[:5] == [first] * 5
    assert len({request.headers["webhook-id"] for request in receiver.requests[:5]}) == 1
    assert in_order(ids(receiver))
    assert ids(receiver).count(first) == 5
    assert len(set(ids(receiver)[4:])) == len(ids(receiver)[4:]), "what was taken does not come again"
    # The cursor moves after the receiver has answered, so what it says of the lane follows.
    status = (await sender.status(made))["status"]
    for _ in range(500):
        if not status["failures"]:
            break
        await asyncio.sleep(0.02)
        status = (await sender.status(made))["status"]
    assert (status["failures"], status["failingSince"]) == (0, None)
    assert status["lastError"].startswith("It answered ")


async def test_a_filter_by_type_workflow_and_condition(sender: Sender, receiver: OutsideServer) -> None:
    """Only what is asked for is sent; a condition that gives an error for an event does not hold."""
    await sender.subscribe(
        sink(receiver),
        eventTypes=["workflow.state.*"],
        definitions=["turnstile"],
        condition="event.data.state == 'unlocked'",
        includeData=True,
    )
    await sender.subscribe({**sink(receiver), "url": f"{receiver.url}/none"}, name="none", definitions=["other"])
    instance_id = await sender.instance(4)
    await until(lambda: len(receiver.requests) >= 4)
    told = [(event(each)["type"], event(each)["data"]["state"]) for each in receiver.requests]
    assert told == [("workflow.state.entered", "unlocked"), ("workflow.state.exited", "unlocked")] * 2
    assert {request.target for request in receiver.requests} == {"/hook"}
    assert {event(each)["subject"] for each in receiver.requests} == {instance_id}


async def test_pause_resume_and_replay(sender: Sender, receiver: OutsideServer) -> None:
    """Nothing is sent while it is paused and nothing is lost; a replay sends again, under the same ids."""
    made = await sender.subscribe(sink(receiver), eventTypes=["workflow.started"])
    one = await sender.instance()
    await until(lambda: len(receiver.requests) == 1)
    cursor = (await sender.status(made))["status"]["cursor"]
    assert (await sender.act(made, "pause"))["state"] == "paused"
    await until(lambda: not sender.world.engine.feed.lanes.held)
    two = await sender.instance()
    await asyncio.sleep(0.1)
    assert len(receiver.requests) == 1
    assert (await sender.act(made, "resume"))["state"] == "active"
    await until(lambda: len(receiver.requests) == 2)
    await sender.act(made, "replay", {"position": "beginning"})
    await until(lambda: len(receiver.requests) == 4)
    told = [event(each)["subject"] for each in receiver.requests]
    assert told[:2] == [one, two]
    assert sorted(told[2:]) == sorted([one, two]), "different instances may change places"
    assert sorted(ids(receiver)[:2]) == sorted(ids(receiver)[2:])
    await sender.act(made, "replay", {"position": cursor})
    await until(lambda: len(receiver.requests) >= 5)
    await sender.act(made, "replay", {"position": "now"})
    await sender.act(made, "replay", {"position": "nonsense"}, status=422)


async def test_rotating_the_secret(sender: Sender, receiver: OutsideServer) -> None:
    """Each secret signs as long as it was promised to, the newest first; or only the newest. Each is shown once."""
    made = await sender.subscribe(sink(receiver), eventTypes=["workflow.started"])
    rotated = await sender.act(made, "rotate-secret", {"keepSeconds": 3600})
    assert rotated["secret"] != made["secret"]
    assert "secret" not in await sender.status(made)
    await sender.instance()
    await until(lambda: len(receiver.requests) == 1)
    both = signatures(receiver.requests[0], rotated["secret"], made["secret"])
    assert receiver.requests[0].headers["webhook-signature"] == both
    third = await sender.act(made, "rotate-secret", {"keepSeconds": 60})
    await sender.instance()
    await until(lambda: len(receiver.requests) == 2)
    all_three = signatures(receiver.requests[1], third["secret"], rotated["secret"], made["secret"])
    assert receiver.requests[1].headers["webhook-signature"] == all_three, "the first was promised an hour"
    again = await sender.act(made, "rotate-secret", {"keepSeconds": 0})
    await sender.instance()
    await until(lambda: len(receiver.requests) == 3)
    only = signatures(receiver.requests[2], again["secret"])
    assert receiver.requests[2].headers["webhook-signature"] == only


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0), ("1e9", RETRY_AFTER_MAX), ("nan", None), ("soon", None), ("-1", 0.0),
        ("Mon, 02 Mar 2026 09:00:30 GMT", 30.0), ("Mon, 02 Mar 2026 08:00:00 GMT", 0.0),
        ("Mon Mar  2 09:00:30 2026", 30.0), ("Monday, 02-Mar-26 09:00:30 GMT", 30.0),
        ("Mon, 02 Mar 2026 09:00:30 +99999999999999999999", None), ("Mon, 02 Mar 99999999999999 09:00:30 GMT", None),
    ],
)  # fmt: skip
def test_how_long_a_receiver_asks_to_wait(value: str, seconds: float | None) -> None:
    """Seconds or a date, within an hour; what is neither asks for nothing, and is no error of the engine's."""
    answer = Received(429, {"retry-after": value}, b"")
    assert _retry_after(answer, datetime(2026, 3, 2, 9, tzinfo=UTC)) == seconds


async def test_no_pause_asked_for_is_no_storm(database: str, receiver: OutsideServer) -> None:
    """A receiver that says `Retry-After: 0`, whatever it means, is called no more often than one that says nothing."""
    receiver.answer = reply(429, Retry_After="0")
    async with sending(database, retry_delay_min=0.2, retry_delay_max=0.2) as sender:
        await sender.subscribe(sink(receiver), eventTypes=["workflow.started"])
        await sender.instance()
        await until(lambda: receiver.requests)
        await asyncio.sleep(0.5)
        assert len(receiver.requests) <= 6


async def test_a_change_ends_the_wait(database: str, receiver: OutsideServer) -> None:
    """Failures of the old address are not the new one's: it is called at once, and not given up for what they lasted."""
    receiver.answer = reply(429, Retry_After="600")
    async with sending(database, disable_after=1.0) as sender:
        made = await sender.subscribe(sink(receiver), eventTypes=["workflow.started"])
        await sender.instance()
        await until(lambda: receiver.requests)
        body = {"name": "test", "eventTypes": ["workflow.started"]}
        at = f"/event-subscriptions/{made['id']}"
        await sender.admin("PUT", at, {**body, "sink": sink(receiver), "enabled": False}, status=200)
        await asyncio.sleep(1.1)
        receiver.answer = script(reply(500))
        called = len(receiver.requests)
        changed = await sender.admin("PUT", at, {**body, "sink": sink(receiver, url=f"{receiver.url}/new")}, status=200)
        assert changed.json()["state"] == "active"
        await until(lambda: len(receiver.requests) == called + 2)
        assert [each.target for each in receiver.requests[called:]] == ["/new", "/new"]
        assert (await sender.status(made))["state"] == "active"


@pytest.mark.parametrize("body", ["endless", "silent", "cut off"])
async def test_the_status_is_the_answer(sender: Sender, receiver: OutsideServer, body: str) -> None:
    """Who has said 2xx has taken the event, and is not sent it again for a body without end, or one that never comes."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        if body == "cut off":
            writer.close()
        while body == "endless":
            writer.write(b"thank you " * 10_000)
            await writer.drain()

    receiver.answer = answer
    made = await sender.subscribe(sink(receiver), lanes=1, eventTypes=["workflow.started"])
    for number in (1, 2):
        await sender.instance()
        await until(lambda number=number: len(receiver.requests) == number)  # type: ignore[misc]
    await until(lambda: receiver.requests)
    for _ in range(200):
        status = (await sender.status(made))["status"]
        if status["lag"] == 0:
            break
        await asyncio.sleep(0.05)
    assert (status["lag"], status["failures"], status["lastError"]) == (0, 0, None)
    assert len(set(ids(receiver))) == len(ids(receiver)) == 2


async def test_410_disables_at_once(sender: Sender, receiver: OutsideServer) -> None:
    """Who answers 410 is never called again until somebody resumes; it is in the audit log and in health."""
    receiver.answer = reply(410, b"moved away")
    made = await sender.subscribe(sink(receiver), lanes=1, eventTypes=["workflow.started"])
    await sender.instance()
    await until(lambda: receiver.requests)
    await until(lambda: not sender.world.engine.feed.lanes.held)
    found = await sender.status(made)
    assert found["state"] == "disabled"
    assert "gone for good" in found["status"]["disabledReason"]
    log = (await sender.admin("GET", "/audit", params={"action": "subscription.disabled"}, status=200)).json()["items"]
    assert [(each["subject"], each["executedBy"]) for each in log] == [(f"subscription:{made['id']}", None)]
    health = (await sender.admin("GET", "/workflows/health", status=200)).json()
    assert health["details"]["subscriptions"] == {"active": 0, "paused": 0, "disabled": 1}
    assert "subscriptions_disabled" in {alarm["alarm"] for alarm in health["details"]["alarms"]}
    called = len(receiver.requests)
    receiver.answer = reply(204)
    await asyncio.sleep(0.1)
    assert len(receiver.requests) == called
    assert (await sender.act(made, "resume"))["state"] == "active"
    await until(lambda: len(receiver.requests) == called + 1)
    assert (await sender.status(made))["status"]["disabledReason"] is None


async def test_410_of_an_address_that_was_changed_meanwhile(sender: Sender, receiver: OutsideServer) -> None:
    """An answer that was under way when the subscription was given another address says nothing of that one."""
    made = await sender.subscribe(sink(receiver), eventTypes=["workflow.started"])
    await until(lambda: len(sender.world.engine.feed.lanes.held) == 4)
    before = sender.world.engine.feed.lanes._readers[f"subscription/{made['id']}"]
    body = {
        "name": "test",
        "sink": {**sink(receiver), "url": f"{receiver.url}/new"},
        "eventTypes": ["workflow.started"],
    }
    await sender.admin("PUT", f"/event-subscriptions/{made['id']}", body, status=200)
    error = Stuck("gone")
    error.__cause__ = TransportError("It answered 410.", gone=True)
    await before.failed(error, failures=1, failing=0.0)
    found = await sender.status(made)
    assert (found["state"], found["status"]["lastError"]) == ("active", None)
    await sender.instance()
    await until(lambda: receiver.requests and receiver.requests[-1].target == "/new")


async def test_long_failure_disables(database: str, receiver: OutsideServer) -> None:
    """What has failed for longer than the settings say is disabled, with the last error."""
    async with sending(database, disable_after=0.3) as sender:
        receiver.answer = reply(500, b"out of order")
        made = await sender.subscribe(sink(receiver), eventTypes=["workflow.started"])
        await sender.instance()
        for _ in range(200):
            found = await sender.status(made)
            if found["state"] == "disabled":
                break
            await asyncio.sleep(0.02)
        assert found["state"] == "disabled"
        assert found["status"]["lastError"] == "It answered 500: out of order"
        assert len(receiver.requests) > 2


async def test_a_certificate_that_nobody_vouches_for(database: str, tmp_path: Path) -> None:
    """A receiver whose TLS is not safe: told in words, tried again, and disabled after long failure as any other."""
    async with (
        tls_server(certificate(tmp_path)) as port,
        sending(database, disable_after=0.3, webhook_schemes=("https",)) as sender,
    ):
        made = await sender.subscribe({"type": "webhook", "url": f"https://localhost:{port}/hook"})
        await sender.instance()
        for _ in range(300):
            found = await sender.status(made)
            if found["state"] == "disabled":
                break
            await asyncio.sleep(0.02)
        assert found["state"] == "disabled"
        assert "certificate verify failed: self-signed certificate" in found["status"]["lastError"]
        assert found["status"]["failures"] > 1


async def test_a_change_takes_effect_and_keeps_secrets(sender: Sender, receiver: OutsideServer) -> None:
    """What was read can be written back: masked secrets stay as they are, and the new address is called."""
    made = await sender.subscribe(
        sink(receiver, headers={"Authorization": "Bearer abc", "X-A": "1"}), eventTypes=["workflow.started"]
    )
    at = f"/event-subscriptions/{made['id']}"
    got = await sender.admin("GET", at, status=200)
    body = {name: got.json()[name] for name in ("name", "sink", "eventTypes", "definitions", "includeData")}
    body["sink"] |= {"url": f"{receiver.url}/other", "headers": {"Authorization": "***", "X-B": "2"}}
    changed = await sender.admin("PUT", at, body, headers={"If-Match": got.headers["etag"]}, status=200)
    assert changed.json()["sink"]["headers"] == {"Authorization": "***", "X-B": "***"}
    await sender.admin("PUT", at, body, headers={"If-Match": got.headers["etag"]}, status=412)
    await sender.instance()
    await until(lambda: receiver.requests)
    request = receiver.requests[0]
    assert request.target == "/other"
    assert (request.headers["authorization"], request.headers["x-b"]) == ("Bearer abc", "2")
    assert "x-a" not in request.headers
    assert request.headers["webhook-signature"] == signatures(request, made["secret"])


async def test_deleting_forgets(sender: Sender, receiver: OutsideServer) -> None:
    """A deleted subscription is sent nothing more, and leaves nothing behind."""
    made = await sender.subscribe(sink(receiver))
    at = f"/event-subscriptions/{made['id']}"
    await sender.admin("DELETE", at, status=204)
    await sender.admin("GET", at, status=404)
    await until(lambda: not sender.world.engine.feed.lanes.held)
    await sender.instance(1)
    await asyncio.sleep(0.1)
    assert receiver.requests == []
    for table in ("event_subscriptions", "event_subscription_secrets", "feed_lanes"):
        assert await sender.world.engine.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_nodes_that_die_lose_nothing(database: str, receiver: OutsideServer) -> None:
    """Two nodes; the one that sends is killed in the middle: everything arrives, in order, repeated under its own id."""
    async with sending(database) as one:
        made = await one.subscribe(sink(receiver), lanes=2)
        async with sending_beside(database) as two:
            instances = [await one.instance(2) for _ in range(4)]
            await until(lambda: len(receiver.requests) > 5)
            dying = one.world.engine.feed
            for lane in list(dying.lanes._lanes.values()):
                await lane.stop()
            task, dying.lanes._task = dying.lanes._task, None
            assert task is not None
            task.cancel()
            await one.world.engine.pool.execute(
                "UPDATE feed_lanes SET lease_until = now() - interval '1 s' WHERE lease_owner IS NOT NULL"
            )
            for instance_id in instances:
                await one.push(instance_id, 2)
            await until(lambda: len(two.lanes.held) == 2)
            await until(lambda: all(max(places(ids(receiver), each), default=(0, 0)) >= (4, 0) for each in instances))
            assert in_order(ids(receiver))
            keys = {(event(each)["id"], each.headers["webhook-id"]) for each in receiver.requests}
            assert len(keys) == len({event_id for event_id, _ in keys})
            assert (await one.status(made))["state"] == "active"


def sending_beside(database: str) -> Any:
    """Another node on the same database: its feed alone."""
    from contextlib import asynccontextmanager

    from pliers_workflow.runtime.engine import open_engine
    from pliers_workflow.settings import DatabaseSettings, FeedSettings, OutboundSettings, Settings

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        settings = Settings(
            database=DatabaseSettings(url=database),
            feed=FeedSettings(poll=0.1, lease=5),
            outbound=OutboundSettings(allow_private_networks=True),
        )
        engine = await open_engine(settings)
        await engine.start()
        yield engine.feed
        await engine.close()

    return opened()


async def test_changes_while_it_sends(sender: Sender, receiver: OutsideServer) -> None:
    """
    Another address, another filter, another secret, a pause and a replay in the middle: every event arrives somewhere, in order.
    """

    async def slow(request: Request, writer: Any) -> None:
        await asyncio.sleep(0.005)
        await reply(204)(request, writer)

    receiver.answer = slow
    made = await sender.subscribe(sink(receiver), lanes=2)
    at, secrets = f"/event-subscriptions/{made['id']}", [made["secret"]]
    instances = [await sender.instance() for _ in range(4)]

    async def push(instance_id: str) -> None:
        for number in range(12):
            await sender.push(instance_id, number)
            await asyncio.sleep(0.02)

    pushing = asyncio.gather(*map(push, instances))
    for number in range(6):
        await asyncio.sleep(0.06)
        wanted = {"name": "test", "sink": {**sink(receiver), "url": f"{receiver.url}/{number}"}}
        wanted["sink"]["secret"] = "***"
        await sender.admin("PUT", at, {**wanted, "includeData": number % 2 == 1}, status=200)
        if number == 1:
            secrets.insert(0, (await sender.act(made, "rotate-secret"))["secret"])
        if number == 2:
            await sender.act(made, "pause")
        if number == 3:
            await sender.act(made, "resume")
        if number == 4:
            await sender.act(made, "replay", {"position": "beginning"})
    await pushing
    wanted_ids = {
        f"{instance_id}/{row['seq']}" for instance_id in instances for row in await sender.world.rows(instance_id)
    }
    await until(lambda: wanted_ids <= {each.rpartition("/")[0] for each in ids(receiver)})
    await until(lambda: receiver.requests[-1].target == "/5")
    assert in_order(ids(receiver))
    for request in receiver.requests:
        signed = request.headers["webhook-signature"]
        assert signed in (signatures(request, *secrets), signatures(request, secrets[-1]))
