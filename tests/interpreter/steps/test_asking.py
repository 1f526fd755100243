"""Steps that ask people: an approval chain as one step among others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpreter.building import accepted, kinds, refused
from tests.interpreter.steps.working import at_work, call, data, incident, jobs, status, steps_at_work


def chain(**rest: Any) -> dict[str, Any]:
    """One stage that asks bob."""
    return {"id": "ok", "steps": [{"id": "only", "approvers": [{"type": "user", "identifier": "bob"}], **rest}]}


ASK = {"type": "approval", "id": "ask", "chainId": "ok"}


def test_a_granted_chain_completes_the_step() -> None:
    """The output tells of the decision; neither `approved` nor the end of the state comes from it."""
    run = at_work(
        call("reserve"),
        ASK | {"outputMapping": {"by": "output.user", "said": "output.comments"}},
        call("pay"),
        more=[{"from": "work", "to": "end", "trigger": "approved"}],
        approvalChains=[chain()],
    )
    accepted(run.complete("reserve"))
    assert (steps_at_work(run), status(run)) == ({"ask": "waiting"}, "waiting")
    accepted(run.decide("approve", "bob", comments="fine"))
    assert (data(run), jobs(run)) == ({"by": "bob", "said": "fine"}, ["pay"])
    assert run.instance is not None
    assert run.instance.machine.chains == {}


def test_a_refused_chain_fails_it() -> None:
    """With the code `REJECTED`, which a transition may take, or what is around the step handles."""
    run = at_work(ASK, approvalChains=[chain()], more=[{"from": "work", "to": "end", "trigger": "error.step.ask"}])
    accepted(run.decide("reject", "bob"))
    assert status(run) == "completed"
    run = at_work(ASK, approvalChains=[chain()])
    accepted(run.decide("reject", "bob"))
    assert incident(run).code == "REJECTED"
    accepted(run.resolve("retry"))
    accepted(run.decide("approve", "bob"))
    assert status(run) == "completed"


def test_two_steps_may_ask_the_same_chain_at_once() -> None:
    """Each has its own work items; a decision that could mean either names its item."""
    both = {
        "type": "parallel",
        "id": "both",
        "branches": [{"id": "a", "steps": [ASK]}, {"id": "b", "steps": [ASK | {"id": "ask_too"}]}],
    }
    run = at_work(both, approvalChains=[chain()])
    assert kinds(run.decide("approve", "bob", item="item/2"))[0] == "ApprovalGranted"
    assert steps_at_work(run) == {"both": "open", "ask": "waiting"}
    accepted(run.decide("approve", "bob", item="item/1"))
    assert status(run) == "completed"


def test_giving_up_the_step_withdraws_its_work_items() -> None:
    """By a timeout of the step, and by leaving its state."""
    more = [{"from": "work", "to": "end", "trigger": "enough"}]
    run = at_work(ASK, approvalChains=[chain(requirements={"timeoutMinutes": 60})], more=more)
    assert "ApprovalWithdrawn" in kinds(run.fire("enough", user="ada"))
    assert status(run) == "completed"
    run = at_work(ASK | {"timeoutMinutes": 5}, approvalChains=[chain()])
    run.advance(300_000)
    assert incident(run).code == "TIMEOUT"
    assert run.instance is not None
    assert not any(stage.items for each in run.instance.machine.chains.values() for stage in each.stages)


def test_a_stage_without_anybody_is_an_incident_of_the_stage() -> None:
    """The step waits; a retry looks for people again, and only approvers can grant it."""
    run = at_work(ASK, approvalChains=[chain()])
    from pliers_workflow.interpreter.facts import User

    def somebody(active: bool) -> None:
        run.directory.users["bob"] = User("bob", "bob", active=active)

    run = at_work(call("wait"), ASK, approvalChains=[chain()])
    somebody(active=False)
    accepted(run.complete("wait"))
    found = incident(run)
    assert (found.code, found.stage, found.step) == ("nobody_to_ask", "only", run.run_of("ask").id)
    assert status(run) == "failed"
    assert str(run.resolve("skip").reason) == "not_allowed"  # type: ignore[union-attr]  # it is refused
    somebody(active=True)
    accepted(run.resolve("retry"))
    assert status(run) == "waiting"
    accepted(run.decide("approve", "bob"))
    assert status(run) == "completed"


def test_changes_are_asked_for_in_place() -> None:
    """The requester mends the data and resubmits; the same step asks the next round."""
    run = at_work(ASK, approvalChains=[chain()])
    accepted(run.decide("request_changes", "bob", comments="more detail"))
    assert steps_at_work(run) == {"ask": "waiting"}
    accepted(run.update({"detail": "more"}, "ada"))
    accepted(run.fire("resubmit", user="ada"))
    accepted(run.decide("approve", "bob"))
    assert status(run) == "completed"


def test_the_clock_of_its_stage_acts_as_ever() -> None:
    """`onTimeout` of the stage refuses it, and so the step fails."""
    slow = chain(requirements={"timeoutMinutes": 5}, onTimeout="refuse")
    run = at_work(ASK | {"continueOnError": True}, call("next"), approvalChains=[slow])
    run.advance(300_000)
    assert jobs(run) == ["next"]


@pytest.mark.parametrize("before", ["changes requested", "nothing"])
def test_what_a_failed_step_had_asked_is_over(before: str) -> None:
    """Nobody can resubmit it, which would ask again for a step that has failed; and the requester may edit the data."""
    run = at_work(ASK | {"timeoutMinutes": 60}, approvalChains=[chain()])
    if before == "changes requested":
        accepted(run.decide("request_changes", "bob"))
    run.advance(3_600_000)
    assert incident(run).code == "TIMEOUT"
    assert status(run) == "failed"
    assert refused(run.fire("resubmit", user="ada")).reason == "unknown_trigger"
    accepted(run.update({"n": 2}, "ada"))
    assert refused(run.decide("approve", "bob")).reason in ("nothing_to_decide", "already_decided")
    accepted(run.resolve("retry"))
    accepted(run.decide("approve", "bob"))
    assert status(run) == "completed"


# -- rounds ------------------------------------------------------------------------------------------------------------


def two_stages(**configuration: Any) -> dict[str, Any]:
    """Bob, then cid, each spared another question while the amount is the same."""
    stages = [
        {"id": name, "approvers": [{"type": "user", "identifier": name}], "watchedFields": ["amount"]}
        for name in ("bob", "cid")
    ]
    return {"id": "ok", "steps": stages, "configuration": configuration}


def side_by_side(*branches: Any) -> dict[str, Any]:
    named = [{"id": f"b{number}", "steps": list(steps)} for number, steps in enumerate(branches)]
    return {"type": "parallel", "id": "both", "branches": named}


def asked(run: Any, step: str) -> list[str]:
    """The stages of a step's chain, and how each stands."""
    return [f"{stage.id} {stage.status}" for stage in run.instance.machine.chains[run.run_of(step).id].stages]


def test_a_step_skips_nothing_that_was_granted_in_another() -> None:
    """One waits for changes, which bob had agreed to; another that begins the same chain asks bob for itself."""
    ask_too = ASK | {"id": "ask_too"}
    run = at_work(side_by_side([ASK], [call("later"), ask_too]), data={"amount": 1}, approvalChains=[two_stages()])
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("request_changes", "cid"))
    accepted(run.complete("later"))
    assert asked(run, "ask_too") == ["bob asking"]
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("request_changes", "cid"))
    accepted(run.fire("resubmit", user="ada"))
    assert asked(run, "ask") == ["bob skipped", "cid asking"]


def test_a_step_that_waits_for_changes_gains_no_grant_of_another() -> None:
    """Bob wanted changes here and agreed there: here he is asked again."""
    ask_too = ASK | {"id": "ask_too"}
    run = at_work(side_by_side([ASK], [call("later"), ask_too]), data={"amount": 1}, approvalChains=[two_stages()])
    accepted(run.decide("request_changes", "bob"))
    accepted(run.complete("later"))
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("request_changes", "cid"))
    accepted(run.fire("resubmit", user="ada"))
    assert asked(run, "ask") == ["bob asking"]


def test_who_decided_in_a_skipped_stage_is_remembered_whatever_begins_beside_it() -> None:
    """Different people have to decide, in this round or in the one before."""
    chain_ = two_stages(distinctApprovers=True)
    chain_["steps"][1]["approvers"] = [{"type": "user", "identifier": each} for each in ("bob", "cid")]
    ask_too = ASK | {"id": "ask_too"}
    run = at_work(side_by_side([ASK], [call("later"), ask_too]), data={"amount": 1}, approvalChains=[chain_])
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("request_changes", "cid"))
    accepted(run.fire("resubmit", user="ada"))
    accepted(run.complete("later"))
    item = run.instance.machine.chains[run.run_of("ask").id].stages[-1].items[0].id  # type: ignore[union-attr]
    assert refused(run.decide("approve", "bob", item=item)).reason in ("decided_in_other_stage", "not_an_approver")
    assert asked(run, "ask") == ["bob skipped", "cid asking"]


def test_the_round_of_a_step_goes_on_when_the_same_step_begins_again() -> None:
    """Its state was left for the changes. Another step of the same chain begins with a first round, and so does a loop."""
    rework = [
        {"from": "work", "to": "rework", "trigger": "changes_requested"},
        {"from": "rework", "to": "work", "trigger": "again"},
    ]
    rest: dict[str, Any] = {"data": {"amount": 1, "xs": [1, 2]}, "more": rework, "states": {"rework": {}}}
    run = at_work(ASK | {"id": "first", "condition": "data.amount > 1"}, ASK, approvalChains=[two_stages()], **rest)
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("request_changes", "cid"))
    accepted(run.fire("again", user="ada"))
    assert asked(run, "ask") == ["bob skipped", "cid asking"]
    accepted(run.decide("request_changes", "cid"))
    accepted(run.update({"amount": 2}, "ada"))
    accepted(run.fire("again", user="ada"))
    assert asked(run, "first") == ["bob asking"]
    each = {"type": "for_each", "items": "data.xs", "maxConcurrency": 1, "steps": [ASK]}
    run = at_work(each, approvalChains=[two_stages()], **rest)
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("approve", "cid"))
    accepted(run.decide("approve", "bob"))
    accepted(run.decide("request_changes", "cid"))
    accepted(run.fire("again", user="ada"))
    assert asked(run, "ask") == ["bob asking"]
