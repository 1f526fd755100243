"""State-based patterns: what happens depends on where the case stands, or on who is quicker."""

from __future__ import annotations

from typing import Any

from tests.interpreter.building import accepted, refused, started
from tests.interpreter.steps.working import END, at_work, call, data, jobs, status

MINUTE = 60_000


def test_deferred_choice() -> None:
    """WCP-16 Deferred choice: several ways are open, and the environment takes one by being first; the others are closed."""
    states = {"offer": {"timeouts": [{"afterMinutes": 60}]}, "signed": END, "declined": END, "lapsed": END}
    transitions = [
        {"from": "offer", "to": "signed", "trigger": "sign"},
        {"from": "offer", "to": "declined", "trigger": "decline"},
        {"from": "offer", "to": "lapsed", "trigger": "timeout"},
    ]
    quick = started(states, transitions)
    accepted(quick.fire("sign", user="ada"))
    assert refused(quick.fire("decline", user="ada")).reason == "instance_ended"
    slow = started(states, transitions)
    slow.advance(60 * MINUTE)
    assert slow.configuration == ["lapsed"]


def test_deferred_choice_between_steps() -> None:
    """WCP-16 among steps: an event, a worker and the clock race, and whoever loses is given up."""
    race = {
        "type": "parallel",
        "id": "race",
        "waitStrategy": "any",
        "branches": [
            {"id": "paid", "steps": [{"type": "receive", "eventType": "paid", "correlationKey": "data.order"}]},
            {"id": "late", "steps": [{"type": "wait", "durationMinutes": 30}]},
        ],
    }
    run = at_work(race, call("next"), data={"order": "17"})
    assert len(run.awaited) == 1
    run.advance(31 * MINUTE)
    assert (jobs(run), run.awaited) == (["next"], {})


def test_interleaved_parallel_routing() -> None:
    """
    WCP-17 Interleaved parallel routing: every one of several is done once, in any order, but no two at the same time.
    """
    states = {
        "yard": {},
        "wash": {"properties": {"steps": [call("washing")]}},
        "fuel": {"properties": {"steps": [call("fuelling")]}},
        "end": END,
    }
    transitions = [
        {"from": "yard", "to": "end", "condition": "has(data.washed) && has(data.fuelled)"},
        {"from": "yard", "to": "wash", "trigger": "wash", "condition": "!has(data.washed)"},
        {"from": "yard", "to": "fuel", "trigger": "fuel", "condition": "!has(data.fuelled)"},
        {"from": "wash", "to": "yard", "actions": [{"type": "assign", "field": "washed", "value": "true"}]},
        {"from": "fuel", "to": "yard", "actions": [{"type": "assign", "field": "fuelled", "value": "true"}]},
    ]
    run = started(states, transitions)
    accepted(run.fire("fuel", user="ada"))
    refused(run.fire("wash", user="ada"))
    accepted(run.complete("fuelling"))
    refused(run.fire("fuel", user="ada"))
    accepted(run.fire("wash", user="ada"))
    accepted(run.complete("washing"))
    assert run.configuration == ["end"]


def test_milestone() -> None:
    """WCP-18 Milestone: something can be done only while another part of the case stands at a certain point."""
    region = [{"id": "open"}, {"id": "closed"}]
    states = {
        "trip": {
            "type": "parallel",
            "substates": [
                {"id": "booking", "properties": {"initial": "open"}, "substates": region},
                {"id": "seats", "properties": {"initial": "none"}, "substates": [{"id": "none"}, {"id": "reserved"}]},
            ],
        }
    }
    transitions = [
        {"from": "open", "to": "closed", "trigger": "close"},
        {"from": "none", "to": "reserved", "trigger": "reserve", "condition": "'open' in instance.configuration"},
    ]
    early = started(states, transitions)
    accepted(early.fire("reserve", user="ada"))
    late = started(states, transitions)
    accepted(late.fire("close", user="ada"))
    assert refused(late.fire("reserve", user="ada")).reason == "guard_failed"


def test_critical_section() -> None:
    """
    WCP-39 Critical section: parts of a case that must not be at work at the same time take turns, in the order in which
    they came. (Looking whether the other is at work is not enough: transitions of two regions are taken together.)
    """

    def part(id: str) -> dict[str, Any]:
        enqueue = {"type": "assign", "field": "queue", "value": f"data.queue + ['{id}']"}
        leave = {"type": "assign", "field": "queue", "value": f"data.queue.filter(each, each != '{id}')"}
        inner = [
            {"id": f"{id}_waits", "entryActions": [enqueue]},
            {"id": f"{id}_works", "properties": {"steps": [call(id)]}, "exitActions": [leave]},
            {"id": f"{id}_done", "type": "final"},
        ]
        return {"id": id, "properties": {"initial": f"{id}_waits"}, "substates": inner}

    transitions = [{"from": "both", "to": "end", "trigger": "done.state.both"}]
    for id in "ab":
        transitions.append({"from": f"{id}_waits", "to": f"{id}_works", "condition": f"data.queue[0] == '{id}'"})
        transitions.append({"from": f"{id}_works", "to": f"{id}_done"})
    states = {"both": {"type": "parallel", "substates": [part("a"), part("b")]}, "end": END}
    run = started(states, transitions, data={"queue": []})
    assert jobs(run) == ["a"]
    accepted(run.complete("a"))
    assert jobs(run) == ["b"]
    accepted(run.complete("b"))
    assert run.configuration == ["end"]


def test_interleaved_routing() -> None:
    """WCP-40 Interleaved routing: a number of like things are done one at a time, in an order nobody prescribes."""
    run = at_work({"type": "for_each", "items": "data.parts", "maxConcurrency": 1, "steps": [call("paint")]}, data={"parts": [1, 2, 3]})  # fmt: skip
    for _ in range(3):
        assert jobs(run) == ["paint"]
        accepted(run.complete("paint"))
    assert (status(run), data(run)["parts"]) == ("completed", [1, 2, 3])
