"""Steps one after another: begun when the state is entered, over when the last one is."""

from __future__ import annotations

from pliers_workflow.interpreter.commands import CompleteStep
from tests.interpreter.building import accepted, kinds, refused, started
from tests.interpreter.steps.working import END, at_work, call, data, incident, jobs, status, steps_at_work


def test_steps_are_done_one_after_another_and_then_the_state_is_left() -> None:
    """Control-flow pattern *sequence*: the transition without trigger waits for the last step."""
    run = at_work(call("first"), call("second"))
    assert jobs(run) == ["first"]
    accepted(run.complete("first"))
    assert jobs(run) == ["second"]
    accepted(run.complete("second"))
    assert status(run) == "completed"
    assert not run.jobs


def test_what_takes_no_time_is_done_at_once() -> None:
    """Assignments and events need nobody outside: a thousand in a row are one command."""
    assign = {"type": "assign", "assignments": {"n": "data.n + 1"}}
    run = at_work(*[assign] * 300, {"type": "emit", "eventType": "counted", "data": {"n": "data.n"}}, data={"n": 0})
    assert status(run) == "completed"
    assert data(run) == {"n": 300}
    assert [event.data for event in run.events if type(event).__name__ == "EventEmitted"] == [{"n": 300}]


def test_assignments_of_one_step_see_the_data_as_they_were() -> None:
    """So two fields can change places."""
    run = at_work({"type": "assign", "assignments": {"a": "data.b", "b": "data.a"}}, data={"a": 1, "b": 2})
    assert data(run) == {"a": 2, "b": 1}


def test_a_worker_gets_what_it_needs() -> None:
    """The configuration, the input with its expressions evaluated, and a key by which the attempt is known."""
    run = at_work(call("score", configuration={"region": "eu"}, inputMapping={"sum": "data.a + 1"}), data={"a": 1})
    (job,) = run.jobs.values()
    assert (job.queue, job.attempt) == ("plugin:some", 1)
    assert job.payload["configuration"] == {"region": "eu"}
    assert job.payload["input"] == {"sum": 2}
    assert job.payload["idempotencyKey"] == f"simulated:{job.step}:1"


def test_an_address_is_encoded() -> None:
    """What stands in braces in a URL cannot leave its segment; headers and bodies hold expressions too."""
    run = at_work(
        {
            "type": "http",
            "id": "fetch",
            "method": "POST",
            "url": "https://example.com/{data.name}/{{x}}?n={1 + 1}",
            "headers": {"X-Name": "<{data.name}>"},
            "inputMapping": {"name": "data.name"},
            "body": {"called": "input.name"},
        },
        data={"name": "a/ö"},
    )
    (job,) = run.jobs.values()
    assert job.payload["configuration"] == {
        "method": "POST",
        "url": "https://example.com/a%2F%C3%B6/{x}?n=2",
        "headers": {"X-Name": "<a/ö>"},
        "expectedStatus": None,
        "body": {"called": "a/ö"},
    }


def test_an_output_is_written_and_read() -> None:
    """`outputMapping` writes into the data; later steps and guards read `steps.ID.output`."""
    run = at_work(
        call("fetch", outputMapping={"order.total": "output.total"}),
        call("book", inputMapping={"twice": "steps.fetch.output.total * 2"}),
        more=[{"from": "work", "to": "end", "trigger": "check", "condition": "steps.fetch.status == 'completed'"}],
    )
    accepted(run.complete("fetch", {"total": 21}))
    assert data(run) == {"order": {"total": 21}}
    (job,) = run.jobs.values()
    assert job.payload["input"] == {"twice": 42}
    accepted(run.fire("check", user="ada"))
    assert status(run) == "completed"


def test_an_output_that_nothing_reads_is_not_kept() -> None:
    """The history has it; the instance does not carry it along."""
    run = at_work(call("fetch"), call("next"))
    accepted(run.complete("fetch", {"large": "x" * 1000}))
    assert run.instance is not None
    assert run.instance.machine.outputs == {}


def test_what_steps_gave_is_gone_with_their_state() -> None:
    """The same state entered again begins anew."""
    run = at_work(
        call("fetch", outputMapping={"seen": "has(steps.fetch)"}),
        call("next", inputMapping={"x": "steps.fetch.output"}),
        more=[{"from": "work", "to": "work", "trigger": "again"}],
    )
    accepted(run.complete("fetch"))
    accepted(run.fire("again", user="ada"))
    assert run.instance is not None
    assert run.instance.machine.outputs == {}
    assert jobs(run) == ["fetch"]


def test_a_condition_that_is_false_skips_the_step_on_record() -> None:
    """What follows sees `skipped`."""
    run = at_work(
        call("fetch", condition="data.n > 1"),
        {"type": "assign", "assignments": {"was": "steps.fetch.status"}},
        data={"n": 1},
    )
    assert data(run)["was"] == "skipped"
    assert "StepSkipped" in [type(event).__name__ for event in run.events]


def test_leaving_the_state_gives_up_what_is_in_flight() -> None:
    """The job is dropped, the clock stopped, and a worker that comes back late is told to drop its result."""
    run = at_work(call("slow", timeoutMinutes=5), more=[{"from": "work", "to": "end", "trigger": "enough"}])
    slow = run.run_of("slow")
    answer = run.fire("enough", user="ada")
    assert "StepCancelled" in kinds(answer)
    assert not run.jobs
    assert run.instance is not None
    assert not run.instance.machine.timers
    assert refused(run.give(CompleteStep(slow.id, 1), None)).reason == "instance_ended"


def test_a_result_counts_once() -> None:
    """The second one, and one of an attempt that is not made, are refused."""
    run = at_work(call("first"), call("second"))
    first = run.run_of("first")
    assert refused(run.give(CompleteStep(first.id, 2), None)).reason == "step_gone"
    accepted(run.give(CompleteStep(first.id, 1), None))
    assert refused(run.give(CompleteStep(first.id, 1), None)).reason == "step_gone"
    assert refused(run.give(CompleteStep(run.run_of("second").id, 1), "ada")).reason == "not_allowed"


def test_a_wait_lets_time_pass() -> None:
    """For so many minutes, or until an instant; one that has passed is no wait."""
    run = at_work(
        {"type": "wait", "durationMinutes": 2},
        {"type": "wait", "until": "timestamp('2026-01-01T00:05:00Z')"},
        {"type": "wait", "until": "timestamp('2025-01-01T00:00:00Z')"},
    )
    assert status(run) == "waiting"
    run.advance(299_999)
    assert status(run) == "waiting"
    run.advance(1)
    assert status(run) == "completed"


def test_the_instance_is_running_while_a_worker_has_something() -> None:
    """Else it waits: for time, for an external worker, for an event."""
    run = at_work(call("fetch"), {"type": "external", "id": "print", "topic": "printing"})
    assert status(run) == "running"
    accepted(run.complete("fetch"))
    assert (status(run), steps_at_work(run)) == ("waiting", {"print": "waiting"})
    (job,) = run.jobs.values()
    assert job.queue == "external:printing"
    accepted(run.complete("print", {"pages": 2}))
    assert status(run) == "completed"


def test_a_state_waits_for_its_chain_and_its_steps() -> None:
    """Both have to be done before the transition without trigger is taken."""
    chain = {"id": "ok", "steps": [{"id": "one", "approvers": [{"type": "user", "identifier": "bob"}]}]}
    work = {"properties": {"steps": [call("fetch")], "approvalChain": "ok"}}
    run = at_work(
        states={"work": work},
        more=[{"from": "work", "to": "end", "trigger": "rejected"}],
        approvalChains=[chain],
    )
    accepted(run.decide("approve", "bob"))
    assert run.configuration == ["work"]
    accepted(run.complete("fetch"))
    assert status(run) == "completed"


def test_regions_of_a_parallel_state_have_steps_of_their_own() -> None:
    """Control-flow patterns *parallel split* and *synchronisation*, in the chart itself."""
    regions = [
        {
            "id": name,
            "substates": [
                {"id": f"{name}_work", "properties": {"steps": [call(name)]}},
                {"id": f"{name}_done", "type": "final"},
            ],
        }
        for name in ("left", "right")
    ]
    run = started(
        {"both": {"type": "parallel", "substates": regions}, "end": END},
        [
            {"from": "both", "to": "end", "trigger": "done.state.both"},
            {"from": "left_work", "to": "left_done"},
            {"from": "right_work", "to": "right_done"},
        ],
    )
    accepted(run.complete("right"))
    assert run.configuration == ["left_work", "right_done"]
    accepted(run.complete("left"))
    assert status(run) == "completed"


def test_fields_are_set_together_or_not_at_all() -> None:
    """The second cannot be set, so that the first stays as it was: of an assignment, and of an output."""
    given = {"a": 1, "text": "x"}
    fields = {"a": "2", "new.one": "1", "new.two": "2", "text.part": "3"}
    run = at_work({"type": "assign", "id": "set", "assignments": fields}, data=given)
    assert (incident(run).code, data(run)) == ("EXPRESSION_ERROR", given)
    run = at_work(call("one", outputMapping=fields), data=given)
    accepted(run.complete("one"))
    assert (incident(run).code, data(run)) == ("EXPRESSION_ERROR", given)
    accepted(run.resolve("retry", patch={"text": {}}))
    assert data(run) == {"a": 2, "new": {"one": 1, "two": 2}, "text": {"part": 3}}


def test_what_a_history_state_brings_back_begins_its_steps_anew() -> None:
    """It is entered as ever, with those of the state around it; a region that was final is so again, without steps."""
    regions = [
        {
            "id": f"{name}_region",
            "substates": [
                {"id": name, "properties": {"steps": [call(f"{name}_one"), call(f"{name}_two")]}},
                {"id": f"{name}_done", "type": "final"},
                {"id": f"{name}_memory", "type": "history", "properties": {"initial": name}},
            ],
        }
        for name in ("left", "right")
    ]
    states = {
        "work": {"type": "parallel", "substates": regions, "properties": {"steps": [call("around")]}},
        "away": {},
        "end": END,
    }
    run = started(
        states,
        [
            {"from": "left", "to": "left_done"},
            {"from": "right", "to": "right_done"},
            {"from": "work", "to": "away", "trigger": "leave"},
            {"from": "away", "to": ["left_memory", "right_memory"], "trigger": "back"},
            {"from": "work", "to": "end", "trigger": "done.state.work", "condition": "data.ok"},
        ],
        data={"ok": False},
    )
    for step in ("left_one", "left_two", "right_one"):
        accepted(run.complete(step))
    accepted(run.fire("leave", user="ada"))
    assert jobs(run) == []
    accepted(run.fire("back", user="ada"))
    assert jobs(run) == ["around", "right_one"]
    accepted(run.complete("right_one"))
    accepted(run.complete("right_two"))
    assert (status(run), jobs(run)) == ("running", ["around"])
    accepted(run.fire("leave", user="ada"))
    accepted(run.update({"ok": True}, "ada"))
    accepted(run.fire("back", user="ada"))
    assert (status(run), jobs(run)) == ("completed", [])
