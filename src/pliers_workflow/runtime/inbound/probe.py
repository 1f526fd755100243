"""What health tells of events: whether all that came have been carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pliers_workflow.storage import identity, queries

from ..health import Alarm, Reading

if TYPE_CHECKING:
    from pliers_workflow.settings import MonitoringSettings
    from pliers_workflow.storage.database import AnyConnection

_sql: Final = queries.load("inbound")


class EventsProbe:
    """
    How many events are owed to their triggers, and for how long the oldest has been.

    What has failed is no alarm, or any sender could raise one.
    """

    name = "events"

    def __init__(self, thresholds: MonitoringSettings) -> None:
        self._thresholds = thresholds

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        row = await connection.fetchrow(_sql.health)
        assert row is not None, "it counts"
        seconds = None
        if row["oldest"] is not None:
            # By its id: what it was received at is by the tenant's clock, which may be moved.
            seconds = max(0.0, (row["now"] - identity.birth(row["oldest"])).total_seconds())
        alarms = []
        threshold = self._thresholds.owed_event_age_max
        if seconds is not None and seconds > threshold:
            message = (
                "Events have come and are not carried out: no worker runs, nodes have too much to do, or the engine fails "
                "on one; the logs say `event_left_for_later` or `event_failed`."
            )
            alarms.append(Alarm("events_owed", message, round(seconds, 3), threshold))
        return Reading({"owed": row["owed"], "oldestOwedSeconds": seconds}, tuple(alarms))
