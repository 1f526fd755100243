"""Canonical JSON: one value, one sequence of bytes, so that hashes of it mean something.

Keys are sorted, no blanks, numbers exact: integers and decimals are written with the digits they have, never through a
float. `decode` is its inverse; what it gives back is made of dict, list, str, int, Decimal, bool and None only.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["decode", "encode", "encode_loose"]


def _plain(value: object) -> object:
    """What msgspec does not encode by itself: subclasses of str, such as a CEL engine's or pydantic's."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"a {type(value).__name__} has no place in JSON")


_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number", enc_hook=_plain)
#: keys in the order they come: for what is stored but never hashed
_loose = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: object) -> bytes:
    """
    Give the canonical JSON of a value, a msgspec Struct included (its field names are sorted with the rest).

    >>> from decimal import Decimal
    >>> encode({"b": Decimal("1.50"), "a": [1, None]})
    b'{"a":[1,null],"b":1.50}'

    A decimal that is no number cannot be written, and the caller should have refused it at the edge:

    >>> encode(Decimal("NaN"))
    Traceback (most recent call last):
    ValueError: JSON has no NaN and no Infinity
    """
    encoded = _encoder.encode(value)
    # msgspec writes a decimal's own text; NaN and Infinity would be two such, so look for them only where they could be.
    if (b"NaN" in encoded or b"Infinity" in encoded) and not _is_json(encoded):
        raise ValueError("JSON has no NaN and no Infinity")
    return encoded


def encode_loose(value: object) -> bytes:
    """Give some JSON of a value, a little faster than `encode`: for columns whose bytes nobody hashes.

    `jsonb` itself refuses NaN and Infinity, so they are not looked for here.
    """
    return _loose.encode(value)


def decode(data: bytes | bytearray | memoryview | str) -> Any:
    """
    Read JSON with exact numbers.

    >>> decode(b"[1, 1.50, 100000000000000000000000000]")
    [1, Decimal('1.50'), 100000000000000000000000000]

    Raises `msgspec.DecodeError` (a ValueError) for what is no JSON.
    """
    return _decoder.decode(data)


def _is_json(encoded: bytes) -> bool:
    try:
        _decoder.decode(encoded)
    except msgspec.DecodeError:
        return False
    return True
