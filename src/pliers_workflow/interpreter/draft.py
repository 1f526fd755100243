"""A draft: the instance while one command is being interpreted.

The parts of the interpreter (statechart, approvals, clocks) work on a draft and nothing else. It changes only through
`emit`, which applies the event and keeps it, so that folding the events gives the instance by construction.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from pliers_workflow.definition.expressions import ExpressionError

from .facts import ScriptAnswer, ScriptRequest, User
from .folding import APPLY, thaw
from .rejections import Reason
from .step_view import event as _event_of_step
from .step_view import named, variables
from .step_view import steps as _steps
from .subjects import includes

if TYPE_CHECKING:
    from pliers_workflow.definition.chart import Chart, Condition, Guard, Payload, State
    from pliers_workflow.definition.expressions import Budget, Expression

    from .commands import Actor, InboundEvent
    from .effects import Effect
    from .events import Event
    from .facts import Fact, Facts
    from .instance import Instance
    from .step_view import View


#: What can be put on the agenda; `interpreter.steps.starting` says what each comes to.
Task: TypeAlias = Literal["start", "begin", "begin_elements", "go_on", "complete", "fail", "propagate", "undo"]


class Trigger(Struct, frozen=True):
    """A trigger on its way through the chart (SCXML's event)."""

    name: str
    data: Any = None
    #: user id of who fired it; None: the engine
    user: str | None = None
    #: from outside (`/advance`): the transition's `access` is asked
    external: bool = False
    #: the step run whose failure it tells of; when nothing takes it, an incident is raised
    step: str | None = None
    #: the event from outside behind it
    event: InboundEvent | None = None


class Missing(Exception):
    """Facts are missing; becomes `Needs`. Used inside `interpret` only."""

    def __init__(self, keys: tuple[str, ...] = (), scripts: tuple[ScriptRequest, ...] = ()) -> None:
        super().__init__(keys, scripts)
        self.keys = keys
        self.scripts = scripts


class Refused(Exception):
    """The command is refused; becomes a `Rejection`. Used inside `interpret` only."""

    def __init__(self, reason: Reason, **details: Any) -> None:
        super().__init__(reason, details)
        self.reason = reason
        self.details = details


class Draft:
    """See the module. `interpreter.interpret` makes one for each command and reads it out at the end."""

    __slots__ = (
        "active", "actor", "agenda", "budget", "chart", "effects", "events", "external", "facts", "instance", "internal",
        "looked_at", "microsteps", "now", "numbers", "profiles", "reported", "running", "trigger", "unchecked", "view",
    )  # fmt: skip

    chart: Chart
    #: the working copy
    instance: Instance
    now: datetime
    actor: Actor
    budget: Budget
    events: list[Event]
    effects: list[Effect]
    internal: deque[Trigger]
    #: zero-delay sends, delivered when the macrostep is over
    external: deque[Trigger]
    #: the instance's configuration as states of the chart, in document order; kept in step by the statechart
    active: list[State]
    #: False as soon as a top-level final state is entered
    running: bool
    #: taken so far by this command
    microsteps: int
    #: guards whose error is on record already, so that one is reported once a command
    reported: set[str]
    #: the trigger being worked off; eventless transitions still see it (SCXML's `_event`)
    trigger: Trigger | None
    facts: Facts
    #: facts that were asked for, to be kept in the history row
    looked_at: dict[str, Fact]
    #: last number given by `number`, by counter, where it is ahead of the instance's
    numbers: dict[str, int]
    #: user profiles as expressions see them, by user id
    profiles: dict[str, dict[str, Any] | None]
    #: what is still to be done about steps before the microstep is over (`interpreter.steps`); None: nothing yet
    agenda: deque[tuple[Any, ...]] | None
    #: from where expressions look, where that is a step
    view: View | None
    #: actions or outputs of steps have written to the data, which nobody has held against their schema since
    unchecked: bool

    def __init__(
        self, chart: Chart, instance: Instance, *, actor: Actor, facts: Facts, now: datetime, budget: Budget
    ) -> None:
        self.chart = chart
        self.instance = thaw(instance)
        self.actor = actor
        self.facts = facts
        self.now = now
        self.budget = budget
        self.events = []
        self.effects = []
        self.internal = deque()
        self.external = deque()
        self.active = [chart.by_id[state] for state in instance.configuration]
        self.running = True
        self.microsteps = 0
        self.reported = set()
        self.trigger = None
        self.looked_at = {}
        self.numbers = {}
        self.profiles = {}
        self.agenda = None
        self.view = None
        self.unchecked = False

    def emit(self, event: Event) -> None:
        """Apply an event to the working copy and keep it."""
        APPLY[type(event)](self.instance, event, self.now)
        self.events.append(event)

    def owe(self, effect: Effect) -> None:
        """Leave a duty to the runtime."""
        self.effects.append(effect)

    def number(self, counter: str) -> int:
        """
        Count up inside the instance: `number("timer")` is 1, then 2 …

        Kept by the event that carries the id (`timer/7`): a number that no event came to carry is given again to the
        next command, which does no harm.
        """
        given = self.numbers.get(counter)
        if given is None:
            given = self.instance.machine.counters.get(counter, 0)
        self.numbers[counter] = given = given + 1
        return given

    # -- facts ---------------------------------------------------------------------------------------------------------

    def fact(self, key: str) -> Fact:
        """A fact, noted as looked at. Raises `Missing` when it is not there."""
        try:
            fact = self.facts[key]
        except KeyError:
            raise Missing(keys=(key,)) from None
        self.looked_at[key] = fact
        return fact

    def require(self, keys: tuple[str, ...]) -> None:
        """Ask for several facts at once, to save rounds. Raises `Missing` with all that are not there."""
        missing = tuple(dict.fromkeys(key for key in keys if key not in self.facts))
        if missing:
            raise Missing(keys=missing)

    def user(self, user: str) -> User | None:
        """The directory's record of a user id; None when there is no such user."""
        fact = self.fact("user:" + user)
        return fact if isinstance(fact, User) else None

    def is_subject(self, subjects: tuple[str, ...], user: str | None) -> bool:
        """Whether a user is among `requester`, `anyone`, `user:NAME`, `role:KEY`, `group:KEY`; the engine always is."""
        return user is None or includes(subjects, user, self.instance.requester, self.user)

    def allow(self, subjects: tuple[str, ...]) -> None:
        """Refuse whoever gives the command, where they are neither among the subjects nor an operator."""
        if not self.actor.operates and not self.is_subject(subjects, self.actor.user):
            raise Refused(Reason.NOT_ALLOWED, allowed=[*subjects, "operator"])

    # -- expressions ---------------------------------------------------------------------------------------------------

    def scope(self, roots: frozenset[str], event: Trigger | None) -> dict[str, Any]:
        """What an expression sees: the roots it reads and no others, so that nothing is built in vain."""
        return {root: _ROOTS[root](self, event) for root in roots}

    def evaluate(self, expression: Expression, event: Trigger | None) -> Any:
        """The value of an expression. Raises `ExpressionError`, `BudgetExceeded`, `Missing`."""
        return expression(self.scope(expression.roots, event), self.budget)

    def value(self, expression: Expression, event: Trigger | None) -> Any:
        """The value of an expression as JSON keeps it: instants and durations become text. Raises as `evaluate`."""
        return plain(expression(self.scope(expression.roots, event), self.budget))

    def payload(self, payload: Payload, event: Trigger | None) -> Any:
        """Event data, evaluated."""
        if payload is None:
            return None
        if isinstance(payload, Mapping):
            return {key: self.value(expression, event) for key, expression in payload.items()}
        return self.value(payload, event)

    def holds(self, guard: Guard, event: Trigger | None) -> bool:
        """Whether all conditions hold. Raises as `evaluate`; a value that is not a boolean is an `ExpressionError`."""
        for condition in guard:
            expression = condition.expression
            if expression is None:
                answer = self._answer(condition, guard, event)
            else:
                answer = expression(self.scope(expression.roots, event), self.budget)
            if answer is not True:
                if answer is not False:
                    raise ExpressionError(f"the condition gives {describe(answer)} where true or false is wanted")
                return False
        return True

    def explain(self, guard: Guard, event: Trigger | None) -> Mapping[str, Any]:
        """Why a guard does not hold, for people: the first condition that fails, with the values it saw."""
        for condition in guard:
            try:
                if self.holds((condition,), event):
                    continue
            except ExpressionError as error:
                explanation: dict[str, Any] = {"error": str(error)}
            else:
                explanation = {"value": False}
            if condition.name is not None:
                explanation["guard"] = condition.name
            explanation["expression"] = condition.source
            if condition.expression is not None:
                scope = self.scope(condition.expression.roots, event)
                explanation.update(condition.expression.explain(scope, self.budget))
            return explanation
        return {}

    def _answer(self, condition: Condition, guard: Guard, event: Trigger | None) -> Any:
        """A script's answer, which is a fact; when it is missing, all scripts of the guard are asked for at once."""
        request = self._request(condition, event)
        if request.key not in self.facts:
            requests = [self._request(each, event) for each in guard if each.script is not None]
            raise Missing(scripts=tuple([each for each in requests if each.key not in self.facts]))
        answer = self.fact(request.key)
        if not isinstance(answer, ScriptAnswer):
            raise ExpressionError("the script gave no answer")
        if answer.error is not None:
            raise ExpressionError(answer.error)
        return answer.value

    def _request(self, condition: Condition, event: Trigger | None) -> ScriptRequest:
        script = condition.script
        assert script is not None
        roots = _SCRIPT_ROOTS
        if self.view is not None:
            roots = roots | {"steps", *self.view.names, *variables(self.chart, self.instance.machine, self.view.run)}
        given = plain(self.scope(roots, event))
        digest = hashlib.sha256(_canonical.encode(given)).hexdigest()
        return ScriptRequest(
            key=f"script:{script.code_hash}:{digest}", source=script.source, input=given, timeout_ms=script.timeout_ms
        )

    def later(self, task: Task, *arguments: Any) -> None:
        """Put something that has to be done about steps on the agenda (`interpreter.steps`)."""
        if self.agenda is None:
            self.agenda = deque()
        self.agenda.append((task, *arguments))

    def raise_internal(self, name: str, data: Any = None) -> None:
        """Put a trigger on the internal queue."""
        self.internal.append(Trigger(name, data))

    def profile(self, user: str | None) -> dict[str, Any] | None:
        """A user as expressions see one; None for the engine and for users the directory does not know."""
        if user is None:
            return None
        if user in self.profiles:
            return self.profiles[user]
        person = self.user(user)
        profile = None
        if person is not None:
            profile = {
                "id": person.id,
                "username": person.username,
                "name": person.name,
                "email": person.email,
                "manager": person.manager,
                "roles": list(person.roles),
                "groups": list(person.groups),
                "attributes": person.attributes,
            }
        self.profiles[user] = profile
        return profile


# -- what expressions see ----------------------------------------------------------------------------------------------


def _event(draft: Draft, event: Trigger | None) -> dict[str, Any] | None:
    if draft.view is not None:
        return _event_of_step(draft, draft.view)  # type: ignore[no-any-return]  # as an event began it
    if event is None:
        return None
    shown = {"name": event.name, "data": event.data, "user": event.user}
    return shown if event.event is None else {**event_fields(event.event), **shown}


def event_fields(event: InboundEvent) -> dict[str, Any]:
    """An event from outside as expressions see it."""
    return {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "data": event.data,
        "attributes": event.attributes,
    }


def _instance(draft: Draft, event: Trigger | None) -> dict[str, Any]:
    instance = draft.instance
    return {
        "id": instance.id,
        "status": str(instance.status),
        "current_state": instance.current_state,
        "configuration": list(instance.configuration),
        "version": instance.version,
        "definition": instance.definition_name,
        "created_at": instance.created_at,
        "revision": instance.revision,
        "title": instance.title,
        "submission_id": instance.submission_id,
    }


def _user(draft: Draft, event: Trigger | None) -> dict[str, Any] | None:
    _ask_for_people(draft)
    return draft.profile(draft.actor.user)


def _requester(draft: Draft, event: Trigger | None) -> dict[str, Any] | None:
    _ask_for_people(draft)
    return draft.profile(draft.instance.requester)


def _ask_for_people(draft: Draft) -> None:
    """In a chart that reads both user and requester, ask for both in one round, whichever comes first."""
    user, requester = draft.actor.user, draft.instance.requester
    if user is None or requester is None or user == requester or draft.profiles:
        return
    roots = draft.chart.roots
    if "user" in roots and "requester" in roots:
        draft.require(("user:" + user, "user:" + requester))


class _Roots(dict[str, "Callable[[Draft, Trigger | None], Any]"]):
    """The roots; what is none of them is a name that only the place of a step gives a meaning."""

    def __missing__(self, name: str) -> Callable[[Draft, Trigger | None], Any]:
        return lambda draft, event: named(draft, name)


_ROOTS = _Roots(
    {
        "data": lambda draft, event: draft.instance.data,
        "context": lambda draft, event: draft.instance.context,
        "submission": lambda draft, event: draft.instance.submission,
        "event": _event,
        "user": _user,
        "requester": _requester,
        "instance": _instance,
        "metadata": lambda draft, event: draft.chart.metadata,
        "now": lambda draft, event: draft.now,
    }
)
_SCRIPT_ROOTS = frozenset(_ROOTS)
_ROOTS["steps"] = lambda draft, event: _steps(draft)

_canonical = msgspec.json.Encoder(decimal_format="number", order="sorted")
_SCALARS = frozenset({str, int, bool, Decimal, type(None)})


def plain(value: Any) -> Any:
    """
    A value as JSON keeps it: instants in ISO 8601, durations in CEL's seconds, bytes in base 64, keys as text.

    >>> plain({1: [timedelta(minutes=1.5), b"pliers"]})
    {'1': ['90s', 'cGxpZXJz']}
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        return {key if type(key) is str else _key(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = Decimal(value // timedelta(microseconds=1)) / 1_000_000
        return f"{seconds.normalize():f}s"
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise ExpressionError(f"{describe(value)} cannot be kept as data")


def _key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)


def describe(value: Any) -> str:
    """
    A value's kind, for messages that must not repeat its content.

    >>> describe({}), describe(None), describe(3)
    ('a map', 'null', 'a number')
    """
    if value is None:
        return "null"
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return "something"


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    ((int, Decimal), "a number"),
    (Mapping, "a map"),
    ((list, tuple), "a list"),
    (datetime, "an instant"),
    (timedelta, "a duration"),
    (bytes, "bytes"),
)
