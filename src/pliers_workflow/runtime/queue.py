"""Commands that wait for a batch.

Commands of one instance stay in the order in which they came, and are in one batch at a time. Tenants take turns, so that
one with ten thousand commands does not keep another's single one waiting; what people wait for goes before background
work, which keeps a share of every batch.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final

from .answers import Answer, RequestKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pliers_workflow.interpreter.commands import Command
    from pliers_workflow.interpreter.facts import Fact

Key = tuple[str, str]
"""Tenant id and instance id."""

#: Commands that must wait before another batch is begun while one is in flight. A batch has a price of its own (two round
#: trips, and setting up a large statement): 2 ms of CPU where a transition costs 0.2. So few commands wait for the batch
#: before them instead; with many, one batch is interpreted while another is written. Figures: decision 0009.
FURTHER_BATCH_MIN: Final = 32

#: The part of a batch that background work may have while people wait.
_BACKGROUND_SHARE: Final = 8


class Pending:
    """A command on its way to its answer."""

    __slots__ = (
        "alone", "attempts", "background", "base_revision", "command", "enqueued_at", "facts", "future", "instance_id",
        "now", "queued", "request", "rounds", "settled", "taken", "tenant_id", "uncertain",
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
        #: a statement with it was sent, and nobody said what became of it
        self.uncertain = False
        #: the revision it was interpreted at when it was sent
        self.base_revision = 0
        #: facts from outside the directory, fetched for it
        self.facts: dict[str, Fact] | None = None
        #: the time at which it was interpreted first: scripts are asked about that moment, and it must not move on
        self.now: datetime | None = None
        #: rounds of fetching
        self.rounds = 0
        #: needs more work than a batch allows
        self.alone = False
        #: it was in a batch once
        self.taken = False
        #: it is in the queue now
        self.queued = False
        #: its caller was answered; nothing may be done with it any more
        self.settled = False

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

    def __init__(self) -> None:
        self._slots: dict[Key, _Slot] = {}
        self._interactive = _Turns()
        self._background = _Turns()
        self._arrivals: deque[Pending] = deque()
        self._idle: list[asyncio.Future[Any]] = []
        #: commands that wait
        self.length = 0
        #: batches that were taken and are not committed yet; counted down by who took them
        self.in_flight = 0

    def put(self, pending: Pending) -> None:
        """Append a command."""
        key = (pending.tenant_id, pending.instance_id)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot()
        slot.commands.append(pending)
        pending.queued = True
        self.length += 1
        self._arrivals.append(pending)
        if not slot.busy and not slot.queued:
            self._enqueue(key, slot, front=False)

    def give_back(self, key: Key, commands: Sequence[Pending]) -> None:
        """Put commands of a busy instance back to the front, in their order; `release` lets them be taken again."""
        slot = self._slots[key]
        slot.commands.extendleft(reversed(commands))
        for pending in commands:
            pending.queued = True
        self.length += len(commands)

    def take_first(self, key: Key) -> Pending:
        """Take the first command of a busy instance out of the queue."""
        pending = self._slots[key].commands.popleft()
        pending.queued = False
        self.length -= 1
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
        """The next batch: up to about `limit` commands, of each instance at most `fold_max`; its instances are busy."""
        batch: list[tuple[Key, list[Pending]]] = []
        count = 0
        share = limit - (limit // _BACKGROUND_SHARE if self._background else 0)
        for turns, until in ((self._interactive, share), (self._background, limit), (self._interactive, limit)):
            while turns and count < until:
                key = turns.pop()
                slot = self._slots[key]
                slot.queued, slot.busy = False, True
                commands: list[Pending] = []
                while slot.commands and len(commands) < fold_max and count < limit:
                    pending = slot.commands.popleft()
                    pending.taken, pending.queued = True, False
                    commands.append(pending)
                    count += 1
                batch.append((key, commands))
        self.length -= count
        if batch:
            self.in_flight += 1
        return batch

    def ready(self) -> bool:
        """Whether a batch should be taken now."""
        return bool(self._interactive or self._background) and (self.in_flight == 0 or self.length >= FURTHER_BATCH_MIN)

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

    def _enqueue(self, key: Key, slot: _Slot, *, front: bool) -> None:
        slot.queued = True
        turns = self._background if slot.commands[0].background else self._interactive
        turns.append(key, front=front)
        if self._idle and self.ready():
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
