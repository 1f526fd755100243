"""Approvals: chains of stages that ask people, and what their answers come to.

A chain is started when its state is entered, or when a step of type `approval` begins, and asks one stage after another.
`resolving` finds the people behind a stage's approvers, `asking` opens work items for them, `deciding` checks who may
decide and records it, `settling` acts on the result as soon as that is certain, `leaving` asks others where people have
left, and `counting` says how a stage stands (by `interpreter.verdict`).

What the chart learns of it are triggers on the internal queue: `approved`, `rejected`, `changes_requested`; a step that
asks is completed or fails instead. A stage that cannot go on is never silent: it raises an incident, and its open items
can still be decided.
"""

from __future__ import annotations

from .asking import (
    ask_again,
    awaits_changes,
    chain_granted,
    leave,
    resubmit,
    stage_timed_out,
    start_chain,
    withdraw_all,
)
from .deciding import record_decision
from .items import place_of_state, place_of_step
from .leaving import replace_leavers

__all__ = [
    "ask_again",
    "awaits_changes",
    "chain_granted",
    "leave",
    "place_of_state",
    "place_of_step",
    "record_decision",
    "replace_leavers",
    "resubmit",
    "stage_timed_out",
    "start_chain",
    "withdraw_all",
]
