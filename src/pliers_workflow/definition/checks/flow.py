"""Where transitions lead: states nobody reaches, states nobody can leave, circles without end, joins that never complete.

The analysis is optimistic: conditions may hold, events may come. So what it reports as impossible is impossible.
"""

from __future__ import annotations

from ..findings import Findings
from ..tree import Edge, Node, Tree


def check(tree: Tree, findings: Findings) -> None:
    """See the module. Expects names that all lead somewhere."""
    reached = reachable(tree)
    for node in tree.nodes:
        if node not in reached and (node.parent is None or node.parent in reached):
            findings.warning(
                "unreachable_state",
                node.pointer,
                f"No way leads from the initial state to `{node.id}`.",
                "Add a transition that leads there, or remove the state.",
            )
    _dead_ends(tree, reached, findings)
    _eventless_loops(tree, findings)
    _joins(tree, reached, findings)


def entered(tree: Tree, targets: tuple[Node, ...]) -> set[Node]:
    """Give all states that are entered on the way to these targets, with what they enter by default (SCXML §3.13)."""
    found: set[Node] = set()
    #: parallel states whose regions are all in
    whole: set[Node] = set()
    todo = list(targets)
    seen: set[Node] = set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        found.add(node)
        todo.extend(tree.default(node))
        inner = node
        for outer in node.ancestors():
            found.add(outer)
            if outer.state.type == "parallel" and outer not in whole:
                whole.add(outer)
                todo.extend(region for region in outer.regular if region is not inner)
            inner = outer
    return found


def reachable(tree: Tree) -> set[Node]:
    """Give every state that some run can enter.

    As `entered`, for all transitions together: each state is followed once as a target and once as a source.
    """
    reached: set[Node] = set()
    entered_whole: set[Node] = set()
    #: by parallel state: the one region that was only entered through a target inside it; None: no such region
    spared: dict[Node, Node | None] = {}
    targets = list(tree.initial)

    def reach(node: Node) -> None:
        if node not in reached:
            reached.add(node)
            targets.extend(target for edge in node.transitions for target in edge.targets)

    while targets:
        node = targets.pop()
        if node in entered_whole:
            continue
        entered_whole.add(node)
        reach(node)
        targets.extend(tree.default(node))
        inner = node
        for outer in node.ancestors():
            reach(outer)
            if outer.state.type == "parallel":
                if outer not in spared:
                    spared[outer] = inner
                    targets.extend(region for region in outer.regular if region is not inner)
                elif (region := spared[outer]) not in (None, inner):
                    assert region is not None
                    spared[outer] = None
                    targets.append(region)
            inner = outer
    return reached


# -- dead ends ---------------------------------------------------------------------------------------------------------


def _dead_ends(tree: Tree, reached: set[Node], findings: Findings) -> None:
    ways_out: dict[Node, set[Node]] = {}
    for node in tree.nodes:
        if node.kind != "atomic" or node not in reached or _can_be_left(node, ways_out):
            continue
        findings.add(
            # Where instances are not meant to complete, or another region goes on, standing still may be meant.
            "error" if tree.ends and not node.in_region else "warning",
            "dead_end",
            node.pointer,
            f"Nothing can ever leave `{node.id}`, and it is not final.",
            "Add a transition, or set `type` to `final`.",
        )


def _can_be_left(leaf: Node, ways_out: dict[Node, set[Node]]) -> bool:
    """Whether a transition of it, of a state around it, or of another region of those can leave it."""
    inner: Node | None = None
    for outer in leaf.lineage():
        if any(_leaves(edge, leaf) for edge in outer.transitions):
            return True
        if inner is not None and outer.state.type == "parallel":
            if outer not in ways_out:
                ways_out[outer] = {region for region in outer.children if _leads_out(region)}
            if ways_out[outer] - {inner}:
                return True
        inner = outer
    return False


def _leads_out(region: Node) -> bool:
    """Whether a transition from inside a region ends outside of it, which leaves all regions."""
    return any(
        target is not region and not target.is_inside(region)
        for node in (region, *region.below())
        for edge in node.transitions
        for target in edge.targets
    )


def _leaves(edge: Edge, leaf: Node) -> bool:
    """Whether a transition of the leaf or of a state around it leads elsewhere and can happen."""
    if not any(target is not leaf for target in edge.targets):
        return False
    if edge.eventless:
        return True
    # A state around a leaf that is not final is never done while the leaf is active.
    never = {f"done.state.{outer.id}" for outer in leaf.ancestors()}
    return any(trigger not in never for trigger in edge.triggers)


# -- eventless loops ---------------------------------------------------------------------------------------------------


def _eventless_loops(tree: Tree, findings: Findings) -> None:
    """Follow, from each transition without trigger and condition, the ones of its kind that must be taken next."""
    after: dict[Edge, set[Edge]] = {}
    for edge in tree.edges:
        if edge.eventless and not edge.guarded and _asked_first(edge) and not _waits(edge.source):
            states = entered(tree, edge.targets) if edge.targets else {edge.source}
            leaves = [node for node in states if not any(inner.parent is node for inner in states)]
            found = (_must_follow(leaf) for leaf in leaves if leaf.state.type != "history")
            after[edge] = {following for following in found if following is not None}
    reported: set[Edge] = set()
    for edge in after:
        if edge in reported:
            continue
        circle = _circle(edge, after)
        if circle:
            reported.update(circle)
            names = " → ".join(f"`{each.source.id}`" for each in circle)
            in_region = any(each.source.in_region for each in circle)
            findings.add(
                # another region may end it
                "warning" if in_region else "error",
                "eventless_loop",
                edge.pointer,
                f"Without trigger and condition this goes round for ever: {names} → `{circle[0].source.id}`.",
                "Give one of the transitions a trigger or a condition.",
            )


def _asked_first(edge: Edge) -> bool:
    return next((other for other in edge.source.transitions if other.eventless), None) is edge


def _waits(node: Node) -> bool:
    """Transitions without trigger wait for the approval chain and the steps of their state."""
    return node.state.properties.approval_chain is not None or bool(node.state.properties.steps)


def _must_follow(leaf: Node) -> Edge | None:
    for node in leaf.lineage():
        first = next((edge for edge in node.transitions if edge.eventless), None)
        if first is not None and not _waits(node):
            return None if first.guarded else first
    return None


def _circle(start: Edge, after: dict[Edge, set[Edge]]) -> list[Edge]:
    """Give a way from this transition back to itself, or nothing."""
    came: dict[Edge, Edge] = {}
    todo = [start]
    while todo:
        edge = todo.pop()
        for following in after.get(edge, ()):
            if following is start:
                way = [edge]
                while way[-1] is not start:
                    way.append(came[way[-1]])
                return way[::-1]
            if following not in came:
                came[following] = edge
                todo.append(following)
    return []


# -- joins -------------------------------------------------------------------------------------------------------------


def _joins(tree: Tree, reached: set[Node], findings: Findings) -> None:
    for edge in tree.edges:
        for trigger in edge.triggers:
            id = trigger.removeprefix("done.state.")
            if id == trigger or edge.source not in reached:
                continue
            node = tree.by_id.get(id)
            if node is None:
                reason = f"there is no state `{id}`"
            elif node.kind == "final" or node.kind == "atomic" or node.kind == "history":
                reason = f"`{id}` has no substates"
            elif (stuck := _never_done(node, reached)) is not None:
                where = "it" if stuck is node else f"its region `{stuck.id}`"
                reason = f"{where} has no final state that can be reached"
            else:
                continue
            findings.warning(
                "join_never_completes",
                edge.pointer + "/trigger",
                f"`{trigger}` never comes: {reason}.",
                "A compound state is done when it enters a final substate, a parallel state when all its regions are done.",
            )


def _never_done(node: Node, reached: set[Node]) -> Node | None:
    """Give the state that keeps this one from ever being done, or None when it can be."""
    if node.state.type == "parallel":
        return next((stuck for region in node.regular if (stuck := _never_done(region, reached)) is not None), None)
    return None if any(child.kind == "final" and child in reached for child in node.children) else node
