"""What a reader of the log is: whoever is told of every event, in order per instance, at least once.

To write one, say what it is called, which events it wants, and what it does with them:

    class Counter(Reader):
        name = "counter"
        lanes = 4

        def wants(self, envelope: Envelope) -> bool:
            return isinstance(envelope.event, WorkflowCompleted)

        async def handle(self, batch: Sequence[Envelope]) -> None:
            for envelope in batch:
                await count(envelope.tenant_id, key=envelope.key(self.name))

and register it before the engine starts: `engine.feed.register(Counter())`. Then the engine sees to the rest:

- The reader's lanes are shared out among the nodes, each lane to one node under a lease. An instance is always in the same
  lane, so its events come one after another; different lanes are handled at the same time.
- `handle` gets what has been committed and nobody can overtake any more. When it returns, the batch is done and the
  lane's cursor moves. When it raises, the lane waits (longer each time, and as long as `Stuck.retry_after` says) and the
  batch comes again: later events of these instances wait too. Raise for what may pass, such as a database that is away.
  What will never work is the reader's own to put aside; raising for it stops the lane.
- A node may die between acting and moving the cursor. Then another one is given the same events, so act under
  `envelope.key(self.name)`, and let whoever is acted upon know that key (`ON CONFLICT DO NOTHING`, an idempotency key).
- A reader that is new to an installation begins with what happens from then on (`begins = "now"`), or with the first row
  of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cursors import Claimed, Cursors
    from .envelope import Envelope
    from .held import HeldLane


class Stuck(Exception):
    """
    The reader cannot go on now. The first `done` envelopes of the batch are done and do not come again.

    `retry_after` is how many seconds to wait at least; the lane's back-off may say longer.
    """

    def __init__(self, message: str, *, done: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.done = done
        self.retry_after = retry_after


class Reader:
    """See the module."""

    #: what its cursors are kept under; never change it
    name: str
    #: how many lanes it has when it is first seen; later changes have no effect, because they would break the order
    lanes: int = 4
    #: envelopes given at once
    batch_size_max: int = 100
    #: whose events it reads; None: those of all tenants
    tenant_id: str | None = None
    #: where a reader begins that has never read; None: its lanes are made by somebody else
    begins: Literal["now", "beginning"] | None = "now"
    #: seconds between two attempts: doubled with each failure, and spread
    retry_delay_min: float = 1.0
    retry_delay_max: float = 60.0

    #: what it is, for health
    kind: ClassVar[str] = "reader"

    def wants(self, envelope: Envelope) -> bool:
        """Whether it is to be given this event. Cheap, without side effects, and the same answer every time."""
        return True

    async def handle(self, batch: Sequence[Envelope]) -> None:
        """Act on events, in their order. Raise to have them again later; `Stuck` says from which one on."""
        raise NotImplementedError

    def lane(self, claimed: Claimed, cursors: Cursors) -> HeldLane | None:
        """What reads in a lane of this reader on this node; None: the log is read, and `handle` told."""
        return None

    async def failed(self, error: Exception, *, failures: int, failing: float) -> None:
        """Be told that an attempt has failed: the `failures`-th in a row, `failing` seconds after the first."""

    async def close(self) -> None:
        """Let go of connections: this node reads for it no more."""
