"""What happens to a submission moves the instances it has: once, in the submission's own commit, and nobody else can say it."""

from __future__ import annotations

from typing import Any

import pytest

from pliers_workflow.interpreter.commands import FireTrigger
from pliers_workflow.runtime.rows import BindingInput
from tests.inbound.office import Shop, event, outcomes

#: a request that is sent back for changes, and goes on when the requester has edited the form
TRAVEL: dict[str, Any] = {
    "name": "travel",
    "version": "1.0.0",
    "title": "Travel",
    "stateMachine": {
        "initialState": "review",
        "states": {
            "review": {"type": "intermediate"},
            "changes": {"type": "intermediate"},
            "paid": {"type": "final"},
        },
        "transitions": [
            {"from": "review", "to": "changes", "trigger": "send_back"},
            {
                "from": "changes",
                "to": "review",
                "trigger": "resubmit",
                "actions": [{"type": "assign", "field": "amount", "value": "event.data.amount"}],
            },
        ],
    },
    "eventHooks": {
        "triggers": [
            {
                "id": "edited",
                "eventType": "submission.updated",
                "condition": "event.attributes.changedby == event.attributes.submittedby",
                "action": {"type": "advance_state", "trigger": "resubmit"},
            }
        ],
        "handlers": [
            {
                "id": "noted",
                "eventType": "submission.*",
                "actions": [{"type": "assign", "field": "revision", "value": "event.attributes.submissionrevision"}],
            }
        ],
    },
}


class Desk:
    """Somebody who hands in forms, at an engine with a binding."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.forms = shop.engine.submissions

    async def open(self, document: dict[str, Any] = TRAVEL, *, bound: bool = True) -> None:
        await self.shop.publish(document)
        if bound:
            binding = BindingInput(form_id="trip", trigger_events=("submission.created",), workflow=document["name"])
            await self.forms.put_binding(self.shop.admin, binding)

    async def hand_in(self, who: str = "ada", **data: Any) -> Any:
        return await self.forms.create(self.shop.principal(who), "trip", data)

    async def edit(self, submission: Any, who: str = "ada", **data: Any) -> Any:
        return await self.forms.update(self.shop.principal(who), submission.id, data)

    async def events(self) -> list[Any]:
        return list(await self.shop.engine.pool.fetch("SELECT id::text, type, status FROM inbound_events ORDER BY id"))


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


async def test_a_requester_edits_the_form(desk: Desk, shop: Shop) -> None:
    """The instance that was sent back is found by its submission alone, goes on, and sees the form as it is now."""
    await desk.open()
    made = await desk.hand_in(amount=100)
    (instance_id,) = made.instances
    await shop.do(instance_id, "ada", FireTrigger("send_back"))
    assert await shop.state(instance_id) == "changes"
    await desk.edit(made.submission, amount=80)
    found = await shop.look(instance_id)
    assert (found.current_state, found.data["amount"], found.data["revision"]) == ("review", 80, 2)
    # Another submission's instance does not move.
    other = await desk.hand_in(amount=5)
    await shop.do(other.instances[0], "ada", FireTrigger("send_back"))
    await desk.edit(made.submission, amount=70)
    assert await shop.state(other.instances[0]) == "changes"


async def test_now_or_never(desk: Desk, shop: Shop) -> None:
    """An edit that the instance cannot take where it stands is no edit for later."""
    await desk.open()
    made = await desk.hand_in(amount=100)
    (instance_id,) = made.instances
    await desk.edit(made.submission, amount=80)
    (row,) = [each for each in await desk.events() if each["type"] == "submission.updated"]
    assert ("edited", "refused") in outcomes(await shop.event_row(row["id"]))
    await shop.do(instance_id, "ada", FireTrigger("send_back"))
    assert await shop.state(instance_id) == "changes"


async def test_the_condition_sees_who_changed_it(desk: Desk, shop: Shop) -> None:
    """An operator's correction is no resubmission here."""
    await desk.open()
    made = await desk.hand_in(amount=100)
    await shop.do(made.instances[0], "ada", FireTrigger("send_back"))
    await desk.forms.update(shop.admin, made.submission.id, {"amount": 1})
    found = await shop.look(made.instances[0])
    assert (found.current_state, found.data["revision"]) == ("changes", 2)


async def test_nobody_listens(desk: Desk, shop: Shop) -> None:
    """Then there is no event, neither for `*`, which is for events from outside."""
    document = {**TRAVEL, "eventHooks": {"triggers": [
        {"id": "all", "eventType": "*", "action": {"type": "start_workflow"}},
    ]}}  # fmt: skip
    await desk.open(document)
    made = await desk.hand_in(amount=100)
    await desk.edit(made.submission, amount=80)
    assert await desk.events() == []


async def test_nobody_else_can_say_it(desk: Desk, shop: Shop) -> None:
    """An event from outside that is called the same, with the same source and id, neither acts nor is in the way."""
    await desk.open()
    made = await desk.hand_in(amount=100)
    (instance_id,) = made.instances
    await shop.do(instance_id, "ada", FireTrigger("send_back"))
    source = "/api/v1/tenants/default/submissions"
    forged = event(f"{made.submission.id}/2", "submission.updated", source=source, amount=1)
    from msgspec.structs import replace

    forged = replace(forged, event=replace(forged.event, subject=made.submission.id))
    row = await shop.sent(forged)
    assert row.status == "unmatched"
    assert await shop.state(instance_id) == "changes"
    await desk.edit(made.submission, amount=80)
    assert (await shop.look(instance_id)).data["amount"] == 80


async def test_a_trigger_starts_for_a_submission(desk: Desk, shop: Shop) -> None:
    """Later, if it says so: for the submitter, with the form's data, as one of the submission's instances."""
    document = {**TRAVEL, "eventHooks": {"triggers": [{
        "id": "begin", "eventType": "submission.created", "delayMinutes": 5,
        "condition": "event.attributes.formid == 'trip' && event.data.amount > 50",
        "action": {"type": "start_workflow"},
    }]}}  # fmt: skip
    await desk.open(document, bound=False)
    await desk.hand_in(amount=10)
    made = await desk.hand_in(amount=100)
    assert await shop.orders("travel") == []
    await shop.engine.pool.execute("UPDATE workflow_jobs SET due_at = now() WHERE kind = 'trigger'")
    await shop.engine.inbox.delayed.run_due()
    (row,) = await shop.orders("travel")
    assert row["requester"] == shop.principal("ada").user_id
    (instance_id,) = (await desk.forms.get(shop.principal("ada"), made.submission.id)).instances  # type: ignore[union-attr]
    found = await shop.look(instance_id)
    assert (found.id, found.data, found.submission) == (row["id"], {"amount": 100}, {"amount": 100})


async def test_the_other_actions(desk: Desk, shop: Shop) -> None:
    """`escalate` and `execute_step` find the instance by its submission as well."""
    document = {
        **TRAVEL,
        "steps": {"note": {"type": "assign", "assignments": {"note": "event.data.note"}}},
        "eventHooks": {
            "triggers": [
                {"id": "loud", "eventType": "submission.updated", "action": {"type": "escalate"}},
                {"id": "step", "eventType": "submission.updated", "action": {"type": "execute_step", "stepId": "note"}},
            ]
        },
    }
    await desk.open(document)
    made = await desk.hand_in(amount=100)
    await desk.edit(made.submission, note="soon")
    found = await shop.look(made.instances[0])
    assert (str(found.status), found.data["note"]) == ("escalated", "soon")


async def test_the_node_dies_between_commit_and_carrying_out(
    desk: Desk, shop: Shop, make_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is on disk with the submission; the sweep of another node carries it out, once."""
    await desk.open()
    made = await desk.hand_in(amount=100)
    (instance_id,) = made.instances
    await shop.do(instance_id, "ada", FireTrigger("send_back"))

    async def die(_: Any) -> None:
        """Nothing more is done on this node."""

    monkeypatch.setattr(desk.forms._events, "act", die)
    await desk.edit(made.submission, amount=80)
    assert await shop.state(instance_id) == "changes"
    other = await make_shop()
    assert await other.engine.inbox.sweep() == 0  # it has a minute
    await shop.engine.pool.execute("UPDATE inbound_events SET lease_until = now() WHERE status = 'received'")
    assert await other.engine.inbox.sweep() == 1
    assert await other.engine.inbox.sweep() == 0
    assert (await shop.look(instance_id)).data["amount"] == 80


async def test_one_event_for_one_change(desk: Desk, shop: Shop) -> None:
    """A request that is repeated with its key makes none; one that is refused makes none."""
    from pliers_workflow.runtime.idempotency import request_key

    await desk.open()
    ada = shop.principal("ada")
    key = request_key(ada.user_id, "create", "k", {})
    made = await desk.forms.create(ada, "trip", {"amount": 1}, request=key)
    await desk.forms.create(ada, "trip", {"amount": 1}, request=key)
    change = request_key(ada.user_id, "update", "k", {})
    await desk.forms.update(ada, made.submission.id, {"amount": 2}, 1, request=change)
    await desk.forms.update(ada, made.submission.id, {"amount": 2}, 1, request=change)
    with pytest.raises(Exception, match="has changed"):
        await desk.forms.update(ada, made.submission.id, {"amount": 3}, 1)
    assert [each["type"] for each in await desk.events()] == ["submission.created", "submission.updated"]


async def test_published_later(desk: Desk, shop: Shop) -> None:
    """An instance keeps the version it was started on: one that did not listen by submission is not found by it."""
    silent = {**TRAVEL, "eventHooks": {}}
    await desk.open(silent)
    made = await desk.hand_in(amount=1)
    draft = await shop.engine.catalog.replace(shop.admin, "travel", {**TRAVEL, "version": "1.1.0"})
    await shop.engine.catalog.publish(shop.admin, draft.id)  # type: ignore[union-attr]
    newer = await desk.hand_in(amount=2)
    for one in (made, newer):
        await shop.do(one.instances[0], "ada", FireTrigger("send_back"))
        await desk.edit(one.submission, amount=7)
    assert [await shop.state(one.instances[0]) for one in (made, newer)] == ["changes", "review"]
