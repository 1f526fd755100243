"""Approvers who leave: told to one node, carried out by another."""

from __future__ import annotations

from typing import Any

from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.principal import Principal
from pliers_workflow.runtime.rows import DefinitionRow, UserInput
from tests.nodes.conftest import MakeNode, until
from tests.nodes.test_timers import NEVER

ASKING: dict[str, Any] = {
    "name": "asking", "version": "1.0.0", "title": "Asking",
    "stateMachine": {
        "initialState": "asked",
        "states": {"asked": {"properties": {"approvalChain": "one"}}, "done": {"type": "final"}},
        "transitions": [{"from": "asked", "to": "done"}, {"from": "asked", "to": "done", "trigger": "rejected"}],
    },
    "approvalChains": [{"id": "one", "steps": [{"id": "only", "approvers": [
        {"type": "user", "identifier": "ada", "fallback": [{"type": "user", "identifier": "bob"}]},
    ]}]}],
}  # fmt: skip


async def test_a_worker_hears_at_once_that_somebody_has_left(make_node: MakeNode) -> None:
    """Workers that sleep for ten minutes are woken by the change of the directory on a node that does no work."""
    api, worker = await make_node("api", **NEVER), await make_node("worker", **NEVER)
    await until(lambda: api.wakeups.carry and worker.messenger.listening)
    await api.tokens.bootstrap("default")
    row = await api.directory.user_by_name("default", "admin")
    assert row is not None
    admin = Principal("default", row.id, "admin", frozenset({"admin"}))
    ids = await api.directory.put_users(admin, [UserInput(username="ada"), UserInput(username="bob")])
    definition = await api.catalog.create(admin, ASKING)
    assert isinstance(definition, DefinitionRow), definition
    published = await api.catalog.publish(admin, definition.id)
    assert isinstance(published, DefinitionRow), published
    for _ in range(3):
        assert isinstance(await api.start_instance(admin, published, data={}), Accepted)

    async def asked() -> list[str]:
        rows = await api.pool.fetch("SELECT approver_key FROM workflow_approvals WHERE action IS NULL")
        return [row["approver_key"] for row in rows]

    assert await asked() == [ids["ada"]] * 3
    await api.directory.deactivate(admin, "ada")

    async def replaced() -> bool:
        return await asked() == [ids["bob"]] * 3

    await until(replaced)
