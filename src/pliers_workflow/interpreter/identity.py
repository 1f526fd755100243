"""Ids that follow from others: no clock, no chance, so that interpreting again gives them again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def child_instance_id(parent_id: str, name: str | int, now: datetime) -> str:
    """
    Say the id of the child that a parent starts at `now` under this name: a UUIDv7 whose other bits come from the two.

    >>> at = datetime(2026, 3, 2, tzinfo=UTC)
    >>> child_instance_id("019ca3b5-1000-7000-8000-000000000000", "step/1/1", at)[:18]
    '019cabd8-3800-7765'
    """
    digest = sha256(f"child\0{parent_id}\0{name}".encode()).hexdigest()
    stamp = f"{(now - _EPOCH) // _MILLISECOND:012x}"
    # the two variant bits of RFC 9562 §4.1 over two bits of the digest
    variant = "89ab"[int(digest[3], 16) & 3]
    return f"{stamp[:8]}-{stamp[8:]}-7{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"


def fingerprint(definition: str, place: str, code: str) -> str:
    """
    What all incidents of one cause share: 16 hexadecimal digits of the definition's name, the place in it, the code.

    >>> fingerprint("expense_report", "fetch", "TIMEOUT")
    '1cb5fa48b3d23880'
    """
    return sha256(f"{definition}\0{place}\0{code}".encode()).hexdigest()[:16]
