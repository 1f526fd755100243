"""The engine's own events as inbound events: a workflow starts, or goes on, because another has moved.

A reader of the feed takes what the world is told of, asks which of it anybody in the tenant listens for, and puts that into
the inbox under the event's own id: so it is routed once, however often it is read. What one instance tells acts in the
order in which it happened; an event that cannot act just now holds up those after it.

Workflows that set each other off must come to an end. Each event carries its *depth*: how many of the engine's events led
to it without a person in between. What an event makes has its depth; a person's command begins anew; what a step or a
timer does later has the depth of what came before in that instance, and a sub-workflow begins with its parent's. Beyond
`events.depth_max` an event's triggers are failures, which an operator sees. A trigger for `*` is for events from outside only:
it would act on whatever it leads to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pliers_workflow.interpreter.commands import DeliverEvent, InboundEvent, StartInstance
from pliers_workflow.interpreter.events import WorkflowCancelled, WorkflowCompleted, WorkflowFailed
from pliers_workflow.storage import canonical, queries

from ..feed import Envelope, Reader
from ..feed.published import is_told
from .cloudevents import Incoming
from .rules import OWN_READER, OWN_READER_LANES

if TYPE_CHECKING:
    import asyncpg

    from ..feed.cloudevents import EventMaker
    from .inbox import Inbox
    from .rules import Rules

_sql: Final = queries.load("own_events")

#: Ends of instances, whose events carry the data they ended with.
_ENDS: Final = (WorkflowCompleted, WorkflowFailed, WorkflowCancelled)
#: sub-workflows inside each other that are followed upwards
_PARENTS_MAX: Final = 100


class OwnEvents(Reader):
    """See the module."""

    name = OWN_READER
    lanes = OWN_READER_LANES
    batch_size_max = 100
    kind: ClassVar[str] = "routing"

    def __init__(self, pool: asyncpg.Pool[Any], inbox: Inbox, rules: Rules, maker: EventMaker) -> None:
        self._pool = pool
        self._inbox = inbox
        self._rules = rules
        self._maker = maker

    async def readers(self) -> Sequence[Reader]:
        """This one, as soon as any version has ever listened for anything (a source for `Lanes`)."""
        return (self,) if await self._pool.fetchval(_sql.present, self.name) else ()

    def wants(self, envelope: Envelope) -> bool:
        """Whatever the world is told of."""
        return is_told(envelope.type)

    async def handle(self, batch: Sequence[Envelope]) -> None:
        """Put what somebody listens for into the inbox, and have it act, before anything later is read."""
        by_tenant: defaultdict[str, list[tuple[Envelope, str]]] = defaultdict(list)
        for envelope in batch:
            made = self._maker.event(envelope, with_data=True)
            assert made is not None, "only what the world is told of is wanted"
            by_tenant[envelope.tenant_id].append((envelope, made.type))
        for tenant_id, events in by_tenant.items():
            listening = await self._rules.listening(tenant_id, {type_ for _, type_ in events}, own=True)
            heard = [await self._incoming(envelope) for envelope, type_ in events if listening[type_]]
            if heard:
                await self._inbox.receive_all(tenant_id, heard)

    async def _incoming(self, envelope: Envelope) -> Incoming:
        made = self._maker.event(envelope, with_data=True)
        assert made is not None, "only what the world is told of is wanted"
        # As JSON and back, so that it is the same when it is read again.
        data = canonical.decode(canonical.encode_loose(made.data))
        if isinstance(envelope.event, _ENDS):
            found = await self._pool.fetchval(_sql.data_of, envelope.tenant_id, envelope.instance_id)
            data["instanceData"] = found or {}
        attributes = {"workflowname": made.workflowname, "workflowversion": made.workflowversion}
        event = InboundEvent(
            id=made.id,
            source=made.source,
            type=made.type,
            subject=made.subject,
            time=made.time,
            data=data,
            attributes={name: value for name, value in attributes.items() if value is not None},
        )
        return Incoming(event, depth=await self._depth(envelope) + 1, trace=envelope.row.record.command.trace)

    async def _depth(self, envelope: Envelope) -> int:
        """How many of the engine's events led to the command that made this one."""
        command = envelope.row.record.command
        if command.actor.user is not None:
            return 0
        order = command.order
        if isinstance(order, DeliverEvent) or (
            isinstance(order, StartInstance) and order.parent is None and order.depth
        ):
            return order.depth
        instance_id, seq = envelope.instance_id, envelope.row.seq
        for _ in range(_PARENTS_MAX):
            row = await self._pool.fetchrow(_sql.cause, envelope.tenant_id, instance_id, seq)
            if row is None or row["by_person"]:
                return 0
            if row["parent"] is None:
                return int(row["depth"] or 0)
            instance_id, seq = row["parent"], 2**31 - 1
        return 0
