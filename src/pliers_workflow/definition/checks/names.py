"""Names that lead somewhere: states, guards, conditions, actions, chains; ids that are given once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..document import CancelAction, SendAction, WorkflowDefinition
from ..findings import Findings, did_you_mean, pointer
from ..step_walking import StepWalk, chains_asked
from ..tree import Tree, targets_of
from ..walking import actions, inside, named_actions


def check(definition: WorkflowDefinition, tree: Tree, walk: StepWalk, findings: Findings) -> None:
    """See the module."""
    _ids(definition, tree, findings)
    _states(definition, tree, findings)
    _guards(definition, findings)
    _actions(definition, tree, findings)
    _chains(definition, tree, walk, findings)


def _ids(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    for node in tree.nodes:
        if node.parent is not None and node.state.id is None:
            findings.error("missing", node.pointer + "/id", "A substate needs an `id`.", "Add `id`.")
        elif node.parent is None and node.state.id not in (None, node.id):
            findings.error(
                "id_mismatch",
                node.pointer + "/id",
                f"The state stands under the key `{node.id}` and says `{node.state.id}`.",
                "Leave `id` out in `states`: the key names the state.",
            )
        elif tree.by_id[node.id] is not node:
            at = node.pointer if node.parent is None else node.pointer + "/id"
            first = tree.by_id[node.id].pointer
            findings.error("duplicate_id", at, f"The id `{node.id}` is given twice.", f"The first is at {first}.")
    machine = definition.state_machine
    _unique(((f"/stateMachine/transitions/{i}/id", t.id) for i, t in enumerate(machine.transitions)), findings)
    _unique(((f"/approvalChains/{i}/id", chain.id) for i, chain in enumerate(definition.approval_chains)), findings)
    for position, chain in enumerate(definition.approval_chains):
        at = f"/approvalChains/{position}/steps"
        _unique(((f"{at}/{i}/id", stage.id) for i, stage in enumerate(chain.steps)), findings)


def _near(word: str, known: Iterable[str]) -> Callable[[], str | None]:
    return lambda: did_you_mean(word, known)


def _unique(ids: Iterable[tuple[str, str | None]], findings: Findings) -> None:
    first: dict[str, str] = {}
    for at, id in ids:
        if id is None:
            continue
        if id in first:
            findings.error("duplicate_id", at, f"The id `{id}` is given twice.", f"The first is at {first[id]}.")
        else:
            first[id] = at


def _states(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    machine = definition.state_machine
    _targets(machine.initial_state, "/stateMachine/initialState", tree, findings)
    for node in tree.nodes:
        _targets(node.state.properties.initial, node.pointer + "/properties/initial", tree, findings)
    for index, transition in enumerate(machine.transitions):
        at = f"/stateMachine/transitions/{index}"
        _state(transition.from_, at + "/from", tree, findings)
        _targets(transition.to, at + "/to", tree, findings)
    for index, id in enumerate(machine.final_states or ()):
        _state(id, f"/stateMachine/finalStates/{index}", tree, findings)
    for id in definition.timeout_config.state_timeouts:
        _state(id, pointer("timeoutConfig", "stateTimeouts", id), tree, findings)


def _targets(given: object, at: str, tree: Tree, findings: Findings) -> None:
    if isinstance(given, str):
        _state(given, at, tree, findings)
    elif given is not None:
        inner = at if isinstance(given, tuple) else at + "/target"
        for index, id in enumerate(targets_of(given)):  # type: ignore[arg-type]  # one of the forms of a target
            _state(id, f"{inner}/{index}", tree, findings)


def _state(id: str, at: str, tree: Tree, findings: Findings) -> None:
    if id not in tree.by_id:
        findings.error("unknown_state", at, f"There is no state `{id}`.", _near(id, tree.by_id))


def _guards(definition: WorkflowDefinition, findings: Findings) -> None:
    machine = definition.state_machine
    known = machine.guards.keys() | definition.conditions.keys()
    used: set[str] = set()
    for index, transition in enumerate(machine.transitions):
        for position, name in enumerate(transition.guards):
            _guard(name, f"/stateMachine/transitions/{index}/guards/{position}", known, used, findings)
    for name, guard in machine.guards.items():
        at = pointer("stateMachine", "guards", name)
        # The key names the guard, so its `name` may be a title as well; only another guard's name would mislead.
        if guard.name != name and guard.name in machine.guards:
            findings.error("id_mismatch", at + "/name", f"`{guard.name}` is the name of another guard.")
        for position, dependency in enumerate(guard.dependencies):
            _guard(dependency, f"{at}/dependencies/{position}", known, used, findings)
        if name in definition.conditions:
            findings.error(
                "duplicate_id",
                pointer("conditions", name),
                f"`{name}` is the name of a guard too, so a transition could mean either.",
                "Rename one of them.",
            )
    dependencies = {name: guard.dependencies for name, guard in machine.guards.items()}
    for name in circles(dependencies):
        findings.error(
            "dependency_cycle",
            pointer("stateMachine", "guards", name, "dependencies"),
            f"The guard `{name}` depends on itself in the end.",
            "Take one dependency of the circle away.",
        )
    for name in machine.guards.keys() - used:
        findings.warning("unused", pointer("stateMachine", "guards", name), f"No transition uses the guard `{name}`.")
    for name in definition.conditions.keys() - used - machine.guards.keys():
        findings.warning("unused", pointer("conditions", name), f"No transition uses the condition `{name}`.")


def _guard(name: str, at: str, known: Iterable[str], used: set[str], findings: Findings) -> None:
    used.add(name)
    if name not in known:
        findings.error("unknown_guard", at, f"There is no guard or condition `{name}`.", _near(name, known))


def _actions(definition: WorkflowDefinition, tree: Tree, findings: Findings) -> None:
    known = definition.state_machine.actions
    used: set[str] = set()
    sent: set[str] = set()
    cancelled: list[tuple[str, str]] = []
    for at, action in actions(definition, tree):
        if isinstance(action, str):
            used.add(action)
            if action not in known:
                findings.error("unknown_action", at, f"There is no action `{action}`.", _near(action, known))
        elif isinstance(action, SendAction) and action.send_id is not None:
            sent.add(action.send_id)
        elif isinstance(action, CancelAction):
            cancelled.append((at + "/sendId", action.send_id))
    for at, send_id in cancelled:
        if send_id not in sent:
            findings.warning("unknown_send_id", at, f"No `send` has the id `{send_id}`.", _near(send_id, sent))
    contents: dict[str, tuple[str, ...]] = {}
    for name, at, listed in named_actions(definition):
        contents[name] = tuple(found for one in listed for _, found in inside(at, one) if isinstance(found, str))
    for name in circles(contents):
        findings.error(
            "action_cycle",
            pointer("stateMachine", "actions", name),
            f"The action `{name}` contains itself in the end.",
            "Take one name of the circle away.",
        )
    for name in known.keys() - used:
        findings.warning("unused", pointer("stateMachine", "actions", name), f"Nothing uses the action `{name}`.")


def _chains(definition: WorkflowDefinition, tree: Tree, walk: StepWalk, findings: Findings) -> None:
    known = {chain.id for chain in definition.approval_chains}
    used = {chain for _, chain in chains_asked(walk)}
    for node in tree.nodes:
        chain = node.state.properties.approval_chain
        if chain is not None:
            used.add(chain)
            if chain not in known:
                at = node.pointer + "/properties/approvalChain"
                findings.error("unknown_chain", at, f"There is no approval chain `{chain}`.", _near(chain, known))
    for index, one in enumerate(definition.approval_chains):
        if one.id not in used:
            findings.warning(
                "unused",
                f"/approvalChains/{index}",
                f"No state and no step starts the chain `{one.id}`.",
                "Name it in a state's `properties.approvalChain`, or in a step of type `approval`.",
            )


def circles(graph: Mapping[str, tuple[str, ...]]) -> list[str]:
    """
    Give one node of each circle, without recursion.

    >>> circles({"a": ("b",), "b": ("a",), "c": ("a",), "d": ("d",)})
    ['a', 'd']
    """
    found = []
    colour: dict[str, int] = {}
    for start in graph:
        if start in colour:
            continue
        colour[start] = 1
        stack = [(start, iter(graph[start]))]
        while stack:
            node, successors = stack[-1]
            for successor in successors:
                if successor not in graph:
                    continue
                if successor not in colour:
                    colour[successor] = 1
                    stack.append((successor, iter(graph[successor])))
                    break
                if colour[successor] == 1:
                    found.append(successor)
            else:
                colour[node] = 2
                stack.pop()
    return found
