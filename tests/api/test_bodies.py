"""Bodies: exact numbers in the form the database gives back, and a refusal with the place for what it could not hold."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.json import encode

from pliers_workflow.api.bodies import DEPTH_MAX, DIGITS_MAX, check_media_type, decode, decoder, read_body
from pliers_workflow.api.problems import ApiError


class Body(Struct, forbid_unknown_fields=True, rename="camel"):
    first_name: str = ""
    data: dict[str, Any] = {}


INTO = decoder(Body)


class Circle(Struct, forbid_unknown_fields=True, tag="circle", tag_field="type"):
    radius: int
    fill: Literal["none", "solid"] = "none"


class Box(Struct, forbid_unknown_fields=True, tag="box", tag_field="type", rename="camel"):
    side_length: int


class Drawing(Struct, forbid_unknown_fields=True):
    shapes: list[Circle | Box] = []
    named: dict[str, Circle | Box] = {}


def refusal(body: bytes) -> ApiError:
    """How a body is refused."""
    with pytest.raises(ApiError) as caught:
        decode(body, INTO)
    return caught.value


def test_numbers_are_exact_and_in_the_form_the_database_gives_back() -> None:
    """Integers stay int, others become Decimal; an exponent is worked out and a negative zero loses its sign."""
    body = b'{"data": {"a": 1, "b": 1.50, "c": 1e3, "d": 12.5e1, "e": -0.0, "f": 123456789012345678901234567890, "g": 0e9}}'
    data = decode(body, INTO).data
    assert data == {
        "a": 1, "b": Decimal("1.50"), "c": 1000, "d": 125, "e": 0, "f": 123456789012345678901234567890, "g": 0,
    }  # fmt: skip
    assert str(data["b"]) == "1.50"
    assert str(data["e"]) == "0.0"
    assert {type(data[name]) for name in "acdfg"} == {int}


@pytest.mark.parametrize(
    ("number", "accepted"),
    [
        ("9" * DIGITS_MAX, True),
        ("9" * (DIGITS_MAX + 1), False),
        ("9" * 5000, False),
        (f"1e{DIGITS_MAX - 1}", True),
        (f"1e{DIGITS_MAX}", False),
        (f"1e-{DIGITS_MAX}", True),
        (f"1e-{DIGITS_MAX + 1}", False),
        ("1e999999999999999999999", False),
        ("0e-99999", False),
        ("0." + "1" * 200_000, False),
    ],
)
def test_a_number_beyond_range_is_refused(number: str, accepted: bool) -> None:
    """A thousand digits before or after the point, and no more: nobody calculates with a billion."""
    body = f'{{"data": {{"n": {number}}}}}'.encode()
    if accepted:
        assert decode(body, INTO).data["n"] == Decimal(number)
    else:
        assert refusal(body).code == "unstorable_value"


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        (b'{"data": {"a": ["x", "\\u0000"]}}', "unstorable_value", "/data/a/1"),
        (b'{"data": {"a": {"\\u0000": 1}}}', "unstorable_value", "/data/a"),
        (b'{"data": {"a": "\\ud800"}}', "malformed_json", None),
        (b'{"data": {"a": "\\udc00"}}', "malformed_json", None),
        (b'{"data": {"a": "\xed\xa0\x80"}}', "malformed_json", None),
        (b'{"data": {"a": "\xff"}}', "malformed_json", None),
        (b'{"data": {"a": 1, "a": 2}}', "unstorable_value", ""),
        (b'{"data": {"a:b": ":", "a\\u003ab": 2}}', "unstorable_value", ""),
        (b'{"firstName": "x", "firstName": "y"}', "unstorable_value", ""),
        (b'{"firstname": "x"}', "invalid_body", "/firstname"),
        (b'{"firstName": 1}', "invalid_body", "/firstName"),
        (b'{"firstName": null}', "invalid_body", "/firstName"),
        (b"[]", "invalid_body", ""),
        (b"{", "malformed_json", None),
        (b'{"data": {}} x', "malformed_json", None),
        (b'{"data": NaN}', "malformed_json", None),
        (b"\xef\xbb\xbf{}", "malformed_json", None),
        (b"   ", "malformed_json", None),
    ],
)
def test_a_body_that_cannot_be_kept_is_refused_with_its_place(body: bytes, code: str, place: str | None) -> None:
    """The first thing wrong is named with a JSON Pointer and a hint."""
    error = refusal(body)
    assert error.code == code
    if place is not None:
        assert error.findings[0].pointer == place
    assert error.detail.endswith(".")


def test_an_escaped_backslash_is_no_nul() -> None:
    """`\\\\u0000` is a text of six characters, and may be kept."""
    assert decode(b'{"data": {"a": "\\\\u0000"}}', INTO).data == {"a": "\\u0000"}


def test_colons_in_texts_are_no_duplicates() -> None:
    """Counting colons is only a shortcut: what it suspects is looked at exactly."""
    body = b'{"data": {"a:b": "12:30", "c": ["::", {"d": ":"}], "e\\u003a": "x"}}'
    assert decode(body, INTO).data == {"a:b": "12:30", "c": ["::", {"d": ":"}], "e:": "x"}


def test_nesting_is_bounded() -> None:
    """A hundred levels are read, one more is refused, a hundred thousand too."""
    inside = DEPTH_MAX - 1
    assert decode(b'{"data":' + b'{"a":' * inside + b"1" + b"}" * inside + b"}", INTO)
    for levels in (DEPTH_MAX, 100_000):
        error = refusal(b'{"data":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}")
        assert error.code == "unstorable_value"
        assert error.findings[0].code == "too_deep"


def test_broken_json_names_line_and_column() -> None:
    """People find the place in their editor."""
    error = refusal(b'{\n  "data": {\n    "a": 1,\n  }\n}')
    assert (error.details["line"], error.details["column"]) == (4, 3)


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    """A misspelled field is a typing error, so the right spelling is shown."""
    assert "firstName, data" in refusal(b'{"firstNam": "x"}').detail


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def texts_of(value: object) -> list[str]:
    """All texts and keys in a value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *texts_of(item))]
    return []


@settings(max_examples=200)
@given(VALUES)
def test_what_may_be_kept_comes_through_unchanged(value: object) -> None:
    """Nothing but NUL characters is refused in well-formed JSON of this size, and nothing is changed."""
    body = encode({"data": {"value": value}})
    if any("\0" in text for text in texts_of(value)):
        assert refusal(body).code == "unstorable_value"
    else:
        assert decode(body, INTO).data == {"value": value}


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """No sequence of bytes makes reading fail in any other way."""
    try:
        decode(body, INTO)
    except ApiError as error:
        assert error.code in ("malformed_json", "unstorable_value", "invalid_body")


async def test_a_body_beyond_its_size_is_refused_before_and_while_reading() -> None:
    """What announces its size is not read at all; what does not is read up to the limit."""
    reads = 0

    async def receive() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"x" * 40, "more_body": True}

    with pytest.raises(ApiError, match="100 bytes"):
        await read_body(b"101", receive, 100)
    assert reads == 0
    with pytest.raises(ApiError, match="100 bytes"):
        await read_body(None, receive, 100)
    assert reads == 3


@pytest.mark.parametrize(
    ("media_type", "accepted"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/merge-patch+json", True),
        (b"text/plain", False),
        (b"application/x-www-form-urlencoded", False),
        (b"", False),
        (None, False),
    ],
)
def test_only_json_is_read(media_type: bytes | None, accepted: bool) -> None:
    """A form that a foreign page sends in a visitor's name is no JSON."""
    if accepted:
        check_media_type(media_type)
    else:
        with pytest.raises(ApiError) as caught:
            check_media_type(media_type)
        assert caught.value.kind.status == 415


@pytest.mark.parametrize(
    ("body", "pointer", "hint"),
    [
        (b'{"shape": 1}', "/shape", "the fields are: shapes, named"),
        (b'{"shapes": [{"type": "disc"}]}', "/shapes/0/type", "use one of: circle, box"),
        (b'{"shapes": [{"radius": 1}]}', "/shapes/0/type", "add it, one of: circle, box"),
        (
            b'{"shapes": [{"type": "box", "sideLength": 1}, {"type": "box", "radius": 1, "sideLength": 1}]}',
            "/shapes/1/radius",
            "the fields are: type, sideLength",
        ),
        (b'{"shapes": [{"type": "circle", "radius": 1, "fill": "dots"}]}', "/shapes/0/fill", "use one of: none, solid"),
        (b'{"named": {"a/b": {"type": "disc"}}}', "/named/.../type", "use one of: circle, box"),
        (b'{"shapes": [{"type": "box"}]}', "/shapes/0/sideLength", "add it"),
    ],
)
def test_a_refusal_says_what_may_stand_there(body: bytes, pointer: str, hint: str) -> None:
    """Names of fields, kinds of a tagged object, and values that are counted, wherever in the body."""
    with pytest.raises(ApiError) as caught:
        decode(body, decoder(Drawing))
    (finding,) = caught.value.findings
    assert (finding.pointer, finding.hint) == (pointer, hint)


class Kinds(Struct, forbid_unknown_fields=True):
    count: int = 0
    note: str | None = None
    at: datetime | None = None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"count": "x"}', "Expected `integer`, got `string` at /count; correct it."),
        (b'{"note": 1}', "Expected `string | null`, got `integer` at /note; correct it."),
        (b'{"at": 1}', "Expected `date-time | null`, got `integer` at /at; write it as 2026-03-02T09:00:00Z."),
        (b'{"at": "now"}', "Invalid RFC3339 encoded datetime at /at; write it as 2026-03-02T09:00:00Z."),
        (b'{"int": 1}', "Object contains unknown field `int` at /int; the fields are: count, note, at."),
        (b"[]", "Expected `object`, got `array` at the top; correct it."),
    ],
)
def test_types_are_called_as_json_calls_them(body: bytes, says: str) -> None:
    """Callers write JSON, and need not know what Python calls its values."""
    with pytest.raises(ApiError) as caught:
        decode(body, decoder(Kinds))
    assert caught.value.detail == says


def test_a_refusal_is_no_echo() -> None:
    """However long a name or value is, the refusal of it is short."""
    long = b"x" * 100_000
    for body in b'{"%s": 1}' % long, b'{"shapes": [{"type": "%s"}]}' % long, b'{"named": {"%s": {"a": 1}}}' % long:
        with pytest.raises(ApiError) as caught:
            decode(body, decoder(Drawing))
        (finding,) = caught.value.findings
        assert len(caught.value.detail) < 1000
        assert len(finding.pointer) + len(finding.message) < 1000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_named(encoding: str) -> None:
    """Some editors and shells write one, and nobody sees it."""
    assert "byte order mark" in refusal('{"data": {}}'.encode(encoding)).detail
