"""Releases beside each other: what is kept for good is written so that every node that lives can read it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import Actor, CancelInstance, Command
from pliers_workflow.runtime.answers import Accepted, EngineError, InstanceTooNew
from pliers_workflow.runtime.commit.history import decode_record
from pliers_workflow.runtime.engine import Engine
from pliers_workflow.storage.formats import FORMAT, NewerFormat
from tests.nodes.conftest import MakeNode, until
from tests.nodes.test_timers import Starter, starter

NEXT = FORMAT + 1


async def written(node: Engine, instance_id: str) -> set[int]:
    """The formats of an instance's machine and of its records."""
    rows = await node.pool.fetch(
        "SELECT machine::text AS text FROM workflow_instances WHERE tenant_id = 'default' AND id = $1 UNION ALL "
        "SELECT execution_data::text FROM workflow_execution_history WHERE tenant_id = 'default' "
        "AND workflow_instance_id = $1", instance_id,
    )  # fmt: skip
    return {json.loads(row["text"]).get("format", 1) for row in rows}


async def upgraded(node: Engine) -> None:
    """As if the node ran the next release."""
    node.registrar._reads = NEXT
    await node.registrar.beat()


async def test_the_format_of_the_oldest_is_written(make_node: MakeNode) -> None:
    """While a node of the old release lives its format is written; the new one from the moment when the last has gone."""
    old, new = await make_node(), await make_node()
    await upgraded(new)
    start = await starter(new, 3600)
    assert new.registrar.format == FORMAT
    assert await written(new, await start()) == {FORMAT}
    await old.close()
    await until(lambda: new.registrar.format == NEXT)
    assert await written(new, await start()) == {NEXT}


async def newer_instance(make_node: MakeNode) -> tuple[Engine, Starter, str]:
    """An instance of the next release, and a node of this one."""
    new = await make_node()
    await upgraded(new)
    start = await starter(new, 3600)
    instance_id = await start()
    await new.close()
    old = await make_node()
    start.node = old
    return old, start, instance_id


def cancel(name: str) -> Command:
    return Command(name, Actor(None), CancelInstance("enough"))


async def test_a_newer_instance_is_refused_alone(make_node: MakeNode) -> None:
    """What a node cannot read it leaves as it is, and says so; the others of the same batch are committed."""
    old, start, newer = await newer_instance(make_node)
    readable = [await start() for _ in range(5)]
    answers: list[Any] = await asyncio.gather(
        *(
            old.execute("default", each, cancel(f"cancel {n}"))
            for n, each in enumerate([*readable[:3], newer, *readable[3:]])
        ),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Accepted] * 3 + [InstanceTooNew] + [Accepted] * 2
    assert str(FORMAT) in str(answers[3])
    assert await written(old, newer) == {NEXT}


async def test_a_timer_of_a_newer_instance_waits_for_a_newer_node(make_node: MakeNode) -> None:
    """A node that cannot read the instance uses up none of the timer's attempts, and leaves it to others for a while."""
    old, _, _ = await newer_instance(make_node)
    await old.timers.close()
    await old.pool.execute("UPDATE workflow_jobs SET due_at = now() WHERE tenant_id = 'default'")
    assert await old.timers.sweep() == 1
    job = await old.pool.fetchrow(
        "SELECT status, last_error, attempt, lease_owner, due_at > now() AS later FROM workflow_jobs "
        "WHERE tenant_id = 'default'"
    )
    assert tuple(job or ()) == ("ready", None, 0, None, True)


async def test_a_newer_record_is_no_damage() -> None:
    """A record whose format is unknown is told from one that is broken, even where its shape is another."""
    with pytest.raises(NewerFormat):
        decode_record(json.dumps({"format": NEXT, "events": {"not": "a list"}}))


async def test_a_release_does_not_start_beside_one_it_cannot_write_for(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipping releases needs a stop: a node whose oldest format the others cannot read says which, and leaves."""
    old = await make_node()
    new = await make_node(start=False)
    monkeypatch.setattr("pliers_workflow.runtime.nodes.registrar.FORMAT_WRITTEN_MIN", NEXT)
    new.registrar._reads = NEXT
    with pytest.raises(EngineError, match=old.node):
        await new.start()
    assert await old.pool.fetchval("SELECT count(*) FROM nodes") == 1
