"""Turn a statechart of the neutral form (`../shared/scxml`, README there) into one of our definitions.

The result is an ordinary document: the conformance cases go through `reading.read` and the compiler like any author's
workflow; only that what SCXML allows and we refuse to publish (`findings.RUNNABLE`) is warned about. Expressions are small trees with JavaScript's meaning; where CEL means something else (truth of numbers,
missing members of event data, joining text and numbers) the CEL written here says it in full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any


class NotSupported(Exception):
    """The neutral form says something this adapter has no word for."""


def to_document(case: Mapping[str, Any]) -> dict[str, Any]:
    """The definition document of a case."""
    return _Adapter(case["statechart"]).document(case["name"])


class _Adapter:
    def __init__(self, statechart: Mapping[str, Any]) -> None:
        self.statechart = statechart
        self.transitions: list[dict[str, Any]] = []

    def document(self, name: str) -> dict[str, Any]:
        chart = self.statechart
        # Data are declared with early binding: all of them before the first state is entered (SCXML §5.3).
        declared = [
            *chart.get("data", []),
            *(each for state in _walk(chart["states"]) for each in state.get("data", [])),
        ]
        actions = [
            {"type": "assign", "field": f"data.{each['id']}", "value": expression(each.get("value"))}
            for each in declared
        ]
        actions += self.actions(chart.get("onload", []))
        initial = dict(chart["initial"])
        states = {state["id"]: self.state(state) for state in chart["states"]}
        self.errors_are_events()
        return {
            "name": "case-" + re.sub(r"[^a-z0-9_.-]", "-", name.lower()),
            "version": "1.0.0",
            "title": name,
            "access": {"advance": ["anyone"]},
            "stateMachine": {
                "states": states,
                "transitions": self.transitions,
                "initialState": {
                    "target": initial["target"],
                    "actions": actions + self.actions(initial.get("actions", [])),
                },
            },
        }

    def errors_are_events(self) -> None:
        """
        In SCXML an error is an event, which nobody need take (§3.12.2). Ours is one where a transition could take it; else
        the command is refused.
        """
        alive = next(
            (each["id"] for each in self.statechart["states"] if each["type"] not in ("final", "history")), None
        )
        if alive is not None:
            self.transitions.append({"from": alive, "trigger": "error.execution", "condition": "false"})

    def state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        kind = state["type"]
        if kind == "history":
            properties["history"] = state["history"]
            properties["initial"] = self.entry(state["default"])
        elif state.get("initial"):
            properties["initial"] = self.entry(state["initial"])
        if "donedata" in state:
            properties["doneData"] = payload(state["donedata"])
        for transition in state.get("transitions", []):
            self.transition(state["id"], transition)
        result = {
            "id": state["id"],
            "type": kind if kind in ("parallel", "final", "history") else "intermediate",
            "properties": properties,
            "entryActions": self.actions(state.get("onentry", [])),
            "exitActions": self.actions(state.get("onexit", [])),
            "substates": [self.state(each) for each in state.get("states", [])],
        }
        return {key: value for key, value in result.items() if value not in ([], {})}

    def entry(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {"target": entry["target"], "actions": self.actions(entry.get("actions", []))}

    def transition(self, source: str, transition: Mapping[str, Any]) -> None:
        result: dict[str, Any] = {"from": source, "type": transition.get("type", "external")}
        if transition.get("target"):
            result["to"] = transition["target"]
        if transition.get("event"):
            result["trigger"] = " ".join(transition["event"])
        if "cond" in transition:
            result["condition"] = condition(transition["cond"]["expr"])
        result["actions"] = self.actions(transition.get("actions", []))
        self.transitions.append(result)

    def actions(self, actions: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [self.action(each) for each in actions]

    def action(self, action: Mapping[str, Any]) -> dict[str, Any]:
        kind = action["type"]
        if kind == "assign":
            return {"type": "assign", "field": f"data.{action['location']}", "value": expression(action.get("expr"))}
        if kind == "raise":
            return {"type": "raise", "trigger": action["event"]}
        if kind == "send":
            return self.send(action)
        if kind == "cancel":
            return {"type": "cancel", "sendId": _send_id(action)}
        if kind == "log":
            return {"type": "log", "label": action.get("label"), "value": expression(action.get("expr"))}
        if kind == "if":
            branches = []
            for branch in action["branches"]:
                adapted: dict[str, Any] = {"actions": self.actions(branch.get("actions", []))}
                if "cond" in branch:
                    adapted["condition"] = condition(branch["cond"]["expr"])
                branches.append(adapted)
            return {"type": "if", "branches": branches}
        if kind == "foreach":
            loop = {
                "type": "foreach",
                "array": expression(action["array"]),
                "item": f"data.{action['item']}",
                "actions": self.actions(action.get("actions", [])),
            }
            if action.get("index"):
                loop["index"] = f"data.{action['index']}"
            return loop
        raise NotSupported(f"action {kind}")

    def send(self, action: Mapping[str, Any]) -> dict[str, Any]:
        target = action.get("target")
        data = payload(action["data"]) if action.get("data") is not None else None
        if target in ("#_internal", "_internal"):
            return {"type": "raise", "trigger": action["event"], "data": data}
        if target is not None:
            raise NotSupported(f"target {target} of a send")
        result: dict[str, Any] = {"type": "send", "trigger": action["event"], "data": data}
        send_id = _send_id(action)
        if send_id is not None:
            result["sendId"] = send_id
        if action.get("delayMs"):
            result["delayMinutes"] = action["delayMs"] / 60_000
        elif "delayExpr" in action:
            # CSS2 time (`1s`, `500ms`), which CEL reads as a duration; ours counts minutes.
            delay = f"duration({expression(action['delayExpr'])})"
            result["delayMinutes"] = f"({delay}.getSeconds() * 1000 + {delay}.getMilliseconds()) / 60000.0"
        return result


def _walk(states: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for state in states:
        yield state
        yield from _walk(state.get("states", []))


def _send_id(action: Mapping[str, Any]) -> str | None:
    found = next((action[key] for key in ("sendid", "sendId", "id") if action.get(key)), None)
    # Names of ours begin with a small letter.
    return None if found is None else "id-" + re.sub(r"[^a-z0-9_.-]", lambda each: f"_{ord(each[0])}_", found)


# -- expressions -------------------------------------------------------------------------------------------------------

_COMPARISONS = {"==": "==", "===": "==", "!=": "!=", "!==": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_ARITHMETIC = {"-": "-", "*": "*", "/": "/", "%": "%"}
_TRUTHS = frozenset({*_COMPARISONS, "&&", "||", "!", "in"})
_FALSY = '[null, false, 0, ""]'


def payload(tree: Any) -> Any:
    """The data of an event: an object's members one by one, anything else as one expression."""
    if isinstance(tree, Mapping) and set(tree) == {"object"}:
        return {key: expression(value) for key, value in tree["object"].items()}
    return expression(tree)


def condition(tree: Any) -> str:
    """A condition, with JavaScript's idea of truth where the tree does not give true or false by itself."""
    text = expression(tree)
    if isinstance(tree, bool) or (isinstance(tree, Mapping) and next(iter(tree)) in _TRUTHS):
        return text
    return f"!({text} in {_FALSY})"


def expression(tree: Any) -> str:
    """The CEL of an expression tree."""
    if not isinstance(tree, Mapping):
        return _literal(tree)
    if len(tree) != 1:
        raise NotSupported(f"expression {json.dumps(tree)}")
    ((operator, operands),) = tree.items()
    if operator == "var":
        return _member("data", operands.split("."))
    if operator == "event":
        return _event(operands)
    if operator == "in":
        return f"({_literal(operands)} in instance.configuration)"
    if operator == "object":
        return "{" + ", ".join(f"{_literal(key)}: {expression(value)}" for key, value in operands.items()) + "}"
    if operator == "list":
        return "[" + ", ".join(expression(each) for each in operands) + "]"
    if operator in ("!", "not"):
        return f"!({condition(operands[0])})"
    if operator in ("&&", "||"):
        return "(" + f" {operator} ".join(condition(each) for each in operands) + ")"
    if operator == "?:":
        return f"({condition(operands[0])} ? {expression(operands[1])} : {expression(operands[2])})"
    if operator == "pow":
        return _power(operands)
    if operator == "+":
        return _sum(operands)
    if operator == "-" and len(operands) == 1:
        return f"(-({expression(operands[0])}))"
    symbol = _COMPARISONS.get(operator) or _ARITHMETIC.get(operator)
    if symbol is None or len(operands) != 2:
        raise NotSupported(f"operator {operator}")
    return f"({expression(operands[0])} {symbol} {expression(operands[1])})"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(expression(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _member(root: str, path: list[str]) -> str:
    return root + "".join(f".{each}" if each.isidentifier() else f"[{json.dumps(each)}]" for each in path)


def _event(path: str) -> str:
    """A member of the event's data that is not there is undefined, not an error."""
    parts = path.split(".")
    if parts[0] != "data" or len(parts) == 1:
        return _member("event", parts)
    return f"(has({_member('event', parts)}) ? {_member('event', parts)} : null)"


def _power(operands: list[Any]) -> str:
    base, exponent = operands
    if not isinstance(exponent, int) or not 1 <= exponent <= 16:
        raise NotSupported(f"power {exponent}")
    return "(" + " * ".join([expression(base)] * exponent) + ")"


def _sum(operands: list[Any]) -> str:
    """JavaScript joins text with anything."""
    if any(isinstance(each, str) for each in operands):
        return (
            "(" + " + ".join(_literal(e) if isinstance(e, str) else f"string({expression(e)})" for e in operands) + ")"
        )
    return "(" + " + ".join(expression(each) for each in operands) + ")"
