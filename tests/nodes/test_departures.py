"""Approvers who leave: told to one node, carried out by another."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from pliers_workflow.interpreter.commands import Actor, Command, RecordDecision
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.engine import Engine
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


class Desk:
    """A node, its administrator, and a workflow that asks ada, or bob in her place."""

    def __init__(self, node: Engine, admin: Principal, ids: dict[str, str], definition: DefinitionRow) -> None:
        self.node = node
        self.admin = admin
        self.ids = ids
        self.definition = definition

    async def start(self) -> str:
        """An instance that asks whoever is there."""
        answer = await self.node.start_instance(self.admin, self.definition, data={})
        assert isinstance(answer, Accepted), answer
        return answer.instance.id

    async def asked(self) -> Counter[str]:
        """Who is asked how often, by username."""
        names = {user: name for name, user in self.ids.items()}
        rows = await self.node.pool.fetch("SELECT approver_key FROM workflow_approvals WHERE action IS NULL")
        return Counter(names[row["approver_key"]] for row in rows)


async def desk(node: Engine) -> Desk:
    await node.tokens.bootstrap("default")
    row = await node.directory.user_by_name("default", "admin")
    assert row is not None
    admin = Principal("default", row.id, "admin", frozenset({"admin"}))
    ids = await node.directory.put_users(admin, [UserInput(username="ada"), UserInput(username="bob")])
    definition = await node.catalog.create(admin, ASKING)
    assert isinstance(definition, DefinitionRow), definition
    published = await node.catalog.publish(admin, definition.id)
    assert isinstance(published, DefinitionRow), published
    return Desk(node, admin, ids, published)


async def test_a_worker_hears_at_once_that_somebody_has_left(make_node: MakeNode) -> None:
    """Workers that sleep for ten minutes are woken by the change of the directory on a node that does no work."""
    api, worker = await make_node("api", **NEVER), await make_node("worker", **NEVER)
    await until(lambda: api.wakeups.carry and worker.messenger.listening)
    it = await desk(api)
    for _ in range(3):
        await it.start()
    assert await it.asked() == {"ada": 3}
    await api.directory.deactivate(it.admin, "ada")

    async def replaced() -> bool:
        return await it.asked() == {"bob": 3}

    await until(replaced)


async def test_starting_and_deciding_while_somebody_leaves(make_node: MakeNode) -> None:
    """What she decided counts, what she was asked goes to others, and what begins meanwhile asks one or the other."""
    first, second = await make_node(), await make_node()
    it = await desk(first)
    before = [await it.start() for _ in range(60)]

    async def decide(number: int, instance_id: str) -> bool:
        await asyncio.sleep(number / 1000)
        order = RecordDecision("approve")
        command = Command(f"decide:{number}", Actor(it.ids["ada"]), order)
        answer = await (first, second)[number % 2].execute("default", instance_id, command)
        assert isinstance(answer, Accepted) or (
            isinstance(answer, Rejection) and answer.reason is Reason.NOT_AN_APPROVER
        ), answer
        return isinstance(answer, Accepted)

    async def leave() -> None:
        await asyncio.sleep(0.03)
        await first.directory.deactivate(it.admin, "ada")

    async def begin(number: int) -> str:
        await asyncio.sleep(number / 1000)
        return await it.start()

    _, decided, begun = await asyncio.gather(
        leave(),
        asyncio.gather(*(decide(number, each) for number, each in enumerate(before))),
        asyncio.gather(*(begin(number) for number in range(60))),
    )

    async def nobody_waits_for_her() -> bool:
        return await it.asked() == {"bob": len(before) + len(begun) - sum(decided)}

    await until(nobody_waits_for_her, seconds=60)
    assert await first.pool.fetchval("SELECT count(*) FROM workflow_instances WHERE status = 'completed'") == sum(
        decided
    )
