"""Publishing a draft, and putting versions away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace as altered

from pliers_workflow.definition import versions
from pliers_workflow.storage import queries
from pliers_workflow.storage.identity import is_uuid

from ..errors import ConflictError
from ..inbound import rules
from ..rows import DefinitionRow, DefinitionSummary
from .change import Change, change_of
from .drafts import Drafts
from .records import check_match, fitting, summary_of, unknown

if TYPE_CHECKING:
    from pliers_workflow.definition.findings import Finding

    from ..access.principal import Principal
    from ..answers import RequestKey

_sql: Final = queries.load("catalog")


class Catalog(Drafts):
    """Keeps the definitions of every tenant, and their charts."""

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
            raise unknown(ref if version is None else f"{ref} {version}")
        async with change_of(self._pool, tenant, known.name, request) as change:
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
            check_match(draft, if_match)
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
            raise unknown(ref)
        needed = ("author", "publisher") if is_uuid(ref) and known.published_at is None else ("publisher",)
        await self._audit.require(principal, "definition.archive", f"definition:{known.id}", *needed)
        async with change_of(self._pool, tenant, known.name, request) as change:
            connection = change.connection
            if change.made is None:
                base = change.by_id(known.id)
                if base is None:
                    raise unknown(ref)
                check_match(base, if_match)
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
            return tuple([summary_of(await self._by_id(connection, tenant, one)) for one in ids])

    async def _check_unneeded(self, change: Change, tenant_id: str, name: str, ids: Sequence[str]) -> None:
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
            meant = fitting(startable, binding["version"]) if binding["version"] else change.first("active")
            if meant is not None and meant["id"] in ids:
                needing.append({"id": binding["id"], "formId": binding["form_id"]})
        if needing:
            raise ConflictError(
                "bindings_enabled",
                f"The form {needing[0]['formId']} starts this workflow; disable or delete its binding first.",
                {"bindings": needing},
            )
