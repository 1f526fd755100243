"""What nodes say of their plugins, what definitions may ask of them, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.runtime.plugins import checking
from pliers_workflow.runtime.plugins.discovery import Broken, Installed
from tests.jobs.conftest import Shop
from tests.jobs.test_executors import errand

from . import samples
from .conftest import MakeShop

PLUGIN: dict[str, Any] = {"type": "plugin", "id": "score", "pluginId": "price"}
INSIDE = "/stateMachine/states/running/properties/steps"


def broken(id: str) -> Installed:
    return Installed(broken={id: Broken(id, "m:p", "some-package 1.0.0", "It cannot be imported: no licence")})


async def told(shop: Shop, *steps: dict[str, Any], **more: Any) -> list[tuple[str, str, str]]:
    findings = await shop.engine.catalog.validate(errand(*steps, **more))
    assert all(finding.hint for finding in findings if finding.code != "unused")
    return [(finding.severity, finding.pointer, finding.code) for finding in findings]


async def test_a_definition_is_held_against_the_plugins(shop: Shop) -> None:
    """An unknown one, and a configuration that it does not take: each with its place and a hint."""
    assert await told(shop, {**PLUGIN, "configuration": {"rate": 1.5, "validFrom": "2026-03-02"}}) == []
    (finding,) = await shop.engine.catalog.validate(errand({**PLUGIN, "pluginId": "prices"}))
    assert (finding.pointer, finding.code) == (f"{INSIDE}/0/pluginId", "unknown_plugin")
    assert finding.hint == "Did you mean `price`?"
    wrong = {**PLUGIN, "configuration": {"rounds": 9, "rat": 1}}
    at = f"{INSIDE}/0/configuration"
    assert set(await told(shop, wrong)) == {
        ("error", f"{at}/rounds", "plugin_configuration"), ("error", at, "plugin_configuration"),
    }  # fmt: skip
    assert await told(shop, {**PLUGIN, "pluginId": "counter", "configuration": {"a": 1}}) == [
        ("error", at, "plugin_configuration")
    ]


async def test_wherever_a_step_stands(shop: Shop) -> None:
    """In a state, inside other steps, as a compensation, among the named ones."""
    step = {**PLUGIN, "pluginId": "nobody"}
    http = {"type": "http", "id": "call", "url": "https://example.com", "compensation": step}
    group = {"type": "sequential", "id": "all", "steps": [http, {"type": "plugin", "id": "b", "pluginId": "other"}]}
    found = await told(shop, group, steps={"named": {**step, "id": "named"}})
    assert [(at, code) for severity, at, code in found if severity == "error"] == [
        ("/steps/named/pluginId", "unknown_plugin"),
        (f"{INSIDE}/0/steps/0/compensation/pluginId", "unknown_plugin"),
        (f"{INSIDE}/0/steps/1/pluginId", "unknown_plugin"),
    ]


@pytest.mark.parametrize("value", [None, 7, [], {"steps": 3, "stateMachine": {"states": [None, {"substates": 1}]}}])
def test_any_json_value_can_be_asked(value: object) -> None:
    """It raises for nothing; and what only looks like a step inside a configuration is none."""
    assert checking.uses(value) == []
    step = {**PLUGIN, "configuration": {"type": "plugin", "pluginId": "x"}}
    assert [use.id for use in checking.uses(errand(step))] == ["price"]


async def test_a_node_knows_plugins_of_others(make_shop: MakeShop) -> None:
    """What is installed elsewhere only can be published here; once no worker has it, that is a warning."""
    has = await make_shop()
    lacks = await make_shop(Installed())
    assert await told(lacks, PLUGIN) == []
    await has.engine.pool.execute("DELETE FROM nodes WHERE name = $1", has.engine.node)
    assert await told(lacks, PLUGIN) == [("warning", f"{INSIDE}/0/pluginId", "plugin_not_running")]
    await lacks.publish(errand(PLUGIN))


async def test_an_api_node_tells_of_its_plugins_and_runs_none(make_shop: MakeShop) -> None:
    """Its schema is known; a worker is missing."""
    shop = await make_shop(node={"role": "api"})
    assert (await shop.engine.plugins.get("price")).state == "missing"
    assert await told(shop, PLUGIN) == [("warning", f"{INSIDE}/0/pluginId", "plugin_not_running")]


async def test_a_broken_plugin_is_told_with_its_reason(make_shop: MakeShop) -> None:
    """To the author who names it, to whoever lists, and by health; where another node has it, it can be used."""
    shop = await make_shop(broken("price"))
    (finding,) = await shop.engine.catalog.validate(errand(PLUGIN))
    assert (finding.code, "no licence" in finding.message) == ("unknown_plugin", True)
    (alarm,) = [each for each in (await shop.engine.health.report()).alarms if each.alarm == "plugin_broken"]
    assert (alarm.subject, "no licence" in alarm.message) == ("price", True)
    await make_shop(samples.installed(samples.price))
    known = await shop.engine.plugins.get("price")
    assert (known.state, [holder.reason for holder in known.broken]) == ("ready", ["It cannot be imported: no licence"])
    assert await told(shop, PLUGIN) == []


async def test_the_newest_version_that_a_worker_has_is_what_counts(make_shop: MakeShop) -> None:
    """Of 1.10 and 1.9 the first; once it is nowhere, the second, though the first is remembered."""
    shop = await make_shop(samples.installed(samples.price))
    registry, pool = shop.engine.plugins, shop.engine.pool
    await pool.execute(
        "INSERT INTO plugins (id, version, title, isolation, timeout, configuration_schema, input_schema, output_schema) "
        "SELECT id, v, v, isolation, timeout, configuration_schema, input_schema, output_schema "
        "FROM plugins, unnest(ARRAY['1.10.0', '1.9.0', '1.10.0-rc.1']) v"
    )
    about = (await registry.get("price")).about
    assert about is not None
    assert about.version == "1.2.0"
    await pool.execute('UPDATE nodes SET plugins = \'[{"id": "price", "version": "1.9.0", "state": "ready"}]\'')
    assert (await registry.get("price")).about.version == "1.9.0"  # type: ignore[union-attr]  # as above
    await pool.execute("DELETE FROM nodes")
    assert (await registry.get("price")).about.version == "1.10.0"  # type: ignore[union-attr]  # as above


async def test_what_no_node_has_for_long_is_forgotten(make_shop: MakeShop) -> None:
    """After ninety days; what a node has stays, however long ago it was registered."""
    shop = await make_shop(samples.installed(samples.price, samples.echo))
    pool, registry = shop.engine.pool, shop.engine.plugins
    await pool.execute("UPDATE plugins SET seen_at = now() - interval '91 days'")
    await pool.execute('UPDATE nodes SET plugins = \'[{"id": "price", "version": "1.2.0", "state": "ready"}]\'')
    await registry.keep()
    assert [known.id for known in await registry.all()] == ["price"]
    assert await pool.fetchval("SELECT seen_at > now() - interval '1 minute' FROM plugins")


async def test_looking_for_steps_that_wait_reads_by_the_index(shop: Shop) -> None:
    """Ten thousand steps of one plugin cost no more than one."""
    from pliers_workflow.storage import queries

    pool = shop.engine.pool
    await pool.execute(
        "INSERT INTO workflow_jobs (tenant_id, id, kind, workflow_instance_id, name, due_at, queue, definition_name, payload) "
        "SELECT 'default', gen_random_uuid(), 'step', gen_random_uuid(), 'step/1', now() - interval '1 minute', "
        "(ARRAY['plugin:a', 'plugin:b', 'http'])[1 + n % 3], 'errand', '{\"attempt\": 1, \"run\": {}}' "
        "FROM generate_series(1, 10000) n"
    )
    await pool.execute("ANALYZE workflow_jobs")
    waiting = queries.load("plugins").waiting
    assert [row["id"] for row in await pool.fetch(waiting)] == ["a", "b"]
    rows = await pool.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) {waiting}")
    touched = rows[0][0][0]["Plan"]
    assert touched["Shared Hit Blocks"] + touched["Shared Read Blocks"] < 100
