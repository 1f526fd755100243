"""From a table of (state, act, by) -> state to a workflow in which people decide.

Logs of approval processes say who did what: `APPROVED by BUDGET OWNER`. In the definition made here

- a state in which others than the requester decide has an approval chain: one stage that asks every role the table
  names there, all at once, of which the first to decide settles it. The decision raises `approved` or `rejected`, and
  the transition is chosen by who decided;
- `FINAL_APPROVED` is an approval whose decision data say `{"final": true}`: it ends the approving, where a plain one
  passes the case on;
- what the requester does themselves is a trigger with their role in front (`employee.submitted`), so it can never be
  taken for a decision; what a system does is a trigger without (`payment_handled`);
- an approval that the table has no row for (a director's that is not final, say) is an error in the transition, which
  refuses the decision and leaves everything as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

#: acts that are decisions of an approver, and whether they approve
APPROVALS = {"APPROVED": False, "FINAL_APPROVED": True}
REJECTION = "REJECTED"
#: the role of whoever acts where a log names nobody
SYSTEM = "payments"


class Row(NamedTuple):
    """One row of a table: in this state, this act by this role leads there."""

    state: str
    act: str
    by: str
    to: str


class Fire(NamedTuple):
    """A trigger fired by whoever has this role."""

    trigger: str
    role: str


class Decide(NamedTuple):
    """A decision by whoever has this role."""

    action: str
    role: str
    #: goes with the decision as data; None for a rejection
    final: bool | None


def key(text: str) -> str:
    """
    A name of the log as a role key, state id or trigger.

    >>> key("BUDGET OWNER"), key("Payment Handled")
    ('budget_owner', 'payment_handled')
    """
    slug = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return slug if slug[:1].isalpha() else f"x_{slug}"


def requester_role(rows: Iterable[Row], start: str) -> str:
    """The role of those who bring cases in: whoever the first row out of `start` names."""
    return next((key(row.by) for row in rows if row.state == start and row.by), "requester")


def deed(act: str, by: str, requester: str) -> Fire | Decide:
    """
    What someone did, as the call they would have made.

    >>> deed("FINAL_APPROVED", "SUPERVISOR", "employee")
    Decide(action='approve', role='supervisor', final=True)
    >>> deed("REJECTED", "EMPLOYEE", "employee")
    Fire(trigger='employee.rejected', role='employee')
    >>> deed("Request Payment", "", "employee")
    Fire(trigger='request_payment', role='payments')
    """
    if not by:
        return Fire(key(act), SYSTEM)
    role = key(by)
    if role != requester:
        if act in APPROVALS:
            return Decide("approve", role, APPROVALS[act])
        if act == REJECTION:
            return Decide("reject", role, None)
    return Fire(f"{role}.{key(act)}", role)


def reachable(rows: Sequence[Row], start: str) -> list[Row]:
    """The rows that can ever apply: those whose state is reached from `start`."""
    seen = {start}
    while more := {row.to for row in rows if row.state in seen} - seen:
        seen |= more
    return [row for row in rows if row.state in seen]


def travel_definition(
    table: Iterable[Sequence[str]], start: str, *, name: str = "travel_declaration", version: str = "1.0.0"
) -> dict[str, Any]:
    """
    The definition for a table of `[state, act, by, to]` rows that begins in `start`.

    Deterministic: the same table gives the same document. States that nothing leads out of are final. Raises ValueError
    where two rows of one state say different things about the same act.
    """
    rows = [Row(*row) for row in table]
    requester = requester_role(rows, start)
    used = reachable(rows, start)
    states, transitions, chains = decided(used, start)
    everyone = sorted({deed(row.act, row.by, requester).role for row in used} - {requester, SYSTEM})
    document: dict[str, Any] = {
        "name": name,
        "version": version,
        "title": "Travel declaration",
        "description": (
            "Travel expenses of a university, as they really ran: an employee declares, the administration, a "
            "pre-approver or the supervisor looks first, a budget owner and a director where it is needed, and the last "
            "approval is marked final. Made from the table in `metadata` by `pliers_workflow.replay.travel`."
        ),
        "metadata": {
            "start": start,
            "table": [list(row) for row in used],
            "source": "van Dongen, B. (2020), BPI Challenge 2020, 4TU.ResearchData",
        },
        "display": {"title": "{data.case}", "fields": ["case", "amount"]},
        "dataSchema": {
            "type": "object",
            "title": "Travel declaration",
            "required": ["case"],
            "properties": {
                "case": {"type": "string", "maxLength": 200},
                "amount": {"type": "number", "description": "in euros; the publisher added noise"},
            },
        },
        "access": {
            "start": ["anyone"],
            "view": [f"role:{role}" for role in everyone],
            "advance": ["requester"],
            "cancel": ["requester"],
        },
        "stateMachine": {
            "initialState": key(start),
            "finalStates": [id for id, body in states.items() if body.get("type") == "final"],
            "states": states,
            "transitions": transitions,
        },
        "approvalChains": chains,
    }
    if any(transition.get("actions") for transition in transitions):
        document["stateMachine"]["actions"] = {"refuse": REFUSE}
        document["dataSchema"]["properties"]["refused"] = REFUSED_FIELD
    return document


def decided(
    rows: Sequence[Row], start: str, *, prefix: str = ""
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """
    The states, transitions and approval chains of the rows, ids and chains with `prefix` in front.

    Raises ValueError where two rows of one state say different things about the same act.
    """
    requester = requester_role(rows, start)
    targets: dict[tuple[str, str, str], str] = {}
    for row in rows:
        if targets.setdefault((row.state, row.act, row.by), row.to) != row.to:
            raise ValueError(f"the table has two rows for ({row.state}, {row.act}, {row.by or 'nobody'})")
    names = list(dict.fromkeys([start, *(state for row in rows for state in (row.state, row.to))]))
    if len({key(state) for state in names}) < len(names):
        raise ValueError(f"two states of the table would get one id: {', '.join(sorted(names))}")
    states: dict[str, Any] = {}
    transitions: list[dict[str, Any]] = []
    chains: list[dict[str, Any]] = []
    for state in names:
        leaving = [row for row in rows if row.state == state]
        body: dict[str, Any] = {"name": _title(state)}
        if not leaving:
            body["type"] = "final"
        elif roles := _deciders(leaving, requester):
            chain = f"{prefix}{key(state)}_decision"
            body["properties"] = {"description": f"Waits for {_either(roles)}", "approvalChain": chain}
            chains.append(_chain(chain, roles))
        states[prefix + key(state)] = body
        transitions += _transitions(leaving, requester, prefix)
    return states, transitions, chains


#: refuses what no row of the table allows: an action that fails leaves everything as it was
REFUSE = {"type": "assign", "field": "refused", "value": "['no row of the table allows this decision'][1]"}
REFUSED_FIELD = {"type": "string", "description": "never set"}


def _deciders(leaving: Iterable[Row], requester: str) -> list[str]:
    deeds = (deed(row.act, row.by, requester) for row in leaving)
    return list(dict.fromkeys(one.role for one in deeds if isinstance(one, Decide)))


def _chain(chain: str, roles: Sequence[str]) -> dict[str, Any]:
    return {
        "id": chain,
        "name": f"{_either(roles)} decides".capitalize(),
        "steps": [
            {
                "id": "decision",
                "name": _either(roles).capitalize(),
                "type": "role",
                "approvers": [{"type": "role", "identifier": role} for role in roles],
                "requirements": {"minimumApprovals": 1},
                "parallel": True,
            }
        ],
        "configuration": {"allowDelegation": False, "allowRequestChanges": False},
    }


def _transitions(leaving: Sequence[Row], requester: str, prefix: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    decided: dict[str, set[tuple[str, bool | None]]] = {}
    for row in leaving:
        one = deed(row.act, row.by, requester)
        transition: dict[str, Any] = {"from": prefix + key(row.state), "to": prefix + key(row.to)}
        if isinstance(one, Decide):
            trigger = "approved" if one.action == "approve" else "rejected"
            condition = f"event.data.approver.identifier == '{one.role}'"
            if one.final is not None:
                final = "(has(event.data.data.final) && event.data.data.final == true)"
                condition += f" && {final if one.final else '!' + final}"
            # The conditions exclude each other; the priorities only say so to whoever reads the document.
            transition |= {"trigger": trigger, "condition": condition, "priority": len(leaving) - len(made)}
            decided.setdefault(trigger, set()).add((one.role, one.final))
        else:
            transition["trigger"] = one.trigger
            if one.role != requester:
                transition["access"] = [f"role:{one.role}"]
        made.append(transition)
    roles = _deciders(leaving, requester)
    for trigger, kinds in (("approved", (False, True)), ("rejected", (None,))):
        if roles and decided.get(trigger, set()) != {(role, kind) for role in roles for kind in kinds}:
            made.append({"from": prefix + key(leaving[0].state), "trigger": trigger, "actions": ["refuse"]})
    return made


def _title(state: str) -> str:
    return state[:1].upper() + state[1:].replace("_", " ")


def _either(roles: Sequence[str]) -> str:
    """
    >>> _either(["pre_approver", "administration", "supervisor"])
    'pre approver, administration or supervisor'
    """
    words = [role.replace("_", " ") for role in roles]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
