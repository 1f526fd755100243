"""Messages read as events: their forms, mappings, and whatever is no event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.runtime.event_sources.plain import BadMessage, CompiledMapping, Mapping, check
from pliers_workflow.runtime.event_sources.readers.port import BrokerMessage, parted, text_of
from pliers_workflow.runtime.event_sources.reading import SIZE_MAX, read

EVENT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "a.b", "data": {"n": 1}}


def message(body: Any, **more: Any) -> BrokerMessage:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return BrokerMessage(id="m/1", address="here", body=encoded, **more)


def mapping(**fields: str) -> CompiledMapping:
    return CompiledMapping(Mapping(**{"type": "'a.b'", **fields}), "/sources/1")


def test_the_three_forms() -> None:
    """By content type, by what stands beside the body, or by what the body is."""
    for structured in (message(EVENT), message(EVENT, content_type="application/cloudevents+json; charset=utf-8")):
        (one,) = read(structured, None)
        assert (one.event.id, one.event.data) == ("1", {"n": 1})
    for batch in (message([EVENT, EVENT]), message([], content_type="application/cloudevents-batch+json")):
        assert len(read(batch, None)) == len(json.loads(batch.body))
    attributes, others = parted(
        {"ce_specversion": "1.0", "ce_ID": "7", "ce_source": "/s", "ce_type": "t", "x": "y"}, "ce_"
    )
    (one,) = read(message(b"hello", content_type="text/plain", attributes=attributes), None)
    assert (one.event.id, one.event.data, others) == ("7", "hello", {"x": "y"})


def test_a_mapping() -> None:
    """Each attribute is an expression over the message; numbers become texts; what is null is left out."""
    wanted = mapping(
        id="message.body.nr", subject="message.key", time="message.body.at", source="'/' + message.address"
    )
    (one,) = read(message({"nr": 4711, "at": "2026-03-02T09:00:00Z", "price": 1}, key="k"), wanted)
    event = one.event
    assert (event.id, event.source, event.type, event.subject) == ("4711", "/here", "a.b", "k")
    assert event.time is not None
    assert event.data["nr"] == 4711
    (one,) = read(message([1, 2]), mapping(subject="message.key"))
    assert (one.event.id, one.event.source, one.event.subject, one.event.data) == ("m/1", "/sources/1", None, [1, 2])
    # An event is an event, mapping or not.
    assert read(message(EVENT), mapping())[0].event.id == "1"


def test_numbers_are_exact() -> None:
    """As over HTTP: no float anywhere, and in the form in which the database gives them back."""
    (one,) = read(
        message(b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":[1e3,0.10,12345678901234567890]}'), None
    )
    assert one.event.data == [1000, Decimal("0.10"), 12345678901234567890]


HOSTILE = [
    (b"", "It is no JSON"),
    (b"\xff\xfe{}", "It is no"),
    (b'{"a": "\xff"}', "It is no UTF-8"),
    (b"[" * 100_000, "It is n"),
    (b'{"a":' * 150 + b"1" + b"}" * 150, "This is no event: Values may be nested 100"),
    (b'{"a": "\\u0000"}', "This is no event: A text may not hold a NUL"),
    (b'{"a": "\\ud800"}', "It is no JSON"),
    (b'{"a": 1e999999}', "A number has more than"),
    (b"1" * 20_000, "A number has more than"),
    (b"x" * (SIZE_MAX + 1), "A message may have"),
    (json.dumps({"a": "x" * 300_000}).encode(), "This is no event: An event may have"),
]


@pytest.mark.parametrize(("body", "reason"), HOSTILE)
def test_hostile_bodies(body: bytes, reason: str) -> None:
    """Whatever comes is an event or a BadMessage that says why; nothing else is raised."""
    with pytest.raises(BadMessage) as refused:
        read(message(body), mapping())
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "message.body.kind"}, "The mapping of `type`: "),
        ({"type": "null"}, "The mapping of `type` gives nothing"),
        ({"id": "message.body"}, "The mapping of `id` gives a map"),
        ({"type": "'a b'"}, "This is no event: `type`"),
        ({"time": "'yesterday'"}, "This is no event: `time`"),
        ({"id": "''"}, "This is no event: `id`"),
    ],
)
def test_a_mapping_that_gives_no_event(fields: dict[str, str], reason: str) -> None:
    """The reason names the attribute."""
    with pytest.raises(BadMessage) as refused:
        read(message({}), mapping(**fields))
    assert str(refused.value).startswith(reason)


def test_without_a_mapping() -> None:
    """JSON that is no CloudEvent is no event, and a CloudEvent with a mistake is told by its place."""
    with pytest.raises(BadMessage, match="no mapping"):
        read(message({"a": 1}), None)
    with pytest.raises(BadMessage, match=r"needs `source`.*\(/source\)"):
        read(message({"specversion": "1.0", "id": "1", "type": "t"}), None)
    with pytest.raises(BadMessage, match=r"\(/1/id\)"):
        read(message([EVENT, {**EVENT, "id": ""}]), None)


def test_what_is_wrong_with_a_mapping() -> None:
    """Found when it is written; an unquoted word gets a hint."""
    (found,) = check(Mapping(type="order.paid"))
    assert found.pointer == "/mapping/type"
    assert found.hint is not None
    assert "quotes" in found.hint
    assert [each.pointer for each in check(Mapping(type="'a'", id="message.", time="now"))] == [
        "/mapping/id",
        "/mapping/time",
    ]
    assert check(Mapping(type="'a'", id="string(message.body.n)")) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (False, "false"), (7, "7"), ("x", "x"), (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (datetime(2026, 3, 2, 9, tzinfo=UTC), "2026-03-02T09:00:00+00:00"),
    ],
)  # fmt: skip
def test_headers_that_are_no_texts(value: object, text: str) -> None:
    """AMQP has truth values and instants; as attributes they are written as CloudEvents writes them, not as Python does."""
    assert text_of(value) == text
