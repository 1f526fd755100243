"""From a table to a workflow: what the table allows happens, and nothing else does."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliers_workflow import examples
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.interpreter.simulation import SimulatedDirectory, Simulation
from pliers_workflow.replay.cases import Refusal, Step, Verdict, walk
from pliers_workflow.replay.travel import SYSTEM, Decide, Row, deed, key, reachable, requester_role, travel_definition

EXAMPLE = examples.load("travel_declaration")
START = EXAMPLE["metadata"]["start"]
ROWS = [Row(*row) for row in EXAMPLE["metadata"]["table"]]
REQUESTER = requester_role(ROWS, START)
DOERS = [("SAVED", "EMPLOYEE"), ("SUBMITTED", "EMPLOYEE"), ("REJECTED", "EMPLOYEE"), ("Request Payment", "")]
DOERS += [("Payment Handled", ""), ("REJECTED", "MISSING"), ("Send Reminder", "")]
DOERS += itertools.product(
    ("APPROVED", "FINAL_APPROVED", "REJECTED"),
    ("PRE_APPROVER", "ADMINISTRATION", "BUDGET OWNER", "SUPERVISOR", "DIRECTOR"),
)
CHART = compile_definition(read(EXAMPLE).definition)  # type: ignore[arg-type]  # the example is valid, see below


def replayed(steps: list[Step]) -> Verdict:
    """A case on the bare interpreter, each step by the user that has its role."""
    roles = {SYSTEM, REQUESTER, *(deed(step.act, step.by, REQUESTER).role for step in steps)}
    roles |= {deed(row.act, row.by, REQUESTER).role for row in ROWS}
    simulation = Simulation(CHART, directory=SimulatedDirectory(roles={role: [role] for role in roles}))
    simulation.start({"case": "1"}, REQUESTER)
    names = {key(name): name for row in ROWS for name in (row.state, row.to)}
    states: list[str] = []
    for index, step in enumerate(steps):
        one = deed(step.act, step.by, REQUESTER)
        before = simulation.instance
        if isinstance(one, Decide):
            data = {} if one.final is None else {"final": one.final}
            answer = simulation.decide(one.action, one.role, data=data)  # type: ignore[arg-type]  # approve or reject
        else:
            answer = simulation.fire(one.trigger, None, one.role)
        assert simulation.instance is not None
        state = names[simulation.instance.current_state]
        if isinstance(answer, Rejection):
            assert simulation.instance is before
            return Verdict(tuple(states), Refusal(state, index))
        states.append(state)
    return Verdict(tuple(states), None)


def test_the_example_is_made_from_its_own_table() -> None:
    """The shipped document is what `travel_definition` makes of the table in its metadata, to the last key."""
    assert travel_definition(ROWS, START) == EXAMPLE
    assert len(ROWS) == 28


def test_the_example_is_valid_without_warnings() -> None:
    """A generated definition passes every check."""
    assert read(EXAMPLE).findings == ()


def test_a_whole_case_is_paid() -> None:
    """The longest way of approval: administration, budget owner, supervisor, director, payment."""
    steps = [
        Step("SUBMITTED", "EMPLOYEE"), Step("APPROVED", "ADMINISTRATION"), Step("APPROVED", "BUDGET OWNER"),
        Step("APPROVED", "SUPERVISOR"), Step("FINAL_APPROVED", "DIRECTOR"), Step("Request Payment", ""),
        Step("Payment Handled", ""),
    ]  # fmt: skip
    assert replayed(steps).states[-1] == "paid"
    assert replayed(steps) == walk(ROWS, START, steps)


def test_an_approval_without_a_row_is_refused() -> None:
    """A director who approves without finality is among those asked, but the table has no row: nothing changes."""
    steps = [Step("SUBMITTED", "EMPLOYEE"), Step("APPROVED", "SUPERVISOR"), Step("APPROVED", "DIRECTOR")]
    assert replayed(steps).refused == Refusal("supervisor", 2)


def test_every_step_in_every_state_goes_as_the_table_says() -> None:
    """Exhaustive: from each state that can be reached, each act by each role moves or is refused as the table says."""
    ways: dict[str, list[Step]] = {START: []}
    while True:
        more = {
            row.to: [*ways[row.state], Step(row.act, row.by)]
            for row in ROWS
            if row.state in ways and row.to not in ways
        }
        if not more:
            break
        ways |= more
    assert set(ways) == {START, *(row.to for row in ROWS)}
    for way in ways.values():
        for act, by in DOERS:
            steps = [*way, Step(act, by)]
            assert replayed(steps) == walk(ROWS, START, steps), steps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(DOERS), max_size=12))
def test_random_cases_go_as_the_table_says(doings: list[tuple[str, str]]) -> None:
    """Whatever people try, the outcome is the table's."""
    steps = [Step(act, by) for act, by in doings]
    assert replayed(steps) == walk(ROWS, START, steps)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("a", "b", "c")),
            st.sampled_from(("APPROVED", "FINAL_APPROVED", "REJECTED", "FILED")),
            st.sampled_from(("CLERK", "BOSS", "JUDGE")),
            st.sampled_from(("a", "b", "c", "d")),
        ),
        min_size=1, max_size=8, unique_by=lambda row: row[:3],
    )
)  # fmt: skip
def test_any_table_makes_a_definition_without_errors(rows: list[tuple[str, str, str, str]]) -> None:
    """Other tables than the built-in one become definitions that can be used."""
    # A state that is only ever left to itself is a dead end, and reported as one.
    rows = [row for row in rows if row[:3] != ("a", "FILED", "CLERK") and row[0] != row[3]]
    table = [("a", "FILED", "CLERK", "b"), *rows]
    reading = read(travel_definition(table, "a"))
    assert reading.definition is not None, reading.findings


def test_two_rows_that_disagree_are_refused() -> None:
    """A table must not say two things about the same act."""
    with pytest.raises(ValueError, match="two rows"):
        travel_definition([("a", "FILED", "CLERK", "b"), ("a", "FILED", "CLERK", "c")], "a")


def test_rows_that_can_never_apply_are_left_out() -> None:
    """States nothing leads to do not come into the definition."""
    rows = [Row("a", "FILED", "CLERK", "b"), Row("x", "FILED", "CLERK", "y")]
    assert reachable(rows, "a") == rows[:1]


def test_the_document_is_json() -> None:
    """What is generated can be posted."""
    assert json.loads(json.dumps(travel_definition(ROWS, START))) == EXAMPLE
