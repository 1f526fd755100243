"""Submissions, bindings, and the starts that must not be lost between two commits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Overloaded
from pliers_workflow.runtime.errors import (
    ForbiddenError,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    PreconditionFailedError,
)
from pliers_workflow.runtime.jobs.dead import DeadJobs
from pliers_workflow.runtime.rows import BindingInput, BindingRow, DefinitionRow
from pliers_workflow.runtime.submissions import Submissions
from pliers_workflow.storage import queries

from .conftest import Services, document, key

SQL = queries.load("submissions")


async def bind(services: Services, by: Principal | None = None, **changes: Any) -> BindingRow:
    """A binding of form `f` to `leave`."""
    return await services.submissions.put_binding(
        by or services.admin, BindingInput(**{"form_id": "f", "workflow": "leave", **changes})
    )


async def jobs(services: Services) -> list[tuple[str, str]]:
    """Starts that are owed: status, error."""
    await services.submissions.close()
    rows = await services.pool.fetch("SELECT status, last_error FROM workflow_jobs WHERE kind = 'start' ORDER BY id")
    return [(row["status"], row["last_error"]) for row in rows]


async def lapse(services: Services) -> None:
    """Let the time pass that a node has for its starts."""
    await services.pool.execute(
        "UPDATE workflow_jobs SET due_at = now() - interval '1 s', lease_until = NULL, lease_owner = NULL"
    )


async def instances(services: Services) -> int:
    """How many instances there are."""
    return int(await services.pool.fetchval("SELECT count(*) FROM workflow_instances"))


async def test_a_submission_starts_what_is_bound_to_it(services: Services) -> None:
    """In the submitter's name, with the mapped data, the active version, and no job left over."""
    row = await services.published()
    await bind(
        services,
        condition="submission.days <= metadata.limit",
        data_mapping={
            "submission": {
                "days": "submission.days * 2",
                "who.name": "name",
                "who.city": "address.city",
                "gone": "missing",
            },
            "context": {"source": "'form'", "exact": "cost"},
        },
    )
    ada = await services.person("ada")
    data = {"days": 3, "name": "Ada", "address": {"city": "Łódź"}, "cost": Decimal("10.10")}
    answer = await services.submissions.create(ada, "f", data)
    (start,) = services.starts.calls
    assert answer.instances == (start["instance_id"],)
    assert answer.submission.instances == answer.instances
    assert (answer.failed, answer.pending, answer.replayed) == ((), (), False)
    assert start["definition"].id == row.id
    assert start["data"] == {"days": 6, "who": {"name": "Ada", "city": "Łódź"}}
    assert start["context"] == {"source": "form", "exact": Decimal("10.10")}
    assert start["submission"] == data
    assert start["submission_id"] == answer.submission.id
    assert (start["requester"], start["principal"].user_id) == (ada.user_id, ada.user_id)
    assert await jobs(services) == []
    kept = await services.submissions.get(ada, answer.submission.id)
    assert kept == answer.submission


async def test_without_mapping_the_form_is_the_data(services: Services) -> None:
    """And a condition that does not hold, a disabled binding, or another event or form start nothing."""
    await services.published()
    await bind(services)
    await bind(services, condition="submission.days > 100")
    await bind(services, enabled=False)
    await bind(services, trigger_events=("submission.updated",))
    await bind(services, form_id="g")
    data = {"days": 3, "list": [1, {"a": None}]}
    answer = await services.submissions.create(services.admin, "f", data)
    assert len(answer.instances) == 1
    assert services.starts.calls[0]["data"] == data
    assert answer.failed == ()
    assert (await services.submissions.create(services.admin, "unbound", data)).instances == ()


async def test_a_crash_between_commit_and_start_loses_nothing(services: Services) -> None:
    """The node dies after the submission is on disk: another one makes the start, once, whoever looks and however often."""
    await services.published()
    await bind(services)

    async def die(*_: Any, **__: Any) -> Any:
        raise asyncio.CancelledError

    dying = Submissions(services.pool, services.catalog, services.audit, die)
    with pytest.raises(asyncio.CancelledError):
        await dying.create(services.admin, "f", {"days": 1})
    assert await instances(services) == 0
    assert await services.submissions.run_pending_starts() == 0, "the node that took it still has time"
    await lapse(services)
    nodes = [Submissions(services.pool, services.catalog, services.audit, services.starts) for _ in range(4)]
    assert sum(await asyncio.gather(*(node.run_pending_starts() for node in nodes))) == 1
    for node in nodes:
        await node.close()
    assert await instances(services) == 1
    assert services.starts.calls[0]["data"] == {"days": 1}
    assert await jobs(services) == []
    assert await services.submissions.run_pending_starts() == 0


async def test_a_start_that_cannot_be_read_is_in_the_way_of_no_other(services: Services) -> None:
    """Owed starts are made one after another: what goes wrong with the first of them is its own."""
    await services.published()
    await bind(services)
    services.starts.instead += [Overloaded(1)] * 3
    for days in (1, 2, 3):
        await services.submissions.create(services.admin, "f", {"days": days})
    await services.pool.execute(
        "UPDATE workflow_jobs SET payload = '{}' WHERE id = (SELECT id FROM workflow_jobs ORDER BY due_at, id LIMIT 1)"
    )
    await lapse(services)
    assert await services.submissions.run_pending_starts() == 2
    assert len(await jobs(services)) == 1


async def test_a_crash_between_start_and_settling_starts_nothing_twice(services: Services) -> None:
    """The instance runs, but its job was not dropped: the retry finds the instance under the same id."""
    await services.published()
    await bind(services)
    start = services.starts

    async def start_and_die(principal: Any, definition: Any, **order: Any) -> Any:
        await start(principal, definition, **order)
        raise asyncio.CancelledError

    dying = Submissions(services.pool, services.catalog, services.audit, start_and_die)
    with pytest.raises(asyncio.CancelledError):
        await dying.create(services.admin, "f", {})
    assert await instances(services) == 1
    await lapse(services)
    assert await services.submissions.run_pending_starts() == 1
    assert await instances(services) == 1
    first, second = services.starts.calls
    assert (first["instance_id"], first["command_id"]) == (second["instance_id"], second["command_id"])
    assert await jobs(services) == []


async def test_an_overloaded_node_owes_the_start(services: Services) -> None:
    """The caller is told which instance follows; it does, with the version of that time."""
    first = await services.published()
    await bind(services)
    services.starts.instead.append(Overloaded(1))
    answer = await services.submissions.create(services.admin, "f", {"days": 1})
    assert answer.instances == ()
    (pending,) = answer.pending
    await services.published(version="1.1.0")
    await lapse(services)
    assert await services.submissions.run_pending_starts() == 1
    assert services.starts.calls[-1]["instance_id"] == pending
    assert services.starts.calls[-1]["definition"].id == first.id


async def test_the_same_key_twice_at_once_is_one_submission(services: Services) -> None:
    """Of five requests with one key one makes the submission and the instance; all get the same answer."""
    await services.published()
    await bind(services)
    answers = await asyncio.gather(
        *(services.submissions.create(services.admin, "f", {"n": 1}, request=key("k", {"n": 1})) for _ in range(5))
    )
    assert len({answer.submission.id for answer in answers}) == 1
    assert sum(answer.replayed for answer in answers) == 4
    assert await instances(services) == 1
    again = await services.submissions.create(services.admin, "f", {"n": 1}, request=key("k", {"n": 1}))
    assert again.instances == next(answer.instances for answer in answers if not answer.replayed)
    with pytest.raises(KeyReusedError):
        await services.submissions.create(services.admin, "f", {"n": 2}, request=key("k", {"n": 2}))
    assert await services.pool.fetchval("SELECT count(*) FROM form_submissions") == 1
    assert await jobs(services) == []


async def test_an_expired_key_counts_as_none(services: Services) -> None:
    """After its time the key makes another submission."""
    first = await services.submissions.create(services.admin, "f", {}, request=key("k"))
    await services.pool.execute("UPDATE idempotency_records SET expires_at = now() - interval '1 s'")
    second = await services.submissions.create(services.admin, "f", {}, request=key("k"))
    assert first.submission.id != second.submission.id


async def test_starts_that_fail_are_kept_and_can_be_retried(services: Services) -> None:
    """The submission stands; what could not start is listed with its reason; a retry looks at everything anew."""
    await services.catalog.create(services.admin, document())
    await bind(services)
    await bind(services, condition="submission.days > 1")
    answer = await services.submissions.create(services.admin, "f", {})
    assert {failure.code for failure in answer.failed} == {"no_startable_version"}
    page = await services.submissions.failed_starts(services.admin)
    assert page.items == tuple(sorted(answer.failed, key=lambda failure: failure.id))
    assert await services.submissions.run_pending_starts() == 0
    await services.catalog.publish(services.admin, "leave")
    by_condition = {}
    for failure in page.items:
        retried = await services.submissions.retry_start(services.admin, failure.id, request=key(failure.id))
        again = await services.submissions.retry_start(services.admin, failure.id, request=key(failure.id))
        assert again.replayed
        assert (again.instances, again.failed) == (retried.instances, retried.failed)
        by_condition[failure.binding_id] = retried
    assert (await services.log()).count("start.retried") == 2
    outcomes = sorted(
        (len(retried.instances), *(failure.code for failure in retried.failed)) for retried in by_condition.values()
    )
    assert outcomes == [(0, "condition_error"), (1,)]
    (left,) = (await services.submissions.failed_starts(services.admin)).items
    updated = await services.submissions.update(services.admin, answer.submission.id, {"days": 2})
    assert updated.submission.revision == 2
    assert len((await services.submissions.retry_start(services.admin, left.id)).instances) == 1
    with pytest.raises(NotFoundError):
        await services.submissions.retry_start(services.admin, left.id)
    with pytest.raises(NotFoundError):
        await services.submissions.retry_start(services.admin, "\0")


async def test_a_retry_that_was_interrupted_is_finished_by_its_repetition(services: Services) -> None:
    """The engine did not answer, so the start is pending; the same request again makes it, and only it."""
    await services.catalog.create(services.admin, document())
    await bind(services)
    (failure,) = (await services.submissions.create(services.admin, "f", {})).failed
    await services.catalog.publish(services.admin, "leave")
    services.starts.instead.append(Overloaded(1))
    first = await services.submissions.retry_start(services.admin, failure.id, request=key("k"))
    assert (first.instances, len(first.pending), first.failed) == ((), 1, ())
    second = await services.submissions.retry_start(services.admin, failure.id, request=key("k"))
    assert (second.instances, second.pending, second.replayed) == (first.pending, (), True)
    with pytest.raises(KeyReusedError):
        await services.submissions.retry_start(services.admin, failure.id, request=key("k", {"other": "body"}))
    with pytest.raises(NotFoundError):
        await services.submissions.retry_start(services.admin, failure.id, request=key("another"))


class _Between:
    """A pool on which something happens once, right after the first of these reads."""

    def __init__(self, pool: Any, reads: set[str], happens: Callable[[], Awaitable[Any]]) -> None:
        self._pool = pool
        self._reads = reads
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        return await self._after(statement, self._pool.fetch(statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        return await self._after(statement, self._pool.fetchrow(statement, *arguments))

    async def _after(self, statement: str, read: Awaitable[Any]) -> Any:
        found = await read
        if statement in self._reads:
            self._reads = set()
            await self._happens()
        return found


@pytest.mark.parametrize("retried", [False, True])
async def test_a_start_that_follows_while_a_repetition_reads_is_told(
    services: Services, monkeypatch: pytest.MonkeyPatch, retried: bool
) -> None:
    """The first request's start is made by somebody else, between the two reads of its repetition: it is in the answer."""
    submissions = services.submissions
    await services.catalog.create(services.admin, document())
    await bind(services)
    if retried:
        (failure,) = (await submissions.create(services.admin, "f", {})).failed

    async def ask() -> Any:
        if retried:
            return await submissions.retry_start(services.admin, failure.id, request=key("k"))
        return await submissions.create(services.admin, "f", {}, request=key("k"))

    await services.catalog.publish(services.admin, "leave")
    services.starts.instead.append(Overloaded(1))
    first = await ask()
    assert (first.instances, len(first.pending)) == ((), 1)
    await lapse(services)
    other = Submissions(services.pool, services.catalog, services.audit, services.starts)

    async def finish() -> None:
        assert await other.run_pending_starts() == 1
        await other.close()

    monkeypatch.setattr(submissions, "_pool", _Between(services.pool, {SQL.get, SQL.jobs_of, SQL.get_job}, finish))
    second = await ask()
    assert (second.instances, second.pending, second.failed) == (first.pending, (), ())
    assert await instances(services) == 1


async def test_a_start_that_the_engine_refuses_is_a_failed_start(services: Services) -> None:
    """With the rejection's reason and details; the submission stands."""
    await services.published()
    await bind(services)
    services.starts.instead.append(Rejection(Reason.DATA_INVALID, "No.", {"findings": ["x"]}))
    answer = await services.submissions.create(services.admin, "f", {})
    (failure,) = answer.failed
    assert (failure.code, failure.message, failure.details) == ("data_invalid", "No.", {"findings": ["x"]})
    assert [status for status, _ in await jobs(services)] == ["dead"]


async def test_a_pinned_binding_goes_on_when_a_newer_version_comes(services: Services) -> None:
    """`^1` starts the highest 1.x though 2.0.0 is active; without a version the active one; a UUID pins."""
    await services.published()
    await services.published(version="1.4.0")
    pinned = await bind(services, version="^1")
    first = await services.catalog.get("default", "leave", "1.0.0")
    assert first is not None
    exact = await bind(services, workflow=first.id)
    assert (exact.workflow_name, exact.version) == ("leave", "1.0.0")
    await services.published(version="2.0.0")
    await bind(services)
    answer = await services.submissions.create(services.admin, "f", {})
    assert sorted(call["definition"].version for call in services.starts.calls) == ["1.0.0", "1.4.0", "2.0.0"]
    assert len(answer.instances) == 3
    assert pinned.version == "^1"


async def test_updating_starts_its_own(services: Services) -> None:
    """Each update starts its bindings once more; a stale revision starts nothing; of two at once both are counted."""
    await services.published()
    await bind(services, trigger_events=("submission.updated",))
    made = await services.submissions.create(services.admin, "f", {"n": 0})
    assert made.instances == ()
    answers = await asyncio.gather(
        *(services.submissions.update(services.admin, made.submission.id, {"n": n}) for n in range(1, 4))
    )
    assert max(answer.submission.revision for answer in answers) == 4
    assert await instances(services) == 3
    with pytest.raises(PreconditionFailedError):
        await services.submissions.update(services.admin, made.submission.id, {}, 1)
    body = {"n": 9}
    twice = [
        await services.submissions.update(services.admin, made.submission.id, body, 4, request=key("k", body))
        for _ in range(2)
    ]
    assert [answer.replayed for answer in twice] == [False, True]
    assert await instances(services) == 4
    assert (await services.log()).count("submission.updated") == 4


async def test_who_sees_and_changes_a_submission(services: Services, other_admin: Principal) -> None:
    """Its submitter, operators and auditors see it; submitter and operators change it; to others it is not there."""
    ada, bob = await services.person("ada"), await services.person("bob")
    auditor, operator = await services.person("aud", "auditor"), await services.person("op", "operator")
    made = (await services.submissions.create(ada, "f", {"n": 1})).submission
    await services.submissions.create(bob, "f", {"n": 2})
    for viewer, count in ((ada, 1), (bob, 1), (auditor, 2), (operator, 2), (other_admin, 0)):
        assert len((await services.submissions.list(viewer)).items) == count
    assert (await services.submissions.list(bob, submitted_by=ada.user_id)).items == ()
    assert [row.id for row in (await services.submissions.list(operator, submitted_by=ada.user_id)).items] == [made.id]
    for stranger in (bob, other_admin):
        assert await services.submissions.get(stranger, made.id) is None
        with pytest.raises(NotFoundError):
            await services.submissions.update(stranger, made.id, {})
    assert await services.submissions.get(auditor, made.id) is not None
    with pytest.raises(ForbiddenError):
        await services.submissions.update(auditor, made.id, {})
    assert (await services.submissions.update(operator, made.id, {"n": 3})).submission.data == {"n": 3}
    assert await services.submissions.get(ada, "\0") is None


async def test_a_dead_start_asks_for_the_version_again(services: Services) -> None:
    """Also where it is retried among the dead jobs, or was retried and the engine is busy: the first may be archived by now."""
    first = await services.published()
    await bind(services)
    refusal = Rejection(Reason.DATA_INVALID, "no")
    services.starts.instead += [refusal, refusal]
    failed = [(await services.submissions.create(services.admin, "f", {"n": n})).failed[0] for n in (1, 2)]
    second = await services.catalog.replace(services.admin, "leave", {**document(), "version": "2.0.0"})
    assert isinstance(second, DefinitionRow)
    await services.catalog.publish(services.admin, second.id)
    await services.catalog.archive(services.admin, first.id)
    dead = DeadJobs(services.pool, services.audit, wake=lambda _: None)
    await dead.retry(services.admin, failed[0].id)
    services.starts.instead.append(Overloaded(1.0))
    await services.submissions.retry_start(services.admin, failed[1].id)
    await lapse(services)
    assert await services.submissions.run_pending_starts() == 2
    assert await jobs(services) == []
    assert [start["definition"].id for start in services.starts.calls[2:]] == [second.id] * 3


async def test_what_an_operator_changes_starts_for_its_submitter(services: Services) -> None:
    """Who changes somebody's form is the starter, not the requester: else the submitter could approve what is theirs."""
    await services.published()
    await bind(services, trigger_events=("submission.updated",))
    ada, operator = await services.person("ada"), await services.person("op", "operator")
    made = (await services.submissions.create(ada, "f", {"n": 1})).submission
    services.starts.instead.append(Overloaded(1.0))
    await services.submissions.update(operator, made.id, {"n": 2})
    await lapse(services)
    await services.submissions.run_pending_starts()
    await services.submissions.update(operator, made.id, {"n": 3})
    for start in services.starts.calls:
        assert (start["requester"], start["principal"].user_id) == (ada.user_id, operator.user_id)
    assert len(services.starts.calls) == 3


async def test_bindings_of_one_tenant_start_nothing_in_another(services: Services, other_admin: Principal) -> None:
    """Same form, same workflow name: each tenant's submissions know its own bindings only."""
    await services.published()
    await services.published(other_admin)
    binding = await bind(services)
    assert (await services.submissions.create(other_admin, "f", {})).instances == ()
    assert await services.submissions.get_binding(other_admin, binding.id) is None
    assert (await services.submissions.list_bindings(other_admin)).items == ()
    with pytest.raises(NotFoundError):
        await services.submissions.delete_binding(other_admin, binding.id)
    with pytest.raises(NotFoundError):
        await services.submissions.put_binding(other_admin, BindingInput(form_id="f", workflow="leave"), binding.id)


async def test_bindings_are_checked_when_saved(services: Services) -> None:
    """All findings at once, each with its place; nothing is kept of a binding with an error."""
    await services.published(
        dataSchema={"type": "object", "properties": {"days": {"type": "integer"}}, "additionalProperties": False}
    )
    with pytest.raises(InvalidError) as wrong:
        await bind(
            services,
            trigger_events=("submission.created", "submission.deleted"),
            version="latest-ish",
            condition="submission.days >",
            data_mapping={"submission": {"days": "data.days + 1", "a b": "x"}, "elsewhere": {}},
        )
    assert sorted(finding.pointer for finding in wrong.value.findings) == [
        "/condition", "/dataMapping/elsewhere", "/dataMapping/submission/a b", "/dataMapping/submission/days",
        "/triggerEvents/1", "/version",
    ]  # fmt: skip
    for changes in (
        {"form_id": "\0"}, {"form_id": ""}, {"workflow": "nothing"}, {"workflow": "\0"}, {"trigger_events": ()},
        {"condition": "1 + 1"}, {"condition": "a\0"}, {"data_mapping": {"submission": {"days": "\ud800"}}},
        {"condition": "x" * 5000}, {"version": "1\0"},
    ):  # fmt: skip
        with pytest.raises(InvalidError):
            await bind(services, **changes)
    assert (await services.submissions.list_bindings(services.admin)).items == ()
    odd = await bind(services, data_mapping={"submission": {"weeks": "days"}})
    assert [(finding.pointer, finding.severity) for finding in odd.findings] == [
        ("/dataMapping/submission/weeks", "warning")
    ]
    mistaken = await bind(services, data_mapping={"submission": {"days": "data.days"}})
    assert [(finding.pointer, finding.severity) for finding in mistaken.findings] == [
        ("/dataMapping/submission/days", "warning")
    ]
    await services.catalog.create(services.admin, document(name="later"))
    early = await bind(services, workflow="later")
    assert [finding.code for finding in early.findings] == ["no_startable_version"]


async def test_bindings_are_replaced_listed_and_deleted(services: Services) -> None:
    """By id; the same request twice makes one; who is no author is refused."""
    await services.published()
    wanted = BindingInput(form_id="f", workflow="leave")
    made = [await services.submissions.put_binding(services.admin, wanted, request=key("k")) for _ in range(2)]
    assert made[0].id == made[1].id
    changed = await services.submissions.put_binding(
        services.admin, BindingInput(form_id="g", workflow="leave", enabled=False), made[0].id
    )
    assert (changed.id, changed.form_id, changed.enabled) == (made[0].id, "g", False)
    await bind(services)
    first = await services.submissions.list_bindings(services.admin, limit=1)
    second = await services.submissions.list_bindings(services.admin, limit=1, cursor=first.next_cursor)
    assert len({row.id for row in (*first.items, *second.items)}) == 2
    assert [row.form_id for row in (await services.submissions.list_bindings(services.admin, form_id="g")).items] == [
        "g"
    ]
    nobody = await services.person("nobody")
    with pytest.raises(ForbiddenError):
        await bind(services, nobody)
    assert (await services.submissions.list_bindings(nobody)).items == ()
    await services.submissions.delete_binding(services.admin, changed.id)
    with pytest.raises(NotFoundError):
        await services.submissions.delete_binding(services.admin, changed.id)


async def test_what_cannot_be_kept_is_refused(services: Services) -> None:
    """NUL, surrogates, depth, numbers and size: a sentence, and no submission."""
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"d": deep}
    wrong: tuple[Any, ...] = (
        None,
        [],
        "x",
        {"a": "\0"},
        {"a\0": 1},
        {"a": "\ud800"},
        deep,
        {"n": Decimal("1E+200000")},
        {"t": "x" * 300_000},
    )
    for data in wrong:
        with pytest.raises(InvalidError):
            await services.submissions.create(services.admin, "f", data)
    for form in ("", "\0", "\ud800", "x" * 256):
        with pytest.raises(InvalidError):
            await services.submissions.create(services.admin, form, {})
    for cursor in ("x", "WyJ4Il0"):
        with pytest.raises(InvalidError):
            await services.submissions.list(services.admin, cursor=cursor)
    assert await services.pool.fetchval("SELECT count(*) FROM form_submissions") == 0


async def test_submissions_page_newest_first(services: Services) -> None:
    """Everyone once, newest first, form by form where asked."""
    for n in range(5):
        await services.submissions.create(services.admin, "f" if n % 2 else "g", {"n": n})
    found: list[int] = []
    cursor = None
    while True:
        page = await services.submissions.list(services.admin, limit=2, cursor=cursor)
        found += [row.data["n"] for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [4, 3, 2, 1, 0]
    assert [row.data["n"] for row in (await services.submissions.list(services.admin, form_id="f")).items] == [3, 1]


async def test_many_updates_on_a_small_pool_do_not_wait_for_each_other(database: str, services: Services) -> None:
    """A change holds one connection and asks for no second: with two connections thirty changes go through."""
    from pliers_workflow.storage.database import open_pool

    await services.published()
    await bind(services, trigger_events=("submission.updated",))
    made = [await services.submissions.create(services.admin, "f", {}) for _ in range(6)]
    pool = await open_pool(database, min_size=1, max_size=2)
    try:
        from pliers_workflow.runtime.access.audit import Audit
        from pliers_workflow.runtime.catalog import Catalog

        audit = Audit(pool)
        node = Submissions(pool, Catalog(pool, audit), audit, services.starts)
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(node.update(services.admin, answer.submission.id, {"n": n}) for n, answer in enumerate(made * 5))
            )
        await node.close()
    finally:
        pool.terminate()
    assert await instances(services) == 30
