"""Timestamps and durations: reading and writing them, and their fields in a time zone.

Instants are aware datetimes, durations timedeltas, both to the microsecond (CEL's go to the nanosecond; finer digits
are cut off). Zone data comes from the system's tz database, through `zoneinfo` and its cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from .errors import ExpressionError

_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?", re.ASCII
)
_DURATION: Final = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:d|h|ms|m|s|us|µs|ns))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(d|h|ms|m|s|us|µs|ns)", re.ASCII)
_MICROSECONDS: Final = {
    "d": Decimal(86_400_000_000),
    "h": Decimal(3_600_000_000),
    "m": Decimal(60_000_000),
    "s": Decimal(1_000_000),
    "ms": Decimal(1_000),
    "us": Decimal(1),
    "µs": Decimal(1),
    "ns": Decimal("0.001"),
}
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)
_SECOND: Final = timedelta(seconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timestamp(text: str) -> datetime:
    """RFC 3339, as `2026-03-01T09:30:00Z`; beyond CEL also a plain date, which is its midnight in UTC.

    >>> parse_timestamp("2026-03-01T09:30:00+01:00").isoformat()
    '2026-03-01T09:30:00+01:00'
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ExpressionError(f"{text[:40]!r} is no timestamp; write it like 2026-03-01T09:30:00Z")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        zone = UTC if offset in (None, "Z", "z") else _offset(offset)
        return datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            int((fraction or "")[:6].ljust(6, "0")), zone,
        )  # fmt: skip
    except (ValueError, OverflowError):
        raise ExpressionError(f"{text[:40]!r} is no timestamp: there is no such day or time") from None


def from_epoch(seconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise ExpressionError(f"{seconds} seconds since 1970 are outside the years 1 to 9999") from None


def to_epoch(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


def format_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC; a fraction has three or six digits, as protobuf writes it.

    >>> format_timestamp(parse_timestamp("2026-03-01T09:30:00.5+01:00"))
    '2026-03-01T08:30:00.500Z'
    """
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ExpressionError("the timestamp is outside the years 1 to 9999") from None
    text = moment.replace(microsecond=0, tzinfo=None).isoformat()
    if moment.microsecond:
        text += f".{moment.microsecond:06}".removesuffix("000")
    return text + "Z"


def parse_duration(text: str) -> timedelta:
    """Go's form, as `1h30m` or `1.5s`; beyond CEL with `d` for 24 hours.

    >>> parse_duration("-1h30m")
    datetime.timedelta(days=-1, seconds=81000)
    """
    if len(text) > 60 or _DURATION.fullmatch(text) is None:
        raise ExpressionError(f"{text[:40]!r} is no duration; write it like 90s, 1h30m or 2d")
    total = sum((Decimal(number) * _MICROSECONDS[unit] for number, unit in _DURATION_PART.findall(text)), Decimal(0))
    try:
        result = timedelta(microseconds=int(total))
    except OverflowError:
        raise ExpressionError(f"the duration {text[:40]!r} is too long") from None
    return -result if text[0] == "-" else result


def format_duration(duration: timedelta) -> str:
    """Seconds, as CEL and protobuf write durations.

    >>> format_duration(timedelta(minutes=90)), format_duration(timedelta(milliseconds=-1500))
    ('5400s', '-1.500s')
    """
    microseconds = duration // timedelta(microseconds=1)
    sign = "-" if microseconds < 0 else ""
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    fraction = f".{rest:06}".removesuffix("000") if rest else ""
    return f"{sign}{seconds}{fraction}s"


def _offset(text: str) -> tzinfo:
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        raise ValueError(text)
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name (`Europe/Berlin`) or as an offset (`+01:00`)."""
    if name == "UTC":
        return UTC
    try:
        if _OFFSET.fullmatch(name):
            return _offset(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ExpressionError(f"there is no time zone {name[:40]!r}; write it like Europe/Berlin or +01:00") from None


def _milliseconds(moment: datetime) -> int:
    return moment.microsecond // 1000


#: Fields of an instant by the name of their getter. Months, days of the month and of the year count from 0, as in
#: CEL; `getDate` counts from 1; weeks begin on Sunday, 0.
FIELDS: Final[Mapping[str, Callable[[datetime], int]]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
    "getMilliseconds": _milliseconds,
}


def field(getter: str, moment: datetime, name: str = "UTC") -> int:
    """A field of the calendar of `moment`, in a time zone."""
    try:
        local = moment.astimezone(zone(name))
    except OverflowError:
        raise ExpressionError("the timestamp is outside the years 1 to 9999") from None
    return FIELDS[getter](local)


def _whole(duration: timedelta, unit: timedelta) -> int:
    """Whole units of a duration, cut off towards zero."""
    return duration // unit if duration >= timedelta(0) else -(-duration // unit)


DURATION_FIELDS: Final[Mapping[str, Callable[[timedelta], int]]] = {
    "getHours": lambda duration: _whole(duration, timedelta(hours=1)),
    "getMinutes": lambda duration: _whole(duration, timedelta(minutes=1)),
    "getSeconds": lambda duration: _whole(duration, _SECOND),
    "getMilliseconds": lambda duration: _whole(duration - _whole(duration, _SECOND) * _SECOND, _MILLISECOND),
}
