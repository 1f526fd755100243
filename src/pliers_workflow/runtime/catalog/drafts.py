"""Keeping documents: what is wrong with them, the first draft of a name, and the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace as altered

from pliers_workflow.definition import versions
from pliers_workflow.definition.compiler import RETRY_ATTEMPTS
from pliers_workflow.definition.findings import Finding
from pliers_workflow.definition.reading import Reading
from pliers_workflow.storage import queries
from pliers_workflow.storage.identity import is_uuid

from .. import idempotency
from ..errors import ConflictError
from ..plugins import checking
from ..plugins.registry import PluginRegistry
from ..rows import DefinitionRow
from . import unserved
from .change import Change, change_of
from .reading import Versions
from .records import check_match, columns, unknown

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey

_sql: Final = queries.load("catalog")


class Drafts(Versions):
    """Documents on their way to being published."""

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
        super().__init__(pool, weight_max=weight_max, retry_attempts=retry_attempts)
        self._plugins = plugins or PluginRegistry(pool)
        self._audit = audit

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
        async with change_of(self._pool, tenant, name, request) as change:
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
            raise unknown(ref)
        read = await self._read(document, self._pool)
        if read.definition is None:
            return read.findings
        if read.definition.name != known.name:
            message = f"The document is called {read.definition.name}, the workflow {known.name}."
            hint = "A name never changes: correct it, or create a new workflow."
            return (*read.findings, Finding("/name", "name_mismatch", message, hint))
        assert isinstance(document, dict)
        async with change_of(self._pool, tenant, known.name, request) as change:
            if change.made is not None:
                return await self._made(change, tenant)
            draft = change.first("draft")
            base = change.by_id(known.id) if is_uuid(ref) else draft or change.first("active") or change.by_id(known.id)
            if base is None:
                raise unknown(ref)
            check_match(base, if_match)
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
                    _sql.replace_draft, tenant, definition_id, *columns(document), change.next_revision(),
                    principal.user_id,
                )  # fmt: skip
            await self._finish(change, principal, action, definition_id, {"version": document["version"]})
            return altered(await self._by_id(change.connection, tenant, definition_id), findings=findings)

    # -- inside -----------------------------------------------------------------------------------------------------------

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

    async def _made(self, change: Change, tenant_id: str) -> DefinitionRow:
        """What the first request with this key made, as it is now."""
        return await self._by_id(change.connection, tenant_id, str(change.made))

    async def _finish(
        self,
        change: Change,
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

    async def _insert(self, change: Change, principal: Principal, document: dict[str, Any]) -> str:
        await self._drop_archived_draft(change, document)
        made: str = await change.connection.fetchval(
            _sql.insert_draft, principal.tenant_id, change.name, *columns(document), change.next_revision(),
            principal.user_id,
        )  # fmt: skip
        return made

    async def _drop_archived_draft(self, change: Change, document: dict[str, Any]) -> None:
        """An archived draft must not hold its version number for ever: nothing was ever started on it."""
        await change.connection.execute(_sql.drop_archived_draft, change.tenant_id, change.name, document["version"])

    async def _step_finding(
        self, change: Change, tenant_id: str, highest: asyncpg.Record | None, document: dict[str, Any]
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
