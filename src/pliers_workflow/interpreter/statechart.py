"""The statechart algorithm of W3C SCXML (Appendix D), by its own names, on a draft.

A trigger is worked off in a *macrostep*: microstep after microstep, eventless transitions before internal triggers,
until nothing is enabled. Each *microstep* exits the exit set from the innermost state outwards, runs the transitions'
actions, and enters the entry set from the outermost inwards, both in document order. What we add is said where it
stands: `priority` (already in the order of a state's transitions), approval chains, steps, choices, clocks, and that triggers
sent without delay are delivered before the command is over, since there is nobody else to wait for.

What depends only on the chart is worked out once and kept there: the candidates of a state for a trigger (its own
transitions and its ancestors', in the order in which they are asked), and the domain and entry set of a transition that
meets no history state.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from pliers_workflow.definition.expressions import ExpressionError

from . import approvals, clocks, steps
from .clocks import cancel_timer, start_timer
from .content import execute, fail, minutes_to_ms
from .draft import Refused, Trigger
from .events import ErrorOccurred, StateEntered, StateExited, TransitionTaken, TriggerRaised
from .rejections import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pliers_workflow.definition.chart import Action, Chart, State, Transition

    from .draft import Draft

#: Microsteps of one command. A chart that needs more is taken to have no end.
MICROSTEPS_MAX = 1_000
#: What a microstep, a trigger and an entered state each cost of the budget.
STEP_COST = 10
#: Candidates kept for a chart: names of triggers come from outside, and there is no end of them.
CANDIDATES_MAX = 5_000

_by_index = attrgetter("index")

#: A state to be entered, with the actions of its initial or history-default transition (SCXML's default entry).
Entered = tuple["State", tuple["Action", ...]]


class Route(NamedTuple):
    """Where a transition leads, as far as the chart alone tells."""

    #: what is left and entered lies inside it; None: the machine itself
    domain: State | None
    #: None: depends on what history states remember
    entries: tuple[Entered, ...] | None
    target_ids: tuple[str, ...]


# -- running -----------------------------------------------------------------------------------------------------------


def enter_initial(draft: Draft) -> None:
    """Begin: the machine's initial actions, then its initial states."""
    initial = draft.chart.initial
    if initial.actions:
        execute(draft, initial.actions, "initial transition")
    entries, _ = _compute_entries(draft, [(initial.targets, None)])
    _enter(draft, entries)


def run_to_rest(draft: Draft) -> None:
    """Macrosteps until nothing is enabled, and nothing sent without delay is left."""
    while True:
        macrostep(draft)
        if not draft.running or not draft.external:
            return
        deliver(draft, draft.external.popleft())


def macrostep(draft: Draft) -> None:
    """Eventless transitions first, then the internal queue, until both are exhausted (SCXML §3.13)."""
    while draft.running:
        if draft.agenda:
            steps.work_off(draft)
        enabled = select_transitions(draft, None)
        if enabled:
            microstep(draft, enabled)
            continue
        if not draft.internal:
            return
        trigger = draft.internal.popleft()
        taken = deliver(draft, trigger)
        if trigger.step is not None:
            (steps.taken if taken else steps.not_taken)(draft, trigger.step)


def deliver(draft: Draft, trigger: Trigger) -> bool:
    """Let one trigger take effect, on record where something takes it; says whether it did."""
    draft.budget.spend(STEP_COST)
    draft.trigger = trigger
    enabled = select_transitions(draft, trigger)
    if not enabled:
        return False
    draft.emit(TriggerRaised(trigger.name, trigger.data))
    microstep(draft, enabled)
    return True


def _count_step(draft: Draft) -> None:
    draft.budget.spend(STEP_COST)
    draft.microsteps += 1
    if draft.microsteps > MICROSTEPS_MAX:
        raise Refused(Reason.ENDLESS_LOOP, microsteps=MICROSTEPS_MAX, configuration=list(draft.instance.configuration))


def microstep(draft: Draft, enabled: Sequence[Transition]) -> None:
    """Take the transitions together: exit, act, enter."""
    _count_step(draft)
    trigger = draft.trigger
    name = trigger.name if trigger is not None and enabled[0].triggers else None
    if len(enabled) == 1:
        transition = enabled[0]
        route = _route(draft.chart, transition)
        if not transition.targets:
            _take(draft, transition, route, name)
        elif route.entries is not None:
            _exit(draft, _inside(draft.active, route.domain))
            _take(draft, transition, route, name)
            _enter(draft, route.entries)
        else:
            _microstep(draft, enabled, name)
    else:
        _microstep(draft, enabled, name)


def _microstep(draft: Draft, enabled: Sequence[Transition], name: str | None) -> None:
    """The general case: several transitions, or history."""
    # W3C's order: the entry set is computed after the exits, because these record what history states remember; the
    # domains are those from before, because what is remembered now may not move them.
    domains = [(each, get_transition_domain(draft, each)) for each in enabled if each.targets]
    _exit(draft, compute_exit_set(draft, enabled))
    for transition in enabled:
        _take(draft, transition, _route(draft.chart, transition), name)
    entries, _ = _compute_entries(draft, [(each.targets, domain) for each, domain in domains])
    _enter(draft, entries)


def _take(draft: Draft, transition: Transition, route: Route, name: str | None) -> None:
    draft.emit(TransitionTaken(transition.id, transition.source.id, route.target_ids, name))
    if transition.actions:
        execute(draft, transition.actions, f"transition {transition.id}")


# -- selecting ---------------------------------------------------------------------------------------------------------


def candidates(chart: Chart, state: State, name: str) -> tuple[Transition, ...]:
    """A state's transitions and its ancestors' that a trigger can match, as they are asked; eventless ones for ``""``."""
    key = (state.index, name)
    found = chart.candidates.get(key)
    if found is None:
        line = (state, *state.ancestors)
        if name:
            found = tuple([each for owner in line for each in owner.transitions if matches(each.triggers, name)])
        else:
            found = tuple([each for owner in line for each in owner.eventless])
        if len(chart.candidates) < CANDIDATES_MAX:
            chart.candidates[key] = found
    return found


def matches(triggers: tuple[str, ...], name: str) -> bool:
    """
    Whether one of the descriptors names the trigger or a dotted prefix of it (SCXML §3.12.1).

    >>> matches(("timeout",), "timeout.review"), matches(("time",), "timeout"), matches(("*",), "anything")
    (True, False, True)
    """
    return any(each == name or each == "*" or name.startswith(each + ".") for each in triggers)


def select_transitions(
    draft: Draft, trigger: Trigger | None, allowed: Callable[[Transition], bool] | None = None
) -> list[Transition]:
    """
    The transitions that a trigger, or no trigger, enables, without those that conflict (SCXML selectTransitions).

    For each active atomic state, the first candidate whose guard holds; `allowed` may take more away (who may fire it).
    A guard that fails with an error counts as false. That raises `error.execution` where the chart handles it; else the
    command is refused when nothing else takes its trigger.
    """
    chart = draft.chart
    name = "" if trigger is None else trigger.name
    event = draft.trigger
    enabled: list[Transition] = []
    errors: list[tuple[Transition, ExpressionError]] = []
    asked: dict[Transition, bool] | None = None
    for state in draft.active:
        if state.kind != "atomic" and state.kind != "final":
            continue
        for transition in candidates(chart, state, name):
            if asked is not None and transition in asked:
                holds = asked[transition]
            else:
                source = transition.source
                if not name and source.busy and not _at_rest(draft, source):
                    continue
                if allowed is not None and not allowed(transition):
                    continue
                holds = True
                if transition.guard:
                    try:
                        holds = draft.holds(transition.guard, event)
                    except ExpressionError as error:
                        holds = False
                        if not (source.choice and _has_default(source)):
                            errors.append((transition, error))
                        else:
                            _note(draft, transition, error)
                            transition = next(each for each in source.eventless if not each.guard)
                            holds = True
                if asked is None:
                    asked = {}
                asked[transition] = holds
            if holds:
                if transition not in enabled:
                    enabled.append(transition)
                break
    if errors:
        _guard_errors(draft, trigger, enabled, errors)
    if len(enabled) > 1:
        return remove_conflicting_transitions(draft, enabled)
    return enabled


def _at_rest(draft: Draft, state: State) -> bool:
    """Whether a state's steps are done and its chain is granted, for which its eventless transitions wait."""
    if state.steps is not None and state.id in draft.instance.machine.working:
        return False
    return state.chain is None or approvals.chain_granted(draft.instance, state.id)


def _has_default(choice: State) -> bool:
    return any(not each.guard for each in choice.eventless)


def _note(draft: Draft, transition: Transition, error: ExpressionError) -> bool:
    """Put a guard's error on record, once a command; says whether it was new."""
    if transition.id in draft.reported:
        return False
    draft.reported.add(transition.id)
    draft.emit(ErrorOccurred(str(error), f"guard of transition {transition.id}", transition.source.id))
    return True


def _guard_errors(
    draft: Draft,
    trigger: Trigger | None,
    enabled: Sequence[Transition],
    errors: Sequence[tuple[Transition, ExpressionError]],
) -> None:
    if not draft.chart.handles_errors:
        if trigger is not None and not enabled:
            transition, error = errors[0]
            raise Refused(
                Reason.GUARD_ERROR,
                trigger=trigger.name,
                transition=transition.id,
                explanation={"error": str(error), **draft.explain(transition.guard, draft.trigger)},
            )
        for transition, error in errors:
            _note(draft, transition, error)
    elif trigger is None or not trigger.name.startswith("error."):
        # Once a command for each guard: an eventless guard is asked again after every microstep, the one that the
        # error itself causes included.
        for transition, error in errors:
            if _note(draft, transition, error):
                source = f"guard of transition {transition.id}"
                draft.raise_internal("error.execution", {"message": str(error), "source": source})


def remove_conflicting_transitions(draft: Draft, enabled: Iterable[Transition]) -> list[Transition]:
    """Where exit sets meet, the transition of the inner state wins, else the first in document order (SCXML)."""
    kept: list[Transition] = []
    exits: dict[Transition, set[State]] = {}
    for transition in enabled:
        exits[transition] = mine = set(compute_exit_set(draft, (transition,)))
        preempted = False
        removed = []
        for other in kept:
            if not mine.isdisjoint(exits[other]):
                if transition.source in other.source.descendants:
                    removed.append(other)
                else:
                    preempted = True
                    break
        if not preempted:
            kept = [each for each in kept if each not in removed]
            kept.append(transition)
    return kept


# -- where transitions lead --------------------------------------------------------------------------------------------


def _route(chart: Chart, transition: Transition) -> Route:
    route: Route | None = chart.routes.get(transition.index)
    if route is None:
        target_ids = tuple([each.id for each in transition.targets])
        domain, entries = None, None
        if transition.targets and not any(each.kind == "history" for each in transition.targets):
            domain = _domain(transition, transition.targets)
            computed, by_history = _compute_entries(None, [(transition.targets, domain)])
            entries = None if by_history else tuple(computed)
        route = Route(domain, entries, target_ids)
        chart.routes[transition.index] = route
    return route


def get_effective_target_states(draft: Draft, targets: Iterable[State]) -> list[State]:
    """Targets, history states among them replaced by what they remember, or by their default (SCXML)."""
    effective: list[State] = []
    for target in targets:
        if target.kind != "history":
            found = [target]
        elif target.id in draft.instance.machine.history:
            found = _remembered(draft, target)
        else:
            assert target.initial is not None
            found = get_effective_target_states(draft, target.initial.targets)
        effective.extend(each for each in found if each not in effective)
    return effective


def get_transition_domain(draft: Draft, transition: Transition) -> State | None:
    """The state inside which everything a transition exits and enters lies; None: the machine (SCXML)."""
    return _domain(transition, get_effective_target_states(draft, transition.targets))


def _domain(transition: Transition, targets: Sequence[State]) -> State | None:
    source = transition.source
    if transition.internal and source.kind == "compound" and all(each in source.descendants for each in targets):
        return source
    return find_lcca(source, targets)


def find_lcca(source: State, targets: Iterable[State]) -> State | None:
    """The least common compound ancestor; None: the machine. Parallel states are no compound states (SCXML)."""
    for ancestor in source.ancestors:
        if ancestor.kind == "compound" and all(each in ancestor.descendants for each in targets):
            return ancestor
    return None


def _inside(active: Sequence[State], domain: State | None) -> list[State]:
    if domain is None:
        return list(active)
    return [each for each in active if each in domain.descendants]


def compute_exit_set(draft: Draft, transitions: Iterable[Transition]) -> list[State]:
    """The active states that the transitions leave, in document order (SCXML)."""
    leaving: dict[State, None] = {}
    for transition in transitions:
        if transition.targets:
            route = _route(draft.chart, transition)
            domain = route.domain if route.entries is not None else get_transition_domain(draft, transition)
            leaving.update(dict.fromkeys(_inside(draft.active, domain)))
    return sorted(leaving, key=_by_index)


def _remembered(draft: Draft, history: State) -> list[State]:
    return [draft.chart.by_id[each] for each in draft.instance.machine.history[history.id]]


class _EntrySet:
    """The states to enter while they are being computed (SCXML computeEntrySet)."""

    def __init__(self, draft: Draft | None) -> None:
        self.draft = draft
        self.states: set[State] = set()
        #: compound states entered by default, whose initial actions run after their entry actions
        self.by_default: set[State] = set()
        #: actions of a history state's default, by the parent after whose entry and initial actions they run
        self.history_content: dict[State, tuple[Action, ...]] = {}
        #: a history state had a say
        self.by_history = False

    def add_descendant_states_to_enter(self, state: State) -> None:
        if state.kind == "history":
            self._add_history(state)
            return
        self.states.add(state)
        if state.kind == "compound":
            assert state.initial is not None
            self.by_default.add(state)
            for target in state.initial.targets:
                self.add_descendant_states_to_enter(target)
            for target in state.initial.targets:
                self.add_ancestor_states_to_enter(target, state)
        elif state.kind == "parallel":
            self._add_regions(state)

    def content(self, state: State) -> tuple[Action, ...]:
        """What runs after the state's entry actions."""
        by_default: tuple[Action, ...] = ()
        if state in self.by_default:
            assert state.initial is not None
            by_default = state.initial.actions
        return by_default + self.history_content.get(state, ())

    def _add_history(self, history: State) -> None:
        self.by_history = True
        draft = self.draft
        if draft is not None and history.id in draft.instance.machine.history:
            targets: Sequence[State] = _remembered(draft, history)
        else:
            assert history.initial is not None
            targets = history.initial.targets
            if history.parent is not None:
                self.history_content[history.parent] = history.initial.actions
        for target in targets:
            self.add_descendant_states_to_enter(target)
        for target in targets:
            self.add_ancestor_states_to_enter(target, history.parent)

    def _add_regions(self, state: State) -> None:
        for child in state.children:
            if child.kind != "history" and self.states.isdisjoint(child.descendants):
                self.add_descendant_states_to_enter(child)

    def add_ancestor_states_to_enter(self, state: State, domain: State | None) -> None:
        for ancestor in state.ancestors:
            if ancestor is domain:
                return
            self.states.add(ancestor)
            if ancestor.kind == "parallel":
                self._add_regions(ancestor)


def _compute_entries(
    draft: Draft | None, legs: Iterable[tuple[Sequence[State], State | None]]
) -> tuple[list[Entered], bool]:
    """
    What to enter for these targets and their domains, in entry order, and whether a history state had a say.

    Without a draft history is taken at its default, which only serves to learn whether there is any.
    """
    entry = _EntrySet(draft)
    for targets, domain in legs:
        for target in targets:
            entry.add_descendant_states_to_enter(target)
        effective = targets if draft is None else get_effective_target_states(draft, targets)
        for target in effective:
            entry.add_ancestor_states_to_enter(target, domain)
    states = sorted(entry.states, key=_by_index)
    return [(state, entry.content(state)) for state in states], entry.by_history


def entered_by(draft: Draft, enabled: Iterable[Transition]) -> set[str]:
    """Ids of the states that taking these transitions would enter."""
    legs = [(each.targets, get_transition_domain(draft, each)) for each in enabled if each.targets]
    return {state.id for state, _ in _compute_entries(draft, legs)[0]}


# -- exiting and entering ----------------------------------------------------------------------------------------------


def _exit(draft: Draft, leaving: Sequence[State]) -> None:
    """Exit states, given in document order, from the last to the first (SCXML exitStates)."""
    # What is remembered is what was active before anything was exited.
    remembered = {
        state: {history.id: _to_remember(draft.active, state, history) for history in state.histories}
        for state in leaving
        if state.histories
    }
    for state in reversed(leaving):
        if state.exit_actions:
            execute(draft, state.exit_actions, f"exit of {state.id}")
        if state.busy:
            if state.chain is not None:
                approvals.leave(draft, state.id)
            if state.steps is not None:
                steps.leave_state(draft, state)
        if state.clocks:
            for timer in draft.instance.machine.timers.values():
                if timer.state == state.id and timer.kind == "state":
                    cancel_timer(draft, timer.id)
        if draft.instance.machine.incidents:
            clocks.leave(draft, state.id)
        draft.active.remove(state)
        draft.emit(StateExited(state.id, remembered.get(state, {})))


def _to_remember(active: Iterable[State], parent: State, history: State) -> tuple[str, ...]:
    if history.history == "deep":
        return tuple([each.id for each in active if each.kind in ("atomic", "final") and each in parent.descendants])
    return tuple([each.id for each in active if each.parent is parent])


def _enter(draft: Draft, entries: Iterable[Entered]) -> None:
    """Enter states in document order (SCXML enterStates); then start their clocks, then their approval chains and steps."""
    active = draft.active
    for state, content in entries:
        draft.budget.spend(STEP_COST)
        position = len(active)
        while position and active[position - 1].index > state.index:
            position -= 1
        active.insert(position, state)
        draft.emit(StateEntered(state.id, position, state.in_region))
        if state.entry_actions:
            execute(draft, state.entry_actions, f"entry of {state.id}")
        if content:
            execute(draft, content, f"initial transition of {state.id}")
        if state.clocks:
            _start_clocks(draft, state)
        if state.busy:
            _start_work(draft, state)
        if state.kind == "final":
            _enter_final(draft, state)


def _start_work(draft: Draft, state: State) -> None:
    if state.chain is not None:
        try:
            approvals.start_chain(draft, approvals.place_of_state(state))
        except ExpressionError as error:
            fail(draft, error, f"approval chain {state.chain.id}")
    if state.steps is not None:
        steps.start_steps(draft, state)


def _start_clocks(draft: Draft, state: State) -> None:
    for clock in state.clocks:
        try:
            after_ms = clock.after_ms
            if after_ms is None:
                assert clock.after is not None
                after_ms = minutes_to_ms(draft.evaluate(clock.after, draft.trigger), "a timeout")
            start_timer(draft, kind="state", trigger=clock.trigger, budget_ms=after_ms, state=state.id)
        except ExpressionError as error:
            fail(draft, error, f"timeout {clock.id} of {state.id}")


def _enter_final(draft: Draft, state: State) -> None:
    parent = state.parent
    if parent is None:
        draft.running = False
        return
    data = None
    try:
        data = draft.payload(state.done_data, draft.trigger)
    except ExpressionError as error:
        fail(draft, error, f"done data of {state.id}")
    draft.raise_internal("done.state." + parent.id, data)
    grandparent = parent.parent
    if grandparent is not None and grandparent.kind == "parallel" and is_in_final_state(draft, grandparent):
        draft.raise_internal("done.state." + grandparent.id)


def is_in_final_state(draft: Draft, state: State) -> bool:
    """A compound state is done when a final child is active, a parallel state when all its regions are (SCXML)."""
    if state.kind == "compound":
        return any(each.kind == "final" and each in draft.active for each in state.children)
    if state.kind == "parallel":
        return all(is_in_final_state(draft, each) for each in state.children if each.kind != "history")
    return False
