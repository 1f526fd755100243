"""What must hold whatever a workflow does: chains, folding, revisions, jobs, work items, votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import asyncpg

from pliers_workflow.runtime.access.audit import Audit
from pliers_workflow.runtime.commit.history import BrokenChain, fold_records, verify_chain

from .histories import TENANT, Found


def of_instance(found: Found, instance_id: str) -> Iterator[str]:
    """What is wrong with one instance, by itself."""
    lines = found.lines.get(instance_id, [])
    instance = found.instances.get(instance_id)
    if instance is None or not lines:
        yield "there is a history and no instance" if lines else "there is an instance and no history"
        return
    try:
        verify_chain(instance_id, [(line.seq, line.record, line.previous_hash, line.hash) for line in lines])
    except BrokenChain as error:
        yield str(error)
    if found.hashes[instance_id] != lines[-1].hash:
        yield "the hash kept on the instance is not the last row's"
    if instance.revision != lines[-1].seq:
        yield f"revision {instance.revision}, but the last row is {lines[-1].seq}"
    positions = [line.position for line in lines]
    if positions != sorted(set(positions)):
        yield f"positions in the log do not grow: {positions}"
    times = [line.decoded.at for line in lines]
    if times != sorted(times):
        yield f"time goes back: {times}"
    for line in lines:
        if (line.decoded.command.id, line.decoded.seq) != (line.command_id, line.seq):
            yield f"the columns of row {line.seq} are not what its record says"
    folded = fold_records(line.decoded for line in lines)
    if folded != instance:
        yield f"folding the history gives {folded}, the row is {instance}"
    yield from _work_items(found, instance_id)
    if instance.ended:
        left = [
            f"{job['kind']} {job['name']} ({job['status']})" for job in found.jobs if job["instance"] == instance_id
        ]
        if left:
            yield f"it has ended, and jobs are left: {', '.join(left)}"
        machine = instance.machine
        if machine.timers or machine.steps or machine.incidents:
            yield f"it has ended, and in it are timers {list(machine.timers)}, steps {list(machine.steps)}, incidents {list(machine.incidents)}"


def _work_items(found: Found, instance_id: str) -> Iterator[str]:
    items = found.items.get(instance_id, [])
    instance = found.instances[instance_id]
    opened = sorted(item["item"] for item in items if item["action"] is None)
    asked = sorted(
        item.id for chain in instance.machine.chains.values() for stage in chain.stages for item in stage.items
    )
    if instance.ended and opened:
        yield f"it has ended, and work items are open: {opened}"
    elif not instance.ended and opened != asked:
        yield f"work items open: {opened}, in the instance: {asked}"
    votes = Counter(
        (item["step_id"], item["visit"], item["round"], item["decided_by"])
        for item in items
        if item["action"] in ("approve", "reject")
    )
    for (stage, visit, round_, user), count in votes.items():
        if count > 1:
            yield f"{user} has voted {count} times in stage {stage}, visit {visit}, round {round_}"
    # Every decision is a row of the history and a settled work item, one for one.
    decided = Counter(
        line.decoded.command.order.action  # type: ignore[union-attr]  # a RecordDecision
        for line in found.lines[instance_id]
        if type(line.decoded.command.order).__name__ == "RecordDecision"
    )
    settled = Counter(item["action"] for item in items if item["action"] not in (None, "withdraw"))
    if decided != settled:
        yield f"decisions in the history: {dict(decided)}, on work items: {dict(settled)}"


def of_all(found: Found) -> Iterator[str]:
    """What is wrong with the whole."""
    ids = Counter(line.command_id for lines in found.lines.values() for line in lines)
    for command_id, count in ids.items():
        if count > 1:
            yield f"command {command_id} is in the log {count} times"
    positions = Counter(line.position for lines in found.lines.values() for line in lines)
    for position, count in positions.items():
        if count > 1:
            yield f"position {position} of the log is taken {count} times"
    for job in found.jobs:
        if job["instance"] not in found.instances and job["kind"] != "departure":
            yield f"job {job['kind']} {job['name']} of an instance that is not there: {dict(job)}"
        elif job["status"] == "dead":
            yield f"a dead job: {dict(job)}"


async def of_audit(pool: asyncpg.Pool[Any]) -> list[str]:
    """What is wrong with the audit log."""
    verified = await Audit(pool).verify(TENANT)
    return [] if verified.intact else [f"audit log, row {verified.broken_at}: {verified.problem}"]
