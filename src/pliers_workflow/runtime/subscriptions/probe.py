"""What health tells of subscriptions. How far behind each is, is told with the other readers of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pliers_workflow.storage import queries

from ..health import Alarm, Reading

if TYPE_CHECKING:
    from pliers_workflow.storage.database import AnyConnection

_sql: Final = queries.load("event_subscriptions")


class SubscriptionsProbe:
    """How many subscriptions there are in each state."""

    name = "subscriptions"

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        count = {"active": 0, "paused": 0, "disabled": 0}
        count.update({row["state"]: row["count"] for row in await connection.fetch(_sql.states)})
        alarms = []
        if count["disabled"]:
            message = "Subscriptions were disabled after long failure; mend what they say, and resume or delete them."
            alarms.append(Alarm("subscriptions_disabled", message, count["disabled"], 0))
        return Reading(count, tuple(alarms))
