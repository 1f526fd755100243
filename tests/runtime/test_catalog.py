"""Definitions: drafts, versions, publishing, archiving, charts."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.catalog import Catalog
from pliers_workflow.runtime.catalog.charts import Charts
from pliers_workflow.runtime.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    PreconditionFailedError,
)
from pliers_workflow.runtime.rows import BindingInput, DefinitionRow

from .conftest import Services, document, key


def row_of(answer: Any) -> DefinitionRow:
    """The answer, which is no findings."""
    assert isinstance(answer, DefinitionRow), answer
    return answer


async def test_a_new_name_begins_as_a_draft_and_is_there_once(services: Services) -> None:
    """POST makes the first draft of a name; a second POST is refused, and says to PUT."""
    row = row_of(await services.catalog.create(services.admin, document()))
    assert (row.status, row.version, row.revision, row.published_at) == ("draft", "1.0.0", 1, None)
    assert row.definition == document()
    with pytest.raises(ConflictError) as refused:
        await services.catalog.create(services.admin, document("2.0.0"))
    assert refused.value.code == "name_exists"
    assert refused.value.details["id"] == row.id
    assert await services.log() == ["definition.created"]


async def test_wrong_documents_come_back_as_findings_and_leave_nothing(services: Services) -> None:
    """Whatever JSON is sent as a document: findings, no row, no audit row, never another error."""
    hostile: list[Any] = [
        None,
        5,
        [],
        "x",
        {},
        document(title=""),
        document(name="health"),
        document(title="a\0b"),
        document(title="\ud800"),
    ]
    for wrong in hostile:
        findings = await services.catalog.create(services.admin, wrong)
        assert isinstance(findings, tuple), wrong
        assert findings, wrong
        assert findings == await services.catalog.validate(wrong)
    assert await services.log() == []


async def test_put_on_a_draft_replaces_it_under_if_match(services: Services) -> None:
    """The draft keeps its id; a stale revision is refused and changes nothing."""
    draft = row_of(await services.catalog.create(services.admin, document()))
    second = row_of(
        await services.catalog.replace(services.admin, draft.id, document(title="Leave, again"), draft.revision)
    )
    assert (second.id, second.title, second.status) == (draft.id, "Leave, again", "draft")
    assert second.revision > draft.revision
    with pytest.raises(PreconditionFailedError) as stale:
        await services.catalog.replace(services.admin, draft.id, document(title="Too late"), draft.revision)
    assert stale.value.details["revision"] == second.revision
    now = await services.catalog.get("default", "leave")
    assert now is not None
    assert now.title == "Leave, again"


async def test_one_draft_put_twice_at_once_has_one_winner(services: Services) -> None:
    """Two PUTs with the same If-Match at the same time: one replaces the draft, the other is told to read again."""
    draft = row_of(await services.catalog.create(services.admin, document()))
    results = await asyncio.gather(
        *(
            services.catalog.replace(services.admin, draft.id, document(title=f"Title {n}"), draft.revision)
            for n in range(5)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, DefinitionRow) for result in results) == 1
    assert sum(isinstance(result, PreconditionFailedError) for result in results) == 4


async def test_put_on_a_published_version_opens_the_next_draft(services: Services) -> None:
    """Any higher version is accepted; one that is not higher is refused; a second draft beside the first too."""
    first = await services.published()
    for version in ("1.0.0", "0.9.0", "1.0.0-rc.1"):
        with pytest.raises(ConflictError) as refused:
            await services.catalog.replace(services.admin, first.id, document(version))
        assert refused.value.code == "version_not_higher"
    draft = row_of(await services.catalog.replace(services.admin, first.id, document("7.3.1", title="Far ahead")))
    assert (draft.status, draft.version) == ("draft", "7.3.1")
    assert draft.id != first.id
    with pytest.raises(ConflictError) as refused:
        await services.catalog.replace(services.admin, first.id, document("8.0.0"))
    assert refused.value.code == "draft_exists"
    assert refused.value.details["id"] == draft.id
    by_name = row_of(await services.catalog.replace(services.admin, "leave", document("8.0.0"), draft.revision))
    assert by_name.id == draft.id
    still = await services.catalog.get("default", "leave")
    assert still is not None
    assert still.id == first.id


async def test_a_number_too_small_for_the_change_is_a_warning(services: Services) -> None:
    """Removing a state is a breaking change: a patch number is accepted, with a warning that names the number it wants."""
    states: dict[str, Any] = {"asked": {}, "checked": {}, "done": {"type": "final"}}
    transitions = [
        {"from": "asked", "to": "checked", "trigger": "check"},
        {"from": "checked", "to": "done", "trigger": "finish"},
    ]
    machine = {"initialState": "asked", "states": states, "transitions": transitions}
    await services.published(stateMachine=machine)
    draft = row_of(await services.catalog.replace(services.admin, "leave", document("1.0.1")))
    assert [
        (finding.pointer, finding.code, finding.severity)
        for finding in draft.findings
        if finding.code == "version_too_small"
    ] == [("/version", "version_too_small", "warning")]
    assert "2.0.0" in draft.findings[-1].message
    fine = row_of(await services.catalog.replace(services.admin, "leave", document("2.0.0")))
    assert not [finding for finding in fine.findings if finding.code == "version_too_small"]


async def test_a_name_never_changes(services: Services) -> None:
    """PUT of a document with another name is a finding at `/name`."""
    await services.catalog.create(services.admin, document())
    findings = await services.catalog.replace(services.admin, "leave", document(name="holiday"))
    assert isinstance(findings, tuple)
    assert [(finding.pointer, finding.code) for finding in findings if finding.severity == "error"] == [
        ("/name", "name_mismatch")
    ]


async def test_publishing_makes_active_and_deprecates_atomically(services: Services) -> None:
    """The draft becomes active, the version before deprecated, and the name's route is the new one alone."""
    first = await services.published()
    second = await services.published(version="1.1.0")
    assert second.status == "active"
    assert second.published_at is not None
    before = await services.catalog.get("default", first.id)
    assert before is not None
    assert before.status == "deprecated"
    routes = await services.pool.fetch(
        "SELECT definition_id::text AS id FROM workflow_routes WHERE tenant_id = 'default'"
    )
    assert [route["id"] for route in routes] == [second.id]
    with pytest.raises(ConflictError) as again:
        await services.catalog.publish(services.admin, second.id)
    assert again.value.code == "already_published"
    with pytest.raises(ConflictError) as nothing:
        await services.catalog.publish(services.admin, "leave")
    assert nothing.value.code == "nothing_to_publish"


async def test_two_publishes_at_once_have_one_winner(services: Services) -> None:
    """Of five at the same time one publishes, the others are refused, and there is one active version and one route."""
    draft = row_of(await services.catalog.create(services.admin, document()))
    results = await asyncio.gather(
        *(services.catalog.publish(services.admin, draft.id) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, DefinitionRow) for result in results) == 1
    assert sum(isinstance(result, ConflictError) for result in results) == 4
    assert (await services.log()).count("definition.published") == 1


async def test_published_content_is_immutable_in_the_database_too(services: Services) -> None:
    """Whatever our own code does: the database refuses to change what was published."""
    row = await services.published()
    with pytest.raises(asyncpg.PostgresError, match="immutable"):
        await services.pool.execute(
            "UPDATE workflow_definitions SET definition = jsonb_set(definition, '{title}', '\"x\"') WHERE id = $1::text::uuid",
            row.id,
        )


async def test_a_draft_cannot_be_started_and_has_no_chart(services: Services) -> None:
    """What may still change cannot run; the answer says to publish it."""
    draft = row_of(await services.catalog.create(services.admin, document()))
    assert await services.catalog.resolve("default", "leave") is None
    for ref in ("leave", draft.id):
        with pytest.raises(ConflictError, match="publish it first"):
            await services.catalog.to_start("default", ref)
    with pytest.raises(ConflictError):
        await services.catalog.chart("default", draft.id)
    with pytest.raises(NotFoundError):
        await services.catalog.to_start("default", "nothing")


async def test_what_a_name_resolves_to(services: Services) -> None:
    """By name the active version; by range only what fits; a deprecated one only for standing orders; never a draft."""
    first = await services.published()
    second = await services.published(version="2.0.0")
    await services.catalog.replace(services.admin, "leave", document("3.0.0"))

    async def resolved(*args: Any, **options: Any) -> str | None:
        row = await services.catalog.resolve("default", "leave", *args, **options)
        return row.id if row else None

    assert await resolved() == second.id
    assert await resolved("^2") == second.id
    assert await resolved("2.0.0") == second.id
    assert await resolved("^1") is None
    assert await resolved("^1", deprecated=True) == first.id
    assert await resolved(">=1", deprecated=True) == second.id
    assert await resolved("3.0.0", deprecated=True) is None
    with pytest.raises(InvalidError):
        await resolved("nonsense")
    with pytest.raises(ConflictError, match="deprecated"):
        await services.catalog.to_start("default", first.id)
    assert (await services.catalog.to_start("default", "leave")).id == second.id
    assert (await services.catalog.to_start("default", second.id.upper())).id == second.id


async def test_resolving_never_lags_behind_a_publish(services: Services) -> None:
    """Who asks after a publish was answered is never told the version before, however many ask at the same time."""
    await services.published()
    for minor in range(1, 6):
        asking = [asyncio.create_task(services.catalog.resolve("default", "leave")) for _ in range(20)]
        row = await services.published(version=f"1.{minor}.0")
        after = await asyncio.gather(*(services.catalog.resolve("default", "leave") for _ in range(20)))
        assert {found.version for found in after if found} == {row.version}
        assert {found.status for found in after if found} == {"active"}
        await asyncio.gather(*asking)


async def test_charts_are_kept_and_loaded_once(services: Services) -> None:
    """`cached` knows a chart after `chart`; fifty who ask at once cause one load."""
    row = await services.published()
    assert services.catalog.cached("default", row.id) is None
    charts = await asyncio.gather(*(services.catalog.chart("default", row.id) for _ in range(50)))
    assert len({id(chart) for chart in charts}) == 1
    assert services.catalog.cached("default", row.id) is charts[0]
    assert services.catalog.cached("other", row.id) is None
    with pytest.raises(NotFoundError):
        await services.catalog.chart("other", row.id)
    with pytest.raises(NotFoundError):
        await services.catalog.chart("default", "no uuid")


async def test_the_chart_cache_is_bounded_by_weight() -> None:
    """Who was not asked for longest goes first; one that is heavier than the bound stays alone."""

    class Chart:
        def __init__(self, weight: int) -> None:
            self.weight = weight

    loads: list[str] = []

    async def load(tenant: str, definition: str) -> Any:
        loads.append(definition)
        return Chart(int(definition))

    charts = Charts(load, weight_max=10)
    for weight in ("4", "5"):
        await charts.load("t", weight)
    assert charts.get("t", "4") is not None  # used just now, so "5" is the older one
    await charts.load("t", "3")
    assert charts.get("t", "5") is None
    assert charts.get("t", "4") is not None
    await charts.load("t", "99")
    assert len(charts) == 1
    assert charts.get("t", "99") is not None
    assert loads == ["4", "5", "3", "99"]


async def test_archive_is_refused_while_needed(services: Services) -> None:
    """A live instance or an enabled binding keeps its version; afterwards it goes, and stays readable by id."""
    row = await services.published()
    binding = await services.submissions.put_binding(services.admin, BindingInput(form_id="f", workflow="leave"))
    answer = await services.submissions.create(services.admin, "f", {})
    assert answer.instances
    for code in ("instances_live", "bindings_enabled"):
        for ref in (row.id, "leave"):
            with pytest.raises(ConflictError) as refused:
                await services.catalog.archive(services.admin, ref)
            assert refused.value.code == code
        await services.pool.execute("UPDATE workflow_instances SET status = 'completed', completed_at = now()")
    await services.submissions.delete_binding(services.admin, binding.id)
    (archived,) = await services.catalog.archive(services.admin, row.id)
    assert archived.status == "archived"
    assert await services.catalog.resolve("default", "leave") is None
    assert (await services.catalog.list("default")).items == ()
    shown = await services.catalog.list("default", status="archived")
    assert [item.id for item in shown.items] == [row.id]
    assert await services.catalog.chart("default", row.id) is not None
    assert await services.catalog.archive(services.admin, row.id) == ()
    assert (await services.log()).count("definition.archived") == 1


async def test_archived_drafts_vanish_and_free_name_and_number(services: Services) -> None:
    """A draft that was put away is in no list, and its name and version can be used again."""
    draft = row_of(await services.catalog.create(services.admin, document()))
    await services.catalog.archive(services.admin, draft.id)
    assert (await services.catalog.list("default")).items == ()
    assert (await services.catalog.list("default", status="archived")).items == ()
    assert await services.catalog.get("default", "leave") is None
    again = row_of(await services.catalog.create(services.admin, document()))
    assert again.status == "draft"
    assert again.revision > draft.revision


async def test_revisions_of_versions_never_meet(services: Services) -> None:
    """An If-Match read off one version never fits another of the same name."""
    seen: dict[int, str] = {}
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await services.published(version=version)
        for row in (await services.catalog.versions("default", "leave")).items:
            assert seen.setdefault(row.revision, row.id) == row.id


async def test_pages_of_names_and_versions(services: Services) -> None:
    """Keyset pages give every name once, in order; every version once, highest first; a foreign cursor is refused."""
    for name in ("b.two", "a_one", "c-three"):
        await services.catalog.create(services.admin, document(name=name))
    for version in ("1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0"):
        await services.published(version=version)
    names: list[str] = []
    cursor = None
    while True:
        page = await services.catalog.list("default", limit=2, cursor=cursor)
        names += [item.name for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(names) == ["a_one", "b.two", "c-three", "leave"]
    assert len(names) == 4
    versions: list[str] = []
    cursor = None
    while True:
        found = await services.catalog.versions("default", "leave", limit=3, cursor=cursor)
        versions += [item.version for item in found.items]
        cursor = found.next_cursor
        if cursor is None:
            break
    assert versions == ["1.10.0", "1.2.0", "1.0.0", "1.0.0-rc.1"]
    assert [item.name for item in (await services.catalog.list("default", name_prefix="b.")).items] == ["b.two"]
    assert (await services.catalog.list("default", name_prefix="\0")).items == ()
    for bad in ("x", "", "\ud800", "eyJ9", "WyJcdTAwMDAiLCIxLjAuMCJd"):
        with pytest.raises(InvalidError):
            await services.catalog.versions("default", "leave", cursor=bad)
    with pytest.raises(InvalidError):
        await services.catalog.list("default", status="nonsense")


async def test_hostile_references_are_unknown(services: Services) -> None:
    """Whatever stands for `{id}`: not found, never an error of the database."""
    await services.published()
    for ref in ("", "\0", "leave\0", "\ud800", "' OR 1=1", "0" * 36, "LEAVE", "x" * 5000, "health"):
        assert await services.catalog.get("default", ref) is None
        for call in (services.catalog.archive, services.catalog.publish):
            with pytest.raises(NotFoundError):
                await call(services.admin, ref)
    for version in ("", "\0", "1", "v1", "1.0.0\n", "١.0.0"):
        assert await services.catalog.get("default", "leave", version) is None


async def test_tenants_never_see_each_other(services: Services, other_admin: Principal) -> None:
    """The same name lives in both tenants on its own; ids of one are nothing in the other."""
    ours = await services.published()
    assert await services.catalog.get("other", ours.id) is None
    assert await services.catalog.get("other", "leave") is None
    assert (await services.catalog.list("other")).items == ()
    with pytest.raises(NotFoundError):
        await services.catalog.replace(other_admin, ours.id, document("2.0.0"))
    with pytest.raises(NotFoundError):
        await services.catalog.archive(other_admin, ours.id)
    theirs = await services.published(other_admin, title="Theirs")
    assert theirs.id != ours.id
    kept = await services.catalog.get("default", "leave")
    assert kept is not None
    assert kept.title == "Leave of absence"


async def test_permissions_and_the_record_of_their_lack(services: Services) -> None:
    """Authors write, publishers publish; who lacks the permission is refused, and the attempt is on record."""
    author, nobody = await services.person("ada", "author"), await services.person("bob")
    with pytest.raises(ForbiddenError):
        await services.catalog.create(nobody, document())
    draft = row_of(await services.catalog.create(author, document()))
    with pytest.raises(ForbiddenError) as refused:
        await services.catalog.publish(author, draft.id)
    assert refused.value.details["permissions"] == ["publisher"]
    with pytest.raises(ForbiddenError):
        await services.catalog.create(nobody, document(name="b\0d"))
    assert await services.log() == ["denied", "definition.created", "denied", "denied"]
    assert (await services.audit.verify("default")).intact


async def test_idempotency_keys_of_definitions(services: Services) -> None:
    """The same request twice is one draft and the same answer; the same key with another body is refused."""
    first = row_of(await services.catalog.create(services.admin, document(), request=key("k", 1)))
    again = row_of(await services.catalog.create(services.admin, document(), request=key("k", 1)))
    assert again.id == first.id
    with pytest.raises(KeyReusedError):
        await services.catalog.create(services.admin, document(name="b"), request=key("k", 2))
    results = await asyncio.gather(
        *(services.catalog.publish(services.admin, first.id, request=key("p", 1)) for _ in range(5))
    )
    assert {row_of(result).status for result in results} == {"active"}
    assert (await services.log()).count("definition.published") == 1


async def test_a_refused_request_leaves_its_key_free(services: Services) -> None:
    """A key is spent by what was made, not by what was refused."""
    with pytest.raises(NotFoundError):
        await services.catalog.publish(services.admin, "leave", request=key("k"))
    draft = row_of(await services.catalog.create(services.admin, document()))
    with pytest.raises(PreconditionFailedError):
        await services.catalog.publish(services.admin, draft.id, None, 99, request=key("k"))
    assert row_of(await services.catalog.publish(services.admin, draft.id, request=key("k"))).status == "active"


async def test_a_second_node_sees_what_the_first_published(services: Services) -> None:
    """Another catalog on the same database, with rows of its own in memory, resolves the new version at once."""
    node = Catalog(services.pool, services.audit)
    await services.published()
    found = await node.resolve("default", "leave")
    assert found is not None
    second = await services.published(version="1.1.0")
    found = await node.resolve("default", "leave")
    assert found is not None
    assert (found.id, found.status) == (second.id, "active")
