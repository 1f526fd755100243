"""The registry of probes, and the report that they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import structlog
from msgspec import Struct

from .probe import Alarm, HealthProbe, Reading

if TYPE_CHECKING:
    from asyncpg.pool import Pool

_log: Final = structlog.get_logger(__name__)

State: TypeAlias = Literal["ok", "degraded", "failing"]

#: Seconds that all probes together may take, and one of them.
_TIMEOUT: Final = 5.0
_PROBE_TIMEOUT: Final = 2.0


class Report(Struct, frozen=True):
    """How the engine is doing."""

    state: State
    #: by the probe's name
    details: dict[str, Any]
    alarms: tuple[Alarm, ...]


class Health:
    """Asks every probe; one after the other on one connection, so that asking costs the database little."""

    def __init__(self, pool: Pool[Any], probes: Iterable[HealthProbe] = ()) -> None:
        self._pool = pool
        self._probes = list(probes)

    def add(self, probe: HealthProbe) -> None:
        """Have a probe asked from now on."""
        assert probe.name not in {known.name for known in self._probes}, f"two probes are named {probe.name}"
        self._probes.append(probe)

    async def report(self) -> Report:
        """Ask all. A probe that fails is an alarm; without the database the engine is failing."""
        details: dict[str, Any] = {}
        alarms: list[Alarm] = []
        state: State = "ok"
        try:
            async with asyncio.timeout(_TIMEOUT), self._pool.acquire() as connection:
                for probe in self._probes:
                    reading = await _read(probe, connection)
                    details[probe.name] = reading.details
                    alarms.extend(reading.alarms)
        except Exception as error:  # whatever it is, a node that cannot ask its database cannot work
            _log.warning("health_not_known", error=repr(error))
            alarms.append(Alarm("database_unreachable", "The database does not answer; nothing works until it does."))
            state = "failing"
        if alarms and state == "ok":
            state = "degraded"
        return Report(state, details, tuple(alarms))


async def _read(probe: HealthProbe, connection: Any) -> Reading:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            return await probe.read(connection)
    except Exception as error:  # a probe's defect must not hide what the others say
        if connection.is_closed():
            raise
        _log.warning("probe_failed", probe=probe.name, error=repr(error))
        message = f"The probe {probe.name} could not look; the log says why."
        return Reading(None, (Alarm("probe_failed", message, subject=probe.name),))
