"""Nodes as processes of their own on one database, and people who speak to any of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import asyncpg

from pliers_workflow import installation
from pliers_workflow.client.http import HttpClient, Response
from pliers_workflow.client.server import LocalServer
from pliers_workflow.runtime.commit.history import verify_chain

#: nobody finds anything by chance
NEVER: Final = {"EXECUTION__TIMER_POLL": 600}


class Node:
    """One process, with a client of its own."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        self.http = HttpClient(server.url, connections=64)

    async def __call__(
        self, method: str, path: str, token: str = "", body: Any = None, *, key: str = "", status: int | None = None
    ) -> Response:
        """A request; `status` is what must come back."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if key:
            headers["idempotency-key"] = key
        raw = None if body is None else json.dumps(body).encode()
        response = await self.http.request(method, path, body=raw, headers=headers)
        if status is not None:
            assert response.status == status, f"{method} {path}: {response.status} {response.body!r}"
        return response

    async def api(self, method: str, path: str, token: str, body: Any = None, **options: Any) -> Any:
        """A request to the REST API that must succeed; its answer."""
        response = await self(method, f"/api/v1{path}", token, body, **options)
        assert response.status < 300, f"{method} {path}: {response.status} {response.body!r}"
        return json.loads(response.body)


class Cluster:
    """Nodes on one database."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.folder = folder
        self.nodes: list[Node] = []
        #: the administrator's token
        self.admin = ""

    async def prepare(self) -> None:
        """Before the first node is started."""
        self.admin = await self.token("admin", "admin")

    async def node(self, role: str = "all", **settings: object) -> Node:
        """Start a node, and wait until it is ready."""
        defaults = {"NODE__HEARTBEAT": 0.5, "NODE__SILENT_AFTER": 3, "NODE__DRAIN_DELAY": 0}
        log = self.folder / f"node{len(self.nodes) + 1}.log"
        server = LocalServer(self.dsn, log, role=role, settings=defaults | settings)
        await server.start()
        node = Node(server)
        self.nodes.append(node)
        return node

    async def token(self, user: str, *permissions: str) -> str:
        """A token for somebody, who is made if need be."""
        return await installation.create_token(
            self.dsn, tenant="default", user=user, permissions=permissions, name="test", expires_days=0
        )

    async def publish(self, node: Node, document: dict[str, Any]) -> None:
        """A definition, created and published."""
        await node.api("POST", "/workflows", self.admin, document)
        await node.api("POST", f"/workflows/{document['name']}/publish", self.admin)

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """What the database says."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def history(self, instance_id: str) -> list[Any]:
        """An instance's history rows; their chain is unbroken."""
        rows = await self.fetch(
            "SELECT seq, command_id, action_type::text AS action, execution_data::text AS record, previous_hash, hash, "
            "executed_at FROM workflow_execution_history WHERE tenant_id = 'default' AND workflow_instance_id = $1 "
            "ORDER BY seq", instance_id,
        )  # fmt: skip
        verify_chain(instance_id, [(row["seq"], row["record"], row["previous_hash"], row["hash"]) for row in rows])
        assert len({row["command_id"] for row in rows}) == len(rows)
        return rows

    async def close(self) -> None:
        """End all that still run."""
        for node in self.nodes:
            node.http.close()
            await node.server.kill()
