"""Workflows that start others, and a family of instances on an engine that works by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pliers_workflow.interpreter.commands import ResolveIncident
from pliers_workflow.runtime.answers import Accepted
from pliers_workflow.runtime.rows import DefinitionRow
from tests.nodes.conftest import until

from .conftest import Shop

_MEMBERS = (
    "SELECT id::text, workflow_name AS workflow, workflow_version::text AS version, status::text, current_state AS state, "
    "instance_data AS data, parent_instance_id::text AS parent, requester_id::text AS requester FROM workflow_instances "
    "WHERE tenant_id = 'default' ORDER BY created_at, id"
)


class Member(NamedTuple):
    """An instance as its row has it."""

    id: str
    workflow: str
    version: str
    status: str
    state: str
    data: dict[str, Any]
    parent: str | None
    requester: str | None


def workflow(
    name: str, *steps: dict[str, Any], version: str = "1.0.0", transitions: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A document that does these steps and ends in `done`; `transitions` lead from `work` to `done`, `aside` or `work`."""
    return {
        "name": name, "version": version, "title": name,
        "stateMachine": {
            "initialState": "work",
            "states": {
                "work": {"properties": {"steps": list(steps)}} if steps else {},
                "done": {"type": "final"},
                **({"aside": {}} if any(each["to"] == "aside" for each in transitions) else {}),
            },
            "transitions": [
                *([{"from": "work", "to": "done"}] if steps else [{"from": "work", "to": "done", "trigger": "finish"}]),
                *({"from": "work", **each} for each in transitions),
                *([{"from": "aside", "to": "done", "trigger": "finish"}] if any(each["to"] == "aside" for each in transitions) else []),
            ],
        },
    }  # fmt: skip


def patient(name: str = "errand") -> dict[str, Any]:
    """A document whose instances wait for the trigger `finish`."""
    return workflow(name)


def calls(workflow: str, id: str = "call", **rest: Any) -> dict[str, Any]:
    """A step that starts another workflow."""
    return {"type": "sub_workflow", "id": id, "workflowId": workflow, **rest}


def sets(**assignments: str) -> dict[str, Any]:
    """A step that sets fields."""
    return {"type": "assign", "assignments": assignments}


class Family:
    """Instances of one shop, whose engine carries orders out and starts sub-workflows by itself."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def publish(self, *documents: dict[str, Any]) -> None:
        """Publish documents in this order, each as the first or the next version of its name."""
        catalog, admin = self.shop.engine.catalog, self.shop.admin
        for document in documents:
            name = document["name"]
            if await catalog.resolve("default", name, None) is None:
                await self.shop.publish(document)
                continue
            row = await catalog.replace(admin, name, document)
            assert isinstance(row, DefinitionRow), row
            assert isinstance(await catalog.publish(admin, row.id), DefinitionRow)

    async def begin(self, workflow: str, **data: Any) -> str:
        """The id of a new instance of the active version."""
        definition = await self.shop.engine.catalog.resolve("default", workflow, None)
        assert definition is not None
        return await self.shop.start(definition, data=data)

    async def members(self, workflow: str | None = None, parent: str | None = None) -> list[Member]:
        """All instances, the oldest first, or those of a workflow or a parent."""
        rows = [Member(**row) for row in await self.shop.engine.pool.fetch(_MEMBERS)]
        return [
            row for row in rows if workflow in (None, row.workflow) and (parent is None or row.parent == parent)
        ]  # fmt: skip

    async def one(self, instance_id: str) -> Member:
        (found,) = [member for member in await self.members() if member.id == instance_id]
        return found

    async def born_below(self, top: str, count: int) -> None:
        """Wait until an instance has so many descendants, or more."""

        async def there() -> bool:
            members = await self.members()
            found = {top}
            for member in members:
                if member.parent in found:
                    found.add(member.id)
            return len(found) > count

        await until(there)

    async def born(self, workflow: str, count: int = 1) -> list[Member]:
        """So many instances of a workflow, as soon as they are there."""

        async def there() -> bool:
            return len(await self.members(workflow)) >= count

        await until(there)
        found = await self.members(workflow)
        assert len(found) == count
        return found

    async def becomes(self, instance_id: str, status: str, state: str | None = None) -> Member:
        """Wait until an instance has this status, and is in this state."""
        seen: Member | None = None

        async def so() -> bool:
            nonlocal seen
            seen = await self.one(instance_id)
            return seen.status == status and state in (None, seen.state)

        try:
            await until(so)
        except TimeoutError:
            raise AssertionError(f"still {seen}; jobs {await self.shop.jobs()}") from None
        assert seen is not None
        return seen

    async def only_child(self, parent: str) -> Member:
        """The one sub-workflow of a parent, as soon as it is there."""

        async def there() -> bool:
            return bool(await self.members(parent=parent))

        await until(there)
        (found,) = await self.members(parent=parent)
        return found

    async def quiet(self) -> None:
        """Wait until nothing is owed to other instances: every order was carried out, every start made or refused."""

        async def so() -> bool:
            return not [job for job in (await self.shop.jobs()).values() if job["kind"] in ("command", "child")]

        try:
            await until(so)
        except TimeoutError:
            raise AssertionError(f"still owed: {await self.shop.jobs()}") from None

    async def incidents(self, instance_id: str) -> list[dict[str, Any]]:
        """Open incidents of an instance."""
        rows = await self.shop.engine.pool.fetch(
            "SELECT incident, code, message, step_id FROM workflow_incidents WHERE tenant_id = 'default' "
            "AND workflow_instance_id = $1 AND resolved_at IS NULL ORDER BY incident",
            instance_id,
        )
        return [dict(row) for row in rows]

    async def resolve(self, instance_id: str, action: Any, **options: Any) -> None:
        """Resolve the one open incident of an instance."""
        (incident,) = await self.incidents(instance_id)
        order = ResolveIncident(incident["incident"], action, "seen to", **options)
        answer = await self.shop.do(instance_id, order)
        assert isinstance(answer, Accepted), answer
