"""Submissions with the engine itself behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.engine import Engine, open_engine
from pliers_workflow.runtime.rows import BindingInput, DefinitionRow, UserInput
from pliers_workflow.settings import Settings

from .conftest import document


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Engine]:
    """An engine without its services, so that nothing happens by itself."""
    engine = await open_engine(Settings.model_validate({"database": {"url": database}}))
    await engine.start(services=False)
    yield engine
    await engine.close()


async def administrator(engine: Engine) -> Principal:
    """The one whom the first start makes."""
    secret = await engine.tokens.bootstrap()
    assert secret is not None
    principal = await engine.tokens.authenticate(secret)
    assert principal is not None
    return principal


async def test_a_repeated_start_finds_the_first(engine: Engine) -> None:
    """What the services promise of ids holds in the engine: a start repeated after a crash is no second instance."""
    admin = await administrator(engine)
    draft = await engine.catalog.create(admin, document())
    assert isinstance(draft, DefinitionRow)
    await engine.catalog.publish(admin, draft.id)
    await engine.submissions.put_binding(admin, BindingInput(form_id="f", workflow="leave"))
    answer = await engine.submissions.create(admin, "f", {"days": 3})
    assert (len(answer.instances), answer.failed, answer.pending) == (1, (), ())
    await engine.submissions.close()
    job = await engine.pool.fetchrow(
        "SELECT workflow_instance_id::text AS id FROM workflow_execution_history WHERE tenant_id = 'default'"
    )
    assert job is not None
    assert job["id"] == answer.instances[0]

    # The crash: the job of a start that was made comes back.
    put_back = engine.submissions._drop
    engine.submissions._done.clear()

    async def lost() -> None:
        engine.submissions._done.clear()
        engine.submissions._dropping = None

    engine.submissions._drop = lost  # type: ignore[method-assign]
    second = await engine.submissions.create(admin, "f", {"days": 4})
    await asyncio.sleep(0)
    engine.submissions._drop = put_back  # type: ignore[method-assign]
    await engine.pool.execute("UPDATE workflow_jobs SET due_at = now() - interval '1 s' WHERE kind = 'start'")
    assert await engine.submissions.run_pending_starts() == 1
    await engine.submissions.close()
    rows = await engine.pool.fetch(
        "SELECT id::text AS id, submission_id::text AS submission FROM workflow_instances ORDER BY id"
    )
    assert [row["id"] for row in rows] == [*answer.instances, *second.instances]
    assert await engine.pool.fetchval("SELECT count(*) FROM workflow_jobs WHERE kind = 'start'") == 0


async def test_archive_waits_for_the_instances_of_the_engine(engine: Engine) -> None:
    """A live instance keeps its version."""
    admin = await administrator(engine)
    draft = await engine.catalog.create(admin, document())
    assert isinstance(draft, DefinitionRow)
    await engine.catalog.publish(admin, draft.id)
    await engine.start_instance(admin, await engine.catalog.to_start("default", "leave"), data={})
    with pytest.raises(Exception, match="still alive"):
        await engine.catalog.archive(admin, "leave")


async def test_an_operator_changes_a_form_and_the_engine_starts_for_its_submitter(engine: Engine) -> None:
    """Whom an instance runs for does not change with who edits the form."""
    admin = await administrator(engine)
    draft = await engine.catalog.create(admin, document())
    assert isinstance(draft, DefinitionRow)
    await engine.catalog.publish(admin, draft.id)
    await engine.submissions.put_binding(
        admin, BindingInput(form_id="f", workflow="leave", trigger_events=("submission.updated",))
    )
    ada = await engine.directory.create_user(admin, UserInput(username="ada"))
    made = await engine.submissions.create(Principal("default", ada.id, "ada", frozenset()), "f", {"days": 1})
    answer = await engine.submissions.update(admin, made.submission.id, {"days": 2})
    (instance,) = answer.instances
    row = await engine.pool.fetchrow(
        "SELECT requester_id::text, created_by::text FROM workflow_instances WHERE id = $1", instance
    )
    assert row is not None
    assert tuple(row) == (ada.id, admin.user_id)


async def test_a_start_that_waits_while_its_version_is_archived(engine: Engine) -> None:
    """It is refused, and what else is in its batch is done: no live instance is left on a version that is put away."""
    admin = await administrator(engine)
    rows = []
    for name in ("leave", "other"):
        draft = await engine.catalog.create(admin, {**document(), "name": name})
        assert isinstance(draft, DefinitionRow)
        await engine.catalog.publish(admin, draft.id)
        rows.append(await engine.catalog.to_start("default", name))
        assert isinstance(await engine.start_instance(admin, rows[-1], data={}), Accepted)
    await engine.pool.execute("UPDATE workflow_instances SET status = 'completed', completed_at = now()")
    async with engine.pool.acquire() as archivist:
        archiving = archivist.transaction()
        await archiving.start()
        await archivist.execute("SELECT FROM workflow_definitions WHERE id = $1 FOR UPDATE", rows[0].id)
        starts = asyncio.gather(*(engine.start_instance(admin, row, data={}) for row in rows))
        async with asyncio.timeout(10):
            while not await engine.readers.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.01)
        await archivist.execute(
            "UPDATE workflow_definitions SET status = 'archived', archived_at = now() WHERE id = $1", rows[0].id
        )
        await archiving.commit()
    refused, made = await asyncio.wait_for(starts, 20)
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.VERSION_ARCHIVED
    assert isinstance(made, Accepted)
    again = await engine.start_instance(admin, rows[0], data={})
    assert isinstance(again, Rejection)
    assert again.reason is Reason.VERSION_ARCHIVED
