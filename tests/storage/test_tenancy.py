"""Every statement names its tenant: the rule that keeps tenants apart, held over every `.sql` file there is.

For each table of a tenant in a statement there must be an equality on its own `tenant_id`, or a join on it; in an INSERT the
column must be written. What is about the whole installation is listed here, each with its reason.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

import asyncpg
import pytest

from pliers_workflow.storage import queries
from pliers_workflow.storage.read_model.viewer import VISIBLE_TO

#: statements that reach into every tenant on purpose
ALLOWED: Final = {
    "health.health": "counts for operations; shows no row of any tenant",
    "partitions.stray_months": "the log's default partition is one for all tenants",
    "partitions.stray_rows": "the log's default partition is one for all tenants",
    "upkeep.sweep_idempotency": "expired keys of every tenant are swept at once; the outer statement joins on the tenant",
}
#: the tables of tenants, and what their tenant's column is called
TABLES: Final = {
    "users", "directory_sets", "directory_members", "api_tokens", "workflow_definitions", "workflow_routes",
    "form_submissions", "submission_bindings", "workflow_instances", "workflow_execution_history",
    "workflow_execution_history_default", "audit_log", "workflow_approvals", "workflow_jobs", "idempotency_records",
    "correlation_keys", "event_subscriptions", "event_subscription_secrets", "inbound_events", "event_triggers", "event_waits",
    "event_sources", "event_source_rejects", "event_source_secrets", "step_limits", "step_slots", "workflow_incidents", "incident_resolutions",
}  # fmt: skip
_USE = re.compile(
    r"\b(?P<verb>from|join|update|into|using)\s+(?:only\s+)?(?P<table>[a-z_]+)\b"
    r"(?:\s+(?:as\s+)?(?!on\b|where\b|set\b|join\b|left\b|cross\b|order\b|limit\b|using\b|returning\b|values\b|for\b|group\b|select\b|inner\b|union\b)(?P<alias>[a-z_0-9]+))?"
)


def statements() -> dict[str, str]:
    """Every named statement of every file, as `file.name`, in lower case with fragments put in."""
    found: dict[str, str] = {}
    for entry in files(queries).iterdir():
        if entry.name.endswith(".sql"):
            file = entry.name.removesuffix(".sql")
            text = entry.read_text()
            fragments = {"visible_to": VISIBLE_TO, "filters": "", "rows": "1"}
            if file == "visibility":
                found["visibility.visible_to"] = " ".join(VISIBLE_TO.lower().split())
                continue
            for name, statement in queries.sections(text, fragments).items():
                found[f"{file}.{name}"] = " ".join(statement.lower().split())
    return found


def unbound(statement: str) -> list[str]:
    """
    The tables of tenants in a statement whose tenant is not named.

    >>> unbound("select 1 from users u where u.tenant_id = $1")
    []
    >>> unbound("select 1 from users u join workflow_jobs j on j.id = u.id where u.tenant_id = $1")
    ['workflow_jobs j']
    >>> unbound("delete from users where id = $1")
    ['users users']
    >>> unbound("insert into users (tenant_id, id) values ($1, $2)"), unbound("insert into users (id) values ($1)")
    ([], ['users users'])
    """
    found: list[str] = []
    for use in _USE.finditer(statement):
        table, alias = use["table"], use["alias"] or use["table"]
        if table not in TABLES:
            continue
        if use["verb"] == "into":
            columns = re.match(r"\s*\(([^)]*)\)", statement[use.end() :])
            good = columns is not None and "tenant_id" in columns[1].replace(" ", "").split(",")
        else:
            # alias.tenant_id = …, … = alias.tenant_id; without an alias where it stands alone in its sub-query
            name = rf"{alias}\.tenant_id"
            rest = r"(?:\$\d|[a-z_0-9]+\.(?:tenant_id|id)\b)"
            good = bool(re.search(rf"\b{name} = {rest}|{rest} = {name}\b", statement))
            if not good and (use["alias"] is None or table == alias):
                following = re.split(r"\bunion\b|\bfrom\b", statement[use.end() :])[0]
                good = bool(re.search(r"(?<!\.)\btenant_id = (?:\$\d|[a-z_0-9]+\.tenant_id)", following))
        if not good:
            found.append(f"{table} {alias}")
    return found


@pytest.mark.parametrize("name", sorted(statements()))
def test_a_statement_names_its_tenant(name: str) -> None:
    """Each table of a tenant is bound to one by an equality or a join, or the statement is on the list with a reason."""
    left = unbound(statements()[name])
    if name in ALLOWED:
        assert left, f"{name} names its tenants: take it off the list"
    else:
        assert left == []


def test_the_list_is_not_stale() -> None:
    """What is excused is there."""
    assert ALLOWED.keys() <= statements().keys()


async def test_the_tables_are_all_known(database: str) -> None:
    """A new table of tenants is held to the rule from its first day, and guarded by row-level security."""
    connection = await asyncpg.connect(database)
    rows = await connection.fetch(
        "SELECT c.relname, c.relrowsecurity FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE a.attname = 'tenant_id' AND c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
    )
    await connection.close()
    # The monthly partitions are never named by a statement.
    known = {row["relname"] for row in rows if not re.search(r"_\d{4}_\d{2}$", row["relname"])}
    assert known == TABLES
    assert {row["relname"] for row in rows if not row["relrowsecurity"]} == set()
