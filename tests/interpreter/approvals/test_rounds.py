"""Rounds of changes, clocks of stages, and what happens when the state is left."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pliers_workflow.interpreter.effects import CancelTimer, ScheduleTimer
from pliers_workflow.interpreter.events import (
    ApprovalWithdrawn,
    ChainStarted,
    ChangesRequested,
    StageAsked,
    StageSkipped,
    TimerCancelled,
)
from pliers_workflow.interpreter.instance import Status
from pliers_workflow.interpreter.outcome import Outcome
from tests.interpreter.approvals.office import Office, People, document, office, role, stage, user, user_id


def people() -> People:
    return People(["ada", "bob", "cid", "dan"], roles={"managers": ["mia", "max"]})


def withdrawn(it: Office) -> list[tuple[str, str]]:
    return [(event.item, event.reason) for event in it.happened(ApprovalWithdrawn)]


# -- rounds ------------------------------------------------------------------------------------------------------------


def test_request_changes_ends_the_round() -> None:
    """Open items are withdrawn with the reason, the stage's clock stops, and the chart hears `changes_requested`."""
    it = office(people(), stage("one", user("ada"), user("bob"), parallel=True, timeoutMinutes=5), in_place=True)
    assert it.request_changes("ada", comments="attach the receipt") is None
    assert withdrawn(it) == [("item/2", "changes_requested")]
    assert it.settled["item/1"].action == "request_changes"
    assert (it.run.status, it.items, it.instance.machine.timers) == ("changes_requested", [], {})
    assert it.approve("bob") == "already_decided"


def test_changes_requested_carries_the_answer() -> None:
    """A transition sees who asked for changes, and why."""
    it = office(people(), stage("one", role("managers")))
    assert it.request_changes("mia", comments="attach the receipt") is None
    assert it.state == "rework"
    assert (it.answer["action"], it.answer["user"], it.answer["comments"]) == (
        "request_changes",
        user_id("mia"),
        "attach the receipt",
    )


def test_the_next_round_asks_again() -> None:
    """Entering the state again begins round two; without watched fields every stage is asked again."""
    it = office(people(), stage("one", user("ada")), stage("two", user("bob")))
    it.approve("ada")
    it.request_changes("bob")
    assert it.fire("send_again") is None
    assert [(event.visit, event.round) for event in it.happened(ChainStarted)] == [(1, 1), (2, 2)]
    assert it.asked == ["ada"]
    assert it.approve("ada") is None
    assert it.approve("bob") is None
    assert it.state == "granted"


def test_unchanged_stages_are_skipped() -> None:
    """A stage granted before is skipped while what it watches is as it was; other fields do not matter."""
    stages = (
        stage("amount", user("ada"), watchedFields=["amount", "lines"]),
        stage("place", user("bob"), watchedFields=["place.city"]),
        stage("last", user("cid"), watchedFields=["amount"]),
    )
    it = office(
        people(), *stages, data={"amount": 10, "place": {"city": "Rome", "zip": 1}, "lines": [1, {"a": Decimal("2.5")}]}
    )
    it.approve("ada")
    it.approve("bob")
    it.request_changes("cid")
    it.change(amount=Decimal("10.00"), place={"zip": 2}, note="receipt attached")
    it.fire("send_again")
    assert it.asked == ["cid"]
    assert [(event.stage, event.reason) for event in it.happened(StageSkipped)] == [
        ("amount", "unchanged"),
        ("place", "unchanged"),
    ]
    it.request_changes("cid")
    it.change(place={"city": "Oslo"})
    it.fire("send_again")
    assert (it.run.round, it.asked) == (3, ["bob"])


@pytest.mark.parametrize("change", [{"amount": 11}, {"amount": None}, {"amount": "10"}, {"amount": True}])
def test_a_changed_value_is_asked_again(change: dict[str, object]) -> None:
    """Another number, nothing, or a value of another type is a change."""
    it = office(
        people(), stage("one", user("ada"), watchedFields=["amount"]), stage("two", user("bob")), data={"amount": 10}
    )
    it.approve("ada")
    it.request_changes("bob")
    it.change(**change)
    it.fire("send_again")
    assert it.asked == ["ada"]


def test_the_stage_that_wanted_changes_is_asked_again() -> None:
    """Even if nothing it watches has changed: it has not been granted."""
    it = office(people(), stage("one", user("ada"), watchedFields=["amount"]), data={"amount": 10})
    it.request_changes("ada")
    it.fire("send_again")
    assert it.asked == ["ada"]


def test_consent_does_not_come_back_with_old_data() -> None:
    """Granted for 10, asked again for 20 and refused consent by asking for changes: back at 10 it is asked again."""
    it = office(
        people(), stage("one", user("ada"), watchedFields=["amount"]), stage("two", user("bob")), data={"amount": 10}
    )
    it.approve("ada")
    it.request_changes("bob")
    it.change(amount=20)
    it.fire("send_again")
    it.request_changes("ada")
    it.change(amount=10)
    it.fire("send_again")
    assert it.asked == ["ada"]


def large(it: Office, *, is_large: bool) -> None:
    """The next round begins with `data.large` so."""
    assert it.request_changes("cid") is None
    it.change(large=is_large)
    assert it.fire("send_again") is None


def test_a_stage_that_a_round_does_not_need_keeps_its_grant() -> None:
    """It was not asked in that round; when it is needed again and nothing has changed, it has been granted."""
    first = stage("one", user("ada"), condition="data.large", watchedFields=["amount"])
    it = Office(people(), document([first, stage("two", user("cid"))])).start(amount=5, large=True)
    it.approve("ada")
    large(it, is_large=False)
    large(it, is_large=True)
    assert [(each.stage, each.reason) for each in it.happened(StageSkipped)] == [
        ("one", "condition"),
        ("one", "unchanged"),
    ]
    assert it.asked == ["cid"]


def test_who_decided_in_a_stage_that_a_round_does_not_need_may_decide_in_it() -> None:
    """`distinctApprovers` wants different people for what this round rests on."""
    first = stage("one", user("ada"), condition="data.large", watchedFields=["amount"])
    second = stage("two", user("ada", user("cid")))
    distinct = {"distinctApprovers": True}
    it = Office(people(), document([first, second], configuration=distinct)).start(amount=5, large=True)
    it.approve("ada")
    assert it.asked == ["cid"]
    large(it, is_large=False)
    assert it.asked == ["ada"]


def test_all_stages_unchanged_grants_at_once() -> None:
    """When every stage of the new round is skipped the chain is granted."""
    it = office(
        people(),
        stage("one", user("ada"), watchedFields=["amount"]),
        stage("large", user("bob"), condition="data.amount > 5"),
        data={"amount": 10},
    )
    it.approve("ada")
    it.request_changes("bob")
    it.change(amount=10)
    it.fire("send_again")
    assert it.asked == ["bob"]
    it.request_changes("bob")
    it.change(amount=5)
    it.fire("send_again")
    assert it.asked == ["ada"]
    it.approve("ada")
    assert it.state == "granted"


def test_another_state_with_the_same_chain_continues_the_rounds() -> None:
    """Rounds belong to the chain, not to the state that runs it."""
    it = office(
        people(),
        stage("one", user("ada"), watchedFields=["amount"]),
        stage("two", user("bob")),
        two_desks=True,
        data={"amount": 1},
    )
    it.approve("ada")
    it.request_changes("bob")
    it.fire("send_again")
    assert (it.state, it.run.round, it.asked) == ("review_again", 2, ["bob"])


def test_other_ways_back_begin_anew() -> None:
    """After a recall or a refusal the chain begins with round one and skips nothing."""
    stages = (stage("one", user("ada"), watchedFields=["amount"]), stage("two", user("bob")))
    it = office(people(), *stages, data={"amount": 1})
    it.approve("ada")
    assert it.fire("recall") is None
    assert withdrawn(it) == [("item/2", "state_left")]
    assert it.approve("bob") == "nothing_to_decide"
    it.fire("send_again")
    assert (it.run.round, it.asked) == (1, ["ada"])
    it.reject("ada")
    it.fire("appeal")
    assert (it.run.round, it.asked) == (1, ["ada"])


def test_grants_are_forgotten_with_the_chain() -> None:
    """A chain that was granted or refused keeps nothing of its rounds."""
    it = office(
        people(), stage("one", user("ada"), watchedFields=["amount"]), stage("two", user("bob")), data={"amount": 1}
    )
    it.approve("ada")
    it.request_changes("bob")
    machine = it.instance.machine
    assert (machine.rounds, set(machine.earlier_grants["chain"])) == ({"chain": 1}, {"one"})
    it.fire("send_again")
    it.reject("bob")
    machine = it.instance.machine
    assert (machine.rounds, machine.earlier_grants, machine.earlier_voters) == ({}, {}, {})


def test_resubmit_in_place() -> None:
    """Nothing handles `changes_requested`: the chain waits where it is, and `resubmit` begins the next round."""
    it = office(
        people(),
        stage("one", user("ada"), watchedFields=["amount"]),
        stage("two", user("bob")),
        in_place=True,
        data={"amount": 1},
    )
    it.approve("ada")
    assert it.request_changes("bob") is None
    assert (it.state, it.run.status, it.asked) == ("review", "changes_requested", [])
    assert it.fire("resubmit", "bob") == "not_allowed"
    assert it.fire("resubmit") is None
    assert (it.state, it.run.round, it.run.visit, it.asked) == ("review", 2, 1, ["bob"])
    assert it.fire("resubmit") == "unknown_trigger"
    assert (it.approve("bob"), it.state) == (None, "granted")


def test_people_are_looked_up_anew_in_each_round() -> None:
    """A new round freezes the voters of its own moment."""
    here = people()
    it = office(here, stage("one", role("managers")))
    it.request_changes("mia")
    here.members["role:managers"] = ["dan"]
    it.fire("send_again")
    assert it.items[0].eligible == (user_id("dan"),)
    assert [event.seats[0].eligible for event in it.happened(StageAsked)] == [
        (user_id("max"), user_id("mia")),
        (user_id("dan"),),
    ]


def test_the_requester_edits_while_changes_are_awaited() -> None:
    """The data is locked while a stage asks, and open once changes are requested."""
    it = office(people(), stage("one", user("ada")), in_place=True)
    from pliers_workflow.interpreter.commands import UpdateData

    locked = it.simulation.give(UpdateData(patch={"a": 1}), user_id("rita"))
    assert str(getattr(locked, "reason", None)) == "data_locked"
    it.request_changes("ada")
    assert isinstance(it.simulation.give(UpdateData(patch={"a": 1}), user_id("rita")), Outcome)
    assert len(it.happened(ChangesRequested)) == 1


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_timeout", "state"), [("grant", "granted"), ("refuse", "refused"), ("none", "review")])
def test_a_stage_times_out(on_timeout: str, state: str) -> None:
    """The clock grants, refuses, or does nothing by itself; open items are withdrawn because of the timeout."""
    it = office(
        people(), stage("one", user("ada"), user("bob"), parallel=True, timeoutMinutes=10, onTimeout=on_timeout)
    )
    it.wait(9.9)
    assert it.asked == ["ada", "bob"]
    it.wait(0.2)
    assert it.state == state
    if on_timeout == "none":
        assert it.asked == ["ada", "bob"]
    else:
        assert withdrawn(it) == [("item/1", "timeout"), ("item/2", "timeout")]
        assert it.answer["user"] is None
        assert it.answer["action"] == ("approve" if on_timeout == "grant" else "reject")
        assert it.approve("ada") == "already_decided"
    assert it.instance.machine.timers == {}


def test_a_stage_timeout_raises_its_trigger() -> None:
    """A transition may handle `timeout.CHAIN.STAGE`, whatever the clock does by itself."""
    it = office(
        people(),
        stage("one", user("ada"), timeoutMinutes=10),
        extra_transitions=[{"from": "review", "to": "rework", "trigger": "timeout.chain.one"}],
    )
    it.wait(11)
    assert (it.state, it.items) == ("rework", [])
    assert withdrawn(it) == [("item/1", "state_left")]


def test_a_stage_times_out_to_its_fallbacks() -> None:
    """`onTimeout: fallback` asks the others: whoever has voted keeps their vote, whoever has not is replaced."""
    it = office(
        people(),
        stage(
            "both",
            user("ada", user("cid")),
            user("bob", user("dan")),
            parallel=True,
            timeoutMinutes=10,
            onTimeout="fallback",
        ),
    )
    it.approve("bob")
    it.wait(11)
    assert (it.asked, withdrawn(it)) == (["cid"], [("item/1", "timeout")])
    assert it.approve("ada") == "not_an_approver"
    assert (it.approve("cid"), it.state) == (None, "granted")


def test_a_timeout_without_fallback_is_an_incident() -> None:
    """Nobody else to ask: those asked can still decide, and an operator hears of it."""
    it = office(people(), stage("one", user("ada", user("ghost")), timeoutMinutes=10, onTimeout="fallback"))
    it.wait(11)
    assert (it.asked, it.incidents, it.run.status) == (["ada"], ["nobody_to_ask"], "stuck")
    assert (it.approve("ada"), it.state, it.incidents) == (None, "granted", [])


def test_a_timeout_withdraws_delegated_items_too() -> None:
    """The fallback replaces whoever holds the item by then; the person who passed it on is not asked again."""
    it = office(people(), stage("one", user("ada", user("ada"), user("cid")), timeoutMinutes=10, onTimeout="fallback"))
    it.delegate("ada", "bob")
    it.wait(11)
    assert (it.asked, withdrawn(it)) == (["cid"], [("item/2", "timeout")])


def test_the_clock_of_a_stuck_stage_goes_on() -> None:
    """Nobody to ask, but a clock that refuses: it ends the stage and its incident."""
    it = office(people(), stage("one", user("ghost"), timeoutMinutes=10, onTimeout="refuse"))
    assert it.incidents == ["nobody_to_ask"]
    it.wait(11)
    assert (it.state, it.incidents) == ("refused", [])


def test_the_clock_stops_when_the_stage_is_settled() -> None:
    """Each stage has its own clock; a settled stage's is cancelled."""
    it = office(people(), stage("one", user("ada"), timeoutMinutes=10), stage("two", user("bob"), timeoutMinutes=20))
    (timer,) = it.instance.machine.timers.values()
    assert (timer.kind, timer.trigger, timer.state, timer.stage, timer.visit) == (
        "stage",
        "timeout.chain.one",
        "review",
        "one",
        1,
    )
    assert it.opened["item/1"].timeout_at == timer.due_at
    it.approve("ada")
    assert isinstance(it.last, Outcome)
    assert [type(effect) for effect in it.last.effects if isinstance(effect, (CancelTimer, ScheduleTimer))] == [
        CancelTimer,
        ScheduleTimer,
    ]
    assert [each.stage for each in it.instance.machine.timers.values()] == ["two"]
    it.approve("bob")
    assert it.instance.machine.timers == {}
    assert len(it.happened(TimerCancelled)) == 2


def test_delegation_keeps_the_clock() -> None:
    """Passing an item on gives nobody more time."""
    it = office(people(), stage("one", user("ada"), timeoutMinutes=10))
    due = it.opened["item/1"].timeout_at
    it.wait(5)
    it.delegate("ada", "bob")
    assert it.opened["item/2"].timeout_at == due is not None


def test_suspended_stages_keep_their_time() -> None:
    """The clock pauses with the instance."""
    it = office(people(), stage("one", user("ada"), timeoutMinutes=10, onTimeout="refuse"))
    it.wait(6)
    it.simulation.suspend()
    it.wait(100)
    it.simulation.resume()
    it.wait(3)
    assert it.state == "review"
    it.wait(2)
    assert it.state == "refused"


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_cancelling_withdraws_everything() -> None:
    """A cancelled instance asks nobody."""
    it = office(people(), stage("one", user("ada"), user("bob"), parallel=True, timeoutMinutes=10))
    answer = it._keep(it.simulation.cancel(user_id("rita")))
    assert isinstance(answer, Outcome)
    assert withdrawn(it) == [("item/1", "cancelled"), ("item/2", "cancelled")]
    assert (it.instance.status, it.items, it.instance.machine.timers) == (Status.CANCELLED, [], {})
    assert set(it.opened) == set(it.settled)


def test_leaving_a_stuck_state_resolves_its_incident() -> None:
    """What was wrong with a stage does not matter once the chart has moved on."""
    it = office(people(), stage("one", user("ghost")))
    assert (it.fire("recall"), it.incidents) == (None, [])


def test_a_timeout_does_not_ask_the_same_role_again() -> None:
    """A fallback that has been asked in the stage already is no help: the next one is."""
    it = office(
        people(),
        stage("one", role("managers", role("managers"), user("cid")), timeoutMinutes=10, onTimeout="fallback"),
    )
    it.wait(11)
    assert it.asked == ["cid"]
