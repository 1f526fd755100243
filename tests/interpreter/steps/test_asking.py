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
