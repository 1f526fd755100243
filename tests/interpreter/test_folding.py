"""Folding: every event has its meaning, and working copies never touch what they were copied from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import msgspec

from pliers_workflow.interpreter.events import Event, StateEntered, StateExited
from pliers_workflow.interpreter.folding import APPLY, blank, fold, thaw
from pliers_workflow.interpreter.instance import Instance
from tests.interpreter.building import started

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_every_event_can_be_folded() -> None:
    """The table names each event type exactly once."""
    assert set(APPLY) == set(get_args(Event))


def test_every_event_has_its_own_name_on_the_wire() -> None:
    """Tags are unique, and decoding by tag gives the type back."""
    tags = [each.__struct_config__.tag for each in get_args(Event)]
    assert len(set(tags)) == len(tags)
    event = StateEntered("review", 2, in_region=True)
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_the_configuration_keeps_document_order() -> None:
    """`position` says where an entered state stands, so that folding needs no chart."""
    instance = fold(None, [StateEntered("a", 0), StateEntered("c", 1), StateEntered("b", 1, in_region=True)],
                    seq=1, at=NOW, instance_id="i")  # fmt: skip
    assert (instance.configuration, instance.current_state) == (("a", "b", "c"), "c")
    instance = fold(instance, [StateExited("b")], seq=2, at=NOW, instance_id="i")
    assert (instance.configuration, instance.revision) == (("a", "c"), 2)


def test_a_working_copy_leaves_the_instance_alone() -> None:
    """Containers are replaced, never changed in place."""
    before = blank("i", NOW)
    copy = thaw(before)
    APPLY[StateEntered](copy, StateEntered("a"), NOW)
    assert (before.configuration, copy.configuration) == ((), ("a",))
    assert copy.machine is not before.machine


def test_current_state_is_outside_regions() -> None:
    """Inside a parallel state `current_state` stays the parallel state, whatever its regions do."""
    run = started(
        {
            "both": {
                "type": "parallel",
                "substates": [
                    {"id": "left", "substates": [{"id": "l1"}, {"id": "l2"}]},
                    {"id": "right", "substates": [{"id": "r1"}]},
                ],
            },
            "end": {"type": "final"},
        },
        [{"from": "l1", "to": "l2", "trigger": "go"}, {"from": "both", "to": "end", "trigger": "x"}],
    )
    assert run.instance is not None
    assert run.instance.current_state == "both"
    run.fire("go")
    assert run.instance.current_state == "both"
    assert run.instance.configuration == ("both", "left", "l2", "right", "r1")
    run.fire("x")
    assert (run.instance.previous_state, run.instance.current_state) == ("both", "end")


def test_instances_survive_json() -> None:
    """Encoding and decoding an instance gives an equal one."""
    run = started({"a": {"timeouts": [{"afterMinutes": 1}]}, "b": {"type": "final"}},
                  [{"from": "a", "to": "b", "trigger": "timeout"}], data={"n": 1})  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(run.instance), type=Instance) == run.instance
