"""Whose turn it is: tenants one after another, and within a tenant its definitions.

A lane is what one definition of a tenant has for one queue at one priority. With a hundred thousand steps in one lane and
a single one in another, both are claimed from in the same round. Priority orders the steps of one definition in one
queue; it gives nobody a place before other definitions, or one could starve the rest.

**Watermarks.** In each lane a claim goes on where the last one ended, so that it does not wade through what is done. A
row may become visible later than rows that are due after it, because its transaction took longer: most by milliseconds, at
worst by the writers' `statement_timeout`. So a claim goes on from the last job claimed, but not nearer to the present than
a second (`near`), and every few seconds not nearer than the margin (`far`). Jobs that are back-dated beyond that are found
by the sweep that begins at the beginning.

Pure: told what was found and claimed, it says what to ask for next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from msgspec import Struct

from .service import BEGINNING, LOWEST_ID

Mark: TypeAlias = tuple[datetime, str]
"""Where a claim begins: a due time, and an id among those of that time."""

NEAR: Final = timedelta(seconds=1)
#: Seconds between two claims of a lane from its far mark.
FAR_EVERY: Final = 5.0
#: Lanes whose marks are remembered while they have nothing ready; the one not used for longest goes first.
MARKS_MAX: Final = 20_000
_START: Final[Mark] = (BEGINNING, LOWEST_ID)


class LaneKey(Struct, frozen=True):
    """See the module."""

    tenant_id: str
    queue: str
    definition: str
    priority: int


class _Marks:
    __slots__ = ("far", "far_at", "near", "served")

    def __init__(self) -> None:
        self.near: Mark = _START
        self.far: Mark = _START
        #: when it was last asked from its far mark, by the caller's clock
        self.far_at = float("-inf")
        #: when something was claimed from it last, in the order of claims; 0: never
        self.served = 0


class Ask(Struct, frozen=True):
    """What to ask of a lane: at most `share` jobs from `mark` on."""

    lane: LaneKey
    share: int
    mark: Mark
    #: `mark` is the far one
    far: bool


Serves: TypeAlias = Callable[[str, str], bool]
"""Whether somebody here serves this queue of this tenant now."""


class Lanes:
    """See the module. One for each node."""

    def __init__(self, *, margin: timedelta) -> None:
        self._margin = margin
        #: lanes that may have something due: tenant -> definition -> lanes; both in the order of their turns
        self._ready: OrderedDict[str, OrderedDict[str, dict[LaneKey, None]]] = OrderedDict()
        self._marks: OrderedDict[LaneKey, _Marks] = OrderedDict()
        self._served = 0

    def __len__(self) -> int:
        return sum(len(lanes) for definitions in self._ready.values() for lanes in definitions.values())

    def add(self, lane: LaneKey) -> None:
        """There may be something due in this lane."""
        definitions = self._ready.get(lane.tenant_id)
        if definitions is None:
            definitions = self._ready[lane.tenant_id] = OrderedDict()
        lanes = definitions.get(lane.definition)
        if lanes is None:
            lanes = definitions[lane.definition] = {}
        lanes[lane] = None

    def sweep(self, lanes: Sequence[LaneKey]) -> None:
        """These are all lanes there are; each is asked from its beginning next time."""
        self._marks.clear()
        known = set(lanes)
        for lane in list(self._all()):
            if lane not in known:
                self._remove(lane)
        for lane in lanes:
            self.add(lane)

    def any(self, serves: Serves, tenant_id: str | None = None) -> bool:
        """Whether there may be something for whoever serves these queues."""
        return any(serves(lane.tenant_id, lane.queue) and tenant_id in (None, lane.tenant_id) for lane in self._all())

    def turn(
        self, room: int, serves: Serves, *, at: float, tenant_id: str | None = None
    ) -> list[tuple[str, list[Ask]]]:
        """
        What to ask for next, by tenant, for at most `room` jobs (each queue of a definition may bring as many as its
        definition's share). `at`: seconds of a steady clock.

        Empty: there is nothing for whoever serves these queues.
        """
        waiting: list[tuple[str, list[list[LaneKey]]]] = []
        for tenant, definitions in self._ready.items():
            if tenant_id in (None, tenant):
                served = [best for lanes in definitions.values() if (best := _best(lanes, serves))]
                if served:
                    waiting.append((tenant, served))
        turns: list[tuple[str, list[Ask]]] = []
        left = room
        for place, (tenant, served) in enumerate(waiting):
            if left < 1:
                break
            share = max(1, left // (len(waiting) - place))
            asks: list[Ask] = []
            for number, lanes in enumerate(served):
                part = min(share, max(1, share // (len(served) - number)))
                for position, lane in enumerate(lanes):
                    taken = min(part, max(1, part // (len(lanes) - position)))
                    if taken < 1:
                        break
                    asks.append(self._ask(lane, taken, at))
                    part, share, left = part - taken, share - taken, left - taken
                if share < 1:
                    break
            for ask in asks:  # whoever was asked comes last in the next round
                definitions = self._ready[tenant]
                definitions.move_to_end(ask.lane.definition)
                definitions[ask.lane.definition][ask.lane] = definitions[ask.lane.definition].pop(ask.lane)
            turns.append((tenant, asks))
            self._ready.move_to_end(tenant)
        return turns

    def claimed(self, ask: Ask, last: Mark | None, count: int, now: datetime) -> None:
        """So many jobs came of what was asked, the last of them this one; `now` by the database's clock."""
        marks = self._marks_of(ask.lane)
        if count:
            self._served += 1
            marks.served = self._served
        exhausted = count < ask.share
        if exhausted:
            self._remove(ask.lane)
        end = last if last is not None and not exhausted else None
        marks.near = _not_after(end, now - NEAR)
        if ask.far:
            marks.far = _not_after(end, now - self._margin)

    def served(self, ask: Ask) -> int:
        """
        A number that is the smaller the longer nothing was claimed from a lane.

        Where a limit leaves less room than lanes have asked for, it tells who was left out before.
        """
        return self._marks_of(ask.lane).served

    def _ask(self, lane: LaneKey, share: int, at: float) -> Ask:
        marks = self._marks_of(lane)
        far = at - marks.far_at >= FAR_EVERY
        if far:
            marks.far_at = at
        return Ask(lane, share, marks.far if far else marks.near, far)

    def _marks_of(self, lane: LaneKey) -> _Marks:
        marks = self._marks.get(lane)
        if marks is None:
            marks = self._marks[lane] = _Marks()
            if len(self._marks) > MARKS_MAX:
                self._marks.popitem(last=False)
        else:
            self._marks.move_to_end(lane)
        return marks

    def _remove(self, lane: LaneKey) -> None:
        definitions = self._ready.get(lane.tenant_id)
        lanes = definitions.get(lane.definition) if definitions else None
        if definitions is None or lanes is None:
            return
        lanes.pop(lane, None)
        if not lanes:
            del definitions[lane.definition]
            if not definitions:
                del self._ready[lane.tenant_id]

    def _all(self) -> Iterator[LaneKey]:
        for definitions in self._ready.values():
            for lanes in definitions.values():
                yield from lanes


def _best(lanes: dict[LaneKey, None], serves: Serves) -> list[LaneKey]:
    """Of each queue that is served the lane of the first priority."""
    best: dict[str, LaneKey] = {}
    for lane in lanes:
        if serves(lane.tenant_id, lane.queue):
            known = best.get(lane.queue)
            if known is None or lane.priority < known.priority:
                best[lane.queue] = lane
    return list(best.values())


def _not_after(end: Mark | None, bound: datetime) -> Mark:
    return end if end is not None and end[0] < bound else (bound, LOWEST_ID)
