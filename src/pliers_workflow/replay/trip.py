"""A business trip as one workflow: its permit, the trip itself, and the declaration of what it cost, side by side.

The table of a log is that of one document. Here the permit runs by it in a region of the trip's own instance, and the
declaration in an instance of its own: a sub-workflow, begun with the first thing that is done about it. Between the two,
every 30 days after the trip has ended, the traveller is reminded as long as nothing has been declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from .travel import REFUSE, REFUSED_FIELD, SYSTEM, Row, decided, deed, key, reachable, requester_role

#: what the trip's own workflow is called, and its step that runs the declaration's
NAME: Final = "business_trip"
DECLARATION: Final = "declaration"
#: days after the end of the trip, and between two reminders
REMINDER_DAYS: Final = 30
#: what the traveller does that is in no table
TRIGGERS: Final = {"Start trip": "start_trip", "End trip": "end_trip"}
DECLARE: Final = "declare"
_PREFIX: Final = "permit_"


def permit_rows(rows: Iterable[Row], start: str) -> list[Row]:
    """The rows that people decide: a permit is not paid for."""
    return reachable([row for row in rows if row.by], start)


def trip_definition(
    table: Iterable[Sequence[str]], start: str, *, declaration: str = "travel_declaration", version: str = "1.0.0"
) -> dict[str, Any]:
    """The definition of a trip whose permit goes by this table, and whose declaration is the workflow `declaration`."""
    rows = permit_rows([Row(*row) for row in table], start)
    requester = requester_role(rows, start)
    states, transitions, chains = decided(rows, start, prefix=_PREFIX)
    everyone = sorted({deed(row.act, row.by, requester).role for row in rows} - {requester, SYSTEM})
    minutes = REMINDER_DAYS * 24 * 60
    return {
        "name": NAME,
        "version": version,
        "title": "Business trip",
        "description": (
            "A trip of a university's employee: the permit, the trip, and the declaration, which is a workflow of its own. "
            "Who has not begun to declare is reminded every 30 days after the trip's end. "
            "Made from the table in `metadata` by `pliers_workflow.replay.trip`."
        ),
        "metadata": {
            "start": start,
            "table": [list(row) for row in rows],
            "source": "van Dongen, B. (2020), BPI Challenge 2020, 4TU.ResearchData",
        },
        "display": {"title": "Trip of {data.case}", "fields": ["case", "amount", "reminders"]},
        "dataSchema": {
            "type": "object",
            "title": "Business trip",
            "required": ["case"],
            "properties": {
                "case": {"type": "string", "maxLength": 200},
                "amount": {"type": "number", "description": "in euros; the publisher added noise"},
                "declared": {"type": "boolean", "description": "something has been done about the declaration"},
                "reminders": {"type": "integer", "description": "how often the traveller has been reminded"},
                "outcome": {"type": "string", "description": "the state in which the declaration ended"},
                "refused": REFUSED_FIELD,
            },
        },
        "access": {
            "start": ["anyone"],
            "view": [f"role:{role}" for role in everyone],
            "advance": ["requester"],
            "cancel": ["requester"],
        },
        "stateMachine": {
            "initialState": "trip_case",
            "finalStates": ["closed"],
            "states": {
                "trip_case": {
                    "name": "Trip",
                    "type": "parallel",
                    "substates": [
                        {
                            "id": "permit",
                            "name": "Permit",
                            "properties": {"initial": _PREFIX + key(start)},
                            "substates": [{"id": id, **body} for id, body in states.items()],
                        },
                        {
                            "id": "trip",
                            "name": "Trip",
                            "properties": {"initial": "planned"},
                            "substates": [
                                {"id": "planned", "name": "Planned"},
                                {"id": "travelling", "name": "Travelling"},
                                {
                                    "id": "undeclared",
                                    "name": "Back, nothing declared yet",
                                    "timeouts": [
                                        {"id": "reminder", "afterMinutes": minutes, "trigger": "reminder_due"}
                                    ],
                                },
                                {"id": "over", "name": "Over", "type": "final"},
                            ],
                        },
                        {
                            "id": "costs",
                            "name": "Costs",
                            "properties": {"initial": "open"},
                            "substates": [
                                {"id": "open", "name": "Nothing declared"},
                                {
                                    "id": "declaring",
                                    "name": "Declaration under way",
                                    "properties": {
                                        "steps": [
                                            {
                                                "type": "sub_workflow",
                                                "id": DECLARATION,
                                                "workflowId": declaration,
                                                "inputMapping": {"case": "data.case", "amount": "data.amount"},
                                                "outputMapping": {"outcome": "output.state"},
                                                "waitForCompletion": True,
                                                "failureHandling": "fail_parent",
                                            }
                                        ]
                                    },
                                },
                                {"id": "settled", "name": "Settled", "type": "final"},
                            ],
                        },
                    ],
                },
                "closed": {"name": "Closed", "type": "final"},
            },
            "transitions": [
                *transitions,
                {"from": "planned", "to": "travelling", "trigger": TRIGGERS["Start trip"]},
                {
                    "from": "travelling",
                    "to": "over",
                    "trigger": TRIGGERS["End trip"],
                    "condition": "has(data.declared)",
                    "priority": 1,
                },
                {"from": "travelling", "to": "undeclared", "trigger": TRIGGERS["End trip"]},
                {"from": "undeclared", "to": "undeclared", "trigger": "reminder_due", "actions": ["remind"]},
                {"from": "undeclared", "to": "over", "trigger": DECLARE},
                {"from": "open", "to": "declaring", "trigger": DECLARE, "actions": ["declared"]},
                {"from": "declaring", "to": "settled"},
                {"from": "trip_case", "to": "closed", "trigger": "done.state.trip_case"},
            ],
            "actions": {
                "refuse": REFUSE,
                "declared": {"type": "assign", "field": "declared", "value": "true"},
                "remind": {
                    "type": "assign",
                    "field": "reminders",
                    "value": "has(data.reminders) ? data.reminders + 1 : 1",
                },
            },
        },
        "approvalChains": chains,
    }
