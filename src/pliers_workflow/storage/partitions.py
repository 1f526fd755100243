"""Monthly partitions of the history, by the birth of the instance, made ahead.

An instance's id begins with the millisecond of its birth, so a range of ids is a range of births: one instance lies in one
partition, its history is read from there, and a month can be archived when the last of its instances has passed retention.
The default partition catches what has none, so the engine never stops for want of a partition; rows in it raise an alarm
(`read_model.health`) and are carried over when their month's partition is made.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from . import queries
from .database import AnyConnection
from .identity import birth, lowest_id

__all__ = ["keep_partitions", "month_of", "partition_bounds", "stray_rows"]

#: rows of a month in the default partition beyond which carrying them over is left to an operator: it stops writers
STRAYS_MAX: Final = 50_000

_sql: Final = queries.load("partitions")


def month_of(instance_id: str) -> date:
    """
    Say in whose partition an instance lies: the first day of the month it was born in (UTC).

    >>> month_of("019cabd8-3800-7bc6-8000-000000000000")
    datetime.date(2026, 3, 1)
    """
    return birth(instance_id).date().replace(day=1)


def partition_bounds(month: date) -> tuple[str, str]:
    """
    Say which ids a month's partition holds: from the first, up to and without the second.

    >>> partition_bounds(date(2026, 3, 14))
    ('019ca6b1-dc00-0000-0000-000000000000', '019d4657-0000-0000-0000-000000000000')
    """
    first = datetime(month.year, month.month, 1, tzinfo=UTC)
    return lowest_id(first), lowest_id(_later(first, 1))


async def keep_partitions(connection: AnyConnection, now: datetime, months_ahead: int = 3) -> list[str]:
    """
    Make the partitions of this month and the next ones, and of months whose rows have strayed into the default partition.

    Gives the names of the ones made. Safe to be run by several nodes and as often as one likes. Raises
    `asyncpg.LockNotAvailableError` when a long transaction is in the way: try again later, nothing is lost meanwhile.
    """
    wanted = {_later(now.astimezone(UTC), ahead).date().replace(day=1) for ahead in range(months_ahead + 1)}
    for row in await connection.fetch(_sql.stray_months):
        if row["rows"] <= STRAYS_MAX:
            wanted.add(row["month"])
    made: list[str] = []
    for month in sorted(wanted - {row["month"] for row in await connection.fetch(_sql.made)}):
        async with connection.transaction():
            # Whoever waits for a lock on the log makes everybody wait behind it, so we do not wait for long.
            await connection.execute(_sql.patience)
            await connection.execute(_sql.take_turn)
            if (name := await connection.fetchval(_sql.make, month)) is not None:
                made.append(name)
    return made


async def stray_rows(connection: AnyConnection) -> int:
    """Count the rows in the default partition, up to 10,000: any at all means that a partition was missing."""
    return int(await connection.fetchval(_sql.stray_rows))


def _later(at: datetime, months: int) -> datetime:
    """The first of a month, so many months later."""
    years, month = divmod(at.month - 1 + months, 12)
    return at.replace(year=at.year + years, month=month + 1, day=1)
