"""The workload: an expense of about 1 kB goes from draft over manager and finance to paid, four durable transitions."""

from __future__ import annotations

import hashlib
import itertools
import json
from decimal import Decimal
from importlib import resources
from typing import Any
from uuid import uuid4

from pliers_workflow.interpreter.commands import Actor, Command, FireTrigger, RecordDecision
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.answers import Accepted, RequestKey
from pliers_workflow.runtime.engine import Engine
from pliers_workflow.runtime.rows import DefinitionRow, UserInput

#: Transitions of one workflow: start, submit, manager approves, finance approves and completes.
TRANSITIONS = 4

#: About 1 kB of JSON.
DATA: dict[str, Any] = {
    "amount": Decimal("1800.50"),
    "currency": "EUR",
    "purpose": "Conference in Lisbon, three nights",
    "cost_center": "4711",
    "receipts": [
        {"date": f"2026-03-{day:02}", "description": "Hotel, breakfast, city tax and taxi", "amount": Decimal("450.12")}
        for day in (2, 3, 4, 5)
    ],
    "notes": "x" * 520,
}


def document(*, clocks: bool) -> dict[str, Any]:
    """The shipped expense report; `clocks` False: without its five timeouts, as most peers were measured."""
    text = resources.files("pliers_workflow.examples").joinpath("expense_report.json").read_text("utf-8")
    definition: dict[str, Any] = json.loads(text)
    if clocks:
        return definition
    definition["name"] = "expense_plain"
    del definition["timeoutConfig"]
    machine = definition["stateMachine"]
    for state in machine["states"]["open"]["substates"]:
        state.pop("timeouts", None)
    machine["transitions"] = [t for t in machine["transitions"] if not t.get("trigger", "").startswith("timeout")]
    machine["finalStates"].remove("expired")
    del machine["states"]["expired"]
    for stage in definition["approvalChains"][0]["steps"]:
        stage.get("requirements", {}).pop("timeoutMinutes", None)
        stage.pop("onTimeout", None)
    return definition


class Cast:
    """The people of the workload, and the published definition."""

    def __init__(self, definition: DefinitionRow, users: dict[str, str]) -> None:
        self.definition = definition
        self.users = users
        self.requester = Principal("default", users["ada"], "ada")
        self.manager = Principal("default", users["grace"], "grace")
        self.finance = Principal("default", users["edsger"], "edsger")


async def prepare(engine: Engine, *, clocks: bool = False) -> Cast:
    """People and definition."""
    await engine.tokens.bootstrap("default")
    admin_row = await engine.directory.user_by_name("default", "admin")
    assert admin_row is not None
    admin = Principal("default", admin_row.id, "admin", frozenset({"admin"}))
    await engine.directory.put_users(
        admin,
        [
            UserInput(username="grace"),
            UserInput(username="edsger", roles=("finance",)),
            UserInput(username="barbara", roles=("director", "department_head")),
        ],
    )
    users = await engine.directory.put_users(admin, [UserInput(username="ada", manager="grace")])
    for name in ("grace", "edsger"):
        row = await engine.directory.user_by_name("default", name)
        assert row is not None
        users[name] = row.id
    wanted = document(clocks=clocks)
    existing = await engine.catalog.get("default", wanted["name"])
    if existing is None:
        created = await engine.catalog.create(admin, wanted)
        assert isinstance(created, DefinitionRow), created
        published = await engine.catalog.publish(admin, created.id)
        assert isinstance(published, DefinitionRow), published
        existing = published
    return Cast(existing, users)


#: The load generator's own work must not be measured with the engine's: ids are counted, bodies hashed once.
_count = itertools.count()
_run = uuid4().hex[:16]
_BODY_HASH = hashlib.sha256(b"body").digest()


def _key(principal: Principal, route: str) -> RequestKey:
    return RequestKey(principal.user_id, route, f"{_run}{next(_count):016x}", _BODY_HASH)


async def one_workflow(engine: Engine, cast: Cast, latencies: list[float], clock: Any) -> None:
    """One expense from start to paid; the time of each transition is appended, in seconds."""
    began = clock()
    answer = await engine.start_instance(
        cast.requester, cast.definition, data=DATA, request=_key(cast.requester, "POST instances")
    )
    latencies.append(clock() - began)
    assert isinstance(answer, Accepted), answer
    instance_id = answer.instance.id
    for principal, order in (
        (cast.requester, FireTrigger("submit")),
        (cast.manager, RecordDecision("approve", comments="fine by me")),
        (cast.finance, RecordDecision("approve")),
    ):
        began = clock()
        command = Command(f"{_run}-{next(_count):016x}", Actor(principal.user_id), order)
        answer = await engine.execute("default", instance_id, command, request=_key(principal, "POST approve"))
        latencies.append(clock() - began)
        assert isinstance(answer, Accepted), answer
    assert answer.instance.status == "completed", answer
