"""Ids: where time, order and origin can be read off them, so that nothing must be looked up to know them.

An instance id is a UUIDv7 (RFC 9562): its first 48 bits are the millisecond of its birth, so ids sort by time and the
history is partitioned by them. Every other id follows from the instance's: the same question always gives the same id,
which is what makes writing a row twice harmless. Derived ids are UUIDv8 (RFC 9562 §5.8) that begin with the birth of
their instance as well, so that indexes on them grow at one end and do not scatter.
"""

from __future__ import annotations

import os
import re
import threading
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from pliers_workflow.interpreter.identity import child_instance_id

__all__ = [
    "approval_id",
    "birth",
    "child_instance_id",
    "history_id",
    "is_uuid",
    "job_id",
    "lowest_id",
    "milliseconds",
    "new_instance_id",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII).fullmatch

#: how jobs whose names the interpreter counts are told apart in their ids; 1 and 2 are history rows and work items
_JOB_KINDS: Final = {"timer": 3, "step": 4, "order": 5}

_lock = threading.Lock()
#: the last id given in this process: milliseconds and the 12 bits after them
_last: int = 0


def milliseconds(at: datetime) -> int:
    """Whole milliseconds since 1970 (UTC)."""
    return (at - _EPOCH) // _MILLISECOND


def new_instance_id(now: datetime) -> str:
    """Mint a UUIDv7 for an instance born at `now`: the one function here that is not pure.

    Ids of one process grow strictly, also within a millisecond (RFC 9562 §6.2, method 1: the 12 bits after the
    milliseconds count on). They are no secret, but 62 random bits keep two processes apart.
    """
    global _last
    stamp = milliseconds(now) << 12
    with _lock:
        # Never backwards by a step of the clock, but not glued to a moment in the far future either: a virtual clock
        # that was moved back by more than a second begins its own count.
        if _last - (1000 << 12) < stamp <= _last:
            stamp = _last + 1
        _last = stamp
    random = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    return _text(f"{stamp >> 12:012x}7{stamp & 0xFFF:03x}{0x8000_0000_0000_0000 | random:016x}")


def approval_id(instance_id: str, item: str) -> str:
    """
    Say the id of a work item's row: `item` is the interpreter's name for it, such as `item/3`.

    >>> approval_id("019ca3b5-1000-7000-8000-000000000000", "item/1")
    '019ca3b5-1000-8000-8000-000000000102'
    """
    return _counted(instance_id, 2, int(item.rpartition("/")[2]))


def job_id(instance_id: str, name: str) -> str:
    """
    Say the id of a job: `name` is the interpreter's name for it, such as `timer/7`, or any other name.

    >>> job_id("019ca3b5-1000-7000-8000-000000000000", "step/2")
    '019ca3b5-1000-8000-8000-000000000204'
    """
    kind, _, number = name.partition("/")
    known = _JOB_KINDS.get(kind)
    if known is not None and number.isdecimal():
        return _counted(instance_id, known, int(number))
    return _derived("job", instance_id, name)


def history_id(instance_id: str, seq: int) -> str:
    """Say the id of an instance's history row."""
    return _counted(instance_id, 1, seq)


def birth(instance_id: str) -> datetime:
    """
    Read the moment an instance was born off its id, to the millisecond.

    >>> birth("019cabd8-3800-7bc6-8000-000000000000").isoformat()
    '2026-03-02T00:00:00+00:00'
    """
    return _EPOCH + int(instance_id[:8] + instance_id[9:13], 16) * _MILLISECOND


def lowest_id(at: datetime) -> str:
    """
    Give the smallest UUID whose birth is not before `at`: a bound between what is older and what is younger.

    >>> lowest_id(datetime(2026, 3, 2, tzinfo=UTC))
    '019cabd8-3800-0000-0000-000000000000'
    """
    return _text(f"{milliseconds(at):012x}" + "0" * 20)


def is_uuid(text: str) -> bool:
    """
    Tell a UUID in its usual spelling from anything else, so that no other text reaches a uuid parameter.

    >>> is_uuid("019cabd8-3800-0000-0000-000000000000"), is_uuid("expense_report")
    (True, False)
    """
    return _UUID(text) is not None


def _derived(kind: str, instance_id: str, name: str) -> str:
    digest = sha256(f"{kind}\0{instance_id}\0{name}".encode()).hexdigest()
    return f"{instance_id[:14]}8{digest[:3]}-{_variant(digest[3])}{digest[4:7]}-{digest[7:19]}"


def _counted(instance_id: str, kind: int, number: int) -> str:
    """
    The instance's own bits as UUIDv8, the last 48 of them mixed with a kind and a number.

    All of the instance's randomness stays in, so two instances' rows meet no sooner than the instances' ids would; a
    hash would be as good and cost ten times as much, several times for each transition.
    """
    return f"{instance_id[:14]}8{instance_id[15:24]}{int(instance_id[24:], 16) ^ (number << 8 | kind):012x}"


def _variant(digit: str) -> str:
    """The two variant bits of RFC 9562 §4.1 over two bits of the digest."""
    return "89ab"[int(digit, 16) & 3]


def _text(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
