"""Commands pass the same predicate as reads, and the view tells each caller what is open to them."""

from __future__ import annotations

from typing import Any

from pliers_workflow.api.application import ROUTES
from tests.api.world import EXPENSE, World

ABSENT = "019a0000-0000-7000-8000-000000000000"

#: what to send to commands that need a body; any other is sent without one
BODIES: dict[str, Any] = {
    "advance_instance": {"trigger": "submit"},
    "update_instance": {"patch": {"note": "x"}},
    "delegate": {"to": "mia"},
}
COMMANDS = [
    endpoint
    for group in ROUTES
    for endpoint in group.endpoints
    if endpoint.executes and endpoint.path.startswith("/workflow-instances/{id}")
]


async def instances(company: World) -> dict[str, str]:
    """One instance of ada's in each situation that has refusals of its own."""
    found = {"draft": (await company.start("ada"))["id"], "review": (await company.submitted())["id"]}
    found["ended"] = (await company.submitted())["id"]
    await company.callers["mia"]("POST", f"/workflow-instances/{found['ended']}/approve", status=200)
    found["suspended"] = (await company.submitted())["id"]
    await company.admin("POST", f"/workflow-instances/{found['suspended']}/suspend", status=200)
    return found


async def test_a_stranger_s_command_finds_nothing(company: World) -> None:
    """Whatever the command and wherever the instance stands: 404, with the body that a missing instance has."""
    eve = company.callers["eve"]
    for situation, instance in (await instances(company)).items():
        before = (await company.admin("GET", f"/workflow-instances/{instance}")).json()
        for command in COMMANDS:
            for headers in ({}, {"If-Match": '"99"'}, {"Idempotency-Key": f"{command.operation_id}-{situation}"}):
                answers = []
                for target in (instance, ABSENT):
                    path = command.path.replace("{id}", target)
                    answer = await eve(command.method, path, BODIES.get(command.operation_id), headers=headers)
                    assert answer.status_code == 404, (situation, command.operation_id, answer.text)
                    answers.append((answer.text.replace(target, "ID"), set(answer.headers)))
                assert answers[0] == answers[1], (situation, command.operation_id)
        assert (await company.admin("GET", f"/workflow-instances/{instance}")).json() == before
    reaching = {"targetState": "review"}
    for target in ((await company.start("ada"))["id"], ABSENT):
        answer = await eve("POST", f"/workflow-instances/{target}/advance", reaching, status=404)
        assert answer.json()["detail"] == "There is no such instance that you may see; check its id or name."


async def test_whoever_may_see_an_instance_is_told_why(company: World) -> None:
    """Requester, those asked, those who decided, and auditors get the interpreter's reason."""
    at = f"/workflow-instances/{(await company.submitted())['id']}"
    mia, ada = company.callers["mia"], company.callers["ada"]
    auditor = await company.person("eve", ("auditor",))
    assert (await ada("POST", f"{at}/approve", status=403)).json()["code"] == "not_an_approver"
    assert (await mia("POST", f"{at}/suspend", status=403)).json()["code"] == "not_allowed"
    assert (await auditor("POST", f"{at}/approve", status=403)).json()["code"] == "not_an_approver"
    await mia("POST", f"{at}/approve", status=200)
    assert (await mia("POST", f"{at}/approve", status=409)).json()["code"] == "instance_ended"


async def test_whom_the_definition_lets_act_need_not_see(world: World) -> None:
    """Access to a transition is enough to fire it; its refusals are for those who may see. `view` gives both."""
    document = {**EXPENSE, "stateMachine": {**EXPENSE["stateMachine"]}}
    document["stateMachine"]["transitions"] = [
        *EXPENSE["stateMachine"]["transitions"],
        {"id": "check", "from": "draft", "to": "draft", "trigger": "check", "access": ["role:finance"]},
    ]
    await world.populate()
    await world.publish(document)
    finn = world.callers["finn"]
    at = f"/workflow-instances/{(await world.start('ada'))['id']}"
    done = (await finn("POST", f"{at}/advance", {"trigger": "check"}, status=200)).json()
    assert done["availableTriggers"] == ["check"]
    await finn("POST", f"{at}/advance", {"trigger": "submit"}, status=404)
    await finn("GET", at, status=404)
    await world.callers["eve"]("POST", f"{at}/advance", {"trigger": "check"}, status=404)
    await world.admin(
        "PUT", "/workflows/expense", {**document, "version": "1.1.0", "access": {"view": ["role:finance"]}}, status=200
    )
    await world.admin("POST", "/workflows/expense/publish", status=200)
    at = f"/workflow-instances/{(await world.start('ada'))['id']}"
    assert (await finn("POST", f"{at}/advance", {"trigger": "submit"}, status=403)).json()["code"] == "not_allowed"
    assert (await finn("GET", at, status=200)).json()["availableTriggers"] == ["check"]


async def test_available_triggers_are_the_caller_s_own(company: World) -> None:
    """In a command's answer, a read and a list: what is open to whoever asks, as the interpreter would say."""
    document = {
        **EXPENSE,
        "name": "access",
        "access": {"view": ["anyone"], "advance": ["user:ada"]},
        "stateMachine": {
            "initialState": "open",
            "states": {"open": {"name": "Open"}, "closed": {"name": "Closed", "type": "final"}},
            "transitions": [
                {"id": "a", "from": "open", "to": "open", "trigger": "note", "access": ["anyone"]},
                {"id": "b", "from": "open", "to": "closed", "trigger": "close"},
                {"id": "c", "from": "open", "to": "open", "trigger": "check", "access": ["role:managers"]},
                {"id": "d", "from": "open", "to": "open", "trigger": "take_back", "access": ["requester"]},
                {"id": "e", "from": "open", "to": "open", "trigger": "timeout.open", "access": ["anyone"]},
            ],
        },
    }
    del document["approvalChains"]
    await company.publish(document)
    await company.person("max", ("operator",))
    await company.person("finn", ("auditor",))
    started = await company.start("eve", workflow="access")
    at = f"/workflow-instances/{started['id']}"
    expected = {
        "eve": ["note", "take_back"],
        "ada": ["note", "close"],
        "mia": ["note", "check"],
        "max": ["note", "close", "check", "take_back"],
        "finn": ["note"],
    }
    assert started["availableTriggers"] == expected["eve"]
    for who, triggers in expected.items():
        caller = company.callers[who]
        assert (await caller("GET", at, status=200)).json()["availableTriggers"] == triggers, who
        listed = (await caller("GET", "/workflows/access/instances", status=200)).json()["items"]
        assert [each["availableTriggers"] for each in listed] == [triggers], who
        refused = (await caller("POST", f"{at}/advance", {"trigger": "nonsense"})).json()
        if refused["code"] == "unknown_trigger":  # told to those whom `access.advance` names
            assert refused["details"]["available"] == triggers, who
        moved = (await caller("POST", f"{at}/advance", {"trigger": "note"}, status=200)).json()
        assert moved["availableTriggers"] == triggers, who
    await company.admin("POST", f"{at}/suspend", status=200)
    assert (await company.callers["ada"]("GET", at)).json()["availableTriggers"] == []


async def test_changes_in_the_directory_show_in_available_triggers(company: World) -> None:
    """A role given or taken away counts from the next read on."""
    document = {**EXPENSE, "name": "roles", "access": {"view": ["anyone"], "advance": ["role:managers"]}}
    await company.publish(document)
    at = f"/workflow-instances/{(await company.start('eve', workflow='roles'))['id']}"
    eve = company.callers["eve"]
    assert (await eve("GET", at)).json()["availableTriggers"] == []
    await company.admin("PUT", "/roles/managers/members/eve", status=200)
    assert (await eve("GET", at)).json()["availableTriggers"] == ["submit", "withdraw"]


async def test_an_answer_to_somebody_else_is_not_called_unchanged(company: World) -> None:
    """What may be done differs by caller, and changes with roles, without the instance: then its ETag differs, too."""
    document = {**EXPENSE, "name": "roles", "access": {"view": ["anyone"], "advance": ["role:managers"]}}
    await company.publish(document)
    at = f"/workflow-instances/{(await company.start('ada', workflow='roles'))['id']}"
    eve, mia = company.callers["eve"], company.callers["mia"]
    may, may_not = (await mia("GET", at)).headers["etag"], (await eve("GET", at)).headers["etag"]
    assert (await eve("GET", at, headers={"If-None-Match": may}, status=200)).json()["availableTriggers"] == []
    await mia("GET", at, headers={"If-None-Match": may}, status=304)
    await company.admin("DELETE", "/roles/managers/members/mia", status=200)
    now = await mia("GET", at, headers={"If-None-Match": may}, status=200)
    assert (now.json()["availableTriggers"], now.headers["etag"]) == ([], may_not)
    operator = await company.person("eve", ("operator",))
    assert (await operator("GET", at, headers={"If-None-Match": may_not}, status=200)).json()["availableTriggers"]
