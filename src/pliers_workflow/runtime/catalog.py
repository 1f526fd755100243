"""Definitions: drafts, versions, which of them is active, and the charts compiled from them.

A name has versions: at most one draft, at most one active, any number that were active once (`deprecated`) or have been
put away (`archived`). What was published never changes; a change is the next draft, with a higher version number. All
that happens under one name happens one after another, under a lock of that name, and is in the audit log.

Revisions count across all versions of a name. So an `If-Match` of one version never fits another by chance.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace as altered

from pliers_workflow.definition import names, reading, versions
from pliers_workflow.definition.compiler import RETRY_ATTEMPTS, compile_definition
from pliers_workflow.definition.findings import Finding
from pliers_workflow.definition.reading import Reading
from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from . import idempotency, unserved
from .charts import Charts
from .errors import ConflictError, InvalidError, NotFoundError, PreconditionFailedError
from .inbound import rules
from .paging import cursor_key
from .plugins import checking
from .plugins.registry import PluginRegistry
from .routes import Routes
from .rows import DefinitionRow, DefinitionSummary

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.storage.database import AnyConnection as Connection

    from .answers import RequestKey
    from .audit import Audit
    from .principal import Principal

_sql: Final = queries.load("catalog")

STATUSES: Final = ("draft", "active", "deprecated", "archived")
#: rows with their documents kept in memory, for starting instances
_ROWS_MAX: Final = 512


class Catalog:
    """Keeps the definitions of every tenant, and their charts."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        audit: Audit,
        *,
        weight_max: int = 200_000,
        retry_attempts: int = RETRY_ATTEMPTS,
        plugins: PluginRegistry | None = None,
    ) -> None:
        """`plugins`: who knows them; None: whoever reads the same database."""
        self._pool = pool
        self._plugins = plugins or PluginRegistry(pool)
        self._audit = audit
        self._routes = Routes(pool)
        self._retry_attempts = retry_attempts
        self._charts = Charts(self._compile, weight_max=weight_max)
        self._rows: OrderedDict[tuple[str, str], DefinitionRow] = OrderedDict()

    # -- writing -------------------------------------------------------------------------------------------------------

    async def validate(self, document: object) -> tuple[Finding, ...]:
        """Say everything that is wrong with a document; nothing is kept."""
        return (await self._read(document, self._pool)).findings

    async def create(
        self, principal: Principal, document: object, *, request: RequestKey | None = None
    ) -> DefinitionRow | tuple[Finding, ...]:
        """
        Keep a document as the first draft of a new name; or give the findings that keep it from being used.

        Raises ConflictError where the name has a version already: `replace` opens the next one.
        """
        await self._audit.require(principal, "definition.create", "definition:", "author")
        read = await self._read(document, self._pool)
        if read.definition is None:
            return read.findings
        tenant, name = principal.tenant_id, read.definition.name
        assert isinstance(document, dict)
        async with self._change(principal, name, request) as change:
            if change.made is not None:
                return await self._made(change, tenant)
            if change.versions:
                there = change.versions[0]
                raise ConflictError(
                    "name_exists",
                    f"There is a workflow {name} already; PUT the next version to it, or choose another name.",
                    {"id": there["id"], "version": there["version"], "status": there["status"]},
                )
            definition_id = await self._insert(change, principal, document)
            await self._finish(change, principal, "definition.created", definition_id, {"version": document["version"]})
            return altered(await self._by_id(change.connection, tenant, definition_id), findings=read.findings)

    async def replace(
        self,
        principal: Principal,
        ref: str,
        document: object,
        if_match: int | None = None,
        *,
        request: RequestKey | None = None,
    ) -> DefinitionRow | tuple[Finding, ...]:
        """
        Put a document in the place of a draft, or open the next draft beside a published version.

        `ref` names a version by UUID, or a workflow by name: then its draft, if it has one, else the version it stands
        for. Any version number higher than all published ones will do; one that is too small for the change comes back
        as a warning. Raises NotFoundError, PreconditionFailedError, and ConflictError for a number that is not higher,
        or where another draft is open.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "definition.replace", f"definition:{ref}", "author")
        known = await self.get(tenant, ref)
        if known is None:
            raise _unknown(ref)
        read = await self._read(document, self._pool)
        if read.definition is None:
            return read.findings
        if read.definition.name != known.name:
            message = f"The document is called {read.definition.name}, the workflow {known.name}."
            hint = "A name never changes: correct it, or create a new workflow."
            return (*read.findings, Finding("/name", "name_mismatch", message, hint))
        assert isinstance(document, dict)
        async with self._change(principal, known.name, request) as change:
            if change.made is not None:
                return await self._made(change, tenant)
            draft = change.first("draft")
            base = change.by_id(known.id) if is_uuid(ref) else draft or change.first("active") or change.by_id(known.id)
            if base is None:
                raise _unknown(ref)
            _check_match(base, if_match)
            if base["status"] == "archived" and base["published_at"] is None:
                raise ConflictError(
                    "archived", "This draft has been archived; PUT to the workflow's name, or create it anew."
                )
            if draft is not None and base["id"] != draft["id"]:
                raise ConflictError(
                    "draft_exists",
                    f"Version {draft['version']} is open as a draft; replace, publish or archive that one first.",
                    {"id": draft["id"], "version": draft["version"], "revision": draft["revision"]},
                )
            highest = change.highest_published()
            if highest is not None and versions.compare(read.definition.version, highest["version"]) <= 0:
                raise ConflictError(
                    "version_not_higher",
                    f"Version {highest['version']} has been published; choose a higher number than that.",
                    {"highest": highest["version"]},
                )
            findings = read.findings + await self._step_finding(change, tenant, highest, document)
            if draft is None:
                definition_id = await self._insert(change, principal, document)
                action = "definition.created"
            else:
                definition_id, action = draft["id"], "definition.replaced"
                await self._drop_archived_draft(change, document)
                await change.connection.fetchval(
                    _sql.replace_draft, tenant, definition_id, *_columns(document), change.next_revision(),
                    principal.user_id,
                )  # fmt: skip
            await self._finish(change, principal, action, definition_id, {"version": document["version"]})
            return altered(await self._by_id(change.connection, tenant, definition_id), findings=findings)

    async def publish(
        self,
        principal: Principal,
        ref: str,
        version: str | None = None,
        if_match: int | None = None,
        *,
        request: RequestKey | None = None,
    ) -> DefinitionRow | tuple[Finding, ...]:
        """
        Make a draft the active version of its name, and the version before `deprecated`; or give the draft's findings.

        `ref` is the draft's UUID, or the workflow's name: then its draft, or its `version`. Instances stay with the
        version they were started on. Raises NotFoundError, PreconditionFailedError, and ConflictError where there is
        nothing to publish any more.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "definition.publish", f"definition:{ref}", "publisher")
        known = await self.get(tenant, ref, version)
        if known is None:
            raise _unknown(ref if version is None else f"{ref} {version}")
        async with self._change(principal, known.name, request) as change:
            if change.made is not None:
                return await self._made(change, tenant)
            exact = change.by_id(known.id) if is_uuid(ref) or version is not None else None
            draft = exact or change.first("draft")
            if draft is None:
                raise ConflictError(
                    "nothing_to_publish",
                    f"{known.name} has no draft; PUT the next version to it first.",
                    {"id": known.id},
                )
            _check_match(draft, if_match)
            if draft["status"] != "draft":
                raise ConflictError(
                    "already_published" if draft["status"] != "archived" else "archived",
                    f"Version {draft['version']} is {draft['status']}; only a draft can be published. PUT the next version first.",
                    {"id": draft["id"], "status": draft["status"]},
                )
            row = await self._by_id(change.connection, tenant, draft["id"])
            read = await self._read(row.definition, change.connection)
            if read.definition is None:
                return read.findings
            highest = change.highest_published()
            if highest is not None and versions.compare(row.version, highest["version"]) <= 0:
                raise ConflictError(
                    "version_not_higher",
                    f"Version {highest['version']} has been published; give the draft a higher number.",
                )
            findings = read.findings + await self._step_finding(change, tenant, highest, row.definition)
            connection, by = change.connection, principal.user_id
            before = await connection.fetchval(_sql.deprecate, tenant, row.name, change.next_revision(), by)
            await connection.fetchval(_sql.activate, tenant, row.id, change.next_revision(), by)
            await connection.execute(_sql.clear_routes, tenant, row.name)
            await connection.execute(_sql.add_route, tenant, row.name, row.id)
            await rules.listen(connection, tenant, row.id, read.definition)
            details = {"version": row.version, "sha256": row.content_hash.hex(), "deprecated": before}
            await self._finish(change, principal, "definition.published", row.id, details)
            return altered(await self._by_id(connection, tenant, row.id), findings=findings)

    async def archive(
        self, principal: Principal, ref: str, if_match: int | None = None, *, request: RequestKey | None = None
    ) -> tuple[DefinitionSummary, ...]:
        """
        Put a version away (by UUID), or a whole workflow (by name: all its versions); give what was put away.

        Refused with ConflictError while live instances or enabled bindings need one of them. What was published stays
        readable for ever, for the history; a draft vanishes from lists. Archiving twice is the same as once.
        """
        tenant = principal.tenant_id
        known = await self.get(tenant, ref)
        if known is None:
            await self._audit.require(principal, "definition.archive", f"definition:{ref}", "author", "publisher")
            raise _unknown(ref)
        needed = ("author", "publisher") if is_uuid(ref) and known.published_at is None else ("publisher",)
        await self._audit.require(principal, "definition.archive", f"definition:{known.id}", *needed)
        async with self._change(principal, known.name, request) as change:
            connection = change.connection
            if change.made is None:
                base = change.by_id(known.id)
                if base is None:
                    raise _unknown(ref)
                _check_match(base, if_match)
                targets = [base] if is_uuid(ref) else change.versions
                targets = [target for target in targets if target["status"] != "archived"]
                await self._check_unneeded(change, tenant, known.name, [target["id"] for target in targets])
                for target in targets:
                    await connection.execute(_sql.drop_route, tenant, target["id"], known.name)
                    await connection.fetchval(
                        _sql.archive, tenant, target["id"], change.next_revision(), principal.user_id
                    )
                    await rules.forget(connection, tenant, target["id"])
                ids = [target["id"] for target in targets]
                details = {"ids": ids, "versions": [target["version"] for target in targets]}
                if ids:
                    await self._finish(change, principal, "definition.archived", ids[0], details, made=" ".join(ids))
            else:
                ids = change.made.split()
            return tuple([_summary_of(await self._by_id(connection, tenant, one)) for one in ids])

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(self, tenant_id: str, ref: str, version: str | None = None) -> DefinitionRow | None:
        """
        Give a version by its UUID; or of a name its active version, else its draft, else the highest of the rest.

        With `version` exactly that one, of the same name.
        """
        if is_uuid(ref):
            row = await self._pool.fetchrow(_sql.by_id, tenant_id, ref)
            if row is None or version is None or row["version"] == version:
                return _row(row) if row else None
            ref = row["name"]
        if names.check_name(ref) is not None:
            return None
        if version is None:
            row = await self._pool.fetchrow(_sql.by_name, tenant_id, ref)
        elif _is_version(version):
            row = await self._pool.fetchrow(_sql.by_version, tenant_id, ref, version)
        else:
            row = None
        return _row(row) if row else None

    async def list(
        self,
        tenant_id: str,
        *,
        status: str | None = None,
        name_prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DefinitionSummary]:
        """
        List workflows by name, each by the version it stands for; with `status` all versions of that status.

        What is archived shows only where it is asked for, an archived draft never.
        """
        limit = max(1, min(limit, LIMIT_MAX))
        if status is not None and status not in STATUSES:
            raise InvalidError("unknown_value", f"There is no status {status!r}; there are {', '.join(STATUSES)}.")
        if name_prefix is not None and not names.PATTERN.fullmatch(name_prefix + "x"):
            return Page(())
        if status is None:
            (name,) = cursor_key(cursor, str)
            rows = await self._pool.fetch(_sql.page_names, tenant_id, name, name_prefix, limit + 1)
            return make_page(rows, limit, DefinitionSummary.of, lambda row: (row["name"],))
        return await self._page(tenant_id, None, status, name_prefix, limit, cursor)

    async def versions(
        self, tenant_id: str, ref: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DefinitionSummary]:
        """List the versions of a name (or of the workflow that a version belongs to), highest first."""
        known = await self.get(tenant_id, ref)
        if known is None:
            raise _unknown(ref)
        return await self._page(tenant_id, known.name, None, None, max(1, min(limit, LIMIT_MAX)), cursor)

    async def resolve(
        self, tenant_id: str, name: str, version_or_range: str | None = None, *, deprecated: bool = False
    ) -> DefinitionRow | None:
        """
        Give the version of a name that may be started now, or None.

        Without a version: the active one. With a version or a range (`^1.2`): the active one if it fits; else, where
        `deprecated` is true, the highest one that was active before and fits. A binding that pins a version is such a
        standing order, and goes on when a newer version comes.
        """
        if names.check_name(name) is not None:
            return None
        if version_or_range is None:
            active = await self._routes.active(tenant_id, name)
            return None if active is None else await self._kept(tenant_id, *active)
        rows = await self._pool.fetch(_sql.published, tenant_id, name, deprecated)
        fitting = _fitting(rows, version_or_range)
        return None if fitting is None else await self._kept(tenant_id, fitting["id"], fitting["revision"])

    async def to_start(self, tenant_id: str, ref: str, version: str | None = None) -> DefinitionRow:
        """
        Give the version that a request to start an instance means: by UUID, or by name and version or range.

        Raises NotFoundError, and ConflictError for a version that is not active, with the sentence that says what to do.
        """
        if is_uuid(ref) and version is None:
            revision = await self._pool.fetchval(_sql.head, tenant_id, ref)
            row = None if revision is None else await self._kept(tenant_id, ref.lower(), revision)
        else:
            if is_uuid(ref):
                known = await self.get(tenant_id, ref)
                ref = known.name if known else ref
            row = await self.resolve(tenant_id, ref, version) or await self.get(tenant_id, ref, version)
        if row is None:
            raise _unknown(ref if version is None else f"{ref} {version}")
        if row.status == "active":
            return row
        if row.status == "draft":
            message = f"Version {row.version} of {row.name} is a draft; publish it first."
        else:
            message = (
                f"Version {row.version} of {row.name} is {row.status} and takes no new instances; start the active one."
            )
        raise ConflictError("not_active", message, {"id": row.id, "version": row.version, "status": row.status})

    # -- charts --------------------------------------------------------------------------------------------------------

    def cached(self, tenant_id: str, definition_id: str) -> Chart | None:
        """Give the chart of a published version if it is in memory."""
        return self._charts.get(tenant_id, definition_id)

    async def chart(self, tenant_id: str, definition_id: str) -> Chart:
        """
        Give the chart of a version that is or was published, compiling it where it is not in memory.

        Raises NotFoundError, and ConflictError for a draft, which may still change and so cannot run.
        """
        return await self._charts.load(tenant_id, definition_id)

    async def _compile(self, tenant_id: str, definition_id: str) -> Chart:
        record = await self._pool.fetchrow(_sql.by_id, tenant_id, definition_id) if is_uuid(definition_id) else None
        if record is None:
            raise _unknown(definition_id)
        row = _row(record)
        if row.published_at is None:
            raise ConflictError("not_active", f"Version {row.version} of {row.name} is a draft; publish it first.")
        return await asyncio.to_thread(_chart, row.definition, self._retry_attempts)

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _read(self, document: object, connection: Connection | asyncpg.Pool[Any]) -> Reading:
        """As `reading.read`, and with findings for what no node would do, and for plugin steps that could not work."""
        read = await asyncio.to_thread(unserved.read, document)
        steps = checking.uses(document)
        if not steps:
            return read
        known = await self._plugins.known(connection)
        found = tuple(await asyncio.to_thread(checking.findings, steps, known))
        refused = any(finding.severity == "error" for finding in found)
        return Reading(None if refused else read.definition, (*read.findings, *found))

    @asynccontextmanager
    async def _change(self, principal: Principal, name: str, request: RequestKey | None) -> AsyncIterator[_Change]:
        """A transaction that holds the name, and has its versions, highest first."""
        tenant = principal.tenant_id
        async with self._pool.acquire() as connection, connection.transaction():
            made = await idempotency.claim(connection, tenant, request)
            await connection.execute(_sql.lock_name, tenant, name)
            rows = await connection.fetch(_sql.siblings, tenant, name)
            yield _Change(connection, tenant, name, request, made, rows)

    async def _made(self, change: _Change, tenant_id: str) -> DefinitionRow:
        """What the first request with this key made, as it is now."""
        return await self._by_id(change.connection, tenant_id, str(change.made))

    async def _finish(
        self,
        change: _Change,
        principal: Principal,
        action: str,
        definition_id: str,
        details: dict[str, Any],
        made: str | None = None,
    ) -> None:
        """Settle the request's key and write the audit row: the last statements of a change."""
        tenant = principal.tenant_id
        await idempotency.settle(change.connection, tenant, change.request, made or definition_id)
        told = {"name": change.name, **details}
        await self._audit.record(
            change.connection, tenant, action, f"definition:{definition_id}", told, principal.user_id
        )

    async def _insert(self, change: _Change, principal: Principal, document: dict[str, Any]) -> str:
        await self._drop_archived_draft(change, document)
        made: str = await change.connection.fetchval(
            _sql.insert_draft, principal.tenant_id, change.name, *_columns(document), change.next_revision(),
            principal.user_id,
        )  # fmt: skip
        return made

    async def _drop_archived_draft(self, change: _Change, document: dict[str, Any]) -> None:
        """An archived draft must not hold its version number for ever: nothing was ever started on it."""
        await change.connection.execute(_sql.drop_archived_draft, change.tenant_id, change.name, document["version"])

    async def _step_finding(
        self, change: _Change, tenant_id: str, highest: asyncpg.Record | None, document: dict[str, Any]
    ) -> tuple[Finding, ...]:
        """A warning where the version number is smaller than the change since the highest published version."""
        if highest is None:
            return ()
        before = await self._by_id(change.connection, tenant_id, highest["id"])
        kind, least = await asyncio.to_thread(versions.smallest_allowed, before.definition, before.version, document)
        if kind is None or versions.allows(least, document["version"]):
            return ()
        message = (
            f"This is a {kind} change of {before.version}; by the rules of versions it would be {least} or higher."
        )
        hint = f"Call it {least}, unless nobody relies on what was changed."
        return (Finding("/version", "version_too_small", message, hint, "warning"),)

    async def _check_unneeded(self, change: _Change, tenant_id: str, name: str, ids: Sequence[str]) -> None:
        connection = change.connection
        await connection.fetch(_sql.lock_versions, tenant_id, ids)
        if live := await connection.fetch(_sql.live_instances, tenant_id, ids):
            numbers = [change.version_of(row["id"]) for row in live]
            raise ConflictError(
                "instances_live",
                f"Instances of version {', '.join(numbers)} are still alive; let them end or cancel them first.",
                {"versions": numbers},
            )
        startable = [row for row in change.versions if row["status"] in ("active", "deprecated")]
        startable.sort(key=lambda row: row["status"] != "active")
        needing = []
        for binding in await connection.fetch(_sql.bindings_of, tenant_id, name):
            meant = _fitting(startable, binding["version"]) if binding["version"] else change.first("active")
            if meant is not None and meant["id"] in ids:
                needing.append({"id": binding["id"], "formId": binding["form_id"]})
        if needing:
            raise ConflictError(
                "bindings_enabled",
                f"The form {needing[0]['formId']} starts this workflow; disable or delete its binding first.",
                {"bindings": needing},
            )

    async def _page(
        self, tenant_id: str, name: str | None, status: str | None, prefix: str | None, limit: int, cursor: str | None
    ) -> Page[DefinitionSummary]:
        after_name, after_version = cursor_key(cursor, str, str)
        if after_version is not None and not _is_version(after_version):
            raise InvalidError("bad_cursor", "The cursor is none of ours; begin the list anew, without a cursor.")
        rows = await self._pool.fetch(
            _sql.page_versions, tenant_id, name, status, prefix, after_name, after_version, limit + 1
        )
        return make_page(rows, limit, DefinitionSummary.of, lambda row: (row["name"], row["version"]))

    async def _by_id(self, connection: Connection, tenant_id: str, definition_id: str) -> DefinitionRow:
        row = await connection.fetchrow(_sql.by_id, tenant_id, definition_id)
        if row is None:
            raise _unknown(definition_id)
        return _row(row)

    async def _kept(self, tenant_id: str, definition_id: str, revision: int) -> DefinitionRow | None:
        """Give a row from memory if it is still of this revision, else read it."""
        key = (tenant_id, definition_id)
        kept = self._rows.get(key)
        if kept is None or kept.revision != revision:
            row = await self._pool.fetchrow(_sql.by_id, tenant_id, definition_id)
            if row is None:
                return None
            kept = self._rows[key] = _row(row)
            while len(self._rows) > _ROWS_MAX:
                self._rows.popitem(last=False)
        if key in self._rows:
            self._rows.move_to_end(key)
        return kept


class _Change:
    """One change of a name: its transaction, what the request's key stands for already, the versions there were."""

    def __init__(
        self,
        connection: Connection,
        tenant_id: str,
        name: str,
        request: RequestKey | None,
        made: str | None,
        rows: Sequence[asyncpg.Record],
    ) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self.name = name
        self.request = request
        self.made = made
        self._all = rows
        #: highest first, without archived drafts: to everybody outside those are gone
        self.versions = [row for row in rows if row["status"] != "archived" or row["published_at"] is not None]
        self._revision = max((row["revision"] for row in rows), default=0)

    def next_revision(self) -> int:
        """A revision that no version of the name has had."""
        self._revision += 1
        return self._revision

    def first(self, status: str) -> asyncpg.Record | None:
        """The highest version of a status."""
        return next((row for row in self.versions if row["status"] == status), None)

    def by_id(self, definition_id: str) -> asyncpg.Record | None:
        """A version by its UUID, archived drafts too."""
        return next((row for row in self._all if row["id"] == definition_id.lower()), None)

    def version_of(self, definition_id: str) -> str:
        """The number of a version."""
        row = self.by_id(definition_id)
        assert row is not None
        version: str = row["version"]
        return version

    def highest_published(self) -> asyncpg.Record | None:
        """The highest version that was ever published."""
        return next((row for row in self.versions if row["published_at"] is not None), None)


def _chart(document: dict[str, Any], retry_attempts: int) -> Chart:
    read = reading.read(document)
    assert read.definition is not None, f"a published definition makes sense: {read.findings[:3]}"
    return compile_definition(read.definition, retry_attempts=retry_attempts)


def _fitting(rows: Sequence[asyncpg.Record], version_or_range: str) -> asyncpg.Record | None:
    """The first that fits; the rows stand in order of preference."""
    try:
        return next((row for row in rows if versions.matches(version_or_range, row["version"])), None)
    except ValueError as error:
        raise InvalidError("bad_format", f"{version_or_range!r} is no version and no range: {error}") from None


def _is_version(text: str) -> bool:
    try:
        versions.parse(text)
    except ValueError:
        return False
    return True


def _check_match(row: asyncpg.Record, if_match: int | None) -> None:
    if if_match is not None and row["revision"] != if_match:
        raise PreconditionFailedError(
            "revision_conflict",
            "The workflow has changed since you read it; read it again and repeat what still makes sense.",
            {"revision": row["revision"], "id": row["id"]},
        )


def _unknown(ref: str) -> NotFoundError:
    return NotFoundError("unknown_workflow", f"There is no workflow {ref[:300]}.")


def _columns(document: dict[str, Any]) -> tuple[str, str, str | None, str, bytes]:
    """Version, title, description, document and hash, as the statements take them."""
    return (
        document["version"],
        document["title"],
        document.get("description"),
        canonical.encode(document).decode(),
        bytes.fromhex(reading.content_hash(document)),
    )


def _row(record: asyncpg.Record) -> DefinitionRow:
    return DefinitionRow.of(record, definition=canonical.decode(record["definition"]))


def _summary_of(row: DefinitionRow) -> DefinitionSummary:
    return DefinitionSummary(**{name: getattr(row, name) for name in DefinitionSummary.__struct_fields__})
