"""How stages ask and count: chains, seats, people, slots, early results."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pliers_workflow.interpreter.events import (
    ApprovalRejected,
    ApprovalRequested,
    ApprovalWithdrawn,
    StageGranted,
    StageRefused,
    StageSkipped,
)
from tests.interpreter.approvals.office import People, dynamic, group, office, role, stage, user, user_id


def everybody(*names: str, **roles: list[str]) -> People:
    return People(names, roles=roles)


def test_stages_run_one_after_another() -> None:
    """The second stage asks nobody before the first is granted; the chain is granted with its last stage."""
    it = office(everybody("ada", "bob"), stage("first", user("ada")), stage("second", user("bob")))
    assert it.asked == ["ada"]
    assert it.approve("ada") is None
    assert (it.asked, it.state) == (["bob"], "review")
    assert it.approve("bob", comments="fine") is None
    assert (it.asked, it.state) == ([], "granted")
    assert it.answer == {
        "chain": "chain",
        "stage": "second",
        "action": "approve",
        "user": user_id("bob"),
        "principal": None,
        "approver": {"type": "user", "identifier": "bob"},
        "comments": "fine",
        "data": {},
    }


def test_a_refused_stage_refuses_the_chain() -> None:
    """A rejection in the first stage ends the chain: the second is never asked, and `rejected` carries the answer."""
    it = office(
        everybody("ada", "bob", managers=["mia"]), stage("first", role("managers")), stage("second", user("bob"))
    )
    assert it.reject("mia", comments="too dear", data={"limit": 5}) is None
    assert it.state == "refused"
    assert it.answer["stage"] == "first"
    assert it.answer["action"] == "reject"
    assert it.answer["approver"] == {"type": "role", "identifier": "managers"}
    assert it.answer["data"] == {"limit": 5}


def test_parallel_asks_all_and_needs_all_by_default() -> None:
    """A parallel stage asks every approver at once and is granted when each has approved."""
    it = office(everybody("ada", "bob", "cid"), stage("all", user("ada"), user("bob"), user("cid"), parallel=True))
    assert it.asked == ["ada", "bob", "cid"]
    assert (it.approve("cid"), it.approve("ada"), it.state) == (None, None, "review")
    assert (it.approve("bob"), it.state) == (None, "granted")


def test_sequential_asks_one_and_needs_one_by_default() -> None:
    """A sequential stage asks its first approver only; their approval is enough, their rejection refuses."""
    it = office(everybody("ada", "bob"), stage("one", user("ada"), user("bob")))
    assert it.asked == ["ada"]
    assert it.approve("bob") == "not_an_approver"
    assert (it.approve("ada"), it.state) == (None, "granted")
    it = office(everybody("ada", "bob"), stage("one", user("ada"), user("bob")))
    assert (it.reject("ada"), it.state) == (None, "refused")


def test_sequential_asks_the_next_while_more_is_needed() -> None:
    """With a minimum of two, the second approver is asked when the first has approved, and the third never."""
    it = office(everybody("ada", "bob", "cid"), stage("two", user("ada"), user("bob"), user("cid"), minimumApprovals=2))
    assert (it.approve("ada"), it.asked) == (None, ["bob"])
    assert (it.approve("bob"), it.state) == (None, "granted")
    assert [event.item.approver for event in it.happened(ApprovalRequested)] == [user_id("ada"), user_id("bob")]


def test_sequential_counting_rejections_asks_the_next() -> None:
    """With `onRejection: count` a rejection only removes that voice; when nobody is left the stage is refused."""
    people = everybody("ada", "bob")
    it = office(people, stage("one", user("ada"), user("bob"), onRejection="count"))
    assert (it.reject("ada"), it.asked, it.state) == (None, ["bob"], "review")
    assert (it.approve("bob"), it.state) == (None, "granted")
    it = office(people, stage("one", user("ada"), user("bob"), onRejection="count"))
    assert (it.reject("ada"), it.reject("bob"), it.state) == (None, None, "refused")


def test_early_grant_withdraws_the_rest() -> None:
    """Two of three are enough: the third item is withdrawn, and the third answer is `already_decided`."""
    it = office(
        everybody("ada", "bob", "cid"),
        stage("two", user("ada"), user("bob"), user("cid"), parallel=True, minimumApprovals=2),
    )
    assert (it.approve("ada"), it.approve("cid"), it.state) == (None, None, "granted")
    assert [(event.item, event.reason) for event in it.happened(ApprovalWithdrawn)] == [("item/2", "stage_settled")]
    assert it.settled["item/2"].action == "withdraw"
    assert it.approve("bob") == "already_decided"


def test_early_refusal_when_rejections_count() -> None:
    """Two of three needed, two rejections counted: it can no longer be granted, so nobody else is asked."""
    it = office(
        everybody("ada", "bob", "cid"),
        stage("two", user("ada"), user("bob"), user("cid"), parallel=True, minimumApprovals=2, onRejection="count"),
    )
    assert (it.reject("ada"), it.state) == (None, "review")
    assert (it.reject("bob"), it.state, it.asked) == (None, "refused", [])
    assert len(it.happened(ApprovalRejected)) == 2


def test_one_rejection_refuses_a_minimum() -> None:
    """By default one rejection refuses, even where enough others could still approve."""
    it = office(
        everybody("ada", "bob", "cid"),
        stage("two", user("ada"), user("bob"), user("cid"), parallel=True, minimumApprovals=1),
    )
    assert (it.reject("bob"), it.state) == (None, "refused")


def test_role_is_one_item_for_all_members() -> None:
    """A role is one work item; the first member to decide decides it, the colleague hears `already_decided`."""
    it = office(
        everybody(managers=["mia", "max"]),
        stage("one", role("managers"), parallel=True),
        stage("end", user("rita"), allowSelfApproval=True),
    )
    assert it.asked == ["role:managers"]
    assert it.items[0].eligible == (user_id("max"), user_id("mia"))
    assert it.approve("max") is None
    assert it.approve("mia") == "already_decided"
    assert it.stage.id == "end"


@pytest.mark.parametrize("parallel", [True, False])
def test_role_quorum_needs_different_members(parallel: bool) -> None:
    """Two votes from one role: a second slot opens when one member has decided, and that member cannot take it."""
    it = office(
        everybody(managers=["mia", "max", "moe"]), stage("two", role("managers"), parallel=parallel, minimumApprovals=2)
    )
    assert it.approve("mia") is None
    assert [(item.approver, item.slot, item.eligible) for item in it.items] == [("managers", 2, ())]
    assert it.approve("mia") == "already_decided"
    assert it.approve("mia", item="item/2") == "already_decided"
    assert (it.approve("moe"), it.state) == (None, "granted")


def test_two_members_at_the_same_instant_are_both_counted() -> None:
    """The second member still names the item they saw, which a colleague has decided: the next slot takes the vote."""
    it = office(everybody(managers=["mia", "max"]), stage("two", role("managers"), parallel=True, minimumApprovals=2))
    assert it.approve("mia", item="item/1") is None
    assert (it.approve("max", item="item/1"), it.state) == (None, "granted")
    assert it.settled["item/2"].decided_by == user_id("max")


def test_unanimous_means_every_member() -> None:
    """`unanimousRequired` wins over `minimumApprovals` and asks every member of a role, one slot after another."""
    it = office(
        everybody("ada", managers=["mia", "max", "moe"]),
        stage("all", role("managers"), user("ada"), parallel=True, unanimousRequired=True, minimumApprovals=1),
    )
    for name in ("mia", "ada", "moe"):
        assert (it.approve(name), it.state) == (None, "review")
    assert (it.approve("max"), it.state) == (None, "granted")


def test_unanimous_sequential_goes_round() -> None:
    """Sequential and unanimous: one item at a time, first each approver once, then the rest of the role."""
    it = office(
        everybody("ada", managers=["mia", "max"]), stage("all", role("managers"), user("ada"), unanimousRequired=True)
    )
    assert it.asked == ["role:managers"]
    assert (it.approve("mia"), it.asked) == (None, ["ada"])
    assert (it.approve("ada"), it.asked) == (None, ["role:managers"])
    assert (it.approve("max"), it.state) == (None, "granted")


def test_a_minimum_counts_people_over_all_approvers() -> None:
    """Three votes of different people are enough, whoever they come from: two of them from the role."""
    it = office(
        everybody("ada", managers=["mia", "max"]),
        stage("three", role("managers"), user("ada"), parallel=True, minimumApprovals=3),
    )
    assert (it.approve("mia"), it.approve("max"), it.asked) == (None, None, ["ada"])
    assert (it.approve("ada"), it.state) == (None, "granted")


def test_a_rejection_in_a_role_lets_a_colleague_speak() -> None:
    """Each approver one voice, rejections counted: a role is lost only when all its members have rejected."""
    it = office(
        everybody("ada", managers=["mia", "max"]),
        stage("all", role("managers"), user("ada"), parallel=True, onRejection="count"),
    )
    assert (it.reject("mia"), it.asked) == (None, ["ada", "role:managers"])
    assert (it.reject("max"), it.state) == (None, "refused")


def test_who_is_named_in_person_is_not_asked_as_member_too() -> None:
    """A person named and a member of the role holds one item, their own; the role needs somebody else."""
    it = office(everybody(managers=["mia", "max"]), stage("both", user("mia"), role("managers"), parallel=True))
    assert [item.eligible for item in it.items] == [(user_id("mia"),), (user_id("max"),)]
    assert it.approve("mia") is None
    assert it.approve("mia") == "already_decided"
    assert (it.approve("max"), it.state) == (None, "granted")


def test_overlapping_roles_are_shared_out() -> None:
    """
    Two committees, one person in both: their vote counts for the committee that has nobody else, though they named the
    other one.
    """
    it = office(
        People(groups={"board": ["ada", "bob"], "legal": ["ada"]}),
        stage("both", group("board"), group("legal"), parallel=True),
    )
    assert it.approve("ada", item="item/1") is None
    assert (it.asked, it.state) == (["group:board"], "review")
    assert (it.approve("bob"), it.state) == (None, "granted")


def test_items_that_nobody_can_decide_are_withdrawn() -> None:
    """The only member of a committee has spoken through another one: the item is not left open for nobody."""
    it = office(
        People(groups={"board": ["ada", "bob"], "legal": ["ada"]}),
        stage("two", group("board"), group("legal"), parallel=True, minimumApprovals=2),
    )
    assert it.approve("ada", item="item/1") is None
    assert it.asked == ["group:board"]
    assert it.settled["item/2"].action == "withdraw"
    assert (it.approve("bob"), it.state) == (None, "granted")


def test_one_person_cannot_be_two_committees() -> None:
    """Two committees with the same single member need two people: there is nobody to ask for the second."""
    it = office(
        People(groups={"board": ["ada"], "legal": ["ada"]}),
        stage("both", group("board"), group("legal"), parallel=True),
    )
    assert it.incidents == ["nobody_to_ask"]
    assert (it.approve("ada"), it.state, it.stage.status) == (None, "review", "stuck")


def test_conditional_stage_is_skipped_on_record() -> None:
    """A false condition skips the stage and says so; when every stage is skipped the chain is granted at once."""
    people = everybody("ada", "bob")
    stages = (stage("large", user("ada"), condition="data.amount > 1000"), stage("always", user("bob")))
    it = office(people, *stages, data={"amount": 5})
    assert it.asked == ["bob"]
    assert [(event.stage, event.reason) for event in it.happened(StageSkipped)] == [("large", "condition")]
    assert office(people, *stages, data={"amount": 5000}).asked == ["ada"]
    it = office(people, stages[0], data={"amount": 5})
    assert it.state == "granted"
    assert it.answer["user"] is None


def test_condition_is_asked_when_its_turn_comes() -> None:
    """A stage's condition sees the data of the moment in which the stage before was granted."""
    it = office(
        everybody("ada", "bob"),
        stage("first", user("ada")),
        stage("large", user("bob"), condition="data.amount > 1000"),
        data={"amount": 5},
    )
    it.change(amount=5000)
    assert (it.approve("ada"), it.asked) == (None, ["bob"])


def test_condition_that_fails_raises_an_incident() -> None:
    """Whether to ask is unknown: the approver before is counted, the chain is stuck, and an operator hears of it."""
    it = office(
        everybody("ada", "bob"),
        stage("first", user("ada")),
        stage("large", user("bob"), condition="data.amount > 1000"),
    )
    assert it.approve("ada") is None
    assert (it.incidents, it.run.status, it.stage.status) == (["condition_failed"], "stuck", "stuck")
    assert (it.fire("recall"), it.incidents) == (None, [])


@pytest.mark.parametrize(
    ("expression", "asked"),
    [
        ("'ada'", ["ada"]),
        ("'role:managers'", ["role:managers"]),
        ("'group:legal'", ["group:legal"]),
        ("['bob', 'ada', 'bob']", ["bob", "ada"]),
        ("['ada', 'role:managers']", ["ada", "role:managers"]),
        ("requester.manager", ["ada"]),
        ("data.reviewers", ["cid"]),
    ],
)
def test_dynamic_approvers(expression: str, asked: list[str]) -> None:
    """A dynamic approver is an expression: a username, a list of them, or a role or group by prefix."""
    people = People(["ada", "bob", "cid"], roles={"managers": ["mia"]}, groups={"legal": ["leo"]})
    people.managers["rita"] = "ada"
    it = office(people, stage("one", dynamic(expression), parallel=True), data={"reviewers": ["cid"]})
    assert it.asked == asked


def test_votes_carry_the_role_they_were_given_for() -> None:
    """A vote in a role's name keeps the role as its group; weight is one."""
    it = office(everybody(managers=["mia"]), stage("one", role("managers")), stage("end", user("mia")))
    assert it.approve("mia") is None
    vote = it.run.stages[0].votes[0]
    assert (vote.user, vote.group, vote.weight, vote.action) == (user_id("mia"), "managers", 1, "approve")
    assert it.settled["item/1"].group == "managers"


def test_each_stage_is_settled_once() -> None:
    """One granted or refused event a stage, and no item left open behind it."""
    people = everybody("ada", "bob", "cid")
    it = office(
        people, stage("any", user("ada"), user("bob"), parallel=True, minimumApprovals=1), stage("end", user("cid"))
    )
    it.approve("bob")
    it.reject("cid")
    assert [event.stage for event in it.happened(StageGranted)] == ["any"]
    assert [event.stage for event in it.happened(StageRefused)] == ["end"]
    assert set(it.opened) == set(it.settled)


@pytest.mark.parametrize("kind", ["role", "people"])
def test_what_votes_write_grows_with_their_number(kind: str) -> None:
    """Twice as many votes in one stage write twice as much history: no vote writes the others anew."""

    def written(number: int) -> int:
        names = [f"user{each:03}" for each in range(number)]
        people = People(names, roles={"all": names})
        approvers = [role("all")] if kind == "role" else [user(name) for name in names]
        it = office(people, stage("all", *approvers, parallel=True, minimumApprovals=number))
        for name in names:
            assert it.approve(name) is None
        assert it.state == "granted"
        return sum(len(msgspec.json.encode((each.events, each.facts))) for each in it.simulation.history[1:])

    assert written(60) < 2.1 * written(30)


def test_two_regions_have_chains_of_their_own() -> None:
    """Two parallel states each run a chain; who is asked in both has to name the stage."""
    people = People(["ada", "bob"])
    it = two_regions(people)
    assert sorted(it.asked) == ["ada", "ada", "bob"]
    assert it.approve("ada") == "ambiguous_stage"
    assert it.details == {"stages": ["left_stage", "right_stage"]}
    assert it.approve("ada", stage="right_stage") is None
    assert it.approve("ada") is None
    assert it.approve("bob") is None
    assert it.state == "done"


def two_regions(people: People) -> Any:
    from tests.interpreter.approvals.office import Office

    def region(name: str) -> dict[str, Any]:
        return {
            "id": name,
            "properties": {"initial": f"{name}_review"},
            "substates": [
                {"id": f"{name}_review", "properties": {"approvalChain": f"{name}_chain"}},
                {"id": f"{name}_done", "type": "final"},
                {"id": f"{name}_refused", "type": "final"},
            ],
        }

    definition = {
        "name": "regions",
        "version": "1.0.0",
        "title": "Regions",
        "stateMachine": {
            "initialState": "both",
            "states": {
                "both": {"type": "parallel", "substates": [region("left"), region("right")]},
                "done": {"type": "final"},
            },
            "transitions": [
                {"from": "both", "to": "done", "trigger": "done.state.both"},
                {"from": "left_review", "to": "left_done"},
                {"from": "left_review", "to": "left_refused", "trigger": "rejected"},
                {"from": "right_review", "to": "right_done"},
                {"from": "right_review", "to": "right_refused", "trigger": "rejected"},
            ],
        },
        "approvalChains": [
            {"id": "left_chain", "steps": [stage("left_stage", user("ada"))]},
            {"id": "right_chain", "steps": [stage("right_stage", user("ada"), user("bob"), parallel=True)]},
        ],
    }
    people.names.setdefault("rita")
    return Office(people, definition).start()
