"""A fuzzer over everything the description says: no input is answered with a 500, and no answer breaks the description."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pliers_workflow.app import create_app
from tests.api.world import World

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
#: requests for each operation and each way of making them
EXAMPLES = 8
#: seconds for all of it
PATIENCE = 55.0


@pytest.fixture
async def address(company: World) -> AsyncIterator[str]:
    """A real server in front of the company's engine."""
    config = uvicorn.Config(
        create_app(company.engine, owns_engine=False), host="127.0.0.1", port=0, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_no_request_breaks_the_description(company: World, address: str) -> None:
    """Valid and invalid requests to every operation, half of them to things that exist."""
    instance = await company.submitted()
    form = (await company.admin("POST", "/submissions", {"formId": "trip", "data": {"total": 1}}, status=201)).json()
    binding_body = {"formId": "other", "workflowId": "expense"}
    binding = (await company.admin("POST", "/submission-bindings", binding_body, status=201)).json()
    hook = {"type": "webhook", "url": "https://hooks.example.com"}
    made = await company.admin("POST", "/event-subscriptions", {"name": "fuzzed", "sink": hook}, status=201)
    post = {"type": "redis", "url": "redis://redis.example.com", "stream": "s"}
    source = await company.admin("POST", "/event-sources", {"name": "fuzzed", "broker": post}, status=201)
    known = {
        "/workflow-instances/": {"id": instance["id"]},
        "/workflows/": {"id": "expense", "v": "1.0.0"},
        "/users/": {"userId": "ada"},
        "/roles/": {"key": "managers", "userId": "ada"},
        "/groups/": {"key": "board", "userId": "ada"},
        "/submissions/": {"id": form["id"]},
        "/submission-bindings/": {"id": binding["id"]},
        "/event-subscriptions/": {"id": made.json()["id"]},
        "/event-sources/": {"id": source.json()["id"]},
        "/tenants/": {"id": "default"},
        "/problems/": {"code": "guard_failed"},
    }
    await company.admin("PUT", "/groups/board", status=201)
    document = (await company.http.get("/openapi.json")).json()
    # Making documents by their whole schema takes minutes, and they are thrown at the definition package's own tests.
    document["components"]["schemas"]["WorkflowDefinition"] = {"type": "object"}
    statuses, failures = await asyncio.to_thread(_attack, document, address, company.admin.token, known)
    assert not failures, "\n\n".join(failures[:10])
    await company.admin("GET", "/me", status=200)
    assert sum(statuses.values()) > 300, statuses
    assert statuses[2] > 50, statuses
    assert statuses[4] > 50, statuses
    assert (await company.admin("GET", "/workflows/health")).json()["status"] == "up"
    assert (await company.admin("GET", "/audit/verification")).json()["intact"] is True


class _Attack:
    """What came of the requests."""

    def __init__(self, address: str, token: str | None) -> None:
        self.address = address
        self.headers = {"Authorization": f"Bearer {token}"}
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self.end = time.monotonic() + PATIENCE

    def on(self, operation: Any, mode: GenerationMode, existing: dict[str, str]) -> None:
        """Send some requests to an operation."""

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
        def attack(case: schemathesis.Case, exists: bool) -> None:
            if time.monotonic() < self.end:
                oneself = (case.path_parameters or {}).get("userId") in ("me", "admin")
                if oneself or (exists and mode is GenerationMode.POSITIVE):
                    case.path_parameters = {**(case.path_parameters or {}), **existing}
                self.send(case)

        try:
            attack()
        except Unsatisfiable:
            pass  # nothing invalid can be sent there

    def send(self, case: schemathesis.Case) -> None:
        """Send one request, and hold its answer against the description."""
        if isinstance(case.body, dict):
            wait = case.body.get("waitSeconds")
            if type(wait) in (int, float) and 0.1 < wait <= 30:  # as valid as before, and nobody has to wait for it
                case.body["waitSeconds"] = 0.1
        response = case.call(base_url=self.address, headers=self.headers)
        self.statuses[response.status_code // 100] += 1
        checks = (
            CHECKS if _arrived(case, response) else [each for each in CHECKS if each is not negative_data_rejection]
        )
        try:
            case.validate_response(response, checks=checks)
        except BaseExceptionGroup as group:
            self.failures.append(f"{case.method} {case.formatted_path}: " + "\n".join(map(str, group.exceptions)))


def _arrived(case: schemathesis.Case, response: Any) -> bool:
    """
    Whether what makes a request invalid has reached the server, and is for it to refuse.

    A parameter whose value is an empty list is not sent at all; and `validate` takes whatever it is given, because telling
    what is wrong with it is its answer.
    """
    if case.operation.path.endswith("/validate"):
        return False
    sent = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
    return (case.query or {}).keys() <= sent.keys()


def _attack(
    document: dict[str, Any], address: str, token: str | None, known: dict[str, dict[str, str]]
) -> tuple[Counter[int], list[str]]:
    attack = _Attack(address, token)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = result.ok()
            here = next((ids for prefix, ids in known.items() if operation.path.startswith(f"/api/v1{prefix}")), {})
            attack.on(operation, mode, {name: value for name, value in here.items() if f"{{{name}}}" in operation.path})
    return attack.statuses, attack.failures
