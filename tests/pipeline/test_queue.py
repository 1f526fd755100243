"""What goes into the next batch, and who waits for whom."""

from __future__ import annotations

import itertools

from pliers_workflow.interpreter.commands import Actor, Command, FireTimer
from pliers_workflow.runtime.commit import queue as queues
from pliers_workflow.runtime.commit.queue import (
    BACKGROUND_BATCH_MAX,
    BACKGROUND_BATCH_MIN,
    BACKGROUND_BESIDE,
    FURTHER_BATCH_MIN,
    CommandQueue,
    Pending,
)

_number = itertools.count()


def put(queue: CommandQueue, count: int, *, background: bool = False, tenant: str = "t") -> None:
    """Queue commands, each for an instance of its own."""
    for _ in range(count):
        command = Command("c", Actor(), FireTimer("timer/1"))
        queue.put(Pending(tenant, f"{tenant}/{next(_number)}", command, None, background=background))


def kinds(batch: list[tuple[queues.Key, list[Pending]]]) -> tuple[int, int]:
    """How many commands of a batch somebody waits for, and how many are background work."""
    pendings = [pending for _, some in batch for pending in some]
    background = sum(pending.background for pending in pendings)
    return len(pendings) - background, background


async def test_background_work_alone_takes_all_workers_but_one() -> None:
    """A hundred thousand timers and nobody about: large batches, and one worker stays free."""
    queue = CommandQueue(batches_in_flight=3)
    put(queue, 1000, background=True)
    assert kinds(queue.take(1000, 50)) == (0, BACKGROUND_BATCH_MAX)
    assert kinds(queue.take(1000, 50)) == (0, BACKGROUND_BATCH_MAX)
    assert not queue.ready()
    assert queue.take(1000, 50) == []


async def test_a_person_does_not_wait_for_background_batches() -> None:
    """A command comes while batches of timers are in flight: it is taken at once, with few of the timers that wait."""
    queue = CommandQueue(batches_in_flight=3)
    put(queue, 1000, background=True)
    first, second = queue.take(1000, 50), queue.take(1000, 50)
    put(queue, 1)
    assert queue.ready()
    third = queue.take(1000, 50)
    assert kinds(third) == (1, BACKGROUND_BESIDE)
    for batch in (first, second, third):
        queue.end(batch)
    assert (queue.in_flight, queue.background_in_flight) == (0, 0)


async def test_while_people_are_about_background_work_keeps_small() -> None:
    """Timers beside people: one small batch at a time; two seconds after the last command they have the node again."""
    queue = CommandQueue(batches_in_flight=3)
    put(queue, 1)
    queue.end(queue.take(10, 50))
    put(queue, 1000, background=True)
    batch = queue.take(1000, 50)
    assert kinds(batch) == (0, BACKGROUND_BATCH_MIN)
    assert not queue.ready()
    queue.end(batch)
    queue._about_until = float("-inf")  # two seconds later
    assert kinds(queue.take(1000, 50)) == (0, BACKGROUND_BATCH_MAX)


async def test_background_work_gets_on_beside_any_number_of_people() -> None:
    """However many people wait, some background work comes along in each batch."""
    queue = CommandQueue(batches_in_flight=3)
    put(queue, 500)
    put(queue, 50, background=True)
    done = 0
    for _ in range(5):
        batch = queue.take(100, 50)
        interactive, background = kinds(batch)
        assert (interactive, background) == (100, BACKGROUND_BESIDE)
        done += background
        queue.end(batch)
    assert done == 5 * BACKGROUND_BESIDE
    assert (queue.length, queue.background_length) == (10, 10)


async def test_few_commands_wait_for_the_batch_before_them() -> None:
    """A batch has a price of its own: a second one begins beside another only where enough wait for it."""
    queue = CommandQueue(batches_in_flight=3)
    put(queue, 1)
    first = queue.take(100, 50)
    put(queue, FURTHER_BATCH_MIN - 1)
    assert not queue.ready()
    put(queue, 1)
    assert queue.ready()
    assert kinds(queue.take(100, 50)) == (FURTHER_BATCH_MIN, 0)
    queue.end(first)


async def test_tenants_take_turns() -> None:
    """One tenant with a hundred commands does not keep another's single one waiting."""
    queue = CommandQueue()
    put(queue, 100, tenant="large")
    put(queue, 1, tenant="small")
    assert "small" in {key[0] for key, _ in queue.take(4, 50)}


async def test_a_command_behind_a_timer_of_its_instance_comes_along() -> None:
    """The two are one batch, taken for the timer; when it has ended, nothing is in flight, and the next is taken."""
    queue = CommandQueue(batches_in_flight=3)
    command = Command("c", Actor(), FireTimer("timer/1"))
    for _ in range(5):
        queue.put(Pending("t", "one", command, None, background=True))
        queue.put(Pending("t", "one", command, None, background=False))
        batch = queue.take(100, 50)
        assert kinds(batch) == (1, 1)
        queue.end(batch)
        queue.release(("t", "one"))
        assert (queue.in_flight, queue.background_in_flight, queue.length, queue.background_length) == (0, 0, 0, 0)
    put(queue, 1)
    assert queue.ready()
