"""Each order: who may give it, what it changes, and the reason when it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow.interpreter.commands import (
    Actor,
    CancelInstance,
    Command,
    FireTimer,
    FireTrigger,
    Order,
    ResumeInstance,
    StartInstance,
    SuspendInstance,
    UpdateData,
)
from pliers_workflow.interpreter.events import DataChanged, StateChanged, TitleChanged
from pliers_workflow.interpreter.facts import Facts, Needs, ScriptAnswer, User
from pliers_workflow.interpreter.instance import Instance, Status
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome, Overrun
from pliers_workflow.interpreter.rejections import Reason, Rejection
from tests.interpreter.building import accepted, chart, kinds, refused, simulate, started

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
FINAL = {"type": "final"}
OPEN = {"open": {}, "end": FINAL}
FINISH = [{"id": "finish", "from": "open", "to": "end", "trigger": "finish"}]
ADA = User("ada", "ada", roles=("clerk",), groups=("north",))


def give(instance: Instance | None, order: Order, user: str | None = "ada", *, of: Any = None, facts: Facts | None = None,
         now: datetime = NOW, permissions: tuple[str, ...] = (), **rest: Any) -> Outcome | Rejection | Needs | Overrun:  # fmt: skip
    command = Command("c", Actor(user, permissions), order, rest.pop("expected_revision", None))
    return interpret(of or chart(OPEN, FINISH), instance, command, facts or {}, now, **rest)


def start(of: Any = None, data: dict[str, Any] | None = None, **rest: Any) -> Any:
    return give(None, StartInstance("i", "d", data or {}, **rest), of=of)


# -- start -------------------------------------------------------------------------------------------------------------


def test_a_start_makes_a_waiting_instance() -> None:
    """The first row: revision 1, the configuration at rest, requester and creator the actor, one change of state."""
    outcome = start()
    instance = outcome.instance
    assert (instance.revision, instance.status, instance.configuration) == (1, Status.WAITING, ("open",))
    assert (instance.current_state, instance.previous_state) == ("open", None)
    assert (instance.requester, instance.created_by) == ("ada", "ada")
    assert instance.created_at == instance.started_at == instance.last_activity_at == NOW
    assert [each for each in outcome.events if isinstance(each, StateChanged)] == [StateChanged(None, "open")]


def test_a_start_for_another_person_needs_an_operator() -> None:
    """Else one could be one's own approver by naming someone else as the requester; and that person must exist."""
    order = StartInstance("i", "d", {}, requester="bob")
    assert isinstance(give(None, order), Needs)
    assert refused(give(None, order, facts={"user:bob": None})).reason is Reason.UNKNOWN_USER
    inactive = {"user:bob": User("bob", "bob", active=False)}
    assert refused(give(None, order, facts=inactive)).reason is Reason.UNKNOWN_USER
    facts = {"user:bob": User("bob", "bob")}
    assert refused(give(None, order, facts=facts)).reason is Reason.NOT_ALLOWED
    outcome = accepted(give(None, order, facts=facts, permissions=("operator",)))
    assert (outcome.instance.requester, outcome.instance.created_by) == ("bob", "ada")


def test_start_access() -> None:
    """`access.start` says who may start; a role is the directory's."""
    of = chart(OPEN, FINISH, access={"start": ["role:clerk"], "advance": ["anyone"]})
    order = StartInstance("i", "d", {})
    assert isinstance(give(None, order, of=of), Needs)
    assert isinstance(give(None, order, of=of, facts={"user:ada": ADA}), Outcome)
    stranger = {"user:ada": User("ada", "ada")}
    assert refused(give(None, order, of=of, facts=stranger)).details["allowed"] == ["role:clerk", "operator"]


def test_the_data_schema_is_checked_at_the_start() -> None:
    """Every deviation is in the rejection."""
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}, "t": {"type": "string"}}}
    of = chart(OPEN, FINISH, dataSchema=schema)
    rejection = refused(start(of, {"t": 1}))
    assert rejection.reason is Reason.DATA_INVALID
    assert len(rejection.details["findings"]) == 2
    assert isinstance(start(of, {"n": Decimal("1.5")}), Outcome)


def test_data_beyond_256_kb_are_refused() -> None:
    """Measured as JSON, at the end of the command, whoever wrote them."""
    assert refused(start(data={"x": "y" * 256_000})).reason is Reason.DATA_TOO_LARGE
    assert isinstance(start(data={"x": "y" * 255_000}), Outcome)


def test_what_has_started_cannot_start_again() -> None:
    """A second start is refused."""
    assert refused(give(start().instance, StartInstance("i", "d", {}))).reason is Reason.INSTANCE_EXISTS


def test_the_title_follows_the_data() -> None:
    """The definition's template is filled at the start and again when the data change; what is missing stays empty."""
    run = started(OPEN, FINISH, data={"n": 5}, display={"title": "{data.n} for {data.who} by {requester.username}"})
    assert run.instance is not None
    assert run.instance.title == "5 for  by ada"
    answer = accepted(run.update({"who": "bob"}))
    assert answer.instance.title == "5 for bob by ada"
    assert sum(isinstance(each, TitleChanged) for each in answer.events) == 1


# -- what holds for every command --------------------------------------------------------------------------------------


def test_a_stale_revision_is_refused() -> None:
    """`expected_revision` is compared before anything else is looked at."""
    instance = start().instance
    stale = give(instance, FireTrigger("finish"), expected_revision=7)
    assert refused(stale).reason is Reason.REVISION_CONFLICT
    assert refused(stale).details == {"revision": 1, "expected": 7}
    assert isinstance(give(instance, FireTrigger("finish"), expected_revision=1), Outcome)


def test_time_never_goes_back() -> None:
    """A clock that lags behind the last activity is not believed."""
    instance = start().instance
    outcome = accepted(give(instance, FireTrigger("finish"), now=NOW - timedelta(hours=1)))
    assert outcome.instance.last_activity_at == NOW


def test_rejections_and_outcomes_leave_the_instance_alone() -> None:
    """Interpreting changes nothing it was given."""
    instance = start(data={"n": [1]}).instance
    twin = start(data={"n": [1]}).instance
    for order in (FireTrigger("finish"), FireTrigger("x"), UpdateData(patch={"n": [2]}), CancelInstance()):
        give(instance, order)
        assert instance == twin


def test_facts_looked_at_are_kept() -> None:
    """The outcome holds the facts it rested on, and no others."""
    of = chart(OPEN, [{**FINISH[0], "condition": "user.roles.exists(r, r == 'clerk')"}])
    instance = start(of).instance
    answer = give(instance, FireTrigger("finish"), of=of)
    assert answer == Needs(("user:ada",))
    outcome = accepted(give(instance, FireTrigger("finish"), of=of, facts={"user:ada": ADA, "user:eve": None}))
    assert outcome.facts == {"user:ada": ADA}


def test_user_and_requester_are_asked_for_in_one_round() -> None:
    """An expression that reads both does not cost two rounds."""
    of = chart(OPEN, [{**FINISH[0], "condition": "user.username != requester.username"}])
    instance = start(of).instance
    assert give(instance, FireTrigger("finish"), "bob", of=of) == Needs(("user:bob", "user:ada"))


def test_too_much_work_is_an_overrun() -> None:
    """A command beyond its budget is neither done nor refused: it is to be interpreted alone."""
    assert give(start().instance, FireTrigger("finish"), budget_steps=5) == Overrun(5)


def test_a_reason_is_a_sentence() -> None:
    """Every rejection carries the sentence of its reason, which ends like one."""
    for reason in Reason:
        assert reason.message.endswith(".")
        assert reason.message[0].isupper()
    assert refused(give(start().instance, FireTrigger("x"))).message == Reason.UNKNOWN_TRIGGER.message


# -- triggers ----------------------------------------------------------------------------------------------------------


def test_a_trigger_nothing_takes_lists_what_would_be_taken() -> None:
    """Only triggers open to the actor whose guard holds, none that the engine raises."""
    run = started(
        OPEN,
        [
            *FINISH,
            {"from": "open", "to": "end", "trigger": "low", "condition": "data.n < 0"},
            {"from": "open", "to": "end", "trigger": "other", "access": ["user:bob"]},
            {"from": "open", "to": "end", "trigger": "timeout.open"},
        ],
        data={"n": 1},
        timeoutConfig={"stateTimeouts": {"open": 10}},
    )
    rejection = refused(run.fire("x", user="ada"))
    assert (rejection.reason, rejection.details["available"]) == (Reason.UNKNOWN_TRIGGER, ["finish"])


def test_transition_access_wins_over_the_definitions() -> None:
    """A transition's own `access` says who may fire it; operators always may."""
    of = chart(OPEN, [{**FINISH[0], "access": ["group:south", "user:bob"]}], access={"advance": ["requester"]})
    instance = start(of).instance
    rejection = refused(give(instance, FireTrigger("finish"), of=of, facts={"user:ada": ADA}))
    assert (rejection.reason, rejection.details["allowed"]) == (
        Reason.NOT_ALLOWED, ["group:south", "user:bob", "operator"],
    )  # fmt: skip
    bob = {"user:bob": User("bob", "bob")}
    assert isinstance(give(instance, FireTrigger("finish"), "bob", of=of, facts=bob), Outcome)
    assert isinstance(give(instance, FireTrigger("finish"), of=of, permissions=("admin",)), Outcome)


def test_not_allowed_comes_before_unknown() -> None:
    """Who may not advance the instance does not learn which triggers it knows."""
    of = chart(OPEN, FINISH, access={"advance": ["requester"]})
    rejection = refused(give(start(of).instance, FireTrigger("x"), "eve", of=of))
    assert rejection.reason is Reason.NOT_ALLOWED


def test_a_person_cannot_pass_for_the_engine() -> None:
    """Triggers of the engine are refused from outside, but for operators; results of decisions from operators, too."""
    of = chart(
        {"open": {"timeouts": [{"afterMinutes": 5}]}, "end": FINAL},
        [{"from": "open", "to": "end", "trigger": "timeout"}, {"from": "open", "to": "end", "trigger": "done"}],
    )
    instance = start(of).instance
    for trigger in ("timeout.open", "approved", "approved.x", "rejected", "done.state.open", "error.execution"):
        assert refused(give(instance, FireTrigger(trigger), of=of)).reason is Reason.NOT_ALLOWED
    for trigger in ("approved", "rejected.x", "changes_requested"):
        vote = give(instance, FireTrigger(trigger), of=of, permissions=("operator", "admin"))
        assert refused(vote).reason is Reason.NOT_ALLOWED
    assert isinstance(give(instance, FireTrigger("timeout.open"), of=of, permissions=("operator",)), Outcome)
    assert isinstance(give(instance, FireTrigger("done"), of=of), Outcome)


def test_a_target_must_be_reached() -> None:
    """`target` never jumps: the transition that is taken must lead there, by name or by default entry."""
    states = {"open": {}, "box": {"substates": [{"id": "first"}, {"id": "second"}]}, "end": FINAL}
    of = chart(
        states,
        [
            {"from": "open", "to": "box", "trigger": "go"},
            {"from": "first", "to": "second", "trigger": "x"},
            {"from": "box", "to": "end", "trigger": "y"},
        ],
    )
    instance = start(of).instance
    for target in ("second", "end", "nowhere"):
        assert refused(give(instance, FireTrigger("go", target=target), of=of)).reason is Reason.TARGET_NOT_REACHED
    for target in ("box", "first"):
        assert isinstance(give(instance, FireTrigger("go", target=target), of=of), Outcome)


def test_event_data_and_user_reach_the_transition() -> None:
    """What is fired with a trigger is `event.data`, and who fired it `event.user`."""
    note = {"type": "assign", "field": "by", "value": "event.user + ':' + event.data.why"}
    run = started(OPEN, [{**FINISH[0], "actions": [note]}])
    assert accepted(run.fire("finish", {"why": "late"}, "bob")).instance.data == {"by": "bob:late"}


# -- scripts -----------------------------------------------------------------------------------------------------------


def test_a_scripts_answer_is_a_fact() -> None:
    """The interpreter asks for it by code and input, and takes true, false or an error from it."""
    of = chart(OPEN, [{**FINISH[0], "condition": {"type": "script", "script": "data['n'] > 3"}}])
    instance = start(of, {"n": 5}).instance
    facts: dict[str, Any] = {}
    needs = give(instance, FireTrigger("finish"), of=of, facts=facts)
    while isinstance(needs, Needs) and not needs.scripts:
        facts |= dict.fromkeys(needs.keys, ADA)
        needs = give(instance, FireTrigger("finish"), of=of, facts=facts)
    assert isinstance(needs, Needs)
    (request,) = needs.scripts
    assert request.input["data"] == {"n": 5}
    assert request.key.startswith("script:")

    def answered(answer: ScriptAnswer) -> Any:
        return give(instance, FireTrigger("finish"), of=of, facts={**facts, request.key: answer})

    assert isinstance(answered(ScriptAnswer(True)), Outcome)
    assert refused(answered(ScriptAnswer(False))).reason is Reason.GUARD_FAILED
    assert refused(answered(ScriptAnswer(error="no time"))).reason is Reason.GUARD_ERROR
    assert refused(answered(ScriptAnswer("yes"))).reason is Reason.GUARD_ERROR


# -- data --------------------------------------------------------------------------------------------------------------


def test_a_patch_merges_and_a_document_replaces() -> None:
    """RFC 7396: null removes, maps merge; `data` puts another document in its place."""
    run = started(OPEN, FINISH, data={"a": {"b": 1, "c": 2}, "d": 3, "e": True})
    outcome = accepted(run.update({"a": {"b": None}, "d": None, "e": 1}, "ada"))
    assert outcome.instance.data == {"a": {"c": 2}, "e": 1}
    assert outcome.instance.data["e"] is not True
    assert outcome.events == (DataChanged(set={"a": {"c": 2}, "e": 1}, removed=("d",)),)
    outcome = accepted(run.give(UpdateData(data={"z": 0}), "ada"))
    assert outcome.instance.data == {"z": 0}


def test_an_update_lets_waiting_transitions_be_taken() -> None:
    """A transition without trigger is asked again when the data have changed."""
    run = started({"open": {}, "end": FINAL}, [{"from": "open", "to": "end", "condition": "data.n > 3"}], data={"n": 1})
    run.update({"n": 4}, "ada")
    assert run.configuration == ["end"]


def test_updated_data_are_checked() -> None:
    """The schema holds after an update as it does at the start."""
    run = started(OPEN, FINISH, data={"n": 1}, dataSchema={"type": "object", "properties": {"n": {"type": "integer"}}})
    assert refused(run.update({"n": "x"}, "ada")).reason is Reason.DATA_INVALID
    assert refused(run.update({"x": "y" * 300_000}, "ada")).reason is Reason.DATA_TOO_LARGE


CHAIN = [{"id": "ok", "steps": [{"id": "boss", "approvers": [{"type": "user", "identifier": "bob"}]}]}]
REVIEW = {"draft": {}, "review": {"properties": {"approvalChain": "ok"}}, "end": FINAL, "no": FINAL}
DECIDED = [
    {"from": "draft", "to": "review", "trigger": "submit"},
    {"from": "review", "to": "end"},
    {"from": "review", "to": "no", "trigger": "rejected"},
]


def test_by_default_the_requester_edits_unless_a_chain_is_asking() -> None:
    """Others may not; while approvers look at the data nobody may, but operators."""
    run = started(REVIEW, DECIDED, approvalChains=CHAIN)
    assert refused(run.update({"n": 1}, "eve")).reason is Reason.NOT_ALLOWED
    accepted(run.update({"n": 1}, "ada"))
    run.fire("submit", user="ada")
    assert refused(run.update({"n": 2}, "ada")).reason is Reason.DATA_LOCKED
    assert refused(run.update({"n": 2}, "eve")).reason is Reason.NOT_ALLOWED
    accepted(run.give(UpdateData(patch={"n": 3}), "ada", ("operator",)))


def test_editable_by_of_the_nearest_state_decides() -> None:
    """A substate's `editableBy` wins over its parent's; an empty one locks the data."""
    run = started(
        {
            "box": {
                "properties": {"editableBy": ["user:eve"]},
                "substates": [{"id": "one"}, {"id": "two", "properties": {"editableBy": []}}],
            },
            "end": FINAL,
        },
        [{"from": "one", "to": "two", "trigger": "go"}, {"from": "box", "to": "end", "trigger": "x"}],
    )
    assert refused(run.update({"n": 1}, "ada")).reason is Reason.NOT_ALLOWED
    accepted(run.update({"n": 1}, "eve"))
    run.fire("go")
    assert refused(run.update({"n": 1}, "eve")).reason is Reason.DATA_LOCKED


# -- approvals through the statechart ----------------------------------------------------------------------------------


def test_an_eventless_transition_waits_for_the_chain() -> None:
    """It is taken when the chain is granted, not when the state is entered; `rejected` is an ordinary trigger."""
    for action, expected in (("approve", "end"), ("reject", "no")):
        run = started(REVIEW, DECIDED, approvalChains=CHAIN)
        run.fire("submit", user="ada")
        assert run.configuration == ["review"]
        accepted(run.decide(action, "bob"))
        assert run.configuration == [expected]


# -- the life of an instance -------------------------------------------------------------------------------------------


def test_a_suspended_instance_can_only_be_resumed_or_cancelled() -> None:
    """Everything else is refused, and resuming what is not suspended as well."""
    run = started(OPEN, FINISH)
    assert refused(run.resume()).reason is Reason.NOT_SUSPENDED
    assert kinds(run.suspend()) == ["WorkflowSuspended"]
    for order in (FireTrigger("finish"), UpdateData(patch={}), SuspendInstance()):
        assert refused(run.give(order, "ada")).reason is Reason.SUSPENDED
    assert run.instance is not None
    assert run.instance.status is Status.SUSPENDED
    assert accepted(run.resume()).instance.status is Status.WAITING
    run.suspend()
    assert accepted(run.cancel("ada")).instance.status is Status.CANCELLED


def test_suspending_is_for_operators() -> None:
    """Neither the requester nor anybody else."""
    run = started(OPEN, FINISH)
    for order in (SuspendInstance(), ResumeInstance()):
        run.give(order, "ada")
        assert run.instance is not None
        assert run.instance.status is Status.WAITING


def test_cancelling_ends_the_instance_where_it_is() -> None:
    """Open items are withdrawn, clocks stopped, the configuration stays; by default the requester may."""
    states = {**REVIEW, "review": {**REVIEW["review"], "timeouts": [{"afterMinutes": 5}]}}
    run = started(
        states, [*DECIDED, {"from": "review", "to": "no", "trigger": "timeout"}], approvalChains=CHAIN,
        timeoutConfig={"workflowTimeout": 60},
    )  # fmt: skip
    run.fire("submit", user="ada")
    assert refused(run.cancel("eve")).reason is Reason.NOT_ALLOWED
    instance = accepted(run.cancel("ada")).instance
    assert (instance.status, instance.configuration) == (Status.CANCELLED, ("review",))
    assert instance.machine.timers == {}
    assert instance.assigned_to is None
    assert instance.cancelled_at == run.now
    assert refused(run.fire("submit", user="ada")).reason is Reason.INSTANCE_ENDED


# -- timers ------------------------------------------------------------------------------------------------------------


def test_only_the_engine_fires_timers() -> None:
    """A timer's command from a person is refused."""
    of = chart(
        {"open": {"timeouts": [{"afterMinutes": 5}]}, "end": FINAL},
        [{"from": "open", "to": "end", "trigger": "timeout"}],
    )
    instance = start(of).instance
    late = NOW + timedelta(minutes=5)
    assert refused(give(instance, FireTimer("timer/1"), of=of, now=late)).reason is Reason.NOT_ALLOWED
    assert isinstance(give(instance, FireTimer("timer/1"), None, of=of, now=late), Outcome)


@pytest.mark.parametrize(("timer", "minutes"), [("timer/2", 5), ("timer/1", 4)])
def test_a_timer_that_is_gone_or_not_due_is_refused(timer: str, minutes: int) -> None:
    """Cancelled, fired, moved or paused since: nothing happens."""
    of = chart(
        {"open": {"timeouts": [{"afterMinutes": 5}]}, "end": FINAL},
        [{"from": "open", "to": "end", "trigger": "timeout"}],
    )
    answer = give(start(of).instance, FireTimer(timer), None, of=of, now=NOW + timedelta(minutes=minutes))
    assert refused(answer).reason is Reason.TIMER_GONE


def test_an_error_after_a_timer_raises_an_incident() -> None:
    """Nobody reads a timer's rejection: the timer is spent, the state is as before, and an operator hears of it."""
    run = started(
        {"open": {"timeouts": [{"afterMinutes": 5}]}, "end": FINAL},
        [
            {
                "from": "open",
                "to": "end",
                "trigger": "timeout",
                "actions": [{"type": "assign", "field": "n", "value": "data.m + 1"}],
            }
        ],
    )
    run.advance(5 * 60_000)
    instance = run.instance
    assert instance is not None
    assert (instance.configuration, instance.data, instance.machine.timers) == (("open",), {}, {})
    (incident,) = instance.machine.incidents.values()
    assert (incident.code, incident.state) == ("execution_error", "open")
    assert "timeout.open" in incident.message


def test_an_incident_keeps_the_facts_it_rested_on() -> None:
    """Interpreting the row again must not have to ask for what was looked at on the way to the error."""
    states = {"open": {"timeouts": [{"afterMinutes": 5}]}, "end": FINAL}
    value = "requester.username + data.missing"
    run = started(
        states,
        [
            {
                "from": "open",
                "to": "end",
                "trigger": "timeout",
                "actions": [{"type": "assign", "field": "n", "value": value}],
            }
        ],
    )
    run.advance(5 * 60_000)
    assert run.instance is not None
    assert run.instance.machine.incidents
    assert list(run.history[-1].facts) == ["user:ada"]


def test_simulated_people_exist() -> None:
    """A simulation needs no directory: whoever is named may act in every role."""
    run = simulate(OPEN, [{**FINISH[0], "access": ["role:clerk"]}])
    run.start({}, "ada")
    accepted(run.fire("finish", user="eve"))


def test_an_edit_records_what_it_changed() -> None:
    """Replacing all data puts on record only the fields that differ, also where Python would call 1 and true equal."""
    of = chart({"open": {}, "end": FINAL}, [{"from": "open", "to": "end", "trigger": "done"}])
    instance = start(of, {"kept": {"a": [1, 2]}, "flag": 1, "gone": "x"}).instance
    outcome = give(instance, UpdateData(data={"kept": {"a": [1, 2]}, "flag": True, "new": None}), of=of)
    assert isinstance(outcome, Outcome)
    (event,) = [each for each in outcome.events if isinstance(each, DataChanged)]
    assert event.set == {"flag": True, "new": None}
    assert event.set["flag"] is True
    assert event.removed == ("gone",)
    assert outcome.instance.data == {"kept": {"a": [1, 2]}, "flag": True, "new": None}
