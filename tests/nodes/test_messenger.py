"""Wake-ups between nodes."""

from __future__ import annotations

import asyncio

import asyncpg

from pliers_workflow.runtime.engine import Engine
from pliers_workflow.runtime.nodes.messenger import CHANNEL, PAUSE
from pliers_workflow.runtime.nodes.wakeups import INBOUND, job
from tests.nodes.conftest import MakeNode, cut, until


def heard(node: Engine, topic: str) -> list[tuple[float, float]]:
    """What a node is told of a topic: when, and in how many seconds there is something to do."""
    told: list[tuple[float, float]] = []
    node.wakeups.subscribe(topic, lambda delay: told.append((asyncio.get_running_loop().time(), delay)))
    return told


async def both(make_node: MakeNode) -> tuple[Engine, Engine]:
    """Two nodes that listen and know of each other."""
    first, second = await make_node(), await make_node()
    await until(lambda: first.messenger.listening and second.messenger.listening)
    await until(lambda: first.wakeups.carry and second.wakeups.carry)
    return first, second


async def test_one_node_tells_the_other(make_node: MakeNode) -> None:
    """A wake-up reaches its own node at once and the other within moments, with the time that is left."""
    first, second = await both(make_node)
    here, there = heard(first, job("step")), heard(second, job("step"))
    first.wakeups.wake(job("step"), 7.5)
    assert [delay for _, delay in here] == [7.5], "without the database"
    await until(lambda: there)
    assert 6.5 < there[0][1] <= 7.5
    assert len(here) == 1, "what a node says does not come back to it"


async def test_much_news_is_few_messages(make_node: MakeNode) -> None:
    """A busy node sends one message in a while, with the soonest of each topic; nothing is told of nothing."""
    first, second = await both(make_node)
    await asyncio.sleep(5 * PAUSE)
    sent, here = first.messenger.sent, heard(second, INBOUND)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(200):
        first.wakeups.wake(INBOUND)
        first.wakeups.wake(job("step"), 3.0)
        await asyncio.sleep(0.001)
    await until(lambda: here)
    messages = first.messenger.sent - sent
    # A machine that is slow takes longer for the 200, and may send more meanwhile.
    assert 1 <= messages <= (loop.time() - began) / PAUSE + 2
    await asyncio.sleep(5 * PAUSE)
    settled = first.messenger.sent
    await asyncio.sleep(5 * PAUSE)
    assert first.messenger.sent == settled


async def test_a_node_alone_tells_nobody(make_node: MakeNode) -> None:
    """With nobody to be woken nothing is sent; when the other has gone, nothing is sent any more."""
    first = await make_node()
    await until(lambda: first.messenger.listening)
    first.wakeups.wake(INBOUND)
    await asyncio.sleep(3 * PAUSE)
    assert first.messenger.sent == 0
    second = await make_node()
    await until(lambda: first.wakeups.carry)
    await second.close()
    await until(lambda: first.wakeups.carry is None)
    assert first.registrar.others == ()


async def test_a_connection_that_is_cut_comes_back(make_node: MakeNode, database: str) -> None:
    """LISTEN is taken up again on a new connection, and everybody is woken then, for nobody knows what was missed."""
    first, second = await both(make_node)
    there = heard(second, INBOUND)
    connects = (first.messenger.connects, second.messenger.connects)
    assert await cut(database, "pliers listen") >= 2
    await until(lambda: (first.messenger.connects, second.messenger.connects) > connects)
    await until(lambda: there)
    there.clear()
    await until(lambda: first.messenger.listening and second.messenger.listening)
    first.wakeups.wake(INBOUND, 1.0)
    await until(lambda: there)
    assert there[-1][1] > 0, "by a message, not by the new connection"


async def test_what_others_send_on_the_channel_harms_nobody(make_node: MakeNode, database: str) -> None:
    """Nonsense on the channel is passed over; the next message is heard."""
    node = await make_node()
    await until(lambda: node.messenger.listening)
    here = heard(node, INBOUND)
    connection = await asyncpg.connect(database)
    for payload in (
        "",
        "{",
        '{"from": 1}',
        '{"from": "x", "wake": {"inbound": "soon"}}',
        '{"from": "x", "wake": {"inbound": -3}}',
    ):
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
    await connection.close()
    await until(lambda: here)
    assert [delay for _, delay in here] == [0.0]
