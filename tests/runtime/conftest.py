"""Services on a fresh database, and people to use them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.access.audit import Audit
from pliers_workflow.runtime.access.principal import PERMISSIONS, Principal
from pliers_workflow.runtime.access.tenants import Tenants
from pliers_workflow.runtime.access.tokens import Tokens
from pliers_workflow.runtime.answers import Answer, NotFound, RequestKey
from pliers_workflow.runtime.catalog import Catalog
from pliers_workflow.runtime.directory import Directory
from pliers_workflow.runtime.idempotency import request_key
from pliers_workflow.runtime.rows import DefinitionRow
from pliers_workflow.runtime.submissions import Submissions

if TYPE_CHECKING:
    from asyncpg.pool import Pool

DOCUMENT: dict[str, Any] = {
    "name": "leave",
    "version": "1.0.0",
    "title": "Leave of absence",
    "metadata": {"limit": 10},
    "stateMachine": {
        "initialState": "asked",
        "states": {"asked": {}, "done": {"type": "final"}},
        "transitions": [{"from": "asked", "to": "done", "trigger": "finish"}],
    },
}


def document(version: str = "1.0.0", name: str = "leave", **changes: Any) -> dict[str, Any]:
    """A document that makes sense."""
    return {**deepcopy(DOCUMENT), "name": name, "version": version, **changes}


@dataclass
class Starts:
    """Stands for the engine: remembers what it was told to start, and does each instance once."""

    pool: Pool[Any]
    calls: list[dict[str, Any]] = field(default_factory=list)
    #: what to answer or raise instead, in turn
    instead: list[Answer | Exception] = field(default_factory=list)

    async def __call__(self, principal: Principal, definition: DefinitionRow, **order: Any) -> Answer:
        self.calls.append({"principal": principal, "definition": definition, **order})
        if self.instead:
            answer = self.instead.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        made = await self.pool.fetchval(
            """
            INSERT INTO workflow_instances (tenant_id, id, workflow_definition_id, workflow_name, workflow_version,
                submission_id, current_state, configuration, machine, revision, history_hash, last_activity_at,
                created_at, updated_at, status)
            VALUES ($1, $2::text::uuid, $3::text::uuid, $4, $5, $6::text::uuid, 'asked', '{asked}', '{}'::text::jsonb, 1,
                sha256(''), now(), now(), now(), 'waiting')
            ON CONFLICT DO NOTHING RETURNING true
            """,
            principal.tenant_id, order["instance_id"], definition.id, definition.name, definition.version,
            order["submission_id"],
        )  # fmt: skip
        if not made:
            return Rejection(Reason.INSTANCE_EXISTS, "It has been started already.")
        return _accepted(order["instance_id"])


def _accepted(instance_id: str) -> Answer:
    from datetime import UTC, datetime

    from pliers_workflow.runtime.answers import Accepted

    # The services look at what kind of answer it is, not into it.
    return Accepted(instance=None, seq=1, events=(), executed_at=datetime.now(UTC))  # type: ignore[arg-type]


@dataclass
class Services:
    """Everything on one database."""

    pool: Pool[Any]
    audit: Audit
    catalog: Catalog
    directory: Directory
    tokens: Tokens
    tenants: Tenants
    submissions: Submissions
    starts: Starts
    #: may do everything in the tenant `default`
    admin: Principal

    async def person(self, username: str, *permissions: str, tenant: str = "default") -> Principal:
        """A user of a tenant, with these engine permissions."""
        user_id = await self.pool.fetchval(
            "INSERT INTO users (tenant_id, username) VALUES ($1, $2) RETURNING id::text", tenant, username
        )
        return Principal(tenant, user_id, username, frozenset(permissions))

    async def published(
        self, principal: Principal | None = None, version: str = "1.0.0", **changes: Any
    ) -> DefinitionRow:
        """A published version of `leave`: the first, or the next."""
        by = principal or self.admin
        wanted = document(version, **changes)
        there = await self.catalog.get(by.tenant_id, wanted["name"])
        row = await (self.catalog.replace(by, wanted["name"], wanted) if there else self.catalog.create(by, wanted))
        assert isinstance(row, DefinitionRow), row
        answer = await self.catalog.publish(by, row.id)
        assert isinstance(answer, DefinitionRow), answer
        return answer

    async def log(self, tenant: str = "default") -> list[str]:
        """The actions of the audit log, oldest first."""
        rows = await self.pool.fetch("SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY seq", tenant)
        return [row["action"] for row in rows]


@pytest.fixture
async def services(pool: Pool[Any]) -> Services:
    """All services, an administrator `root` in the tenant `default`, and a tenant `other`."""
    audit = Audit(pool)
    catalog = Catalog(pool, audit)
    starts = Starts(pool)
    tokens = Tokens(pool, audit)
    made = Services(
        pool=pool,
        audit=audit,
        catalog=catalog,
        directory=Directory(pool, audit),
        tokens=tokens,
        tenants=Tenants(pool, audit, tokens),
        submissions=Submissions(pool, catalog, audit, starts),
        starts=starts,
        admin=Principal("default", "", ""),
    )
    made.admin = await made.person("root", *PERMISSIONS)
    await pool.execute("INSERT INTO tenants (id, name) VALUES ('other', 'Other')")
    return made


@pytest.fixture
async def other_admin(services: Services) -> Principal:
    """An administrator of the tenant `other`."""
    return await services.person("root", *PERMISSIONS, tenant="other")


def key(name: str, body: object = None, principal: str = "root") -> RequestKey:
    """An Idempotency-Key of a request."""
    return request_key(principal, "POST /test", name, body)


__all__ = ["NotFound", "Services", "Starts", "document", "key"]
