"""What health tells of event sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pliers_workflow.storage import queries

from ..health import Alarm, Reading

if TYPE_CHECKING:
    from pliers_workflow.settings import MonitoringSettings
    from pliers_workflow.storage.database import AnyConnection

_sql: Final = queries.load("event_sources")


class EventSourcesProbe:
    """How many sources there are, and how many of them fail."""

    name = "eventSources"

    def __init__(self, thresholds: MonitoringSettings) -> None:
        self._thresholds = thresholds

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        row = await connection.fetchrow(_sql.health)
        assert row is not None, "it counts"
        alarms = []
        threshold = self._thresholds.event_source_failing_max
        if row["failing"] and row["failing_seconds"] > threshold:
            message = "Event sources cannot be read; each says why in `lastError`."
            alarms.append(Alarm("event_source_failing", message, round(row["failing_seconds"], 3), threshold))
        details = {name: row[name] for name in ("enabled", "disabled", "failing")}
        return Reading({**details, "failingSeconds": row["failing_seconds"]}, tuple(alarms))
