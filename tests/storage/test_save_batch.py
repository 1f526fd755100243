"""The statement that writes a batch is put together from the parts that have rows."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from pliers_workflow.interpreter.instance import Instance, Machine, Status
from pliers_workflow.storage import batch_writes, parts
from pliers_workflow.storage.batch_writes import PARTS, BatchWrites, Job, save
from pliers_workflow.storage.identity import new_instance_id
from pliers_workflow.storage.parts import ComposedStatement, Unstorable

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
DEFINITION = "019ca3b5-1000-7000-8000-00000000000d"


def instance(**fields: Any) -> Instance:
    """An instance in its first state."""
    return Instance(
        id=new_instance_id(NOW), definition_id=DEFINITION, definition_name="expense", version="1.0.0", revision=1,
        status=Status.WAITING, configuration=("draft",), current_state="draft", previous_state=None, data={}, context={},
        machine=Machine(), requester=None, created_by=None, created_at=NOW, last_activity_at=NOW, **fields,
    )  # fmt: skip


def writes_of(after: Instance, before: Instance | None = None) -> BatchWrites:
    """A batch that writes this instance."""
    writes = BatchWrites(timedelta(days=1))
    writes.instance("default", before, after, bytes(32), None)
    return writes


@pytest.fixture
async def connection(database: str) -> Any:
    """A connection to a database with one definition."""
    connection = await asyncpg.connect(database)
    await connection.execute(
        "INSERT INTO workflow_definitions (tenant_id, id, name, version, title, definition, content_hash) "
        "VALUES ('default', $1, 'expense', '1.0.0', 'Expense', '{\"stateMachine\": {}}', $2)",
        DEFINITION, bytes(32),
    )  # fmt: skip
    yield connection
    await connection.close()


async def test_every_combination_of_parts_is_a_statement(connection: Any) -> None:
    """Whatever parts a batch has rows in, PostgreSQL takes the statement, with as many parameters as it is given."""
    optional = PARTS[2:]
    combinations = [c for n in range(len(optional) + 1) for c in itertools.combinations(optional, n)]
    for instances in (("changed",), ("created",), ("changed", "created")):
        for groups in combinations:
            chosen = (*instances, *[name for group in groups for name in group])
            statement = batch_writes._statement
            prepared = await connection.prepare(statement._compose(chosen))
            wanted = sum(len(statement._parts[name].encoders) for name in chosen)
            assert len(prepared.get_parameters()) == wanted


async def test_empty_parts_are_not_sent() -> None:
    """A batch that only starts an instance names no other table of the engine."""
    text, parameters = writes_of(instance()).statement()
    assert "INTO workflow_instances" in text
    assert "UPDATE workflow_instances" not in text
    assert "workflow_approvals" not in text
    assert "workflow_jobs" not in text
    assert len(parameters) == 29


def test_combinations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound batches share the statement of all parts, whose empty columns are empty arrays."""
    monkeypatch.setattr(parts, "VARIANTS_MAX", 1)
    sections = {"a": "a AS (SELECT n FROM given(n int, t prose) AS r)", "b": "b AS (SELECT t FROM given(t text) AS r)",
                "answer": "1", "check_b": "2"}  # fmt: skip
    statement = ComposedStatement(sections, (("a",), ("b",)), lambda chosen: chosen)
    first = statement.of({"a": [(1, "x\x1fy"), (None, "z")], "b": []})
    assert first == (
        "WITH a AS (SELECT n FROM unnest(split_column($1)::int[], $2::text[]) AS r (n, t))\nSELECT 1",
        ["1\x1f\x1a", ("x\x1fy", "z")],
    )
    text, parameters = statement.of({"a": [], "b": [("x",)]})
    assert text.endswith("SELECT 1, 2")
    assert "$3" in text
    assert parameters == ["", (), "x"]


@pytest.mark.parametrize("text", ["a\x1fb", "\x1a", ""])
def test_a_separator_in_a_joined_value_is_refused(text: str) -> None:
    """What would be split at the wrong place is not sent."""
    writes = writes_of(instance())
    writes.key("default", text, "route", "key", bytes(32), "i", 1, "command")
    with pytest.raises(Unstorable):
        writes.statement()


async def test_a_job_is_written_and_written_anew(connection: Any) -> None:
    """A job of the same name takes the place of the one before: nobody's lease, no attempts, and a new token."""
    first = instance()
    writes = writes_of(first)
    job = Job(
        kind="step",
        name="step/1",
        due_at=NOW,
        queue="http",
        definition_name="expense",
        payload={"url": "x"},
    )
    writes.job("default", first.id, job, NOW)
    assert await save(connection, writes) == {first.id}
    await connection.execute(
        "UPDATE workflow_jobs SET lease_owner = 'w', lease_until = now(), attempt = 3, status = 'dead', last_error = 'no', "
        "fencing_token = 5"
    )
    second = structs.replace(first, revision=2)
    writes = writes_of(second, first)
    writes.job("default", first.id, structs.replace(job, due_at=None, priority=4, queue="http2", payload=None), NOW)
    assert await save(connection, writes) == {first.id}
    row = await connection.fetchrow(
        "SELECT kind, name, due_at = 'infinity' AS paused, priority, queue, definition_name, payload, "
        "lease_owner, lease_until, attempt, status, last_error, fencing_token FROM workflow_jobs"
    )
    assert tuple(row) == ("step", "step/1", True, 4, "http2", "expense", "{}", None, None, 0, "ready", None, 6)
    third = structs.replace(first, revision=3)
    writes = writes_of(third, second)
    writes.drop("default", first.id, "step/1")
    assert await save(connection, writes) == {first.id}
    assert await connection.fetchval("SELECT count(*) FROM workflow_jobs") == 0


async def test_nothing_is_written_for_an_instance_that_was_overtaken(connection: Any) -> None:
    """Every part is joined with the instances that the statement has written."""
    first = instance()
    assert await save(connection, writes_of(first)) == {first.id}
    late = writes_of(structs.replace(first, revision=6), structs.replace(first, revision=5))
    late.job("default", first.id, Job(kind="step", name="step/1", due_at=NOW), NOW)
    late.key("default", "p", "r", "k", bytes(32), first.id, 6, "c")
    assert await save(connection, late) == set()
    assert await connection.fetchval("SELECT count(*) FROM workflow_jobs") == 0
    assert await connection.fetchval("SELECT count(*) FROM idempotency_records") == 0
