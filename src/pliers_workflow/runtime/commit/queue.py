"""Commands that wait for a batch.

Commands of one instance stay in the order in which they came, and are in one batch at a time. Tenants take turns, so that
one with ten thousand commands does not keep another's single one waiting.

What people wait for goes before background work (timers, results of steps, events), of which there may be a hundred thousand
at one moment. A few background commands come along in every batch, so that they get on in any case. Batches of nothing else
are small and one at a time while people are about, and always leave one worker free, so that whoever comes meanwhile waits
for neither.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.interpreter.interpret import is_unattended

from ..answers import Answer, RequestKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pliers_workflow.interpreter.commands import Command
    from pliers_workflow.interpreter.facts import Fact
    from pliers_workflow.interpreter.rejections import Rejection

Key = tuple[str, str]
"""Tenant id and instance id."""

#: Commands that must wait before another batch is begun while one is in flight. A batch has a price of its own (two round
#: trips, and setting up a large statement): 2 ms of CPU where a transition costs 0.2. So few commands wait for the batch
#: before them instead; with many, one batch is interpreted while another is written. Figures: decision 0009.
FURTHER_BATCH_MIN: Final = 32

#: Background commands that come along in a batch that somebody waits for.
BACKGROUND_BESIDE: Final = 8
#: Background commands in a batch of nothing else: while somebody was there in the last seconds, and else.
BACKGROUND_BATCH_MIN: Final = 32
BACKGROUND_BATCH_MAX: Final = 256
#: Seconds for which somebody is about who has given a command.
ABOUT: Final = 2.0


class Pending:
    """A command on its way to its answer."""

    __slots__ = (
        "alone", "attempts", "background", "base_revision", "command", "enqueued_at", "facts", "future", "instance_id",
        "now", "queued", "refused", "request", "rounds", "sent_revision", "settled", "taken", "tenant_id", "uncertain",
    )  # fmt: skip

    def __init__(
        self, tenant_id: str, instance_id: str, command: Command, request: RequestKey | None, *, background: bool
    ) -> None:
        self.tenant_id = tenant_id
        self.instance_id = instance_id
        self.command = command
        self.request = request
        self.background = background
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.enqueued_at = time.monotonic()
        #: times it was overtaken, or lost with a connection
        self.attempts = 0
        #: a statement with it was sent, and nobody said what became of it: from then on, until it is answered
        self.uncertain = False
        #: the revision it was interpreted at when it was sent; of an uncertain one, when it was sent first
        self.base_revision = 0
        #: the revision it was interpreted at when it was sent last
        self.sent_revision = 0
        #: facts from outside the directory, fetched for it
        self.facts: dict[str, Fact] | None = None
        #: the time at which it was interpreted first: scripts are asked about that moment, and it must not move on
        self.now: datetime | None = None
        #: rounds of scripts
        self.rounds = 0
        #: needs more work than a batch allows
        self.alone = False
        #: it cannot take effect, and nobody would read of that: why, and what happens instead is done
        self.refused: Rejection | None = None
        #: it was in a batch once
        self.taken = False
        #: it is in the queue now
        self.queued = False
        #: its caller was answered; nothing may be done with it any more
        self.settled = False

    def sent_at(self, revision: int) -> None:
        """It is being sent, interpreted at this revision."""
        self.sent_revision = revision
        if not self.uncertain:
            self.base_revision = revision

    def may_be_committed(self, revision: int) -> bool:
        """Whether a backend may commit it yet, though it is not in the history and the instance is at this revision."""
        return self.uncertain and revision <= self.sent_revision

    @property
    def sought(self) -> tuple[str, str, int, str]:
        """What `storage.applied` looks for."""
        return self.tenant_id, self.instance_id, self.base_revision, self.command.id

    def refuse(self, rejection: Rejection) -> bool:
        """It was too much. Answer the caller; False: nobody would read of that, and what happens instead is to be done."""
        if self.refused is None and is_unattended(self.command.order):
            self.refused = rejection
            return False
        self.answer(rejection)
        return True

    def answer(self, answer: Answer) -> None:
        """Answer the caller, unless it has gone."""
        self.settled = True
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Tell the caller that there is no answer."""
        self.settled = True
        if not self.future.done():
            self.future.set_exception(error)


class _Slot:
    """The waiting commands of one instance."""

    __slots__ = ("busy", "commands", "queued")

    def __init__(self) -> None:
        self.commands: deque[Pending] = deque()
        self.busy = False
        self.queued = False


class _Turns:
    """Keys in the order of their tenants' turns."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[Key]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def append(self, key: Key, *, front: bool = False) -> None:
        keys = self._tenants.get(key[0])
        if keys is None:
            keys = self._tenants[key[0]] = deque()
        if front:
            keys.appendleft(key)
        else:
            keys.append(key)

    def pop(self) -> Key:
        tenant_id, keys = next(iter(self._tenants.items()))
        key = keys.popleft()
        if keys:
            self._tenants.move_to_end(tenant_id)
        else:
            del self._tenants[tenant_id]
        return key


class CommandQueue:
    """See the module. Used from one event loop."""

    def __init__(self, batches_in_flight: int = 1) -> None:
        """`batches_in_flight`: how many batches there may be at a time."""
        self._background_in_flight_max = max(1, batches_in_flight - 1)
        self._about_until = float("-inf")
        self._slots: dict[Key, _Slot] = {}
        self._interactive = _Turns()
        self._background = _Turns()
        self._arrivals: deque[Pending] = deque()
        self._idle: list[asyncio.Future[Any]] = []
        #: commands that wait, and those of them that are background work
        self.length = 0
        self.background_length = 0
        #: batches that were taken and are not committed yet: until `end`
        self.in_flight = 0
        #: those of them that were taken for background work. (Not told by what is in them: behind an instance's timer there
        #: may be a command that somebody waits for, and it comes along.)
        self._background_batches: set[int] = set()

    def put(self, pending: Pending) -> None:
        """Append a command."""
        key = (pending.tenant_id, pending.instance_id)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot()
        slot.commands.append(pending)
        self._count(pending, queued=True)
        if not pending.background:
            self._about_until = pending.enqueued_at + ABOUT
        self._arrivals.append(pending)
        if not slot.busy and not slot.queued:
            self._enqueue(key, slot, front=False)

    def give_back(self, key: Key, commands: Sequence[Pending]) -> None:
        """Put commands of a busy instance back to the front, in their order; `release` lets them be taken again."""
        slot = self._slots[key]
        slot.commands.extendleft(reversed(commands))
        for pending in commands:
            self._count(pending, queued=True)

    def take_first(self, key: Key) -> Pending:
        """Take the first command of a busy instance out of the queue."""
        pending = self._slots[key].commands.popleft()
        self._count(pending, queued=False)
        return pending

    def release(self, key: Key) -> None:
        """The instance is in no batch any more."""
        slot = self._slots[key]
        slot.busy = False
        if slot.commands:
            self._enqueue(key, slot, front=True)
        else:
            del self._slots[key]

    def take(self, limit: int, fold_max: int) -> list[tuple[Key, list[Pending]]]:
        """
        The next batch; its instances are busy. Empty: nothing should be taken now.

        Up to `limit` commands that somebody waits for, with some background work; or background work only, less of it. Of
        each instance at most `fold_max`.
        """
        batch: list[tuple[Key, list[Pending]]] = []
        if self._interactive_ready():
            self._fill(batch, self._interactive, limit, fold_max)
            self._fill(batch, self._background, BACKGROUND_BESIDE, fold_max)
        elif self._background_ready():
            most = BACKGROUND_BATCH_MIN if self._somebody_about() else BACKGROUND_BATCH_MAX
            self._fill(batch, self._background, min(limit, most), fold_max)
            self._background_batches.add(id(batch))
        if batch:
            self.in_flight += 1
            self._wake_for_more()
        return batch

    def end(self, batch: Sequence[tuple[Key, Sequence[Pending]]]) -> None:
        """A batch that was taken is not in flight any more."""
        self.in_flight -= 1
        self._background_batches.discard(id(batch))

    @property
    def background_in_flight(self) -> int:
        """Batches in flight that were taken for background work."""
        return len(self._background_batches)

    def ready(self) -> bool:
        """Whether a batch should be taken now."""
        return self._interactive_ready() or self._background_ready()

    def _interactive_ready(self) -> bool:
        """Batches of background work are not waited for."""
        if not self._interactive:
            return False
        others = self.in_flight - self.background_in_flight
        return others == 0 or self.length - self.background_length >= FURTHER_BATCH_MIN

    def _background_ready(self) -> bool:
        most = 1 if self._somebody_about() else self._background_in_flight_max
        if not self._background or self.background_in_flight >= most:
            return False
        return self.in_flight == 0 or self.background_length >= FURTHER_BATCH_MIN

    def _somebody_about(self) -> bool:
        return time.monotonic() < self._about_until

    def _fill(self, batch: list[tuple[Key, list[Pending]]], turns: _Turns, limit: int, fold_max: int) -> None:
        count = 0
        while turns and count < limit:
            key = turns.pop()
            slot = self._slots[key]
            slot.queued, slot.busy = False, True
            commands: list[Pending] = []
            while slot.commands and len(commands) < fold_max and count < limit:
                pending = slot.commands.popleft()
                pending.taken = True
                self._count(pending, queued=False)
                commands.append(pending)
                count += 1
            batch.append((key, commands))

    def _count(self, pending: Pending, *, queued: bool) -> None:
        pending.queued = queued
        change = 1 if queued else -1
        self.length += change
        if pending.background:
            self.background_length += change

    async def wait(self) -> None:
        """Wait until there may be something to take."""
        if self.ready():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def wake_all(self) -> None:
        """Let everybody who waits look again."""
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    def age(self) -> float:
        """Seconds that the oldest command has waited to be taken for the first time."""
        while self._arrivals and (self._arrivals[0].taken or self._arrivals[0].future.done()):
            self._arrivals.popleft()
        return time.monotonic() - self._arrivals[0].enqueued_at if self._arrivals else 0.0

    def waiting(self) -> list[Pending]:
        """All commands that are in no batch."""
        return [pending for slot in self._slots.values() for pending in slot.commands]

    def waiting_for(self, key: Key) -> list[Pending]:
        """The commands of one instance that are in no batch."""
        slot = self._slots.get(key)
        return [] if slot is None else list(slot.commands)

    def _enqueue(self, key: Key, slot: _Slot, *, front: bool) -> None:
        slot.queued = True
        turns = self._background if slot.commands[0].background else self._interactive
        turns.append(key, front=front)
        self._wake_for_more()

    def _wake_for_more(self) -> None:
        if self._idle and self.ready():
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
