"""People who leave while they are asked: nobody waits for an answer that cannot come."""

from __future__ import annotations

from pliers_workflow.interpreter.commands import ResumeInstance, SuspendInstance
from pliers_workflow.interpreter.events import ApprovalWithdrawn, StageAsked
from tests.interpreter.approvals.office import Office, People, group, office, role, stage, user


def withdrawn(it: Office) -> list[str]:
    return [event.reason for event in it.happened(ApprovalWithdrawn)]


def test_who_leaves_is_replaced_by_their_fallback() -> None:
    """As if they had been missing when the stage was asked; and they find nothing to decide any more."""
    people = People(["ada", "bob", "cid"])
    it = office(people, stage("one", user("ada", user("bob", user("cid")))))
    people.leave("ada", "bob")
    assert it.asked == ["ada"]
    assert it.replace() is None
    assert (it.asked, withdrawn(it)) == (["cid"], ["approver_left"])
    assert it.happened(StageAsked)[-1].seats[0].instead_of == "user:ada"
    assert it.approve("ada") == "not_an_approver"
    assert it.approve("cid") is None
    assert it.state == "granted"


def test_nobody_is_replaced_where_everybody_is_there() -> None:
    """No command, no row of history: of a role, one who is there is enough."""
    people = People(["ada"], roles={"clerk": ["bob", "cid"]})
    it = office(people, stage("all", user("ada"), role("clerk"), parallel=True))
    people.leave("bob")
    assert it.replace() == "approvers_there"
    assert it.asked == ["ada", "role:clerk"]


def test_a_role_whose_members_have_all_left_is_replaced() -> None:
    """Who joined later was not asked, and is not asked now either: they are looked for as anybody would be."""
    people = People(["cid"], roles={"clerk": ["ada", "bob"]})
    it = office(people, stage("one", role("clerk", user("cid"))))
    people.members["role:clerk"] = ["dan"]
    people.names.setdefault("dan")
    assert it.replace() is None
    assert it.asked == ["cid"]


def test_who_loses_the_role_they_were_asked_as_has_left() -> None:
    people = People(["cid"], roles={"clerk": ["ada"]})
    it = office(people, stage("one", role("clerk", user("cid"))))
    people.members["role:clerk"] = []
    assert it.replace() is None
    assert it.asked == ["cid"]


def test_nobody_else_is_an_incident_at_once() -> None:
    """The stage cannot be granted any more, and says so; it is asked again when somebody has come."""
    people = People(["ada"])
    it = office(people, stage("one", user("ada")))
    people.leave("ada")
    assert it.replace() is None
    assert (it.asked, it.incidents) == ([], ["result_impossible"])
    assert it.replace() == "approvers_there"


def test_a_stage_says_what_becomes_of_it_when_too_few_are_left() -> None:
    """Its `fallbackOutcome`, as for those who left before their turn."""
    people = People(["ada"])
    it = office(people, stage("one", user("ada"), fallbackOutcome="refused"))
    people.leave("ada")
    assert it.replace() is None
    assert (it.state, it.incidents) == ("refused", [])


def test_in_turn_the_next_one_is_asked() -> None:
    people = People(["ada", "bob"])
    it = office(people, stage("one", user("ada"), user("bob"), parallel=False))
    people.leave("ada")
    assert it.replace() is None
    assert it.asked == ["bob"]
    assert it.approve("bob") is None
    assert it.state == "granted"


def test_the_others_go_on_being_asked_while_they_suffice() -> None:
    people = People(["ada", "bob", "cid"])
    it = office(people, stage("two", user("ada"), user("bob"), user("cid"), parallel=True, minimumApprovals=2))
    people.leave("ada")
    assert it.replace() is None
    assert (it.asked, it.incidents) == (["bob", "cid"], [])
    people.leave("bob")
    assert it.replace() is None
    assert (it.asked, it.incidents) == (["cid"], ["result_impossible"])


def test_two_who_leave_together_do_not_stand_in_for_each_other() -> None:
    people = People(["ada", "bob", "cid", "dan"])
    it = office(
        people,
        stage("all", user("ada", user("bob"), user("cid")), user("bob", user("ada"), user("dan")), parallel=True),
    )
    people.leave("ada", "bob")
    assert it.replace() is None
    assert it.asked == ["cid", "dan"]


def test_what_was_passed_on_to_a_leaver_comes_back() -> None:
    """To whoever was asked first; and their voice is theirs again."""
    people = People(["ada", "bob"])
    it = office(people, stage("one", user("ada")))
    assert it.delegate("ada", to="bob") is None
    people.leave("bob")
    assert it.replace() is None
    assert it.asked == ["ada"]
    assert it.approve("ada") is None
    assert it.state == "granted"


def test_whoever_passed_it_on_and_left_is_decided_for_all_the_same() -> None:
    """The delegate is there, so nobody is replaced."""
    people = People(["ada", "bob"])
    it = office(people, stage("one", user("ada")))
    it.delegate("ada", to="bob")
    people.leave("ada")
    assert it.replace() == "approvers_there"
    assert it.approve("bob") is None


def test_the_clock_of_the_stage_goes_on() -> None:
    """Who stands in has the time that is left."""
    people = People(["ada", "bob"])
    it = office(people, stage("one", user("ada", user("bob")), timeoutMinutes=60, onTimeout="refuse"))
    it.wait(30)
    people.leave("ada")
    assert it.replace() is None
    assert it.opened["item/2"].timeout_at == it.opened["item/1"].timeout_at
    it.wait(30)
    assert it.state == "refused"


def test_a_suspended_instance_looks_when_it_is_resumed() -> None:
    people = People(["ada", "bob"])
    it = office(people, stage("one", user("ada", user("bob"))))
    it.simulation.give(SuspendInstance(), None)
    people.leave("ada")
    assert it.replace() == "suspended"
    assert it.asked == ["ada"]
    it._keep(it.simulation.give(ResumeInstance(), None))
    assert it.asked == ["bob"]


def test_everybody_is_looked_at_in_few_rounds() -> None:
    """Where all are there, one fact each, all in one round."""
    names = [f"p{number}" for number in range(100)]
    people = People(names)
    it = office(people, stage("all", *[user(name) for name in names], parallel=True))
    people.asked.clear()
    assert it.replace() == "approvers_there"
    assert len(people.asked) == 100


def test_who_is_left_of_several_items_is_looked_at_when_somebody_has_spoken() -> None:
    """Of a board asked twice one has left and another votes on one item: nobody would be there for the other one."""
    people = People(groups={"board": ["ada", "bob", "eve"]})
    it = office(people, stage("one", group("board"), group("board"), minimumApprovals=3, parallel=True))
    people.leave("eve")
    assert it.replace() is not None, "somebody is there for each"
    assert it.approve("ada") is None
    assert it.approve("bob") is None
    assert (it.asked, it.incidents) == ([], ["result_impossible"])


def test_the_rejections_there_are_may_refuse_a_stage_that_somebody_leaves() -> None:
    """With `onRejection: count` three of four are needed: one has rejected, and one who could have approved leaves."""
    people = People(roles={"clerks": ["ada", "bob", "cid", "dan"]})
    it = office(people, stage("one", role("clerks"), minimumApprovals=3, onRejection="count"))
    assert it.approve("ada") is None
    assert it.reject("bob") is None
    people.leave("cid", "dan")
    assert it.replace() is None
    assert (it.state, it.items) == ("refused", [])
