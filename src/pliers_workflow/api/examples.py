"""A body for each endpoint that takes one, and the same request for `curl`: what the reference page shows under *Try it*.

They speak of one thing, the expense report among the examples, and of people whom the page's own commands make. A test
reads every body with the endpoint's own type.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

_EXPENSE: Final = {"amount": 180.5, "currency": "EUR", "purpose": "train to Vienna"}

#: By operation id. Definitions are files: see `curl`.
BODIES: Final[Mapping[str, Any]] = {
    "start_instance": {"data": _EXPENSE},
    "advance_instance": {"trigger": "submit"},
    "update_instance": {"patch": {"amount": 175}},
    "cancel_instance": {"reason": "entered twice"},
    "suspend_instance": {"reason": "a receipt is missing"},
    "resume_instance": {"reason": "the receipt has come"},
    "approve": {"comments": "fine by me"},
    "reject": {"comments": "not this year"},
    "request_changes": {"comments": "which project is it for?"},
    "delegate": {"to": "ada", "comments": "she knows more about it"},
    "create_submission": {"formId": "expense", "data": _EXPENSE},
    "update_submission": {"data": {**_EXPENSE, "amount": 175}},
    "create_binding": {"formId": "expense", "workflowId": "expense_report"},
    "replace_binding": {"formId": "expense", "workflowId": "expense_report", "enabled": False},
    "receive_event": {
        "specversion": "1.0",
        "id": "4711",
        "source": "https://shop.example.com",
        "type": "order.paid",
        "data": {"order": "A-2026-17", "amount": 180.5},
    },
    "resolve_incident": {"action": "retry", "reason": "the shop is up again"},
    "resolve_incidents": {
        "action": "retry",
        "reason": "the shop is up again",
        "filter": {"workflow": "expense_report", "code": "HTTP_503"},
    },
    "put_step_limit": {"maxRunning": 20, "rate": 100, "perSeconds": 60},
    "fetch_external_tasks": {"topics": ["printing"], "workerId": "printer-1", "maxTasks": 5, "waitSeconds": 20},
    "heartbeat_external_task": {"leaseToken": "…", "leaseSeconds": 60},
    "give_back_external_task": {"leaseToken": "…"},
    "complete_external_task": {"leaseToken": "…", "output": {"pages": 3}},
    "fail_external_task": {
        "leaseToken": "…",
        "code": "PAPER_JAM",
        "message": "The printer is jammed.",
        "retryAfterSeconds": 300,
    },
    "discard_dead_job": {"reason": "the sub-workflow is not needed any more"},
    "create_event_subscription": {
        "name": "ledger",
        "sink": {"type": "webhook", "url": "https://hooks.example.com/pliers"},
        "eventTypes": ["workflow.completed", "workflow.approval.*"],
    },
    "replace_event_subscription": {
        "name": "ledger",
        "sink": {"type": "webhook", "url": "https://hooks.example.com/pliers", "headers": {"X-Team": "finance"}},
        "definitions": ["expense_report"],
    },
    "replay_event_subscription": {"position": "beginning"},
    "rotate_event_subscription_secret": {"keepSeconds": 3600},
    "create_event_source": {
        "name": "orders",
        "broker": {"type": "nats", "servers": ["nats://nats.example.com:4222"], "stream": "ORDERS"},
        "mapping": {"type": "'order.' + message.body.kind", "id": "message.body.id"},
    },
    "replace_event_source": {
        "name": "orders",
        "broker": {
            "type": "nats",
            "servers": ["nats://nats.example.com:4222"],
            "stream": "ORDERS",
            "consumer": "pliers",
        },
        "batchSize": 50,
    },
    "create_user": {"username": "ada", "name": "Ada"},
    "update_user": {"name": "Ada L."},
    "put_role": {"name": "Finance"},
    "set_role_members": {"users": ["ada"]},
    "put_group": {"name": "Finance"},
    "set_group_members": {"users": ["ada"]},
    "create_token": {"user": "ada"},
    "create_tenant": {"id": "acme", "name": "Acme", "virtualNow": "2026-03-02T09:00:00Z"},
    "move_clock": {"virtualNow": "2026-03-04T09:00:00Z"},
}

#: What stands for a name in a path, by what stands before it; words with `$` are the reader's own ids.
_PLACES: Final = (
    ("/workflows/{id}", "/workflows/expense_report"),
    ("/workflow-instances/{id}", "/workflow-instances/$INSTANCE"),
    ("/submissions/{id}", "/submissions/$SUBMISSION"),
    ("/submission-bindings/{id}", "/submission-bindings/$BINDING"),
    ("/event-subscriptions/{id}", "/event-subscriptions/$SUBSCRIPTION"),
    ("/event-sources/{id}", "/event-sources/$EVENT_SOURCE"),
    ("/rejects/{rejectId}", "/rejects/$REJECT"),
    ("/failed-starts/{id}", "/failed-starts/$JOB"),
    ("/events/{id}", "/events/$EVENT"),
    ("/incidents/resolutions/{id}", "/incidents/resolutions/$RESOLUTION"),
    ("/incidents/{number}", "/incidents/1"),
    ("/step-limits/{queue}", "/step-limits/http"),
    ("/plugins/{id}", "/plugins/acme.iban"),
    ("/external-tasks/{id}", "/external-tasks/$TASK"),
    ("/dead-jobs/{id}", "/dead-jobs/$JOB"),
    ("/tokens/{id}", "/tokens/$TOKEN_ID"),
    ("/tenants/{id}", "/tenants/acme"),
    ("/members/{userId}", "/members/ada"),
    ("/users/{userId}/approvals", "/users/me/approvals"),
    ("/users/{userId}", "/users/ada"),
    ("{key}", "finance"),
    ("{v}", "1.0.0"),
    ("{code}", "self_approval_forbidden"),
)


def curl(path: str, method: str, operation: Mapping[str, Any]) -> str:
    """
    Give the command that makes a request; `$URL` and `$TOKEN` are set beforehand.

    >>> print(curl("/api/v1/me", "get", {"operationId": "get_me"}))
    curl -H "Authorization: Bearer $TOKEN" \\
         $URL/api/v1/me
    """
    for place, example in _PLACES:
        path = path.replace(place, example)
    assert not re.search(r"[{}]", path), path
    first = "curl" if method == "get" else f"curl -X {method.upper()}"
    lines = [] if {} in operation.get("security", ()) else ['-H "Authorization: Bearer $TOKEN"']
    body = _data(operation)
    if body is not None:
        media_type = next(iter(operation["requestBody"]["content"]))
        lines += [f"-H 'Content-Type: {media_type}'", f"-d {body}"]
    lines.append(f"$URL{path}")
    return f"{first} " + " \\\n     ".join(lines)


def _data(operation: Mapping[str, Any]) -> str | None:
    body = operation.get("requestBody")
    if body is None:
        return None
    if operation["operationId"] in ("create_workflow", "update_workflow"):
        return "@expense_report.json"
    example = BODIES.get(operation["operationId"])
    return None if not example else shlex.quote(json.dumps(example))
