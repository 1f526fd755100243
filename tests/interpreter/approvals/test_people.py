"""Whom a stage asks when people are missing, inactive, barred or gone; and what it asks of the directory."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.interpreter.events import IncidentResolved, StageAsked
from tests.interpreter.approvals.office import People, dynamic, office, role, stage, user, user_id


def test_fallback_when_missing_or_inactive() -> None:
    """A missing username, an inactive person and an empty role are each replaced, in the order of their fallbacks."""
    people = People(["ada", "bob", "cid", "dan", "eve"], roles={"empty": []})
    people.leave("ada")
    it = office(
        people,
        stage(
            "all",
            user("nobody", user("bob")),
            user("ada", user("ghost"), user("cid")),
            role("empty", user("dan")),
            parallel=True,
        ),
    )
    assert it.asked == ["bob", "cid", "dan"]
    assert [seat.instead_of for seat in it.stage.seats] == ["user:nobody", "user:ada", "role:empty"]


def test_fallback_of_a_fallback() -> None:
    """A fallback's own fallback is tried before the next one of the list."""
    it = office(People(["cid", "dan"]), stage("one", user("ada", user("bob", user("cid")), user("dan"))))
    assert it.asked == ["cid"]


def test_administrators_come_last() -> None:
    """When approver and fallbacks are missing, the definition's administrators are asked."""
    it = office(
        People(["root"], roles={"admins": []}),
        stage("one", user("ada", user("bob"))),
        administrators=[role("admins"), user("root")],
    )
    assert it.asked == ["root"]


def test_nobody_to_ask_is_an_incident_at_once() -> None:
    """Nobody behind the approver, its fallbacks and the administrators: the stage is stuck, and says so at once."""
    it = office(People(), stage("one", user("ada", user("bob"))))
    assert (it.state, it.asked) == ("review", [])
    assert (it.stage.status, it.run.status) == ("stuck", "stuck")
    incident = next(iter(it.instance.machine.incidents.values()))
    assert (incident.code, incident.state, incident.stage) == ("nobody_to_ask", "review", "one")
    assert "When somebody is there, retry the incident" in incident.message
    assert "ada" in incident.message


def test_an_incident_names_people_as_people_do() -> None:
    """Usernames instead of ids, expressions as what they are, and ten approvers of a thousand."""
    people = People(["ada", "bob"])
    people.leave("bob")
    it = office(people, stage("one", user("bob"), dynamic("data.nobody"), parallel=True))
    message = next(iter(it.instance.machine.incidents.values())).message
    assert "user `bob`" in message
    assert user_id("bob") not in message
    assert "whom `data.nobody` should name" in message
    it = office(People(), stage("one", *[user(f"ghost{number}") for number in range(1000)], parallel=True))
    message = next(iter(it.instance.machine.incidents.values())).message
    assert "user `ghost9` and 990 more:" in message
    assert len(message) < 600


def test_asking_again_asks_nobody_who_has_spoken() -> None:
    """An operator looks for people anew and finds none: nobody is given an item that they could not decide."""
    it = office(People(["ada"]), stage("one", user("ada"), user("ghost"), minimumApprovals=2))
    assert it.approve("ada") is None
    assert (it.asked, it.incidents) == ([], ["nobody_to_ask"])
    assert it.retry() is None
    assert (it.asked, it.incidents) == ([], ["nobody_to_ask"])


def test_asking_again_asks_nobody_who_has_left() -> None:
    """Nor does it leave the stage waiting for somebody who is not there: the incident is raised anew."""
    people = People(roles={"clerks": ["ada", "bob"]})
    it = office(people, stage("one", role("clerks"), minimumApprovals=2))
    people.leave("bob")
    assert it.approve("ada") is None
    assert (it.asked, it.incidents) == ([], ["result_impossible"])
    assert it.retry() is None
    assert (it.asked, it.incidents) == ([], ["nobody_to_ask"])
    people.members["role:clerks"].append("cid")
    people.names["cid"] = None
    assert it.retry() is None
    assert (it.asked, it.incidents) == (["role:clerks"], [])
    assert it.approve("cid") is None
    assert it.state == "granted"


def test_asking_again_asks_nobody_twice() -> None:
    """Bob, the fallback of somebody missing, was asked for another; when that other one would be cid now, bob stays."""
    missing = user("ghost", user("bob"), user("dan"))
    people = People(["ada", "bob", "cid", "dan"])
    people.leave("dan")
    it = office(
        people, stage("one", missing, dynamic("data.who"), minimumApprovals=2, parallel=True), data={"who": "bob"}
    )
    assert (it.asked, it.incidents) == (["bob"], ["nobody_to_ask"])
    it.change(who="cid")
    assert it.retry() is None
    assert (it.asked, it.incidents) == (["bob"], ["nobody_to_ask"])
    people.gone.clear()
    assert it.retry() is None
    assert (it.asked, it.incidents) == (["bob", "dan"], [])


def test_nobody_to_ask_goes_before_a_fallback_outcome() -> None:
    """A stage that never asked anybody is not granted by its fallback outcome."""
    it = office(People(), stage("one", user("ada"), fallbackOutcome="granted"))
    assert (it.state, it.incidents) == ("review", ["nobody_to_ask"])


def test_a_vacant_seat_still_lets_the_others_refuse() -> None:
    """Where one of two is missing the other is asked all the same: an approval waits, a rejection refuses."""
    stages = (stage("both", user("ada"), user("ghost"), parallel=True),)
    it = office(People(["ada"]), *stages)
    assert (it.asked, it.incidents) == (["ada"], ["nobody_to_ask"])
    assert (it.approve("ada"), it.state, it.incidents) == (None, "review", ["nobody_to_ask"])
    it = office(People(["ada"]), *stages)
    assert (it.reject("ada"), it.state, it.incidents) == (None, "refused", [])
    assert [event.reason for event in it.happened(IncidentResolved)] == ["stage_settled"]


def test_a_vacant_seat_does_not_matter_when_the_rest_suffice() -> None:
    """One of two is needed and one is there: the vacancy is on record, and no incident is raised."""
    it = office(People(["ada"]), stage("one", user("ghost"), user("ada"), parallel=True, minimumApprovals=1))
    assert (it.asked, it.incidents) == (["ada"], [])
    assert [seat.eligible for seat in it.stage.seats] == [(), (user_id("ada"),)]
    it = office(People(["ada"]), stage("one", user("ghost"), user("ada")))
    assert it.asked == ["ada"]


def test_unanimity_needs_the_vacant_seat_too() -> None:
    """Everybody must approve, and one of them is not to be had."""
    it = office(People(["ada"]), stage("all", user("ghost"), user("ada"), unanimousRequired=True))
    assert (it.asked, it.incidents) == (["ada"], ["nobody_to_ask"])


def test_too_few_people_is_an_impossible_result() -> None:
    """Three votes from a role of two: an incident, or the stage's fallback outcome."""
    people = People(roles={"managers": ["mia", "max"]})
    it = office(people, stage("three", role("managers"), minimumApprovals=3))
    assert (it.incidents, it.stage.status) == (["result_impossible"], "stuck")
    it = office(people, stage("three", role("managers"), minimumApprovals=3, fallbackOutcome="refused"))
    assert (it.state, it.answer["user"]) == ("refused", None)


def test_the_requester_is_not_asked_for_their_own_request() -> None:
    """Self-approval forbidden: as the only approver the requester is replaced; of several members they are left out."""
    people = People(["rita", "ada"], roles={"managers": ["rita", "mia"]})
    assert office(people, stage("one", user("rita", user("ada")))).asked == ["ada"]
    it = office(people, stage("one", role("managers")))
    assert it.items[0].eligible == (user_id("mia"),)
    assert it.approve("rita") == "self_approval_forbidden"
    only = People(["ada"], roles={"managers": ["rita"]})
    assert office(only, stage("one", role("managers", user("ada")))).asked == ["ada"]


def test_the_requester_may_approve_where_allowed() -> None:
    """`allowSelfApproval` asks the requester like everybody else."""
    it = office(People(["rita"]), stage("one", user("rita"), allowSelfApproval=True))
    assert (it.approve("rita"), it.state) == (None, "granted")


def test_dynamic_nobody_falls_back() -> None:
    """An expression that gives null, nothing or no username asks the fallback; one that fails, too, and says why."""
    people = People(["ada"])
    for expression in ("null", "[]", "''", "5", "data.missing", "{'a': 'b'}"):
        assert office(people, stage("one", dynamic(expression, user("ada")))).asked == ["ada"], expression
    it = office(People(), stage("one", dynamic("data.missing")))
    assert it.incidents == ["nobody_to_ask"]
    assert "data.missing" in next(iter(it.instance.machine.incidents.values())).message


def test_distinct_approvers_excludes_who_decided_before() -> None:
    """A person decides in one stage only: they are left out of a role, replaced where they are the only one."""
    people = People(["ada", "bob"], roles={"managers": ["ada", "mia"]})
    distinct: dict[str, Any] = {"configuration": {"distinctApprovers": True}}
    it = office(people, stage("first", user("ada")), stage("second", role("managers")), **distinct)
    it.approve("ada")
    assert it.items[0].eligible == (user_id("mia"),)
    assert it.approve("ada") == "decided_in_other_stage"
    it = office(people, stage("first", role("managers")), stage("second", user("ada", user("bob"))), **distinct)
    it.approve("ada")
    assert it.asked == ["bob"]
    it = office(people, stage("first", user("ada")), stage("second", role("managers")))
    assert (it.approve("ada"), it.approve("ada"), it.state) == (None, None, "granted")


def test_distinct_approvers_remembers_earlier_rounds() -> None:
    """A stage that a later round skips still counts: asking for changes is no way around separation of duties."""
    people = People(["ada"], roles={"managers": ["ada", "mia"]})
    it = office(
        people,
        stage("first", user("ada"), watchedFields=["amount"]),
        stage("second", role("managers")),
        configuration={"distinctApprovers": True},
        data={"amount": 1},
    )
    it.approve("ada")
    it.request_changes("mia")
    it.fire("send_again")
    assert it.stage.id == "second"
    assert it.items[0].eligible == (user_id("mia"),)
    assert it.approve("ada") == "decided_in_other_stage"


def test_distinct_approvers_counts_principals() -> None:
    """Whoever had a delegate decide has decided, in this round and in one that a later one skips."""
    people = People(["ada", "bob"], roles={"managers": ["ada", "bob", "mia"]})
    it = office(
        people,
        stage("first", user("ada"), watchedFields=["amount"]),
        stage("second", role("managers")),
        configuration={"distinctApprovers": True},
        data={"amount": 1},
    )
    it.delegate("ada", "bob")
    it.approve("bob")
    assert it.items[0].eligible == (user_id("mia"),)
    assert (it.approve("ada"), it.approve("bob")) == ("decided_in_other_stage",) * 2
    assert it.delegate("mia", "ada") == "decided_in_other_stage"
    it.request_changes("mia")
    it.fire("send_again")
    assert (it.stage.id, it.items[0].eligible) == ("second", (user_id("mia"),))


def test_voters_are_frozen_when_asked() -> None:
    """Whoever joins the role later is not among those asked."""
    people = People(roles={"managers": ["mia"]})
    it = office(people, stage("one", role("managers")))
    people.names.setdefault("new")
    people.members["role:managers"].append("new")
    assert it.approve("new") == "not_an_approver"


@pytest.mark.parametrize("how", ["inactive", "left_role"])
def test_a_person_who_left_may_not_decide(how: str) -> None:
    """The right is checked again at the decision: still active, and still a member."""
    people = People(roles={"managers": ["mia", "max"]})
    it = office(people, stage("one", role("managers")))
    if how == "inactive":
        people.leave("mia")
    else:
        people.members["role:managers"].remove("mia")
    assert it.approve("mia") == "not_an_approver"
    assert it.approve("max") is None


def test_next_in_turn_who_left_is_replaced() -> None:
    """Sequential: who has left when their turn comes is replaced as one who is away."""
    people = People(["ada", "bob", "cid"])
    it = office(people, stage("two", user("ada"), user("bob", user("cid")), minimumApprovals=2))
    people.leave("bob")
    assert (it.approve("ada"), it.asked) == (None, ["cid"])
    assert it.stage.seats[1].instead_of == "user:bob"
    assert (it.approve("cid"), it.state) == (None, "granted")


def test_next_in_turn_who_left_is_passed_over() -> None:
    """Sequential, two of three: the one who left has nobody in their place, and the third is enough."""
    people = People(["ada", "bob", "cid"])
    it = office(people, stage("two", user("ada"), user("bob"), user("cid"), minimumApprovals=2))
    people.leave("bob")
    assert (it.approve("ada"), it.asked, it.incidents) == (None, ["cid"], [])


@pytest.mark.parametrize(("outcome", "state"), [("granted", "granted"), ("refused", "refused"), (None, "review")])
def test_a_result_that_became_impossible(outcome: str | None, state: str) -> None:
    """People left and nobody replaces them: the fallback outcome, else an incident; the vote given stays counted."""
    people = People(["ada", "bob"])
    keys = {} if outcome is None else {"fallbackOutcome": outcome}
    it = office(people, stage("two", user("ada"), user("bob"), minimumApprovals=2, **keys))
    people.leave("bob")
    assert (it.approve("ada"), it.state) == (None, state)
    if outcome is None:
        assert (it.incidents, it.stage.status, len(it.stage.votes)) == (["result_impossible"], "stuck", 1)
        assert it.approve("ada") == "already_decided"
    else:
        assert it.answer["user"] is None


def test_the_rest_of_a_role_left() -> None:
    """A quorum of two from a role whose other members are gone by then: its fallback is asked in their place."""
    people = People(["ada"], roles={"managers": ["mia", "max", "moe"]})
    it = office(people, stage("two", role("managers", user("ada")), parallel=True, minimumApprovals=2))
    people.leave("max")
    people.members["role:managers"].remove("moe")
    assert (it.approve("mia"), it.asked) == (None, ["ada"])
    assert (it.approve("ada"), it.state) == (None, "granted")


def test_some_of_a_role_left() -> None:
    """One of the remaining members is enough to keep asking the role."""
    people = People(["ada"], roles={"managers": ["mia", "max", "moe"]})
    it = office(people, stage("two", role("managers", user("ada")), parallel=True, minimumApprovals=2))
    people.leave("max")
    assert (it.approve("mia"), it.asked) == (None, ["role:managers"])
    assert (it.approve("moe"), it.state) == (None, "granted")


def test_replacements_are_nobody_asked_before() -> None:
    """A fallback who is an approver already is no replacement: two seats are two people."""
    it = office(People(["ada"]), stage("both", user("ada"), user("ghost", user("ada")), parallel=True))
    assert (it.asked, it.incidents) == (["ada"], ["nobody_to_ask"])


def test_facts_are_asked_for_in_two_rounds() -> None:
    """A stage of any size is resolved by one round of names and one of people; a decision looks at its actor only."""
    names = [f"user{number}" for number in range(30)]
    people = People(names, roles={"managers": ["mia"]})
    it = office(
        people, stage("all", *[user(name) for name in names], role("managers"), parallel=True, minimumApprovals=30)
    )
    rounds = [people.asked[:31], people.asked[31:]]
    assert set(rounds[0]) == {*[f"username:{name}" for name in names], "role:managers"}
    assert set(rounds[1]) == {f"user:{user_id(name)}" for name in names}
    people.asked.clear()
    it.approve("user7")
    assert people.asked == [f"user:{user_id('user7')}"]
    assert list(it.simulation.history[-1].facts) == [f"user:{user_id('user7')}"]


def test_missing_people_cost_two_more_rounds() -> None:
    """Fallbacks and administrators of all approvers are looked up together, and only when somebody is missing."""
    people = People(["cid", "dan", "root"])
    office(
        people,
        stage("all", user("ada", user("bob"), user("cid")), user("dan"), parallel=True),
        administrators=[user("root")],
    )
    assert people.asked == [
        "username:ada", "username:dan",
        f"user:{user_id('dan')}",
        "username:bob", "username:cid", "username:root",
        f"user:{user_id('cid')}", f"user:{user_id('root')}",
    ]  # fmt: skip


def test_voters_are_on_record() -> None:
    """`StageAsked` carries every seat with the people frozen in it."""
    it = office(
        People(["ada"], roles={"managers": ["mia", "max"]}), stage("one", user("ada"), role("managers"), parallel=True)
    )
    (asked,) = it.happened(StageAsked)
    assert [(seat.approver_type, seat.approver, seat.eligible, seat.entry) for seat in asked.seats] == [
        ("user", user_id("ada"), (user_id("ada"),), 0),
        ("role", "managers", (user_id("max"), user_id("mia")), 1),
    ]
