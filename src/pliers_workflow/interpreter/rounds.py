"""Rounds of changes of a chain that was left: who may go on with them.

While a place waits for changes its rounds are its own. When it is left they wait for whoever begins the chain next; but
nobody must be spared a question that was answered for somebody else's sake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .instance import Machine


def rounds_key(machine: Machine, chain: str, step: str | None) -> str:
    """
    Who may go on with the rounds of a chain that was left: any state that has it, but of steps only the same one.

    Two steps may ask one chain at the same time, and each wants an answer of its own.
    """
    return chain if step is None else f"{chain}/{machine.steps[step].path}"


def leave_chain(machine: Machine, place: str) -> None:
    """The place is left; where changes had been requested there, the next round may begin later."""
    run = machine.chains.get(place)
    if run is None:
        return
    if run.status == "changes_requested" and not _in_loop(machine, run.step):
        key = rounds_key(machine, run.chain, run.step)
        machine.rounds = {**machine.rounds, key: run.round}
        machine.earlier_grants = {**machine.earlier_grants, key: run.earlier_grants}
        machine.earlier_voters = {**machine.earlier_voters, key: run.earlier_voters}
    machine.chains = {key: each for key, each in machine.chains.items() if key != place}


def _in_loop(machine: Machine, step: str | None) -> bool:
    """Whether a step stands in a loop: nothing says that the next pass is about the same element."""
    while step is not None:
        run = machine.steps.get(step)
        if run is None:
            return True  # what it stood in is gone already, so nobody can tell
        if run.index is not None:
            return True
        step = run.parent
    return False
