"""Reading definitions: by name, version or range, as lists, and as charts that can be run."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.definition import names, reading
from pliers_workflow.definition.compiler import RETRY_ATTEMPTS, compile_definition
from pliers_workflow.storage import queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from ..errors import ConflictError, InvalidError
from ..paging import cursor_key
from ..rows import DefinitionRow, DefinitionSummary
from .charts import Charts
from .records import fitting, is_version, row_of, unknown
from .routes import Routes

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.definition.chart import Chart
    from pliers_workflow.storage.database import AnyConnection as Connection

_sql: Final = queries.load("catalog")

STATUSES: Final = ("draft", "active", "deprecated", "archived")
#: rows with their documents kept in memory, for starting instances
_ROWS_MAX: Final = 512


class Versions:
    """The versions there are, and their charts."""

    def __init__(
        self, pool: asyncpg.Pool[Any], *, weight_max: int = 200_000, retry_attempts: int = RETRY_ATTEMPTS
    ) -> None:
        self._pool = pool
        self._routes = Routes(pool)
        self._retry_attempts = retry_attempts
        self._charts = Charts(self._compile, weight_max=weight_max)
        self._rows: OrderedDict[tuple[str, str], DefinitionRow] = OrderedDict()

    async def get(self, tenant_id: str, ref: str, version: str | None = None) -> DefinitionRow | None:
        """
        Give a version by its UUID; or of a name its active version, else its draft, else the highest of the rest.

        With `version` exactly that one, of the same name.
        """
        if is_uuid(ref):
            row = await self._pool.fetchrow(_sql.by_id, tenant_id, ref)
            if row is None or version is None or row["version"] == version:
                return row_of(row) if row else None
            ref = row["name"]
        if names.check_name(ref) is not None:
            return None
        if version is None:
            row = await self._pool.fetchrow(_sql.by_name, tenant_id, ref)
        elif is_version(version):
            row = await self._pool.fetchrow(_sql.by_version, tenant_id, ref, version)
        else:
            row = None
        return row_of(row) if row else None

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
            raise unknown(ref)
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
        meant = fitting(rows, version_or_range)
        return None if meant is None else await self._kept(tenant_id, meant["id"], meant["revision"])

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
            raise unknown(ref if version is None else f"{ref} {version}")
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
            raise unknown(definition_id)
        row = row_of(record)
        if row.published_at is None:
            raise ConflictError("not_active", f"Version {row.version} of {row.name} is a draft; publish it first.")
        return await asyncio.to_thread(_chart, row.definition, self._retry_attempts)

    # -- inside -----------------------------------------------------------------------------------------------------------

    async def _page(
        self, tenant_id: str, name: str | None, status: str | None, prefix: str | None, limit: int, cursor: str | None
    ) -> Page[DefinitionSummary]:
        after_name, after_version = cursor_key(cursor, str, str)
        if after_version is not None and not is_version(after_version):
            raise InvalidError("bad_cursor", "The cursor is none of ours; begin the list anew, without a cursor.")
        rows = await self._pool.fetch(
            _sql.page_versions, tenant_id, name, status, prefix, after_name, after_version, limit + 1
        )
        return make_page(rows, limit, DefinitionSummary.of, lambda row: (row["name"], row["version"]))

    async def _by_id(self, connection: Connection, tenant_id: str, definition_id: str) -> DefinitionRow:
        row = await connection.fetchrow(_sql.by_id, tenant_id, definition_id)
        if row is None:
            raise unknown(definition_id)
        return row_of(row)

    async def _kept(self, tenant_id: str, definition_id: str, revision: int) -> DefinitionRow | None:
        """Give a row from memory if it is still of this revision, else read it."""
        key = (tenant_id, definition_id)
        kept = self._rows.get(key)
        if kept is None or kept.revision != revision:
            row = await self._pool.fetchrow(_sql.by_id, tenant_id, definition_id)
            if row is None:
                return None
            kept = self._rows[key] = row_of(row)
            while len(self._rows) > _ROWS_MAX:
                self._rows.popitem(last=False)
        if key in self._rows:
            self._rows.move_to_end(key)
        return kept


def _chart(document: dict[str, Any], retry_attempts: int) -> Chart:
    read = reading.read(document)
    assert read.definition is not None, f"a published definition makes sense: {read.findings[:3]}"
    return compile_definition(read.definition, retry_attempts=retry_attempts)
