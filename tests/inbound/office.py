"""A shop whose orders are workflows: what tests of events share."""

from __future__ import annotations

import json
from typing import Any

from pliers_workflow.interpreter.instance import Instance
from pliers_workflow.runtime.inbound.cloudevents import Incoming, structured
from pliers_workflow.runtime.inbound.rows import EventAnswer, EventRow, Result
from pliers_workflow.storage import canonical
from tests.pipeline.conftest import World


def order_document(
    *triggers: dict[str, Any], name: str = "order", version: str = "1.0.0", **hooks: Any
) -> dict[str, Any]:
    """
    An order waits in `placed` for `paid` and in `packing` for `packed`, and is `shipped`.

    By default it listens for `order.paid`, by the order's number.
    """
    return {
        "name": name,
        "version": version,
        "title": "Order",
        "stateMachine": {
            "initialState": "placed",
            "states": {
                "draft": {"type": "intermediate"},
                "placed": {"type": "intermediate"},
                "packing": {"type": "intermediate"},
                "shipped": {"type": "final"},
                "lost": {"type": "final"},
            },
            "transitions": [
                {"from": "draft", "to": "placed", "trigger": "place"},
                {"from": "placed", "to": "packing", "trigger": "paid", "condition": "event.data.amount >= data.amount"},
                {"from": "packing", "to": "shipped", "trigger": "packed"},
                {"from": "packing", "to": "placed", "trigger": "refunded"},
                {"from": "placed", "to": "lost", "trigger": "cancel"},
            ],
        },
        "dataSchema": {
            "type": "object",
            "properties": {
                "order": {"type": ["string", "integer"]},
                "amount": {"type": "number"},
                "note": {"type": "string"},
            },
        },
        "eventHooks": {
            "correlation": [{"name": "order", "key": "data.order"}],
            "triggers": list(triggers) or [PAID],
            **hooks,
        },
    }


PAID: dict[str, Any] = {
    "id": "paid",
    "eventType": "order.paid",
    "correlationKey": "event.data.order",
    "action": {"type": "advance_state", "trigger": "paid"},
}
PLACED: dict[str, Any] = {
    "id": "placed",
    "eventType": "order.placed",
    "action": {
        "type": "start_workflow",
        "parameters": {"order": "event.data.order", "amount": "event.data.amount"},
    },
}
#: keys are only declared where somebody looks for them
STARTS: dict[str, Any] = {"correlation": []}


def event(id: str, type: str = "order.paid", /, ttl: int | None = None, source: str = "/shop", **data: Any) -> Incoming:
    """An event; what is given by name is its data."""
    value = {"specversion": "1.0", "id": id, "source": source, "type": type, "data": data}
    if ttl is not None:
        value["ttlseconds"] = ttl
    return structured(canonical.decode(json.dumps(value)))


class Shop(World):
    """A world that sends events."""

    async def send(self, *events: Incoming, tenant: str = "default", **options: Any) -> list[EventAnswer]:
        options.setdefault("received_by", self.admin.user_id)
        return list(await self.engine.inbox.receive(tenant, events, **options))

    async def sent(self, one: Incoming, **options: Any) -> EventRow:
        (answer,) = await self.send(one, **options)
        return answer.row

    async def order(self, definition: Any, order: Any, amount: int = 10) -> str:
        return (await self.start(definition, data={"order": order, "amount": amount})).instance.id

    async def look(self, instance_id: str) -> Instance:
        """The instance, after everybody has looked for whom they must."""
        from pliers_workflow.storage import instances

        await self.engine.inbox.waits.settle()
        async with self.engine.pool.acquire() as connection:
            loaded, _ = await instances.load(connection, [("default", instance_id)], [])
        found = loaded["default", instance_id].instance
        assert found is not None
        return found

    async def state(self, instance_id: str) -> str:
        return (await self.look(instance_id)).current_state

    async def orders(self, workflow: str = "order") -> list[Any]:
        return list(
            await self.engine.pool.fetch(
                "SELECT id::text AS id, current_state, instance_data::text AS data, requester_id::text AS requester, "
                "workflow_version::text AS version FROM workflow_instances "
                "WHERE tenant_id = 'default' AND workflow_name = $1 ORDER BY id",
                workflow,
            )
        )

    async def event_row(self, event_id: str) -> EventRow:
        row = await self.engine.inbox.get(self.admin, event_id)
        assert row is not None
        return row


def outcomes(row: EventRow) -> list[tuple[str, str]]:
    """What became of an event, by trigger."""
    return [(each.trigger, each.outcome) for each in row.results]


def only(row: EventRow) -> Result:
    """The one result of an event."""
    (found,) = row.results
    return found
