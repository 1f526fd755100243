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
        threshold = self._thresholds.event_source_failing_max
        row = await connection.fetchrow(_sql.health, threshold)
        assert row is not None, "it counts"
        alarms = []
        if row["failing"] and row["failing_seconds"] > threshold:
            message = "Event sources cannot be read; each says why in `lastError`."
            alarms.append(Alarm("event_source_failing", message, round(row["failing_seconds"], 3), threshold))
        if row["unread"]:
            message = (
                "Event sources are enabled and no node reads them: no worker runs, or none has the client of their broker "
                "or understands them; the workers' logs say which."
            )
            alarms.append(Alarm("event_source_unread", message, row["unread"], 0))
        details = {name: row[name] for name in ("enabled", "disabled", "failing", "unread")}
        return Reading({**details, "failingSeconds": row["failing_seconds"]}, tuple(alarms))
