"""What must become of an instance, told a second time in a few lines of plain Python.

A model knows nothing of the interpreter: it is told the accepted commands of one instance in the order in which they
stand in the history, and says for each whether it could be accepted there, and where the instance stands after it.
"""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

#: Clocks are kept to the millisecond.
_ROUNDING = timedelta(milliseconds=2)
_ENDED = ("completed", "cancelled", "failed")


class Deed(Struct, frozen=True):
    """What somebody wants of an instance: the kind of command, its name (a trigger, an action), and who gives it."""

    kind: str
    name: str
    #: username; the engine: ""
    user: str
    #: what it brings, as far as models look at it
    data: dict[str, Any] = {}


class Row(Struct, frozen=True):
    """One row of a history, as models see it."""

    seq: int
    at: datetime
    deed: Deed
    #: the key of the call that made it, which every call writes into its command; "": the engine's own
    mark: str
    command_id: str
    from_state: str | None
    to_state: str | None
    #: of a timer that fired: its id, and what it raised
    timer: str = ""
    trigger: str = ""
    #: of a step's clock or result: its run, the attempt, and the code of a failure
    step: str = ""
    attempt: int = 0
    code: str = ""
    output: Any = None
    #: steps that were begun, and hold no others: run and step id, in order
    begun: tuple[tuple[str, str], ...] = ()
    #: usernames of people who are asked from this row on
    asked: tuple[str, ...] = ()
    position: int = 0
    instance: str = ""


class Disagreement(Exception):
    """The history says something that the model does not allow."""


class Clock(Struct):
    """A budget that runs down, except while it is paused."""

    started_at: datetime
    budget: timedelta
    paused: bool = False

    @property
    def due_at(self) -> datetime:
        """When it fires, if nothing happens before."""
        return self.started_at + self.budget

    def pause(self, at: datetime) -> None:
        """Keep what is left."""
        self.budget -= at - self.started_at
        self.paused = True

    def resume(self, at: datetime) -> None:
        """Go on with what is left."""
        self.started_at, self.paused = at, False


class Model:
    """What all workflows share; each adds `allows`, `does` and `rings`."""

    def __init__(self, started: Row) -> None:
        self.status = "waiting"
        self.state = ""
        #: what the instance data must hold, at least
        self.data: dict[str, Any] = {}
        #: running clocks by the trigger they raise
        self.clocks: dict[str, Clock] = {}
        self.fired: set[str] = set()
        #: how late timers fired, in seconds
        self.lateness: list[float] = []
        #: names of steps that are at work, by run
        self.runs: dict[str, str] = {}
        #: names of steps that must be begun by the row at hand, in order
        self.begins: list[str] = []
        #: steps that somebody else is at, with the attempt; and results that came while it was suspended, by run
        self.at_work: dict[str, int] = {}
        self.held: dict[str, Row] = {}
        #: marks of the instances that it has started
        self.children: list[str] = []
        #: what must have been done outside: the attempt, what, and by when
        self.favours: list[tuple[str, str, datetime]] = []
        self.begin(started)
        self._match(started)

    # -- for each workflow ---------------------------------------------------------------------------------------------

    def begin(self, started: Row) -> None:
        """Stand where the start leads."""
        raise NotImplementedError

    def allows(self, deed: Deed) -> bool:
        """Whether this would be accepted now, in an instance that is neither ended nor suspended."""
        raise NotImplementedError

    def does(self, deed: Deed, at: datetime) -> None:
        """Do it."""
        raise NotImplementedError

    def rings(self, trigger: str, at: datetime) -> None:
        """A clock has run out."""
        raise NotImplementedError

    def keeps(self, deed: Deed) -> bool:
        """Whether this is accepted while it is suspended, and takes effect when it is resumed."""
        return False

    def resumes(self, at: datetime) -> None:
        """What was kept takes effect."""

    def completes(self, name: str, row: Row) -> None:
        """A step has given its result."""
        raise NotImplementedError

    def fails(self, name: str, row: Row) -> None:
        """An attempt at a step has failed."""
        raise NotImplementedError

    @property
    def standing(self) -> str:
        """The status as it is told."""
        return self.status

    @property
    def configuration(self) -> list[str]:
        """All active states."""
        return [self.state]

    # -- for all -------------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Nothing moves it any more."""
        return self.status in _ENDED

    def accepts(self, deed: Deed) -> bool:
        """Whether this command would be accepted now."""
        if self.ended:
            return False
        if self.status == "suspended":
            return deed.kind in ("resume", "cancel") or self.keeps(deed)
        if deed.kind in ("suspend", "cancel"):
            return True
        return deed.kind != "resume" and self.allows(deed)

    def may_refuse(self, deed: Deed) -> bool:
        """Whether this command may be refused now, for whatever reason."""
        return not self.accepts(deed)

    def apply(self, row: Row) -> None:
        """Take the next row of the history. Raises `Disagreement`."""
        if row.from_state != self.state:
            raise Disagreement(f"comes from {row.from_state!r}, the model stands in {self.state!r}")
        if row.deed.kind == "fire_timer":
            self._fire(row)
        elif row.deed.kind in ("complete_step", "fail_step"):
            self._result(row)
        elif not self.accepts(row.deed):
            raise Disagreement(f"must have been refused in {self.describe()}")
        elif row.deed.kind == "suspend":
            self.status = "suspended"
            for clock in self.clocks.values():
                clock.pause(row.at)
        elif row.deed.kind == "resume":
            self.status = "waiting"
            for clock in self.clocks.values():
                clock.resume(row.at)
            self.resumes(row.at)
            held, self.held = self.held, {}
            for run in sorted(held, key=lambda run: int(run.partition("/")[2])):
                if not self.ended:
                    self._take(held[run], row.at)
        elif row.deed.kind == "cancel":
            self.end("cancelled", self.state)
        else:
            self.does(row.deed, row.at)
        if row.to_state != self.state:
            raise Disagreement(f"leads to {row.to_state!r}, the model to {self.describe()}")
        self._match(row)

    def _match(self, row: Row) -> None:
        """The steps that were begun are those that must be; from here on their runs go by our names."""
        expected, self.begins = self.begins, []
        if [name.split("/")[0] for name in expected] != [step_id for _, step_id in row.begun]:
            raise Disagreement(f"begins {row.begun}, the model {expected}")
        self.runs |= {run: name for (run, _), name in zip(row.begun, expected, strict=True)}

    def _result(self, row: Row) -> None:
        name = self.runs.get(row.step, "?")
        if self.at_work.get(name) != row.attempt or row.step in self.held:
            raise Disagreement(
                f"brings a result of {row.step} ({name}), attempt {row.attempt}; at work: {self.at_work}"
            )
        if self.status == "suspended":
            self.held[row.step] = row
        else:
            self._take(row, row.at)

    def _take(self, row: Row, at: datetime) -> None:
        name = self.runs[row.step]
        row = replace(row, at=at)
        if row.deed.kind == "complete_step":
            del self.at_work[name]
            self.completes(name, row)
        else:
            self.fails(name, row)

    def work(self, name: str) -> None:
        """Have somebody else do a step: it must be begun by this row."""
        self.begins.append(name)
        self.at_work[name] = 1

    def _fire(self, row: Row) -> None:
        if row.timer in self.fired:
            raise Disagreement(f"{row.timer} fires a second time")
        self.fired.add(row.timer)
        trigger = self.runs.get(row.step, "?") if row.step else row.trigger
        clock = self.clocks.pop(trigger, None)
        if clock is None or clock.paused:
            raise Disagreement(f"{row.timer} fires {trigger!r}, and no such clock runs in {self.describe()}")
        late = row.at - clock.due_at
        if late < -_ROUNDING:
            raise Disagreement(f"{trigger!r} fires {-late.total_seconds():.3f} s before its time")
        self.lateness.append(late.total_seconds())
        self.rings(trigger, row.at)

    def end(self, status: str, state: str) -> None:
        """Come to the end."""
        self.status, self.state = status, state
        self.clocks.clear()
        self.at_work.clear()

    def start_clock(self, trigger: str, at: datetime, minutes: float) -> None:
        """Start a clock, or start it anew."""
        self.clocks[trigger] = Clock(at, timedelta(milliseconds=round(minutes * 60_000)))

    def describe(self) -> str:
        """Say where it stands, for a message."""
        return f"{self.state} ({self.status}, clocks {sorted(self.clocks)})"

    def copy(self) -> Self:
        """As it is now."""
        return copy.deepcopy(self)
