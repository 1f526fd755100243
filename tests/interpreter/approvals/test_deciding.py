"""Who may decide: every reason to refuse, in order of precedence, and delegation."""

from __future__ import annotations

from typing import Any

from pliers_workflow.interpreter.commands import RecordDecision
from pliers_workflow.interpreter.events import ApprovalDelegated
from pliers_workflow.interpreter.rejections import Reason
from tests.interpreter.approvals.office import People, group, office, role, stage, user, user_id


def people() -> People:
    return People(["ada", "bob", "cid", "dan", "eve"], roles={"managers": ["mia", "max"]})


# -- one reason at a time ----------------------------------------------------------------------------------------------


def test_nothing_to_decide() -> None:
    """No stage is open and the actor was never asked."""
    it = office(people(), stage("one", user("ada")))
    it.approve("ada")
    assert it.approve("eve") == "nothing_to_decide"


def test_late_answers_are_already_decided() -> None:
    """Who was asked hears `already_decided`, also when the chain is over and its state has been left."""
    it = office(
        people(), stage("one", user("ada"), user("bob"), parallel=True, minimumApprovals=1), stage("two", user("cid"))
    )
    assert it.approve("ada") is None
    assert it.approve("ada") == "already_decided"
    assert it.approve("bob") == "already_decided"
    assert it.approve("bob", stage="one") == "already_decided"
    assert it.approve("bob", item="item/2") == "already_decided"
    assert it.approve("cid") is None
    assert it.approve("bob") == "already_decided"
    assert it.approve("cid", stage="two") == "already_decided"


def test_unknown_stage_lists_what_is_open() -> None:
    """A stage or item that is not open, named by somebody who had no part in it."""
    it = office(people(), stage("one", user("ada")), stage("two", user("bob")))
    assert it.approve("ada", stage="two") == "unknown_stage"
    assert it.details == {"open": [{"stage": "one", "items": ["item/1"]}]}
    assert it.approve("ada", item="item/99") == "unknown_stage"
    assert it.approve("ada", stage="two", item="item/1") == "unknown_stage"
    it.approve("ada")
    assert it.approve("eve", stage="one") == "unknown_stage"


def test_not_an_approver() -> None:
    """Neither strangers, nor operators, nor the engine vote in another's place."""
    it = office(people(), stage("one", user("ada")))
    assert it.approve("eve") == "not_an_approver"
    assert it.approve("ghost") == "not_an_approver"
    assert it.approve(None) == "not_an_approver"
    answer = it.simulation.give(RecordDecision("approve"), user_id("eve"), permissions=("operator", "admin"))
    assert getattr(answer, "reason", None) is Reason.NOT_AN_APPROVER


def test_not_an_approver_of_the_item_named() -> None:
    """An item named is the one that counts: holding another in the stage does not help."""
    it = office(people(), stage("one", user("ada"), user("bob"), parallel=True))
    assert it.approve("ada", item="item/2") == "not_an_approver"
    assert it.approve("ada", item="item/1") is None


def test_a_person_decides_once_in_a_stage() -> None:
    """Two votes of one person in one stage are refused, through whichever item."""
    it = office(
        People(groups={"board": ["ada", "bob"], "legal": ["ada", "cid"]}),
        stage("one", group("board"), group("legal"), parallel=True, minimumApprovals=2),
    )
    assert it.approve("ada", item="item/1") is None
    assert it.approve("ada", item="item/2") == "already_decided"
    assert (it.approve("cid"), it.state) == (None, "granted")


def test_comments_required() -> None:
    """A blank comment is none; approve, reject and request changes want one, passing on does not."""
    it = office(people(), stage("one", user("ada"), requireComments=True))
    for action in ("approve", "reject", "request_changes"):
        assert it.decide(action, "ada") == "comments_required"
        assert it.decide(action, "ada", comments=" \n") == "comments_required"
    assert it.delegate("ada", "bob") is None
    assert it.approve("bob", comments="I looked") is None


def test_chain_may_forbid_delegation_and_changes() -> None:
    """`allowDelegation` and `allowRequestChanges` false refuse the action."""
    it = office(
        people(), stage("one", user("ada")), configuration={"allowDelegation": False, "allowRequestChanges": False}
    )
    assert it.delegate("ada", "bob") == "delegation_forbidden"
    assert it.request_changes("ada") == "request_changes_forbidden"
    assert it.approve("ada") is None


def test_refused_commands_change_nothing() -> None:
    """A rejection leaves the instance as it is."""
    it = office(people(), stage("one", user("ada")))
    before = it.instance
    it.approve("eve")
    assert it.instance is before


# -- precedence --------------------------------------------------------------------------------------------------------


def test_order_of_precedence() -> None:
    """
    Where several reasons hold the first of `Reason` is given.

    Each line mends what the line before complained of, and nothing else.
    """
    it = office(
        people(),
        stage("one", user("ada"), user("rita", user("eve")), parallel=True, minimumApprovals=1),
        configuration={"allowDelegation": False},
    )
    assert it.delegate("dan", "ghost", stage="nowhere") == "unknown_user"
    assert it.delegate("dan", "ada", stage="nowhere") == "unknown_stage"
    assert it.delegate("dan", "ada", stage="one") == "not_an_approver"
    assert it.delegate("rita", "ada", stage="one") == "self_approval_forbidden"
    assert it.delegate("ada", "rita") == "self_approval_forbidden"
    assert it.delegate("ada", "ada") == "delegation_forbidden"


def test_already_decided_goes_before_the_rest() -> None:
    """Who has decided hears that, and not that comments are missing or that they are the requester."""
    it = office(
        people(), stage("one", user("rita"), user("bob"), parallel=True, allowSelfApproval=True, requireComments=True)
    )
    assert it.approve("rita", comments="mine") is None
    assert it.approve("rita") == "already_decided"


def test_self_approval_goes_before_other_stage() -> None:
    """The requester who also decided elsewhere hears of self-approval first."""
    it = office(
        People(roles={"managers": ["rita", "mia"]}),
        stage("first", user("rita"), allowSelfApproval=True),
        stage("second", role("managers")),
        configuration={"distinctApprovers": True},
    )
    assert it.approve("rita") is None
    assert it.approve("rita") == "self_approval_forbidden"


# -- delegation --------------------------------------------------------------------------------------------------------


def test_delegation_keeps_the_principal() -> None:
    """The old item is settled as `delegate`, the new one asks the other person, who decides in the principal's place."""
    it = office(people(), stage("one", user("ada")))
    assert it.delegate("ada", "bob", comments="on holiday") is None
    (event,) = it.happened(ApprovalDelegated)
    assert (event.user, event.delegate_to, event.principal) == (user_id("ada"), user_id("bob"), None)
    settled = it.settled["item/1"]
    assert (settled.action, settled.decided_by, settled.delegated_to) == ("delegate", user_id("ada"), user_id("bob"))
    (item,) = it.items
    assert (item.id, item.approver, item.principal, item.eligible) == (
        "item/2",
        user_id("bob"),
        user_id("ada"),
        (user_id("bob"),),
    )
    assert it.approve("ada") == "already_decided"
    assert it.approve("ada", item="item/1") == "already_decided"
    assert (it.approve("bob"), it.state) == (None, "granted")
    assert (it.answer["user"], it.answer["principal"]) == (user_id("bob"), user_id("ada"))
    assert it.settled["item/2"].principal == user_id("ada")


def test_delegation_goes_on_and_keeps_the_first_principal() -> None:
    """Passed on twice it is still the first person's voice; it never comes back to anybody."""
    it = office(people(), stage("one", user("ada")))
    assert it.delegate("ada", "bob") is None
    assert it.delegate("bob", "ada") == "delegation_loop"
    assert it.delegate("bob", "bob") == "delegation_loop"
    assert it.delegate("bob", "cid") is None
    assert it.delegate("cid", "bob") == "delegation_loop"
    assert it.delegate("cid", "ada") == "delegation_loop"
    assert it.items[0].delegated_by == (user_id("ada"), user_id("bob"))
    assert (it.approve("cid"), it.answer["principal"]) == (None, user_id("ada"))


def test_delegation_to_somebody_with_a_part_is_refused() -> None:
    """Asked already, asked later, or voted: none of them gets a second voice."""
    it = office(people(), stage("one", user("ada"), role("managers"), user("bob"), parallel=True, minimumApprovals=3))
    assert it.delegate("ada", "bob") == "delegation_loop"
    assert it.delegate("ada", "mia") == "delegation_loop"
    assert it.approve("bob") is None
    assert it.delegate("ada", "bob") == "delegation_loop"
    it = office(people(), stage("one", user("ada"), user("bob"), minimumApprovals=2))
    assert it.delegate("ada", "bob") == "delegation_loop"


def test_delegation_to_nobody() -> None:
    """Unknown, inactive or unnamed persons cannot take an item."""
    office_people = people()
    it = office(office_people, stage("one", user("ada")))
    office_people.leave("bob")
    assert it.delegate("ada", "bob") == "unknown_user"
    assert it.delegate("ada", "ghost") == "unknown_user"
    assert it.decide("delegate", "ada") == "unknown_user"


def test_delegation_to_the_requester() -> None:
    """The requester does not decide through a delegate, unless self-approval is allowed."""
    it = office(people(), stage("one", user("ada")))
    assert it.delegate("ada", "rita") == "self_approval_forbidden"
    it = office(people(), stage("one", user("ada"), allowSelfApproval=True))
    assert it.delegate("ada", "rita") is None
    assert (it.approve("rita"), it.state) == (None, "granted")


def test_delegation_and_distinct_approvers() -> None:
    """Somebody who decided in another stage of the chain cannot take an item of this one."""
    it = office(
        people(), stage("first", user("ada")), stage("second", user("bob")), configuration={"distinctApprovers": True}
    )
    it.approve("ada")
    assert it.delegate("bob", "ada") == "decided_in_other_stage"


def test_a_role_member_passes_the_item_on() -> None:
    """The member who passes a role's item on has spoken; the vote counts for the role, once."""
    it = office(people(), stage("two", role("managers"), parallel=True, minimumApprovals=2))
    assert it.delegate("mia", "dan") is None
    assert it.approve("max") == "not_an_approver"
    assert (it.approve("dan"), it.asked) == (None, ["role:managers"])
    assert it.stage.votes[0].group == "managers"
    assert it.approve("mia") == "already_decided"
    assert (it.approve("max"), it.state) == (None, "granted")


def test_unanimity_counts_a_delegated_voice_once() -> None:
    """Everybody must approve; a delegate speaks for the one who passed it on."""
    it = office(people(), stage("all", user("ada"), user("bob"), parallel=True, unanimousRequired=True))
    assert it.delegate("ada", "cid") is None
    assert (it.approve("cid"), it.state) == (None, "review")
    assert (it.approve("bob"), it.state) == (None, "granted")


def test_a_delegate_who_left() -> None:
    """The right of a delegate is checked at the decision, too."""
    office_people = people()
    it = office(office_people, stage("one", user("ada")))
    it.delegate("ada", "bob")
    office_people.leave("bob")
    assert it.approve("bob") == "not_an_approver"


def test_decisions_keep_what_came_with_them() -> None:
    """Comments, data and attachments stay with the event and with the settled item."""
    it = office(people(), stage("one", user("ada")))
    keys: dict[str, Any] = {"comments": "see file", "data": {"limit": 3}, "attachments": ("a.pdf",)}
    assert it.approve("ada", **keys) is None
    settled = it.settled["item/1"]
    assert settled.comments == "see file"
    assert settled.decision_data == {"data": {"limit": 3}, "attachments": ["a.pdf"]}
    event = next(each for each in it.events if type(each).__name__ == "ApprovalGranted")
    assert (event.comments, event.data, event.attachments) == ("see file", {"limit": 3}, ("a.pdf",))  # type: ignore[union-attr]
