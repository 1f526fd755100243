"""Small documents for tests of the definition package."""

from __future__ import annotations

from typing import Any


def machine(
    states: dict[str, Any], transitions: list[dict[str, Any]], initial: Any = "a", **more: Any
) -> dict[str, Any]:
    """A state machine; a string instead of a state is its type."""
    full = {key: {"type": state} if isinstance(state, str) else state for key, state in states.items()}
    return {"states": full, "transitions": transitions, "initialState": initial, **more}


def document(
    states: dict[str, Any], transitions: list[dict[str, Any]], initial: Any = "a", **more: Any
) -> dict[str, Any]:
    """A whole document around a state machine; keys of the machine go into it."""
    inside = {key: more.pop(key) for key in ("guards", "actions", "finalStates") if key in more}
    return {
        "name": "t",
        "version": "1.0.0",
        "title": "T",
        "stateMachine": machine(states, transitions, initial, **inside),
        **more,
    }


def small(**more: Any) -> dict[str, Any]:
    """A valid document: `a` goes to the final state `z` on `go`."""
    return document({"a": "initial", "z": "final"}, [{"from": "a", "to": "z", "trigger": "go"}], **more)


def chain(**stage: Any) -> dict[str, Any]:
    """A chain `c` of one stage `s`, by default asking ada."""
    return {"id": "c", "steps": [{"id": "s", "approvers": [{"type": "user", "identifier": "ada"}], **stage}]}


def approving(*chains: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document whose state `a` starts the chain `c` and handles both outcomes."""
    return document(
        {"a": {"properties": {"approvalChain": "c"}}, "y": "final", "z": "final"},
        [{"from": "a", "to": "y", "trigger": "approved"}, {"from": "a", "to": "z", "trigger": "rejected"}],
        approvalChains=list(chains or (chain(),)),
        **more,
    )


def with_schema(schema: Any) -> dict[str, Any]:
    """A valid document with a data schema."""
    return small(dataSchema=schema)
