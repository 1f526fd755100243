"""The one form of a document that equal documents share, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

_encoder: Final = msgspec.json.Encoder(order="deterministic", decimal_format="number")


def canonical(document: object) -> bytes:
    """
    Write a JSON value in the one form that equal values share: keys sorted, no blanks, numbers without needless zeros.

    >>> canonical({"b": 1.50, "a": [2.0]})
    b'{"a":[2],"b":1.5}'
    """
    return _encoder.encode(_plain(document))


def content_hash(document: object) -> str:
    """Sha256 of the canonical document, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict | Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        return _plain_number(value)
    return value


def _plain_number(value: Decimal) -> int | Decimal:
    # By hand, because `normalize` would round to the context's 28 digits.
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return value
    kept = list(digits)
    while len(kept) > 1 and kept[-1] == 0:
        kept.pop()
        exponent += 1
    if kept == [0]:
        return 0
    plain = Decimal((sign, tuple(kept), exponent))
    return int(plain) if 0 <= exponent <= 100 else plain
