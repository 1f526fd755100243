"""What the database says happened: instances, histories, work items, jobs, keys; read when everything is at rest."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg
from msgspec import Struct

from pliers_workflow.interpreter.instance import Instance
from pliers_workflow.runtime.commit.history import Record, decode_record
from pliers_workflow.storage import instances as storage

from .model import Deed, Row
from .people import Cast

TENANT: Final = "default"


class Line(Struct, frozen=True):
    """A row of the log as it is stored."""

    seq: int
    command_id: str
    record: str
    decoded: Record
    from_state: str | None
    to_state: str | None
    previous_hash: bytes
    hash: bytes
    position: int
    executed_at: datetime
    executed_by: str | None


class Found(Struct, frozen=True):
    """All there is, by instance."""

    instances: dict[str, Instance]
    hashes: dict[str, bytes]
    lines: dict[str, list[Line]]
    #: work items
    items: dict[str, list[asyncpg.Record]]
    jobs: list[asyncpg.Record]
    #: idempotency records of commands by (user id, key)
    keys: dict[tuple[str, str], asyncpg.Record]
    #: up to where the log is shown to its readers
    horizon: int = 0


async def read(connection: asyncpg.Connection[Any]) -> Found:
    """Read everything, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(
            "SELECT workflow_instance_id::text AS instance, seq, command_id, execution_data::text AS record, from_state, "
            "to_state, previous_hash, hash, position, executed_at, executed_by::text AS executed_by "
            "FROM workflow_execution_history WHERE tenant_id = $1 ORDER BY workflow_instance_id, seq",
            TENANT,
        )
        lines: dict[str, list[Line]] = defaultdict(list)
        for instance, seq, command_id, record, *rest in rows:
            lines[instance].append(Line(seq, command_id, record, decode_record(record), *rest))
        ids = await connection.fetch("SELECT id::text AS id FROM workflow_instances WHERE tenant_id = $1", TENANT)
        found: dict[str, Instance] = {}
        hashes: dict[str, bytes] = {}
        for start in range(0, len(ids), 500):
            loaded, _ = await storage.load(connection, [(TENANT, row["id"]) for row in ids[start : start + 500]], [])
            for (_, instance_id), one in loaded.items():
                assert one.instance is not None
                found[instance_id], hashes[instance_id] = one.instance, one.history_hash
        items: dict[str, list[asyncpg.Record]] = defaultdict(list)
        for row in await connection.fetch(
            "SELECT workflow_instance_id::text AS instance, item, step_id, visit, round, approver_type, approver_key, "
            "action::text AS action, comments, decided_by::text AS decided_by FROM workflow_approvals WHERE tenant_id = $1",
            TENANT,
        ):
            items[row["instance"]].append(row)
        jobs = await connection.fetch(
            "SELECT id::text AS id, kind, workflow_instance_id::text AS instance, name, due_at, status, lease_owner, "
            "lease_until, attempt, last_error FROM workflow_jobs WHERE tenant_id = $1",
            TENANT,
        )
        keys = {
            (row["principal"], row["key"]): row
            for row in await connection.fetch(
                "SELECT principal, route, key, workflow_instance_id::text AS instance, seq, subject, command_id "
                "FROM idempotency_records WHERE tenant_id = $1",
                TENANT,
            )
        }
        horizon = await connection.fetchval("SELECT horizon FROM log_horizon")
    return Found(found, hashes, dict(lines), dict(items), jobs, keys, horizon)


def told(lines: list[Line], cast: Cast) -> list[Row]:
    """The rows of a history as models see them."""
    names = cast.names
    rows = []
    for line in lines:
        told = json.loads(line.record, parse_float=Decimal)
        command, events = told["command"], told["events"]
        order = command["order"]
        user = names.get(command["actor"].get("user", ""), "")
        deed, mark = _deed(order, events, user)
        fired: dict[str, Any] = next((event for event in events if event["type"] == "workflow.timeout.occurred"), {})
        rows.append(
            Row(
                seq=line.seq,
                at=line.decoded.at,
                deed=deed,
                mark=mark,
                command_id=line.command_id,
                from_state=line.from_state,
                to_state=line.to_state,
                timer=order.get("timer", ""),
                trigger=fired.get("trigger", ""),
                step=order.get("step") or fired.get("step", ""),
                attempt=order.get("attempt", 1),
                code=order.get("code", ""),
                output=_output(order, events),
                begun=_begun(events),
                asked=tuple(
                    names[event["item"]["approver"]]
                    for event in events
                    if event["type"] == "workflow.approval.requested" and event["item"]["approver"] in names
                ),
                position=line.position,
                instance=line.decoded.instance,
            )
        )
    return rows


#: Types of steps that hold others, or take no time.
_NO_LEAVES: Final = frozenset(
    {"sequential", "parallel", "conditional", "for_each", "branch", "element", "assign", "emit"}
)


def _begun(events: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    runs = [event["run"] for event in events if event["type"] == "workflow.step.started"]
    return tuple((run["id"], run["step_id"]) for run in runs if run["type"] not in _NO_LEAVES)


def _output(order: dict[str, Any], events: list[dict[str, Any]]) -> Any:
    """What a step gave; the order does not repeat it."""
    kept = ("workflow.step.completed", "workflow.step.held", "workflow.step.compensated")
    given = (event for event in events if event["type"] in kept and event["step"] == order.get("step"))
    return next((event.get("output") for event in given), None)


def _deed(order: dict[str, Any], events: list[dict[str, Any]], user: str) -> tuple[Deed, str]:
    """What was ordered, and by which call."""
    match order["type"]:
        case "start":
            begun = next(event for event in events if event["type"] == "workflow.started")["data"]
            return Deed("start", "", user, begun), begun["mark"]
        case "fire":
            return Deed("fire", order["trigger"], user), order["data"]["mark"]
        case "decide":
            return Deed("decide", order["action"], user), order["comments"]
        case "update_data":
            changed = next((event for event in events if event["type"] == "workflow.data.changed"), {})
            data: dict[str, Any] = changed.get("set", {})
            return Deed("update_data", "", user, {k: v for k, v in data.items() if k != "last"}), data.get("last", "")
        case "correlate":
            event, action = order["event"], order.get("action", "receive")
            if action == "receive":  # its data are told as the step's output
                kept = ("workflow.step.completed", "workflow.step.held")
                output: dict[str, Any] = next((one["output"] for one in events if one["type"] in kept), {})
                event = {**event, "data": output.get("data", {})}
            return Deed("correlate", action, user, event), event["id"]
        case "fire_timer":
            return Deed("fire_timer", "", user), ""
        case kind:
            return Deed(kind, "", user), order.get("reason", "") if user else ""
