"""Plugins run as steps of real instances over PostgreSQL: in the loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pliers_workflow.runtime.jobs.executors.plugin import PluginExecutor
from tests.jobs.conftest import Shop
from tests.jobs.test_executors import errand, incident, loaded, run
from tests.nodes.conftest import until

from . import samples
from .conftest import MakeShop


def call(plugin: str, /, **step: Any) -> dict[str, Any]:
    return {"type": "plugin", "id": "call", "pluginId": plugin, **step}


def executor(shop: Shop) -> PluginExecutor:
    found = shop.engine.executors.of("plugin:echo")
    assert isinstance(found, PluginExecutor)
    return found


@pytest.fixture(autouse=True)
def _gate() -> None:
    for event in (samples.Gate.began, samples.Gate.go, samples.Gate.cancelled):
        event.clear()


# -- what it is given and gives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", ["price", "price.process"])
async def test_a_plugin_does_a_step(shop: Shop, plugin: str) -> None:
    """Configuration and input arrive typed and exact, the output is mapped, the attempt's id is the key."""
    step = call(
        plugin, configuration={"rate": 1.1, "rounds": 3}, inputMapping={"amount": "data.amount"},
        outputMapping={"total": "output.total", "key": "output.key"},
    )  # fmt: skip
    instance = await run(shop, errand(step), {"amount": Decimal("10.05")})
    assert instance.status == "completed"
    assert instance.data["total"] == Decimal("11.055")
    assert instance.data["key"] == f"{instance.id}:step/1:1"
    assert await shop.history(instance.id) == ["start", "complete_step"]


async def test_asynchronous_ones_run_in_the_loop_or_in_a_process(shop: Shop) -> None:
    """In the node's own loop; or in another process, whose id is another."""
    step = call("echo", inputMapping={"a": "data.a"}, outputMapping={"seen": "output"})
    assert (await run(shop, errand(step), {"a": 1})).data["seen"] == {"input": {"a": 1}, "thread": True, "step": "call"}
    step = call("echo.process", inputMapping={"a": "data.a"}, outputMapping={"seen": "output"})
    seen = (await run(shop, {**errand(step), "name": "elsewhere"}, {"a": 1})).data["seen"]
    assert seen["input"] == {"a": 1}
    assert seen["pid"] != os.getpid()


async def test_a_class_is_made_once_and_closed(make_shop: MakeShop) -> None:
    """Steps of a node share the object, which is told when the node stops."""
    made, closed = samples.Counter.target.made, samples.Counter.target.closed
    shop = await make_shop(samples.installed(samples.Counter, samples.echo))
    definition = await shop.publish(errand(call("counter", outputMapping={"count": "output"})))
    counts = []
    for _ in range(3):
        instance_id = await shop.start(definition)
        await shop.engine.step_worker.run_due()
        counts.append((await loaded(shop, instance_id)).data["count"])
    assert counts == [1, 2, 3]
    await executor(shop).close()
    assert (samples.Counter.target.made, samples.Counter.target.closed) == (made + 1, closed + 1)


async def test_a_trace_is_handed_on(shop: Shop) -> None:
    """To whatever a plugin calls itself."""
    from pliers_workflow.interpreter.commands import Trace
    from pliers_workflow.runtime import tracing

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    definition = await shop.publish(errand(call("traced", outputMapping={"seen": "output"})))
    with tracing.within(Trace(parent, "a=1")):
        instance_id = await shop.start(definition)
    await shop.engine.step_worker.run_due()
    assert (await loaded(shop, instance_id)).data["seen"] == {"traceparent": parent, "tracestate": "a=1"}


# -- what goes wrong ---------------------------------------------------------------------------------------------------

KINDS = ["fail", "fail.async", "fail.process"]


async def failed(shop: Shop, plugin: str, how: str) -> tuple[Any, list[str]]:
    step = call(plugin, inputMapping={"how": "data.how"}, retryPolicy={"maxAttempts": 2, "initialDelaySeconds": 0})
    instance = await run(shop, errand(step), {"how": how})
    assert await shop.engine.pool.fetchval("SELECT count(*) FROM workflow_jobs WHERE status = 'dead'") == 0
    return incident(instance), await shop.history(instance.id)


@pytest.mark.parametrize("plugin", KINDS)
@pytest.mark.parametrize(
    ("how", "code", "attempts"),
    [
        ("retryable", "BUSY", 2),
        ("permanent", "NO_SUCH_THING", 1),
        ("crude", "PLUGIN_FAILED", 2),
        ("odd delay", "PLUGIN_FAILED", 2),
        ("odd details", "ODD", 1),
        ("odd code", "INVALID_CODE", 1),
        ("large details", "LARGE", 1),
        ("huge details", "HUGE", 1),
        ("endless details", "ENDLESS", 1),
        ("listed details", "LISTED", 1),
        ("no code", "INVALID_CODE", 1),
        ("nan", "OUTPUT_INVALID", 1),
        ("object", "OUTPUT_INVALID", 1),
        ("nul", "OUTPUT_INVALID", 1),
        ("deep", "OUTPUT_INVALID", 1),
        ("large", "OUTPUT_TOO_LARGE", 1),
    ],
)
async def test_what_a_failure_means(shop: Shop, plugin: str, how: str, code: str, attempts: int) -> None:
    """What may go better is tried again, what cannot is an incident at once; whatever it says can be kept."""
    found, history = await failed(shop, plugin, how)
    assert found.code == code
    assert history == ["start", *["fail_step"] * attempts]
    assert "secret of the author" not in found.message, "nobody has said that it may be shown"


@pytest.mark.parametrize("how", ["exit", "interrupt", "panic", "exhausted"])
@pytest.mark.parametrize("plugin", KINDS)
async def test_one_that_ends_the_program_ends_its_step(shop: Shop, plugin: str, how: str) -> None:
    """`sys.exit` and the like cost the step its attempt, and the node nothing."""
    found, history = await failed(shop, plugin, how)
    crashed = plugin == "fail.process" and how != "exhausted"
    assert found.code == ("PLUGIN_CRASHED" if crashed else "PLUGIN_FAILED")
    assert history == ["start", "fail_step", "fail_step"]


async def test_a_validator_of_its_types_that_raises(shop: Shop) -> None:
    """Is the plugin, too: its failure has the code of any other."""
    instance = await run(shop, errand(call("rough", retryPolicy={"maxAttempts": 1})), rounds=1)
    assert incident(instance).code == "PLUGIN_FAILED"


@pytest.mark.parametrize("how", [ValueError, StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_one_that_cannot_be_closed_is_in_nobodys_way(make_shop: MakeShop, how: type[BaseException]) -> None:
    """The node goes down in good order, and closes the others."""
    samples.Closing.how = how
    shop = await make_shop(
        samples.installed(samples.ClosingInThread, samples.ClosingInLoop, samples.Counter, samples.echo)
    )
    closed = samples.Counter.target.closed
    for id in ("closing", "closing.async", "counter"):
        await run(shop, {**errand(call(id)), "name": id.replace(".", "_")})
    await asyncio.wait_for(executor(shop).close(), 4)
    assert samples.Counter.target.closed == closed + 1


@pytest.mark.parametrize("plugin", ["unmade", "cancels"])
async def test_one_that_cannot_be_made_or_cancels_itself(shop: Shop, plugin: str) -> None:
    """Is one that failed, and may go better."""
    step = call(plugin, retryPolicy={"maxAttempts": 2, "initialDelaySeconds": 0})
    instance = await run(shop, errand(step))
    assert incident(instance).code == "PLUGIN_FAILED"
    assert await shop.history(instance.id) == ["start", "fail_step", "fail_step"]


@pytest.mark.parametrize(("how", "says"), [("crash", "with status 7"), ("kill", "by SIGKILL")])
async def test_a_process_that_falls(shop: Shop, how: str, says: str) -> None:
    """It is told how it ended, with the last that it printed; another attempt is made."""
    found, history = await failed(shop, "fail.process", how)
    assert found.code == "PLUGIN_CRASHED"
    assert says in found.message
    assert history == ["start", "fail_step", "fail_step"]
    if how == "crash":
        assert "about to fall" in found.details["printed"]


@pytest.mark.parametrize("how", ["well", "crash"])
async def test_what_a_process_leaves_behind_keeps_nobody_waiting(shop: Shop, tmp_path: Path, how: str) -> None:
    """It has started something in a session of its own, which holds all that it inherited: the step is over all the same."""
    file = tmp_path / "pid"
    step = call(
        "fork.process", inputMapping={"file": "data.file", "how": "data.how"}, outputMapping={"made": "output"},
        retryPolicy={"maxAttempts": 1},
    )  # fmt: skip
    try:
        instance = await asyncio.wait_for(run(shop, errand(step), {"file": str(file), "how": how}), 20)
    finally:
        os.kill(int(file.read_text()), 9)
    if how == "well":
        assert instance.data["made"] == "done"
    else:
        assert (incident(instance).code, "with status 7" in incident(instance).message) == ("PLUGIN_CRASHED", True)


@pytest.mark.parametrize("wrapped", [True, False])
async def test_memory_is_bounded(shop: Shop, wrapped: bool) -> None:
    """One that needs more than it may have fails for good, however it tells; one that needs less does its work."""
    step = call(
        "hungry.process", inputMapping={"mib": "data.mib", "wrapped": "data.wrapped"}, outputMapping={"took": "output"},
        retryPolicy={"maxAttempts": 3, "initialDelaySeconds": 0},
    )  # fmt: skip
    assert (await run(shop, errand(step), {"mib": 20, "wrapped": wrapped})).data["took"] == 20
    instance = await run(shop, {**errand(step), "name": "more"}, {"mib": 500, "wrapped": wrapped})
    found = incident(instance)
    assert found.code == "MEMORY_EXCEEDED"
    assert "128 MiB" in found.message
    assert await shop.history(instance.id) == ["start", "fail_step"]
    assert (await shop.engine.plugins.get("hungry.process")).about.memory == 128  # type: ignore[union-attr]  # it is known


async def test_one_that_cannot_be_closed_has_done_its_work(shop: Shop, tmp_path: Path) -> None:
    """In a process it is closed after each attempt: what came of that counts, well or not. It is closed in its own loop."""
    step = call("closing.process", inputMapping={"how": "data.how"}, outputMapping={"made": "output"})
    assert (await run(shop, errand(step), {"how": "well"})).data["made"] == "done"
    found = incident(await run(shop, {**errand(step), "name": "other"}, {"how": "permanent"}))
    assert found.code == "NO_SUCH_THING"
    file = tmp_path / "closed"
    step = call("loop.process", inputMapping={"file": "data.file"}, outputMapping={"made": "output"})
    assert (await run(shop, {**errand(step), "name": "loop"}, {"file": str(file)})).data["made"] is True
    assert file.read_text() == "True"


async def test_the_delay_that_a_plugin_asks_for_is_kept(shop: Shop) -> None:
    """The next attempt is due no earlier, and details are with the failure."""
    step = call("fail", inputMapping={"how": "data.how"}, retryPolicy={"maxAttempts": 2, "initialDelaySeconds": 0})
    instance_id = await shop.start(await shop.publish(errand(step)), data={"how": "retryable"})
    await shop.engine.step_worker.run_due()
    seconds = await shop.engine.pool.fetchval(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM workflow_jobs WHERE kind = 'step'"
    )
    assert 30 < seconds <= 75
    assert await shop.history(instance_id) == ["start", "fail_step"]


async def test_configuration_is_checked_again_when_it_runs(shop: Shop) -> None:
    """What was published may meet another release of the plugin: that is final, with the place."""
    instance_id = await shop.start(await shop.publish(errand(call("price", configuration={"rounds": 3}))))
    await shop.engine.pool.execute(
        "UPDATE workflow_jobs SET payload = jsonb_set(payload, '{run,configuration}', '{\"rounds\": 9}') WHERE kind = 'step'"
    )
    await shop.engine.step_worker.run_due()
    found = incident(await loaded(shop, instance_id))
    assert (found.code, found.details["problems"][0]["at"]) == ("CONFIGURATION_INVALID", "/rounds")


async def test_input_and_output_are_held_to_their_types(shop: Shop) -> None:
    """Input that does not fit is final before anything runs, and so is output that breaks the promise."""
    step = call("price", inputMapping={"amount": "data.amount"})
    assert incident(await run(shop, errand(step), {"amount": "much"})).code == "INPUT_INVALID"
    found = incident(await run(shop, {**errand(call("promise")), "name": "broken_promise"}))
    assert (found.code, found.details["problems"][0]["at"]) == ("OUTPUT_INVALID", "/total")


# -- time --------------------------------------------------------------------------------------------------------------


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waits for is as good as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_process_is_killed_when_its_time_is_up(shop: Shop, tmp_path: Path) -> None:
    """With all that it has started."""
    file = tmp_path / "pids"
    step = call("hang.process", inputMapping={"file": "data.file"}, retryPolicy={"maxAttempts": 1})
    found = incident(await run(shop, errand(step), {"file": str(file)}, rounds=1))
    assert found.code == "TIMEOUT"
    pids = [int(each) for each in file.read_text().split()]
    assert len(pids) == 2
    await until(lambda: all(map(gone, pids)))


async def test_a_process_is_killed_when_its_lease_is_lost(shop: Shop, tmp_path: Path) -> None:
    """The instance is cancelled; the next heartbeat learns that nobody waits, and nothing of the process is left."""
    file = tmp_path / "pids"
    step = call("hang.long", inputMapping={"file": "data.file"})
    instance_id = await shop.start(await shop.publish(errand(step)), data={"file": str(file)})
    working = asyncio.create_task(shop.engine.step_worker.run_due())
    await until(file.exists)
    await until(lambda: len(file.read_text().split()) == 2)
    pids = [int(each) for each in file.read_text().split()]
    assert not any(map(gone, pids))
    from pliers_workflow.interpreter.commands import CancelInstance

    await shop.do(instance_id, CancelInstance(reason="not needed"))
    await shop.engine.step_worker.beat()
    shop.engine.step_worker._stop_lost()
    await working
    await until(lambda: all(map(gone, pids)))
    assert (await loaded(shop, instance_id)).status == "cancelled"


async def test_a_thread_that_hangs_fails_its_step_and_keeps_its_place(make_shop: MakeShop) -> None:
    """It is told that nobody waits; while no thread is free, the node leaves such steps to others, and async ones run."""
    shop = await make_shop(plugins={"threads": 1})
    one = executor(shop)
    found = incident(await run(shop, errand(call("hang.thread", retryPolicy={"maxAttempts": 1})), rounds=1))
    assert (found.code, one.calls.busy, one.calls.left_behind) == ("TIMEOUT", 1, {"hang.thread": 1})
    assert not one.serves("plugin:price")
    assert one.serves("plugin:echo")
    assert one.serves("plugin:price.process")
    waiting = await shop.start(await shop.publish({**errand(call("counter")), "name": "next"}))
    assert await shop.engine.step_worker.run_due() == 0
    report = await shop.engine.health.report()
    assert [alarm.subject for alarm in report.alarms if alarm.alarm == "plugin_left_behind"] == ["hang.thread"]
    samples.Gate.go.set()
    await until(lambda: one.calls.busy == 0)
    assert samples.Gate.cancelled.is_set()
    assert one.calls.left_behind == {}
    assert await shop.engine.step_worker.run_due() == 1
    assert (await loaded(shop, waiting)).status == "completed"


async def test_a_coroutine_is_cancelled_when_its_time_is_up(shop: Shop) -> None:
    """And may clean up."""
    found = incident(await run(shop, errand(call("hang.async", retryPolicy={"maxAttempts": 1})), rounds=1))
    assert found.code == "TIMEOUT"
    assert samples.Gate.cancelled.is_set()
    assert executor(shop).calls.left_behind == {}


async def test_the_time_of_the_step_counts_where_it_is_shorter(shop: Shop, tmp_path: Path) -> None:
    """A plugin may take ten minutes; this step gives it one second."""
    step = call(
        "hang.long", inputMapping={"file": "data.file"}, timeoutMinutes=0.02, retryPolicy={"maxAttempts": 1}
    )  # fmt: skip
    assert incident(await run(shop, errand(step), {"file": str(tmp_path / "p")}, rounds=1)).code == "TIMEOUT"


# -- who has it --------------------------------------------------------------------------------------------------------


async def test_a_node_without_the_plugin_leaves_its_steps(make_shop: MakeShop) -> None:
    """They wait for a node that has it and use up no attempt; where there is none, health says so."""
    has = await make_shop()
    instance_id = await has.start(await has.publish(errand(call("counter"))))
    lacks = await make_shop(samples.installed(samples.echo))
    assert await lacks.engine.step_worker.run_due() == 0
    assert await missing(lacks) == []
    await has.engine.registrar.drain()
    await has.engine.registrar.beat()
    assert await missing(lacks) == ["counter"], "a node that is about to stop begins nothing"
    await has.engine.pool.execute("DELETE FROM nodes WHERE name = $1", has.engine.node)
    assert await missing(lacks) == ["counter"]
    assert (await lacks.engine.plugins.get("counter")).state == "missing"
    assert await has.engine.step_worker.run_due() == 1
    assert await has.history(instance_id) == ["start", "complete_step"]
    assert await missing(lacks) == []


async def missing(shop: Shop) -> list[str | None]:
    alarms = (await shop.engine.health.report()).alarms
    return [alarm.subject for alarm in alarms if alarm.alarm == "plugin_missing"]


async def test_failures_in_a_row_leave_a_plugin_alone(make_shop: MakeShop) -> None:
    """The circuit of one plugin is open; another is not bothered."""
    shop = await make_shop(steps={"breaker_failures": 2, "breaker_open": 60})
    step = call("fail", inputMapping={"how": "data.how"}, retryPolicy={"maxAttempts": 5, "initialDelaySeconds": 0})
    await run(shop, errand(step), {"how": "crude"}, rounds=4)
    (state,) = shop.engine.step_worker.breakers.states()
    assert (state.target, state.state) == ("plugin:fail", "open")
    assert (await run(shop, {**errand(call("counter")), "name": "other"})).status == "completed"
