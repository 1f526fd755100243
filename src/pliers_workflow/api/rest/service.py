"""About the service itself: health, problem codes, the schema of definitions."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..endpoint import Call, ProblemCode, Reply, Routes
from ..problems import KINDS, ApiError
from .wire import HealthView, Page, ProblemKindView

routes = Routes("Service", "About the service itself.")

#: Circuits that health tells of, those with the most failures first.
_CIRCUITS_SHOWN: Final = 100


@routes.get("/workflows/health", "Health of the engine", answers=HealthView, open=True)
async def get_health(call: Call) -> Reply:
    """
    Whether this node can work: 200 and `up`, or 503 and `down`. Open to everybody, for load balancers.

    With a token of an operator, auditor or administrator `details` says how the engine is doing: `state` is `ok`,
    `degraded` where there are `alarms`, or `failing`; then the database, the log and its readers, jobs, running steps,
    nodes, leases, and whom this node leaves alone for a while because they do not answer (`circuits`).
    """
    engine = call.engine
    if not call.principal.may("operator", "auditor"):
        up = engine.alive and await engine.database.problem() is None
        return Reply(HealthView(status="up" if up else "down"), status=200 if up else 503)
    report = await engine.health.report()
    up = engine.alive and report.state != "failing"
    details = {
        "node": engine.node,
        "state": report.state if up else "failing",
        "alarms": report.alarms,
        "retryAfter": engine.overloaded(),
        **_circuits(call),
        **_first_numbers(report.details),
        **report.details,
    }
    return Reply(HealthView(status="up" if up else "down", details=details), status=200 if up else 503)


def _first_numbers(details: dict[str, Any]) -> dict[str, Any]:
    """What stood beside each other in the first release, and still does."""
    database, jobs = details.get("database") or {}, details.get("jobs") or {}
    return {
        **{name: value for name, value in database.items() if name != "latencyMs"},
        "oldestDueJobSeconds": jobs.get("oldestDueSeconds"),
    }


def _circuits(call: Call) -> dict[str, Any]:
    """The caller's tenant's circuits on this node that are not closed; whom others call is none of their business."""
    tenant = call.principal.tenant_id
    found = [each for each in call.engine.step_worker.breakers.states() if each.tenant_id == tenant]
    found.sort(key=lambda each: -each.failures)
    shown = [
        {"target": each.target, "state": each.state, "failures": each.failures, "retryInSeconds": each.retry_in}
        for each in found[:_CIRCUITS_SHOWN]
    ]
    return {"circuits": shown, "circuitsOpen": len(found)}


def _kind(code: str) -> ProblemKindView:
    kind = KINDS[code]
    return ProblemKindView(
        code=code, status=kind.status, error_code=kind.error_code, title=kind.title, detail=kind.sentence
    )


@routes.get("/problems", "List problem codes", answers=Page[ProblemKindView], open=True)
async def list_problems(call: Call) -> Reply:
    """Every `code` that a problem may carry, with its status and meaning."""
    return Reply(Page(items=[_kind(code) for code in KINDS], next_cursor=None))


@routes.get("/problems/{code}", "Explain a problem code", answers=ProblemKindView, open=True)
async def get_problem(call: Call, code: ProblemCode) -> Reply:
    """What a code means and what to do about it; a problem's `type` leads here."""
    if code not in KINDS:
        raise ApiError("not_found", "There is no problem of that code; GET /api/v1/problems lists all.")
    return Reply(_kind(code))


_schema: msgspec.Raw | None = None


@routes.get("/schemas/workflow-definition.json", "JSON Schema of definitions", answers=dict[str, Any], open=True)
async def get_definition_schema(call: Call) -> Reply:
    """JSON Schema (2020-12) of the workflow definition document, for editors and generators."""
    global _schema
    if _schema is None:
        from pliers_workflow.definition.schema import definition_schema

        _schema = msgspec.Raw(msgspec.json.encode(definition_schema()))
    return Reply(_schema)
