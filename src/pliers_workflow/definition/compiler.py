"""Compile a definition to the chart that the interpreter runs.

Only a definition without errors is compiled (`definition.reading` says so): names lead somewhere, expressions are valid,
nothing runs in circles. Equal expressions are compiled once; a chart holds no reference to the document, is never
changed again, and may be shared by threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from . import chart as c
from . import document as d
from .canonical import content_hash
from .data import compile_schema, data_path, parse_template
from .expressions import ROOTS, Expression, simple_condition
from .listening import SUBMISSION, SUBMISSION_OF_INSTANCE, listens_by_submission
from .sharing import shared_expression
from .step_compiler import StepCompiler
from .tree import Edge, Node, Tree, matches, targets_of

#: milliseconds a script may take that no guard limits
SCRIPT_TIMEOUT_MS = 500
#: attempts of a step done outside, where neither its `retryPolicy` nor the installation says
RETRY_ATTEMPTS = 3


def compile_definition(definition: d.WorkflowDefinition, *, retry_attempts: int = RETRY_ATTEMPTS) -> c.Chart:
    """
    Compile a definition that has no errors.

    States are numbered in document order: depth first, `states` and `substates` as they stand. The transitions of a state
    stand in the order in which they are asked: the higher `priority` first, then as in the document. `retry_attempts` is
    how often a step done outside is tried whose `retryPolicy` does not say.
    """
    return Compiler(definition, retry_attempts).chart()


def milliseconds(minutes: float) -> int:
    """
    Turn minutes into whole milliseconds, at least one.

    >>> milliseconds(0.5)
    30000
    """
    return max(1, round(minutes * 60_000))


class Compiler:
    """Compiles one definition; `step_compiler` compiles its steps with it."""

    milliseconds = staticmethod(milliseconds)

    def __init__(self, definition: d.WorkflowDefinition, retry_attempts: int) -> None:
        self.definition = definition
        self.retry_attempts = retry_attempts
        self.machine = definition.state_machine
        self.tree = Tree(self.machine)
        self.states: dict[Node, c.State] = {}
        self._expressions: dict[str, Expression] = {}
        self._named_actions: dict[str, tuple[c.Action, ...]] = {}
        self._named_conditions: dict[str, c.Condition] = {}
        self._roots: set[str] = set()

    def chart(self) -> c.Chart:
        chains = {chain.id: self._chain(chain) for chain in self.definition.approval_chains}
        steps = StepCompiler(self, chains, self.retry_attempts)
        for node in self.tree.nodes:
            self._state(node, chains, steps)
        for node in self.tree.nodes:
            self._links(node)
        transitions = tuple(self._transition(edge, number) for edge, number in self._numbered())
        self._order(transitions)
        access = self.definition.access
        states = tuple(self.states[node] for node in self.tree.nodes)
        title = parse_template(self.definition.display.title) if self.definition.display.title else ()
        administrators = tuple(self._approver(one) for one in access.administrators)
        initial = self._initial(self.machine.initial_state)
        named_steps = {name: steps.named(name) for name in self.definition.steps}
        steps.finish(path for each in self._expressions.values() for path in each.reads)
        correlation = tuple((key.name, shared_expression(key.key)) for key in self.definition.event_hooks.correlation)
        keys_move = any("instance" in expression.roots for _, expression in correlation)
        if listens_by_submission(self.definition):
            # It never changes, so it makes no key move.
            correlation += ((SUBMISSION, shared_expression(SUBMISSION_OF_INSTANCE)),)
        handlers = {one.id: self._actions(one.actions) for one in self.definition.event_hooks.handlers}
        return c.Chart(
            name=self.definition.name,
            version=self.definition.version,
            states=states,
            by_id={state.id: state for state in states},
            top=tuple(self.states[node] for node in self.tree.top),
            initial=initial,
            transitions=transitions,
            chains=chains,
            workflow_clock=self._workflow_clock(),
            start_access=access.start,
            view_access=access.view,
            advance_access=access.advance,
            cancel_access=access.cancel,
            administrators=administrators,
            check_data=compile_schema(self.definition.data_schema),
            handles_errors=any(matches(word, "error.execution") for one in transitions for word in one.triggers),
            roots=frozenset(self._roots | {piece[0] for piece in title if isinstance(piece, tuple)}),
            metadata=self.definition.metadata,
            steps=steps.steps,
            named_steps=named_steps,
            weight=len(states) + len(transitions) + len(steps.steps) + len(self._expressions) + len(correlation),
            content_hash=content_hash(self.definition.model_dump(by_alias=True, exclude_unset=True)),
            title=title,
            correlation=correlation,
            keys_move=keys_move,
            handlers=handlers,
            listens=bool(correlation),
        )

    # -- states ----------------------------------------------------------------------------------------------------

    def _state(self, node: Node, chains: Mapping[str, c.Chain], steps: StepCompiler) -> None:
        properties = node.state.properties
        work = steps.of_state(node.id, properties.steps)
        self.states[node] = c.State(
            id=node.id,
            index=node.index,
            name=node.state.name or node.id,
            kind=node.kind,
            choice=node.state.type == "choice",
            in_region=node.in_region,
            history=(properties.history or "shallow") if node.kind == "history" else None,
            entry_actions=self._actions(node.state.entry_actions),
            exit_actions=self._actions(node.state.exit_actions),
            clocks=self._clocks(node),
            chain=None if properties.approval_chain is None else chains[properties.approval_chain],
            steps=work,
            busy=work is not None or properties.approval_chain is not None,
            done_data=self.payload(properties.done_data),
            editable_by=properties.editable_by,
        )

    def _links(self, node: Node) -> None:
        state = self.states[node]
        state.parent = None if node.parent is None else self.states[node.parent]
        state.children = tuple(self.states[child] for child in node.children)
        state.ancestors = tuple(self.states[outer] for outer in node.ancestors())
        state.descendants = frozenset(self.states[below] for below in node.below())
        state.histories = tuple(self.states[child] for child in node.children if child.kind == "history")
        targets = self.tree.default(node)
        if targets:
            given = node.state.properties.initial if node.kind in ("compound", "history") else None
            actions = self._actions(given.actions) if isinstance(given, d.Initial) else ()
            state.initial = c.Entry(tuple(self.states[target] for target in targets), actions)

    def _initial(self, given: str | tuple[str, ...] | d.Initial) -> c.Entry:
        targets = tuple(self.states[node] for node in self.tree.find(targets_of(given)))
        return c.Entry(targets, self._actions(given.actions) if isinstance(given, d.Initial) else ())

    def _clocks(self, node: Node) -> tuple[c.Clock, ...]:
        default = f"timeout.{node.id}"
        clocks = []
        for timeout in node.state.timeouts:
            trigger = timeout.trigger or default
            after = timeout.after_minutes
            if isinstance(after, str):
                clocks.append(c.Clock(timeout.id or trigger, trigger, None, self.expression(after)))
            else:
                clocks.append(c.Clock(timeout.id or trigger, trigger, milliseconds(after), None))
        minutes = self.definition.timeout_config.state_timeouts.get(node.id)
        if minutes is not None:
            clocks.append(c.Clock(default, default, milliseconds(minutes), None))
        return tuple(clocks)

    def _workflow_clock(self) -> c.Clock | None:
        minutes = self.definition.timeout_config.workflow_timeout
        return None if minutes is None else c.Clock("workflow", "timeout.workflow", milliseconds(minutes), None)

    # -- transitions -----------------------------------------------------------------------------------------------

    def _numbered(self) -> list[tuple[Edge, int]]:
        """Transitions in document order, each with its number among those of its source, from 1."""
        counts: dict[Node, int] = {}
        numbered = []
        for edge in self.tree.edges:
            counts[edge.source] = counts.get(edge.source, 0) + 1
            numbered.append((edge, counts[edge.source]))
        return numbered

    def _transition(self, edge: Edge, number: int) -> c.Transition:
        transition = edge.transition
        return c.Transition(
            # No id of an author holds a slash, so these never meet one.
            id=transition.id or f"{edge.source.id}/{number}",
            index=edge.index,
            source=self.states[edge.source],
            targets=tuple(self.states[target] for target in edge.targets),
            triggers=edge.triggers,
            guard=self.guard(transition.condition, transition.guards),
            actions=self._actions(transition.actions),
            internal=transition.type == "internal",
            priority=transition.priority,
            access=transition.access,
        )

    def _order(self, transitions: tuple[c.Transition, ...]) -> None:
        by_index = {transition.index: transition for transition in transitions}
        for node in self.tree.nodes:
            ordered = tuple(by_index[edge.index] for edge in node.transitions)
            self.states[node].transitions = ordered
            self.states[node].eventless = tuple(transition for transition in ordered if not transition.triggers)

    # -- conditions and expressions ----------------------------------------------------------------------------------

    def expression(self, source: str) -> Expression:
        found = self._expressions.get(source)
        if found is None:
            found = self._expressions[source] = shared_expression(source)
            self._roots.update(found.roots)
        return found

    def guard(self, condition: d.Condition | None, guards: tuple[str, ...] = ()) -> c.Guard:
        found: list[c.Condition] = [] if condition is None else [self._condition(condition)]
        asked: set[str] = set()

        def ask(name: str) -> None:
            if name in asked:
                return
            asked.add(name)
            for dependency in self._dependencies(name):
                ask(dependency)
            found.append(self._named_condition(name))

        for name in guards:
            ask(name)
        return tuple(found)

    def _dependencies(self, name: str) -> tuple[str, ...]:
        guard = self.machine.guards.get(name)
        return () if guard is None else guard.dependencies

    def _named_condition(self, name: str) -> c.Condition:
        found = self._named_conditions.get(name)
        if found is None:
            guard = self.machine.guards.get(name)
            if guard is None:
                found = self._condition(self.definition.conditions[name], name)
            else:
                found = self._condition(guard.condition, name, guard.timeout)
            self._named_conditions[name] = found
        return found

    def _condition(self, condition: d.Condition, name: str | None = None, timeout: int | None = None) -> c.Condition:
        if isinstance(condition, str):
            return c.Condition(condition, self.expression(condition), None, name)
        if condition.type == "script":
            source = condition.script or ""
            self._roots.update(ROOTS)  # a script may look at everything
            code_hash = hashlib.sha256(source.encode()).hexdigest()
            return c.Condition(source, None, c.Script(source, code_hash, timeout or SCRIPT_TIMEOUT_MS), name)
        if condition.type == "complex":
            source = condition.expression or ""
        else:
            source = simple_condition(condition.field or "", condition.operator or "", condition.value)
        return c.Condition(source, self.expression(source), None, name)

    def payload(self, data: dict[str, str] | str | None) -> c.Payload:
        if data is None:
            return None
        if isinstance(data, str):
            return self.expression(data)
        return {key: self.expression(source) for key, source in data.items()}

    # -- actions -----------------------------------------------------------------------------------------------------

    def _actions(self, listed: tuple[str | d.Action, ...]) -> tuple[c.Action, ...]:
        found: list[c.Action] = []
        for action in listed:
            if isinstance(action, str):
                found.extend(self._named(action))
            else:
                found.append(self._action(action))
        return tuple(found)

    def _named(self, name: str) -> tuple[c.Action, ...]:
        found = self._named_actions.get(name)
        if found is None:
            given = self.machine.actions[name]
            found = self._named_actions[name] = self._actions(given if isinstance(given, tuple) else (given,))
        return found

    def _action(self, action: d.Action) -> c.Action:
        match action:
            case d.AssignAction():
                root, path = data_path(action.field)
                return c.Assign(root, path, self.expression(action.value))
            case d.RaiseAction():
                return c.Raise(action.trigger, self.payload(action.data))
            case d.SendAction():
                after = action.delay_minutes
                delay = self.expression(after) if isinstance(after, str) else None
                # no delay, or none to speak of: delivered as soon as the macrostep is over
                delay_ms = milliseconds(after) if isinstance(after, int | float) and after > 0 else None
                return c.Send(action.trigger, self.payload(action.data), delay, delay_ms, action.send_id)
            case d.CancelAction():
                return c.Cancel(action.send_id)
            case d.LogAction():
                return c.Log(action.label, None if action.value is None else self.expression(action.value))
            case d.IfAction():
                return c.If(
                    tuple((self.guard(branch.condition), self._actions(branch.actions)) for branch in action.branches)
                )
            case d.ForeachAction():
                return c.Foreach(
                    self.expression(action.array),
                    data_path(action.item),
                    None if action.index is None else data_path(action.index),
                    self._actions(action.actions),
                )

    # -- approvals ---------------------------------------------------------------------------------------------------

    def _chain(self, chain: d.ApprovalChain) -> c.Chain:
        stages = tuple(self._stage(stage, index) for index, stage in enumerate(chain.steps))
        return c.Chain(
            id=chain.id,
            name=chain.name or chain.id,
            stages=stages,
            delegation=chain.configuration.allow_delegation,
            request_changes=chain.configuration.allow_request_changes,
            distinct_approvers=chain.configuration.distinct_approvers,
            stage_by_id={stage.id: stage for stage in stages},
        )

    def _stage(self, stage: d.ApprovalStep, index: int) -> c.Stage:
        needs = stage.requirements
        watched = stage.watched_fields
        return c.Stage(
            id=stage.id,
            index=index,
            name=stage.name or stage.id,
            approvers=tuple(self._approver(approver) for approver in stage.approvers),
            condition=self.guard(stage.condition),
            parallel=stage.parallel,
            approvals_min=needs.minimum_approvals,
            unanimous=bool(needs.unanimous_required),
            self_approval=needs.allow_self_approval,
            comments_required=needs.require_comments,
            timeout_ms=None if needs.timeout_minutes is None else milliseconds(needs.timeout_minutes),
            on_timeout=stage.on_timeout,
            on_rejection=stage.on_rejection,
            fallback_outcome=stage.fallback_outcome,
            watched=None if watched is None else tuple(data_path(path)[1] for path in watched),
        )

    def _approver(self, approver: d.ApproverDefinition) -> c.Approver:
        return c.Approver(
            type=approver.type,
            identifier=approver.identifier,
            expression=self.expression(approver.identifier) if approver.type == "dynamic" else None,
            fallback=tuple(self._approver(other) for other in approver.fallback),
        )
