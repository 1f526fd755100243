"""Health: what an operator is told when they ask how the engine is doing, and when there is cause for alarm.

A `HealthProbe` looks at one thing and gives a `Reading`: numbers for people, and an `Alarm` for each that is beyond its
threshold. Services bring their own: `engine.health.add(probe)`. The engine is `ok` without any alarm, `degraded` with
one (it works, but somebody should look), and `failing` when it cannot work.
"""

from __future__ import annotations

from .health import Health, Report, State
from .probe import Alarm, HealthProbe, Reading

__all__ = ["Alarm", "Health", "HealthProbe", "Reading", "Report", "State"]
