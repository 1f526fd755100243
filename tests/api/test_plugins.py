"""Plugins over REST: which there are, what they take, and who may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from pliers_workflow.app import create_app
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.runtime.plugins.discovery import Broken, Installed
from pliers_workflow.settings import DatabaseSettings, Settings
from tests.jobs.test_executors import errand
from tests.plugins import samples

from .world import World


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    """A node with one plugin, and another that is broken."""
    installed = Installed(
        samples.installed(samples.price).ready, {"crm": Broken("crm", "crm:plugin", "crm 1.0.0", "No licence.")}
    )
    engine = await open_engine(Settings(database=DatabaseSettings(url=database)), installed)
    await engine.start(services=False)
    await engine.plugins.register()
    await engine.registrar.beat()
    secret = await engine.tokens.bootstrap()
    app = create_app(engine, owns_engine=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://engine") as http:
        yield World(engine, http, secret or "")
    await engine.close()


async def test_plugins_are_listed_with_their_nodes(world: World) -> None:
    """All by id; the schemas with each single one."""
    items = (await world.admin("GET", "/plugins", status=200)).json()["items"]
    node = world.engine.node
    registered_at = items[1]["registeredAt"]
    assert registered_at is not None
    assert items == [
        {
            "id": "crm", "state": "broken", "version": None, "title": None, "description": None, "isolation": None,
            "timeoutSeconds": None, "memoryMib": None, "registeredAt": None,
            "nodes": [{"name": node, "version": None, "state": "broken", "reason": "No licence.", "runsSteps": False}],
        },
        {
            "id": "price", "state": "ready", "version": "1.2.0", "title": "Price", "description": "Multiplies.",
            "isolation": "thread", "timeoutSeconds": 60.0, "memoryMib": None, "registeredAt": registered_at,
            "nodes": [{"name": node, "version": "1.2.0", "state": "ready", "reason": None, "runsSteps": True}],
        },
    ]  # fmt: skip
    one = (await world.admin("GET", "/plugins/price", status=200)).json()
    assert {name: one[name] for name in items[1]} == items[1]
    assert set(one["configurationSchema"]["properties"]) == {"rate", "validFrom", "rounds"}
    assert one["inputSchema"]["required"] == ["amount"]
    assert one["outputSchema"]["required"] == ["total", "key"]
    assert (await world.admin("GET", "/plugins/crm", status=200)).json()["configurationSchema"] is None


async def test_authors_and_operators_may_ask(world: World) -> None:
    """And nobody else; what is not there is 404."""
    await world.admin("POST", "/users", {"username": "ada"}, status=201)
    for permission in ("author", "publisher", "operator", "auditor"):
        await (await world.person("ada", (permission,)))("GET", "/plugins", status=200)
    for permissions in ((), ("worker",), ("events",)):
        assert (await (await world.person("ada", permissions))("GET", "/plugins", status=403)).json()["code"] == (
            "permission_missing"
        )
    assert (await world.admin("GET", "/plugins/nobody", status=404)).json()["code"] == "not_found"
    await world.admin("GET", "/plugins/a b", status=404)
    await world.nobody("GET", "/plugins", status=401)


async def test_a_wrong_configuration_is_refused_over_rest(world: World) -> None:
    """With the findings in the problem."""
    step = {"type": "plugin", "id": "call", "pluginId": "price", "configuration": {"rounds": 9}}
    refused = (await world.admin("POST", "/workflows", errand(step), status=422)).json()
    (finding,) = refused["findings"]
    assert finding["code"] == "plugin_configuration"
    assert finding["pointer"].endswith("/steps/0/configuration/rounds")
    await world.admin("POST", "/workflows", errand({**step, "configuration": {}}), status=201)
    checked = (await world.admin("POST", "/workflows/errand/validate", errand(step), status=200)).json()
    assert (checked["valid"], checked["findings"]) == (False, [finding])
