"""Bindings: standing orders that start a workflow when a form is submitted (spec: SubmissionWorkflowBinding).

Checked when they are saved, against the definition they would start at that moment; what a submission then really starts
is decided when it comes (`submissions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from pliers_workflow.definition import versions
from pliers_workflow.definition.findings import Finding, pointer
from pliers_workflow.storage import canonical, queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import InvalidError, NotFoundError
from ..paging import uuid_cursor
from ..rows import BindingInput, BindingRow, DefinitionRow, SubmissionEvent
from ..storable import check_text, find_unstorable
from .mapping import check

if TYPE_CHECKING:
    import asyncpg

    from ..access.audit import Audit
    from ..access.principal import Principal
    from ..answers import RequestKey
    from ..catalog import Catalog

_sql: Final = queries.load("submissions")

EVENTS: Final = get_args(SubmissionEvent)


class Bindings:
    """Keeps bindings."""

    def __init__(self, pool: asyncpg.Pool[Any], catalog: Catalog, audit: Audit) -> None:
        self._pool = pool
        self._catalog = catalog
        self._audit = audit

    async def put_binding(
        self,
        principal: Principal,
        binding: BindingInput,
        binding_id: str | None = None,
        *,
        request: RequestKey | None = None,
    ) -> BindingRow:
        """
        Make a binding, or with an id replace that one; it holds for submissions from now on.

        Raises InvalidError with all findings where it makes no sense, NotFoundError for an id that is none. That the
        workflow has no published version yet is a warning only.
        """
        tenant = principal.tenant_id
        await self._audit.require(principal, "binding.put", f"binding:{binding_id or ''}", "author", "publisher")
        name, version, findings = await self._check_binding(tenant, binding)
        columns = (
            binding.form_id, list(dict.fromkeys(binding.trigger_events)), name, version, binding.condition,
            canonical.encode(binding.data_mapping).decode(), binding.enabled,
        )  # fmt: skip
        async with self._pool.acquire() as connection, connection.transaction():
            made = await idempotency.claim(connection, tenant, request)
            if made is not None:
                row = await connection.fetchrow(_sql.get_binding, tenant, made)
            elif binding_id is None:
                row = await connection.fetchrow(_sql.create_binding, tenant, *columns, principal.user_id)
            elif is_uuid(binding_id):
                row = await connection.fetchrow(_sql.replace_binding, tenant, binding_id, *columns)
            else:
                row = None
            if row is None:
                raise NotFoundError("unknown_binding", f"There is no binding {made or binding_id}.")
            if made is None:
                await idempotency.settle(connection, tenant, request, row["id"])
                action = "binding.created" if binding_id is None else "binding.replaced"
                details = {
                    "form": binding.form_id, "workflow": name, "version": version, "enabled": binding.enabled,
                    "events": columns[1],
                }  # fmt: skip
                await self._audit.record(connection, tenant, action, f"binding:{row['id']}", details, principal.user_id)
        return _binding(row, findings)

    async def get_binding(self, principal: Principal, binding_id: str) -> BindingRow | None:
        """Give a binding to authors, publishers, operators and auditors; None to everybody else."""
        if not _sees_bindings(principal) or not is_uuid(binding_id):
            return None
        row = await self._pool.fetchrow(_sql.get_binding, principal.tenant_id, binding_id)
        return _binding(row) if row else None

    async def list_bindings(
        self,
        principal: Principal,
        *,
        form_id: str | None = None,
        workflow: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[BindingRow]:
        """List bindings by id, of one form or one workflow (name) where given."""
        limit = max(1, min(limit, LIMIT_MAX))
        for what in (form_id, workflow):
            if what is not None:
                check_text("A filter", what, length_max=255)
        after = uuid_cursor(cursor)
        if not _sees_bindings(principal):
            return Page(())
        rows = await self._pool.fetch(_sql.page_bindings, principal.tenant_id, form_id, workflow, after, limit + 1)
        return make_page(rows, limit, _binding, lambda row: (row["id"],))

    async def delete_binding(self, principal: Principal, binding_id: str, *, request: RequestKey | None = None) -> None:
        """Remove a binding; what it has started goes on. Raises NotFoundError."""
        tenant, subject = principal.tenant_id, f"binding:{binding_id}"
        await self._audit.require(principal, "binding.delete", subject, "author", "publisher")
        async with self._pool.acquire() as connection, connection.transaction():
            if await idempotency.claim(connection, tenant, request) is not None:
                return
            row = await connection.fetchrow(_sql.delete_binding, tenant, binding_id) if is_uuid(binding_id) else None
            if row is None:
                raise NotFoundError("unknown_binding", f"There is no binding {binding_id[:300]}.")
            await idempotency.settle(connection, tenant, request, row["id"])
            details = {"form": row["form_id"], "workflow": row["workflow_name"]}
            await self._audit.record(
                connection, tenant, "binding.deleted", f"binding:{row['id']}", details, principal.user_id
            )

    async def _check_binding(
        self, tenant_id: str, binding: BindingInput
    ) -> tuple[str, str | None, tuple[Finding, ...]]:
        """Name and version that a binding means, and warnings; raises InvalidError with everything that is wrong."""
        check_text("A form's id", binding.form_id, length_max=255)
        whole = {"condition": binding.condition, "version": binding.version, "dataMapping": binding.data_mapping}
        if (unstorable := find_unstorable(whole)) is not None:
            raise InvalidError("invalid_binding", unstorable.message, findings=(unstorable,))
        findings: list[Finding] = []
        if not binding.trigger_events:
            findings.append(Finding("/triggerEvents", "missing", "A binding needs an event to wait for."))
        for place, event in enumerate(binding.trigger_events):
            if event not in EVENTS:
                hint = f"There are {', '.join(EVENTS)}."
                findings.append(
                    Finding(pointer("triggerEvents", place), "unknown_value", f"No event is called {event!r}.", hint)
                )
        name, version = binding.workflow, binding.version
        known = await self._catalog.get(tenant_id, name)
        if is_uuid(name) and known is not None:
            # A version's UUID pins that version.
            name, version = known.name, version or known.version
        if known is None:
            findings.append(
                Finding("/workflowId", "unknown_workflow", f"There is no workflow {name[:300]}.", "Create it first.")
            )
        elif version is not None and (problem := _range_problem(version)) is not None:
            findings.append(Finding("/version", "bad_format", problem, "For example `1.2.0`, `^1.2` or `1.x`."))
            known = None
        target = await self._target(tenant_id, name, version, findings) if known is not None else None
        findings += check(binding.data_mapping, binding.condition, target.definition if target else None)
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors:
            raise InvalidError("invalid_binding", f"The binding makes no sense: {errors[0].message}", findings=findings)
        return name, version, tuple(findings)

    async def _target(
        self, tenant_id: str, name: str, version: str | None, findings: list[Finding]
    ) -> DefinitionRow | None:
        """The version it would start now; that there is none is worth a warning."""
        target = await self._catalog.resolve(tenant_id, name, version, deprecated=True)
        if target is None:
            at = "/version" if version else "/workflowId"
            message = f"No published version of {name} fits yet; until then every start fails."
            findings.append(Finding(at, "no_startable_version", message, "Publish one.", "warning"))
        return target


def _range_problem(version: str) -> str | None:
    try:
        versions.matches(version, "1.0.0")
    except ValueError as error:
        return f"{version[:100]!r} is no version and no range: {error}"
    return None


def _sees_bindings(principal: Principal) -> bool:
    return principal.may("author", "publisher", "operator", "auditor")


def _binding(row: asyncpg.Record, findings: tuple[Finding, ...] = ()) -> BindingRow:
    return BindingRow.of(
        row,
        trigger_events=tuple(row["trigger_events"]),
        data_mapping=canonical.decode(row["data_mapping"]),
        findings=findings,
    )
