"""The statechart algorithm: what W3C SCXML says, and where our additions stand in it."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from pliers_workflow.interpreter import content, draft, interpret, simulation, statechart
from pliers_workflow.interpreter.events import ErrorOccurred, TransitionTaken, TriggerRaised
from pliers_workflow.interpreter.rejections import Reason
from tests.interpreter.building import accepted, moves, refused, simulate, started

FINAL: dict[str, Any] = {"type": "final"}


def compound(*substates: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"substates": list(substates), "properties": properties}


def region(name: str, *substates: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "substates": list(substates)}


TWO_REGIONS = {
    "both": {
        "type": "parallel",
        "substates": [
            region("left", {"id": "left_open"}, {"id": "left_done", "type": "final"}),
            region("right", {"id": "right_open"}, {"id": "right_done", "type": "final"}),
        ],
    },
    "end": FINAL,
}
FINISH_EACH = [
    {"from": "left_open", "to": "left_done", "trigger": "left"},
    {"from": "right_open", "to": "right_done", "trigger": "right"},
]


@pytest.mark.parametrize("module", [content, draft, interpret, simulation, statechart])
def test_doctests(module: Any) -> None:
    """The examples in the docstrings hold."""
    assert doctest.testmod(module).failed == 0


# -- done and final ----------------------------------------------------------------------------------------------------


def test_a_parallel_state_is_done_only_when_all_its_regions_are() -> None:
    """`done.state.both` comes with the last region, whichever that is, and once."""
    for first, last in (("left", "right"), ("right", "left")):
        run = started(TWO_REGIONS, [*FINISH_EACH, {"from": "both", "to": "end", "trigger": "done.state.both"}])
        run.fire(first)
        assert run.instance is not None
        assert "both" in run.instance.configuration
        run.fire(last)
        assert run.configuration == ["end"]


def test_a_region_is_done_by_itself() -> None:
    """`done.state.REGION` is raised before, and whether or not, the parallel state is done."""
    run = started(TWO_REGIONS, [*FINISH_EACH, {"from": "both", "to": "end", "trigger": "done.state.left"}])
    run.fire("left")
    assert run.configuration == ["end"]


def test_a_final_state_takes_no_triggers() -> None:
    """A final substate has no way out of its own; its compound parent's transitions still apply."""
    run = started(
        {"work": compound({"id": "doing"}, {"id": "done", "type": "final"}), "end": FINAL},
        [{"from": "doing", "to": "done", "trigger": "next"}, {"from": "work", "to": "end", "trigger": "leave"}],
    )
    run.fire("next")
    assert refused(run.fire("next")).reason is Reason.UNKNOWN_TRIGGER
    assert moves(run.fire("leave")) == "-done -work +end"


def test_nothing_moves_an_ended_instance() -> None:
    """After a top-level final state every command is refused, and internal triggers left over are dropped."""
    run = started(
        {"open": {}, "end": {"type": "final", "entryActions": [{"type": "raise", "trigger": "again"}]}, "odd": {}},
        [{"from": "open", "to": "end", "trigger": "finish"}, {"from": "open", "to": "odd", "trigger": "again"},
         {"from": "odd", "to": "end", "trigger": "finish"}],
    )  # fmt: skip
    accepted(run.fire("finish"))
    assert run.configuration == ["end"]
    assert refused(run.fire("again")).reason is Reason.INSTANCE_ENDED


def test_done_data_reach_the_transition() -> None:
    """`doneData` of a final substate is the data of `done.state.PARENT`."""
    run = started(
        {
            "work": compound({"id": "doing"}, {"id": "done", "type": "final", "properties": {"doneData": {"n": "data.n * 2"}}}),
            "end": FINAL,
            "wrong": FINAL,
        },
        [
            {"from": "doing", "to": "done", "trigger": "next"},
            {"from": "work", "to": "end", "trigger": "done.state.work", "condition": "event.data.n == 42"},
            {"from": "work", "to": "wrong", "trigger": "done.state.work"},
        ],
        data={"n": 21},
    )  # fmt: skip
    run.fire("next")
    assert run.configuration == ["end"]


def test_exit_actions_of_the_final_state_run_at_the_end() -> None:
    """SCXML's exitInterpreter: the last state's exit actions run when the instance completes."""
    action = {"type": "assign", "field": "closed", "value": "true"}
    run = started(
        {"open": {}, "end": {"type": "final", "exitActions": [action]}},
        [{"from": "open", "to": "end", "trigger": "finish"}],
    )
    assert accepted(run.fire("finish")).instance.data == {"closed": True}


# -- order -------------------------------------------------------------------------------------------------------------


def test_states_are_exited_inside_out_and_entered_outside_in() -> None:
    """Exit order is reverse document order, entry order document order, regions included."""
    run = started(
        TWO_REGIONS, [{"from": "both", "to": "both", "trigger": "again"}, {"from": "both", "to": "end", "trigger": "x"}]
    )
    assert moves(run.fire("again")) == (
        "-right_open -right -left_open -left -both +both +left +left_open +right +right_open"
    )


def test_transition_actions_run_between_exits_and_entries() -> None:
    """Exit actions, transition actions, entry actions: each sees what the one before has done."""

    def add(letter: str) -> dict[str, Any]:
        return {"type": "assign", "field": "trail", "value": f"data.trail + '{letter}'"}

    run = started(
        {"a": {"exitActions": [add("x")]}, "b": {"entryActions": [add("e")]}, "end": FINAL},
        [{"from": "a", "to": "b", "trigger": "go", "actions": [add("t")]}, {"from": "b", "to": "end", "trigger": "x"}],
        data={"trail": ""},
    )
    assert accepted(run.fire("go")).instance.data == {"trail": "xte"}


def test_internal_triggers_come_before_those_sent() -> None:
    """A raised trigger is worked off before one sent without delay, though it was raised later."""
    run = started(
        {"a": {}, "b": {}, "raised": FINAL, "sent": FINAL},
        [
            {"from": "a", "to": "b", "trigger": "go",
             "actions": [{"type": "send", "trigger": "sent"}, {"type": "raise", "trigger": "raised"}]},
            {"from": "b", "to": "sent", "trigger": "sent"},
            {"from": "b", "to": "raised", "trigger": "raised"},
        ],
    )  # fmt: skip
    run.fire("go")
    assert run.configuration == ["raised"]


def test_eventless_transitions_come_before_internal_triggers() -> None:
    """A raised trigger finds the configuration that the eventless transitions have led to."""
    run = started(
        {"a": {}, "b": {}, "c": {}, "early": FINAL, "late": FINAL},
        [
            {"from": "a", "to": "b", "trigger": "go", "actions": [{"type": "raise", "trigger": "tick"}]},
            {"from": "b", "to": "c"},
            {"from": "b", "to": "early", "trigger": "tick"},
            {"from": "c", "to": "late", "trigger": "tick"},
        ],
    )
    run.fire("go")
    assert run.configuration == ["late"]


def test_triggers_sent_without_delay_follow_within_the_command() -> None:
    """There is nobody else to wait for: what is sent without delay is delivered before the command is over."""
    run = started(
        {"a": {}, "b": {}, "end": FINAL},
        [
            {"from": "a", "to": "b", "trigger": "go", "actions": [{"type": "send", "trigger": "on"}]},
            {"from": "b", "to": "end", "trigger": "on"},
        ],
    )
    assert moves(run.fire("go")) == "-a +b -b +end"


def test_the_higher_priority_is_asked_first_then_document_order() -> None:
    """Among transitions of one state `priority` decides before the document's order does."""
    for priorities, expected in (((0, 0), "first"), ((0, 1), "second"), ((5, 1), "first")):
        run = started(
            {"a": {}, "first": FINAL, "second": FINAL},
            [
                {"from": "a", "to": name, "trigger": "go", "priority": priority, "condition": "data.n == 1"}
                for name, priority in zip(("first", "second"), priorities, strict=True)
            ],
            data={"n": 1},
        )
        run.fire("go")
        assert run.configuration == [expected]


def test_the_inner_state_is_asked_first() -> None:
    """A substate's transition comes before its parent's, whatever their priorities and places in the document."""
    run = started(
        {"outer": compound({"id": "inner"}), "by_outer": FINAL, "by_inner": FINAL},
        [
            {"from": "outer", "to": "by_outer", "trigger": "go", "priority": 9},
            {"from": "inner", "to": "by_inner", "trigger": "go"},
        ],
    )
    run.fire("go")
    assert run.configuration == ["by_inner"]


# -- kinds of transitions ----------------------------------------------------------------------------------------------


def test_a_targetless_transition_leaves_and_enters_nothing() -> None:
    """Its actions run; exit and entry actions of its state, and its clocks, do not."""
    count = {"type": "assign", "field": "n", "value": "data.n + 1"}
    run = started(
        {"a": {"entryActions": [count], "exitActions": [count], "timeouts": [{"afterMinutes": 5}]}, "end": FINAL},
        [
            {"from": "a", "trigger": "note", "actions": [count]},
            {"from": "a", "to": "a", "trigger": "again"},
            {"from": "a", "to": "end", "trigger": "timeout"},
        ],
        data={"n": 0},
    )
    assert accepted(run.fire("note")).instance.data == {"n": 2}
    assert moves(run.fire("note")) == ""
    assert run.instance is not None
    assert list(run.instance.machine.timers) == ["timer/1"]
    assert moves(run.fire("again")) == "-a +a"
    assert list(run.instance.machine.timers) == ["timer/2"]


def test_an_internal_transition_does_not_leave_its_compound_source() -> None:
    """`internal` keeps the source active when all targets lie inside it; `external` leaves and enters it again."""
    states = {"outer": compound({"id": "one"}, {"id": "two"}), "end": FINAL}
    for kind, expected in (("internal", "-one +two"), ("external", "-one -outer +outer +two")):
        run = started(
            states,
            [
                {"from": "outer", "to": "two", "trigger": "go", "type": kind},
                {"from": "outer", "to": "end", "trigger": "x"},
            ],
        )
        assert moves(run.fire("go")) == expected


def test_an_external_transition_between_substates_leaves_only_what_it_must() -> None:
    """The least common compound ancestor stays; a parallel state is none, so its regions are left together."""
    run = started(
        TWO_REGIONS,
        [{"from": "left_open", "to": "left_open", "trigger": "again"}, {"from": "both", "to": "end", "trigger": "x"}],
    )
    assert moves(run.fire("again")) == "-left_open +left_open"
    run = started(
        TWO_REGIONS,
        [{"from": "left", "to": "left", "trigger": "again"}, {"from": "both", "to": "end", "trigger": "x"}],
    )
    assert moves(run.fire("again")) == (
        "-right_open -right -left_open -left -both +both +left +left_open +right +right_open"
    )


def test_regions_take_a_trigger_together() -> None:
    """One trigger, one microstep: both regions move, exits of both before entries of both."""
    run = started(
        TWO_REGIONS,
        [
            {"from": "left_open", "to": "left_done", "trigger": "go"},
            {"from": "right_open", "to": "right_done", "trigger": "go"},
            {"from": "both", "to": "end", "trigger": "done.state.both"},
        ],
    )
    assert moves(run.fire("go")).startswith("-right_open -left_open +left_done +right_done")


def test_conflicting_transitions_the_inner_source_wins_else_the_first() -> None:
    """Two regions that both lead out: the first in document order is taken, the other preempted."""
    run = started(
        {**TWO_REGIONS, "other": FINAL},
        [
            {"id": "out_right", "from": "right_open", "to": "other", "trigger": "go"},
            {"id": "out_left", "from": "left_open", "to": "end", "trigger": "go"},
        ],
    )
    answer = accepted(run.fire("go"))
    assert [each.transition for each in answer.events if isinstance(each, TransitionTaken)] == ["out_left"]
    assert run.configuration == ["end"]


def test_several_targets_enter_several_regions() -> None:
    """A transition may name a state in each of several regions; other regions take their default."""
    run = started(
        {"a": {}, **TWO_REGIONS},
        [
            {"from": "a", "to": ["left_done", "right_open"], "trigger": "go"},
            {"from": "both", "to": "end", "trigger": "x"},
            {"from": "left_open", "to": "left_done", "trigger": "y"},
            {"from": "right_open", "to": "right_done", "trigger": "y"},
        ],
        "a",
    )
    run.fire("go")
    assert run.configuration == ["left_done", "right_open"]


# -- matching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("descriptor", "trigger", "taken"),
    [
        ("order", "order", True),
        ("order", "order.paid", True),
        ("order.*", "order.paid", True),
        ("order.*", "order", True),
        ("order.", "order.paid", True),
        ("order", "ordered", False),
        ("order.paid", "order", False),
        ("order.paid", "order.pai", False),
        ("*", "anything", True),
        ("cancel order", "order.paid", True),
        ("Order", "order", False),
    ],
)
def test_descriptors_match_whole_dotted_parts(descriptor: str, trigger: str, taken: bool) -> None:
    """A descriptor matches the trigger of that name and those below it, part by part, never half a part."""
    run = started({"a": {}, "end": FINAL}, [{"from": "a", "to": "end", "trigger": descriptor}])
    run.fire(trigger)
    assert (run.configuration == ["end"]) is taken


# -- history -----------------------------------------------------------------------------------------------------------


def history_chart(kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    states = {
        "work": compound(
            {"id": "back", "type": "history", "properties": {"history": kind, "initial": "early"}},
            {"id": "early"},
            {"id": "late", "substates": [{"id": "late_one"}, {"id": "late_two"}]},
            initial="early",
        ),
        "pause": {},
        "end": FINAL,
    }
    return states, [
        {"from": "early", "to": "late", "trigger": "go"},
        {"from": "late_one", "to": "late_two", "trigger": "go"},
        {"from": "work", "to": "pause", "trigger": "pause"},
        {"from": "pause", "to": "back", "trigger": "resume"},
        {"from": "pause", "to": "end", "trigger": "stop"},
    ]


@pytest.mark.parametrize(("kind", "expected"), [("shallow", "late_one"), ("deep", "late_two")])
def test_history_remembers(kind: str, expected: str) -> None:
    """Shallow remembers the child and enters it by default, deep the whole configuration below."""
    run = started(*history_chart(kind))
    for trigger in ("go", "go", "pause", "resume"):
        run.fire(trigger)
    assert run.configuration == [expected]


def test_history_without_memory_takes_its_default() -> None:
    """Before its parent was ever left, a history state stands for its default."""
    run = started(*history_chart("deep"), initial="pause")
    run.fire("resume")
    assert run.configuration == ["early"]


# -- choice, guards and errors -----------------------------------------------------------------------------------------


def choice(condition: str, data: dict[str, Any], **rest: Any) -> Any:
    return started(
        {"pick": {"type": "choice"}, "high": {}, "low": {}, "end": FINAL},
        [
            {"from": "pick", "to": "high", "condition": condition},
            {"from": "pick", "to": "low"},
            {"from": "high", "to": "end", "trigger": "x"},
            {"from": "low", "to": "end", "trigger": "x"},
            *rest.pop("more", []),
        ],
        data=data,
    )


@pytest.mark.parametrize(
    ("data", "expected"), [({"n": 5}, "high"), ({"n": 1}, "low"), ({}, "low"), ({"n": "x"}, "low")]
)
def test_a_choice_is_left_at_once_and_an_error_takes_the_default(data: dict[str, Any], expected: str) -> None:
    """The first condition that holds; a condition that fails with an error leads to the default, on record."""
    run = choice("data.n > 3", data)
    assert run.configuration == [expected]
    errors = [each for each in run.events if isinstance(each, ErrorOccurred)]
    assert len(errors) == (0 if isinstance(data.get("n"), int) else 1)


GUARDED = [
    {"from": "a", "to": "end", "trigger": "go", "condition": "data.amount > 100"},
    {"from": "a", "to": "end", "trigger": "stop"},
]


def test_a_guard_that_fails_is_explained() -> None:
    """The rejection says which condition did not hold and what it saw."""
    run = started({"a": {}, "end": FINAL}, GUARDED, data={"amount": 5})
    rejection = refused(run.fire("go", user="ada"))
    assert rejection.reason is Reason.GUARD_FAILED
    assert rejection.details["explanation"]["expression"] == "data.amount > 100"
    assert rejection.details["explanation"]["reads"] == {"data.amount": 5}


def test_a_guard_that_cannot_be_evaluated_refuses_the_command() -> None:
    """A missing value is an error, not false; in a chart that handles no errors the person hears of it."""
    run = started({"a": {}, "end": FINAL}, GUARDED)
    rejection = refused(run.fire("go", user="ada"))
    assert rejection.reason is Reason.GUARD_ERROR
    assert "amount" in str(rejection.details)
    assert run.configuration == ["a"]


def test_a_guard_error_does_not_hide_another_transition() -> None:
    """Where another transition takes the trigger, the error counts as false, on record."""
    run = started({"a": {}, "end": FINAL, "other": FINAL}, [*GUARDED, {"from": "a", "to": "other", "trigger": "go"}])
    answer = accepted(run.fire("go"))
    assert run.configuration == ["other"]
    assert sum(isinstance(each, ErrorOccurred) for each in answer.events) == 1


def test_a_chart_may_handle_errors() -> None:
    """With a handler the guard's error raises `error.execution`, and the command is accepted."""
    run = started(
        {"a": {}, "end": FINAL, "broken": {}},
        [*GUARDED, {"from": "a", "to": "broken", "trigger": "error"}, {"from": "broken", "to": "end", "trigger": "x"}],
    )
    accepted(run.fire("go"))
    assert run.configuration == ["broken"]


def test_an_eventless_guard_that_keeps_failing_comes_to_rest() -> None:
    """Its error is raised once a command, so that a targetless handler does not make an endless loop of it."""
    run = simulate(
        {"a": {}, "end": FINAL},
        [
            {"from": "a", "to": "end", "condition": "data.ready"},
            {"from": "a", "trigger": "error.execution", "actions": [{"type": "log", "label": "seen"}]},
        ],
    )
    accepted(run.start())
    assert run.configuration == ["a"]
    assert sum(isinstance(each, TriggerRaised) for each in run.events) == 1


def test_an_endless_loop_is_refused() -> None:
    """A chart that raises its own trigger for ever is stopped after a thousand microsteps, and nothing has changed."""
    run = started(
        {"a": {}, "b": {}, "end": FINAL},
        [
            {"from": "a", "to": "b", "trigger": "go", "actions": [{"type": "raise", "trigger": "tick"}]},
            {"from": "b", "trigger": "tick", "actions": [{"type": "raise", "trigger": "tick"}]},
            {"from": "b", "to": "end", "trigger": "x"},
        ],
    )
    before = run.instance
    assert refused(run.fire("go")).reason is Reason.ENDLESS_LOOP
    assert run.instance is before


def test_an_action_that_fails_refuses_the_command() -> None:
    """Without a handler nothing of the command happens, what ran before the failing action included."""
    run = started(
        {"a": {}, "end": FINAL},
        [{"from": "a", "to": "end", "trigger": "go", "actions": [
            {"type": "assign", "field": "seen", "value": "true"},
            {"type": "assign", "field": "n", "value": "data.missing + 1"},
        ]}],
    )  # fmt: skip
    rejection = refused(run.fire("go"))
    assert rejection.reason is Reason.EXECUTION_ERROR
    assert run.instance is not None
    assert run.instance.data == {}


def test_a_handled_action_error_skips_the_rest_of_its_block_only() -> None:
    """What came before stays, what follows in the block is skipped, other blocks run (SCXML §4.11)."""

    def mark(field: str, value: str = "true") -> dict[str, Any]:
        return {"type": "assign", "field": field, "value": value}

    run = started(
        {"a": {}, "b": {"entryActions": [mark("entered")]}, "end": FINAL},
        [
            {"from": "a", "to": "b", "trigger": "go", "actions": [mark("one"), mark("two", "1 / 0"), mark("three")]},
            {"from": "b", "trigger": "error.execution", "actions": [mark("handled", "event.data.source")]},
            {"from": "b", "to": "end", "trigger": "x"},
        ],
    )
    data = accepted(run.fire("go")).instance.data
    assert data == {"one": True, "entered": True, "handled": "transition a/1"}
