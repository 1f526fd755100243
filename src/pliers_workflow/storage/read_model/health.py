"""How the database, and what lies in it for the engine to do, are doing. About the whole installation."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from .. import queries
from .viewer import Reader

__all__ = ["JOB_KINDS", "DueJobs", "RunningSteps", "dead_jobs", "due_jobs", "health", "running_steps"]

_sql: Final = queries.load("health")

#: The kinds of jobs there are, as the table's check has them.
JOB_KINDS: Final = (
    "timer", "step", "retry", "trigger", "webhook", "notification", "start", "command", "child", "resolution",
    "departure",
)  # fmt: skip
#: Due jobs of one tenant and kind that are counted; more are "at least so many".
COUNTED_MAX: Final = 10_000


async def health(reader: Reader) -> dict[str, Any]:
    """
    Give the numbers an operator asks for first; raises when the database does not answer.

    `stray_history_rows` above 0 and a `last_partition` that is not ahead of now mean that partitions are missing
    (`storage.partitions`).
    """
    row = await reader.fetchrow(_sql.health)
    assert row is not None
    return dict(row)


class DueJobs(Struct, frozen=True):
    """The jobs of a kind whose hour has come."""

    kind: str
    #: that nobody has taken
    due: int
    #: that somebody works on, or that wait for another attempt
    held: int
    #: how long the oldest that nobody has taken has been due; None: there is none
    oldest_seconds: float | None


async def due_jobs(reader: Reader) -> list[DueJobs]:
    """What is due, by kind; kinds of which nothing is due are left out."""
    return [DueJobs(*row) for row in await reader.fetch(_sql.due_jobs, list(JOB_KINDS), COUNTED_MAX)]


class RunningSteps(Struct, frozen=True):
    """The steps of a type that somebody works on now, on any node or outside."""

    type: str
    running: int
    #: for how long the oldest of them has been due; None: those of clocks that are moved by hand alone
    oldest_seconds: float | None


async def running_steps(reader: Reader) -> list[RunningSteps]:
    """What is being worked on, by type; types of which nothing is are left out."""
    return [RunningSteps(*row) for row in await reader.fetch(_sql.running_steps, COUNTED_MAX)]


async def dead_jobs(reader: Reader) -> int:
    """How many jobs wait for an operator."""
    return int(await reader.fetchval(_sql.dead_jobs))
