"""Whose turn it is, and where a claim begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pliers_workflow.runtime.jobs.lanes import FAR_EVERY, NEAR, Ask, LaneKey, Lanes
from pliers_workflow.runtime.jobs.service import BEGINNING, LOWEST_ID

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MARGIN = timedelta(seconds=15)


def everything(_: str, __: str) -> bool:
    return True


def lane(tenant: str = "t", queue: str = "http", definition: str = "d", priority: int = 0) -> LaneKey:
    return LaneKey(tenant, queue, definition, priority)


def lanes(*keys: LaneKey) -> Lanes:
    made = Lanes(margin=MARGIN)
    for key in keys:
        made.add(key)
    return made


def asked(made: Lanes, room: int, **options: object) -> dict[LaneKey, int]:
    turns = made.turn(room, options.pop("serves", everything), at=0.0, **options)  # type: ignore[arg-type]
    return {ask.lane: ask.share for _, asks in turns for ask in asks}


def test_one_lane_gets_all_the_room() -> None:
    """Nobody else waits, nobody is held back."""
    assert asked(lanes(lane()), 64) == {lane(): 64}


def test_tenants_share_before_definitions_do() -> None:
    """A tenant with a hundred definitions gets no more than one with a single definition."""
    made = lanes(lane("small"), *(lane("large", definition=f"d{n}") for n in range(100)))
    shares = asked(made, 64)
    assert shares[lane("small")] == 32
    assert sum(share for key, share in shares.items() if key.tenant_id == "large") == 32


def test_definitions_share_within_a_tenant() -> None:
    """One definition's backlog does not matter: the other is asked in the same round."""
    assert asked(lanes(lane(definition="a"), lane(definition="b")), 10) == {
        lane(definition="a"): 5, lane(definition="b"): 5,
    }  # fmt: skip


def test_turns_go_round() -> None:
    """With room for one at a time, everybody comes once before anybody comes again."""
    made = lanes(lane("x"), lane("y"), lane("z", definition="a"), lane("z", definition="b"))
    order = [next(iter(asked(made, 1))) for _ in range(6)]
    assert [key.tenant_id for key in order] == ["x", "y", "z", "x", "y", "z"]
    assert {key.definition for key in order if key.tenant_id == "z"} == {"a", "b"}


def test_queues_of_a_definition_share() -> None:
    """Many calls of a definition leave room for its one script."""
    made = lanes(lane(queue="http"), lane(queue="script"))
    assert asked(made, 10) == {lane(queue="http"): 5, lane(queue="script"): 5}
    assert [next(iter(asked(made, 1))).queue for _ in range(4)] in (
        ["http", "script"] * 2, ["script", "http"] * 2,
    )  # fmt: skip


def test_priority_is_within_a_definition_and_queue() -> None:
    """The lower number is asked first; another definition's turn does not depend on it."""
    urgent, usual, other = lane(priority=-5), lane(priority=0), lane(definition="other", priority=9)
    made = lanes(usual, urgent, other)
    assert asked(made, 2) == {urgent: 1, other: 1}
    made.claimed(Ask(urgent, 1, (BEGINNING, LOWEST_ID), True), None, 0, NOW)
    assert asked(made, 2) == {usual: 1, other: 1}


def test_only_what_is_served_is_asked() -> None:
    """Queues that nobody here serves, and other tenants than the one asked for, are left alone."""
    made = lanes(lane("x", "http"), lane("x", "external:print"), lane("y", "http"))
    assert asked(made, 8, serves=lambda _, queue: queue == "http", tenant_id="x") == {lane("x", "http"): 8}
    assert asked(made, 8, serves=lambda _, queue: queue == "plugin:x") == {}


def test_a_lane_that_gave_less_is_empty() -> None:
    """It is asked again when something new is known of it."""
    made = lanes(lane())
    made.claimed(Ask(lane(), 5, (BEGINNING, LOWEST_ID), True), (NOW, "a"), 4, NOW)
    assert len(made) == 0
    assert asked(made, 5) == {}
    made.add(lane())
    assert asked(made, 5) == {lane(): 5}


def test_marks() -> None:
    """
    A claim goes on from the last job; not nearer to the present than a second, since a late commit may still bring one
    that was due before; every few seconds not nearer than the margin; at first from the beginning.
    """
    made = lanes(lane())

    def ask(at: float) -> Ask:
        ((_, (one,)),) = made.turn(5, everything, at=at)
        return one

    first = ask(0)
    assert (first.mark, first.far) == ((BEGINNING, LOWEST_ID), True)
    old = (NOW - timedelta(hours=1), "00000000-0000-0000-0000-00000000000a")
    made.claimed(first, old, 5, NOW)
    second = ask(1)
    assert (second.mark, second.far) == (old, False), "a backlog is worked off from where the last claim ended"
    young = (NOW - timedelta(milliseconds=10), "00000000-0000-0000-0000-00000000000b")
    made.claimed(second, young, 5, NOW)
    third = ask(2)
    assert third.mark == (NOW - NEAR, LOWEST_ID)
    made.claimed(third, young, 5, NOW)
    fourth = ask(FAR_EVERY)
    assert (fourth.mark, fourth.far) == (old, True), "what near claims may have missed"
    made.claimed(fourth, young, 5, NOW)
    made.add(lane())
    made.claimed(ask(FAR_EVERY + 1), None, 0, NOW + timedelta(seconds=1))
    made.add(lane())
    assert ask(2 * FAR_EVERY + 1).mark == (NOW - MARGIN, LOWEST_ID)


def test_a_sweep_begins_at_the_beginning() -> None:
    """All lanes there are, and no others, each from its first job."""
    made = lanes(lane(definition="gone"), lane())
    made.claimed(made.turn(5, everything, at=0)[0][1][0], (NOW, "a"), 5, NOW)
    made.sweep([lane(), lane(definition="new")])
    turns = made.turn(10, everything, at=1)
    assert {ask.lane: ask.mark for _, asks in turns for ask in asks} == {
        lane(): (BEGINNING, LOWEST_ID), lane(definition="new"): (BEGINNING, LOWEST_ID),
    }  # fmt: skip


def test_who_was_served_longest_ago() -> None:
    """Whoever was asked and got nothing was not served."""
    a, b = lane(definition="a"), lane(definition="b")
    made = lanes(a, b)
    ((_, asks),) = made.turn(4, everything, at=0.0)
    by_lane = {ask.lane: ask for ask in asks}
    assert made.served(by_lane[a]) == made.served(by_lane[b]) == 0
    made.claimed(by_lane[a], (NOW, LOWEST_ID), 2, NOW)
    made.claimed(by_lane[b], None, 0, NOW)
    assert made.served(by_lane[b]) < made.served(by_lane[a])
