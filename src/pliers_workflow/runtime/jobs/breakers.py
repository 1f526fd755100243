"""Circuit breakers: who does not answer is left alone for a while.

For each tenant and target (the host that a step calls, a plugin) failures in a row are counted. After so many the circuit
is open: steps for that target are postponed, which uses up no attempt, instead of each waiting for its own time-out. When
the time is over one step is let through, and what becomes of it closes the circuit or keeps it open.

What counts as failure is what another attempt might mend; an answer that refuses the request proves that there is somebody.

Each node has its own: what one has learnt costs another its own few failures, and no shared row is written for each call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

#: Targets remembered; the one not used for longest goes first.
TARGETS_MAX: Final = 10_000

State = Literal["closed", "open", "half-open"]


class BreakerState(Struct, frozen=True):
    """A circuit that is not simply closed, for health."""

    tenant_id: str
    target: str
    state: State
    failures: int
    #: seconds until one step is let through
    retry_in: float


class _Circuit:
    __slots__ = ("failures", "open_until", "probing")

    def __init__(self) -> None:
        #: in a row
        self.failures = 0
        #: None: closed
        self.open_until: float | None = None
        #: one step was let through, and nobody knows yet
        self.probing = False


class Breakers:
    """See the module. Used from one event loop."""

    def __init__(self, *, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._circuits: OrderedDict[tuple[str, str], _Circuit] = OrderedDict()

    def admit(self, tenant_id: str, target: str) -> float | None:
        """Seconds to wait before this target is called; None: call it, and say what came of it."""
        circuit = self._circuits.get((tenant_id, target))
        if circuit is None or circuit.open_until is None:
            return None
        left = circuit.open_until - self._clock()
        if left > 0:
            return left
        if circuit.probing:
            return min(1.0, self._open_seconds)
        circuit.probing = True
        return None

    def succeeded(self, tenant_id: str, target: str) -> None:
        """The target answered."""
        self._circuits.pop((tenant_id, target), None)

    def failed(self, tenant_id: str, target: str, *, retry_after: float | None = None) -> None:
        """The target did not answer as it should; `retry_after`: it asked to be left alone for so many seconds."""
        key = (tenant_id, target)
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = _Circuit()
            if len(self._circuits) > TARGETS_MAX:
                self._circuits.popitem(last=False)
        self._circuits.move_to_end(key)
        circuit.failures += 1
        if circuit.probing or circuit.failures >= self._failures:
            circuit.probing = False
            circuit.open_until = self._clock() + max(self._open_seconds, min(retry_after or 0.0, 600.0))

    def unknown(self, tenant_id: str, target: str) -> None:
        """The call was given up from our side: it says nothing about the target, and another may probe."""
        circuit = self._circuits.get((tenant_id, target))
        if circuit is not None:
            circuit.probing = False

    def states(self) -> list[BreakerState]:
        """All circuits that are not simply closed."""
        now = self._clock()
        found = []
        for (tenant_id, target), circuit in self._circuits.items():
            if circuit.open_until is None:
                continue
            left = max(0.0, circuit.open_until - now)
            state: State = "open" if left > 0 else "half-open"
            found.append(BreakerState(tenant_id, target, state, circuit.failures, round(left, 1)))
        return found
