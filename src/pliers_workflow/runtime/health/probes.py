"""The engine's own probes: database, log, jobs, nodes, and this node."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.storage import queries, read_model

from .probe import Alarm, Reading

if TYPE_CHECKING:
    from pliers_workflow.settings import MonitoringSettings
    from pliers_workflow.storage.database import AnyConnection

    from ..commit.pipeline import Pipeline
    from ..jobs.external import ExternalTasks
    from ..jobs.worker import StepWorker
    from ..nodes.messenger import Messenger
    from ..nodes.registrar import NodeRegistrar

_nodes: Final = queries.load("nodes")
_leases: Final = queries.load("leases")
_feed: Final = queries.load("feed")


_UNWRITTEN: Final = {
    "database_read_only": "The database can be read and not written: it is a standby, or default_transaction_read_only is set.",
    "database_full": "The database has no room left on its disk; nothing is committed until there is.",
}


def beyond(alarm: str, message: str, value: float | None, threshold: float, subject: str | None = None) -> list[Alarm]:
    """
    The alarm, where the value is beyond its threshold.

    >>> beyond("jobs_late", "Late.", 61.5, 60)
    [Alarm(alarm='jobs_late', message='Late.', value=61.5, threshold=60, subject=None)]
    >>> beyond("jobs_late", "Late.", None, 60)
    []
    """
    if value is None or value <= threshold:
        return []
    return [Alarm(alarm, message, round(value, 3), threshold, subject)]


class DatabaseProbe:
    """The server: how quickly it answers, which it is, how full; and whether the log's partitions are made ahead."""

    name = "database"

    def __init__(self, thresholds: MonitoringSettings) -> None:
        self._thresholds = thresholds

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        began = time.perf_counter()
        await connection.fetchval("SELECT 1")
        latency_ms = (time.perf_counter() - began) * 1000
        row = await read_model.health(connection)
        limits = self._thresholds
        share = row["connections"] / row["connections_max"]
        alarms = [
            *beyond("database_slow", "The database, or the way to it, is slow.", latency_ms, limits.database_latency_max),
            *beyond(
                "connections_scarce", "The database's connections are nearly used up; raise max_connections, or lower "
                "those of the nodes.", share, limits.connections_share_max,
            ),
            *beyond(
                "stray_history_rows", "History lies in the default partition, because a month's partition was missing; "
                "see the operations page about partitions.", row["stray_history_rows"], limits.stray_history_rows_max,
            ),
        ]  # fmt: skip
        if not _made_ahead(row["last_partition"], row["now"].date()):
            alarms.append(
                Alarm(
                    "partitions_missing",
                    "Next month's partition of the history is not made; the housekeeping of a worker makes it every hour.",
                )
            )
        return Reading({"latencyMs": round(latency_ms, 2), **{_camel(name): row[name] for name in row}}, tuple(alarms))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _made_ahead(last: date | None, today: date) -> bool:
    return last is not None and (last.year, last.month) > (today.year, today.month)


class LogProbe:
    """How far the log is complete, and how far behind its readers are."""

    name = "log"

    def __init__(self, thresholds: MonitoringSettings) -> None:
        self._thresholds = thresholds

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        limits = self._thresholds
        horizon = await connection.fetchrow(_feed.horizon)
        assert horizon is not None, "the row is made by a migration"
        alarms = beyond(
            "horizon_old", "The log's horizon does not move, so its readers learn nothing new: no worker runs the relay, "
            "or a writing transaction does not end.", horizon["age"], limits.horizon_age_max,
        )  # fmt: skip
        readers = []
        for row in await connection.fetch(_feed.readers, None):
            name = row["reader"]
            readers.append({
                "name": name, "lag": row["lag"], "lagSeconds": row["lag_seconds"], "lanes": row["lanes"],
                "lanesHeld": row["held"], "failures": row["failures"], "failingSince": row["failing_since"],
                "handledAt": row["handled_at"],
            })  # fmt: skip
            alarms += beyond(
                "reader_behind", f"The reader {name} has not handled all there is for too long; its failures say whether it "
                "cannot, its lanes whether nobody reads.", row["lag_seconds"], limits.reader_lag_max, name,
            )  # fmt: skip
        details = {"horizon": horizon["horizon"], "horizonAgeSeconds": horizon["age"], "readers": readers}
        return Reading(details, tuple(alarms))


class JobsProbe:
    """What is due and not taken, what is being worked on, and what is dead."""

    name = "jobs"

    def __init__(self, thresholds: MonitoringSettings) -> None:
        self._thresholds = thresholds

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        due = await read_model.due_jobs(connection)
        dead = await read_model.dead_jobs(connection)
        limits = self._thresholds
        alarms: list[Alarm] = []
        for kind in due:
            alarms += beyond(
                "jobs_late", f"Jobs of the kind {kind.kind} are due and nobody takes them; are there workers enough for it?",
                kind.oldest_seconds, limits.due_job_age_max, kind.kind,
            )  # fmt: skip
        alarms += beyond(
            "jobs_dead", "Jobs have used up their attempts and wait for an operator.", dead, limits.dead_jobs_max
        )
        details = {
            "due": sum(kind.due for kind in due),
            "held": sum(kind.held for kind in due),
            "dead": dead,
            "oldestDueSeconds": max(
                (kind.oldest_seconds for kind in due if kind.oldest_seconds is not None), default=None
            ),
            "kinds": {
                kind.kind: {"due": kind.due, "held": kind.held, "oldestDueSeconds": kind.oldest_seconds} for kind in due
            },
        }
        return Reading(details, tuple(alarms))


class StepsProbe:
    """Steps that somebody works on: on all nodes by their type; what this node runs, and who waits on it for more."""

    name = "steps"

    def __init__(self, thresholds: MonitoringSettings, worker: StepWorker, external: ExternalTasks) -> None:
        self._thresholds = thresholds
        self._worker = worker
        self._external = external

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        running = await read_model.running_steps(connection)
        alarms: list[Alarm] = []
        for type_ in running:
            alarms += beyond(
                "steps_take_long", f"A step of the type {type_.type} is held by a worker and does not end; GET /api/v1/steps "
                "says which, and where. Stop that worker, and the step's retry policy decides.",
                type_.oldest_seconds, self._thresholds.running_step_age_max, type_.type,
            )  # fmt: skip
        details = {
            "running": {type_.type: type_.running for type_ in running},
            "oldestSeconds": {type_.type: type_.oldest_seconds for type_ in running},
            "thisNode": {"running": self._worker.running, "fetchesWaiting": self._external.waiting},
        }
        return Reading(details, tuple(alarms))


class NodesProbe:
    """Every node that lives, and which of them does what only one does."""

    name = "nodes"

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        rows = await connection.fetch(_nodes.every_node)
        leases: dict[str, list[str]] = {}
        for lease in await connection.fetch(_leases.every_lease):
            if lease["owner"] is not None:
                leases.setdefault(lease["owner"], []).append(lease["service"])
        nodes = [
            {
                "name": row["name"], "role": row["role"], "version": row["version"], "format": row["format"],
                "draining": row["draining"], "startedAt": row["started_at"], "seenAt": row["seen_at"],
                "silentSeconds": round(row["silent_seconds"], 1), "leases": leases.get(row["name"], []),
            }
            for row in rows
        ]  # fmt: skip
        alarms = []
        if not any(row["role"] != "api" and not row["draining"] for row in rows):
            alarms.append(
                Alarm("no_worker", "No node does what is due: timers do not fire. Start one with --role worker or all.")
            )
        return Reading(nodes, tuple(alarms))


class LeasesProbe:
    """Services of which one works at a time, and on which node."""

    name = "leases"

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        rows = await connection.fetch(_leases.every_lease)
        return Reading([{"service": row["service"], "owner": row["owner"], "until": row["until"]} for row in rows])


class NodeProbe:
    """This node: its queue of commands, and whether the others reach it."""

    name = "thisNode"

    def __init__(
        self,
        thresholds: MonitoringSettings,
        name: str,
        pipeline: Pipeline,
        messenger: Messenger,
        registrar: NodeRegistrar,
    ) -> None:
        self._thresholds = thresholds
        self._name = name
        self._pipeline = pipeline
        self._messenger = messenger
        self._registrar = registrar

    async def read(self, connection: AnyConnection) -> Reading:
        """Look."""
        pipeline, messenger = self._pipeline, self._messenger
        offset = (datetime.now(UTC) - await connection.fetchval(_nodes.clock)).total_seconds()
        alarms = beyond(
            "clock_wrong", "This node's clock is off the database's. Nothing is due earlier or later for that, but receivers "
            "refuse webhooks that are signed with a wrong time, and ids of new instances tell it; set the clock right.",
            abs(offset), self._thresholds.clock_offset_max, self._name,
        )  # fmt: skip
        if pipeline.overloaded() is not None:
            alarms.append(
                Alarm(
                    "commands_wait",
                    "More commands come than are committed; callers are answered 503.",
                    pipeline.waiting,
                )
            )
        if (unwritten := self._registrar.unwritten) is not None:
            alarms.append(Alarm(unwritten, _UNWRITTEN[unwritten]))
        if self._registrar.others and not messenger.listening:
            alarms.append(
                Alarm(
                    "not_listening",
                    "This node hears no wake-ups of the others, so work waits until it looks by itself; "
                    "database.direct_url must lead to PostgreSQL itself.",
                )
            )
        details: dict[str, Any] = {
            "name": self._name, "format": self._registrar.format, "listening": messenger.listening,
            "clockOffsetSeconds": round(offset, 3),
            "commandsWaiting": pipeline.waiting, "commands": pipeline.commands, "batches": pipeline.batches,
            "overtaken": pipeline.overtaken, "wakeUpsSent": messenger.sent, "wakeUpsReceived": messenger.received,
        }  # fmt: skip
        return Reading(details, tuple(alarms))
