"""Whether a listener acts on an event, and with what: pure, so that a repetition comes to the same.

Expressions are CEL over `event` and `now`, which is when the event arrived. One that gives an error is a Failure of its
listener, not false, and hurts no other.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from pliers_workflow.definition.expressions import (
    Budget,
    BudgetExceeded,
    Expression,
    ExpressionError,
    compile_expression,
)
from pliers_workflow.definition.listening import RECEIVE, Rule, event_key_id, source_matches, type_matches
from pliers_workflow.interpreter.commands import InboundEvent
from pliers_workflow.interpreter.correlation import key_text
from pliers_workflow.interpreter.draft import describe, event_fields, plain
from pliers_workflow.storage import canonical

from ..storable import BYTES_MAX, find_unstorable
from ..submissions.mapping import Failure, put

#: interpreter steps that the expressions of one listener may take together
_BUDGET_STEPS: Final = 20_000
_DELAY_MS_MAX: Final = 5_256_000 * 60_000


class CompiledRule:
    """A rule with its expressions compiled; immutable, and shared by all events."""

    __slots__ = ("condition", "delay", "external_key", "filters", "key", "parameters", "requester", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.filters = tuple((one, _compiled(one.condition)) for one in rule.filters)
        self.condition = _compiled(rule.condition)
        self.key = _compiled(rule.key)
        self.delay = _compiled(rule.delay)
        self.requester = _compiled(rule.requester)
        self.external_key = _compiled(rule.external_key)
        self.parameters = (
            None
            if rule.parameters is None
            else tuple((field, compile_expression(source)) for field, source in rule.parameters.items())
        )


class Candidate(Struct, frozen=True):
    """A listener whose type fits: of every version of a workflow that has this very rule."""

    workflow: str
    trigger_id: str
    definition_ids: tuple[str, ...]
    priority: int
    place: int
    rule_hash: bytes
    rule: CompiledRule

    @property
    def order(self) -> tuple[int, str, int, str]:
        """The higher priority first, then by workflow and as in the document."""
        return (-self.priority, self.workflow, self.place, self.definition_ids[0])


class Match(Struct, frozen=True):
    """A listener that acts on an event."""

    candidate: Candidate
    #: the key by which it looks for instances; None: a start
    key: str | None = None
    delay_ms: int = 0
    #: what `parameters` came to; None: there are none
    parameters: dict[str, Any] | None = None
    requester: str | None = None
    external_key: str | None = None


class Scope:
    """What expressions see of one event."""

    __slots__ = ("budget", "event", "values")

    def __init__(self, event: InboundEvent, now: datetime) -> None:
        self.event = event
        self.values: dict[str, Any] = {"event": event_fields(event), "now": now}
        self.budget = Budget(_BUDGET_STEPS)

    def renew(self) -> None:
        """Give the next listener a budget of its own."""
        self.budget = Budget(_BUDGET_STEPS)

    def value(self, expression: Expression, what: str) -> Any:
        """The value of an expression as JSON keeps it; raises Failure."""
        try:
            return plain(expression(self.values, self.budget))
        except (ExpressionError, BudgetExceeded) as error:
            raise Failure(
                "condition_error" if what == "condition" else "mapping_error", f"`{what}`: {error}."
            ) from None

    def holds(self, expression: Expression | None) -> bool:
        """Whether a condition holds; raises Failure where it gives anything but true or false."""
        if expression is None:
            return True
        answer = self.value(expression, "condition")
        if answer is not True and answer is not False:
            raise Failure("condition_error", f"The condition gives {describe(answer)} where true or false is wanted.")
        return answer is True


def match(candidate: Candidate, scope: Scope) -> Match | None:
    """Say what a listener does about an event; None: it passes. Raises Failure, which is the listener's alone."""
    compiled = candidate.rule
    scope.renew()
    for given, condition in compiled.filters:
        if given.source is not None and not source_matches(given.source, scope.event.source):
            return None
        if given.event_type is not None and not type_matches(given.event_type, scope.event.type):
            return None
        if not scope.holds(condition):
            return None
    if not scope.holds(compiled.condition):
        return None
    key = None
    if compiled.key is not None:
        key = key_text(scope.value(compiled.key, "correlationKey"))
        if key is None:
            return None
        if compiled.rule.action == "receive":
            key = f"{event_key_id(compiled.rule.key)}:{key}"
    return Match(
        candidate,
        key,
        delay_ms=_delay_ms(compiled, scope),
        parameters=_parameters(compiled, scope),
        requester=_text(compiled.requester, scope, "requester"),
        external_key=_text(compiled.external_key, scope, "externalKey"),
    )


def _delay_ms(compiled: CompiledRule, scope: Scope) -> int:
    if compiled.delay is None:
        return compiled.rule.delay_ms
    minutes = scope.value(compiled.delay, "delayMinutes")
    if not isinstance(minutes, int | Decimal) or isinstance(minutes, bool):
        raise Failure("mapping_error", f"`delayMinutes` gives {describe(minutes)} where a number is wanted.")
    return min(max(0, round(minutes * 60_000)), _DELAY_MS_MAX)


def _parameters(compiled: CompiledRule, scope: Scope) -> dict[str, Any] | None:
    if compiled.parameters is None:
        return None
    found: dict[str, Any] = {}
    for field, expression in compiled.parameters:
        value = scope.value(expression, f"parameters.{field}")
        if compiled.rule.action == "start_workflow":
            put(found, field, value)
        else:
            found[field] = value
    if (finding := find_unstorable(found)) is not None:
        raise Failure("mapping_error", f"The parameters cannot be kept: {finding.message}")
    if len(canonical.encode_loose(found)) > BYTES_MAX:
        raise Failure("data_too_large", f"The parameters come to more than {BYTES_MAX // 1024} kB.")
    return found


def _text(expression: Expression | None, scope: Scope, what: str) -> str | None:
    if expression is None:
        return None
    value = scope.value(expression, what)
    if value is None:
        return None
    text = key_text(value) if not isinstance(value, str) else value
    if text is None or not 0 < len(text) <= 255:
        raise Failure("mapping_error", f"`{what}` gives {describe(value)} where a text of at most 255 is wanted.")
    return text


def _compiled(source: str | None) -> Expression | None:
    return None if source is None else compile_expression(source)


#: Where it only matters that something is received.
_RECEIVING: Final = CompiledRule(Rule(action="receive", correlation=RECEIVE))


def receiving(workflow: str, trigger_id: str, definition_id: str, key: str) -> Match:
    """A match for steps that are known to wait under a key."""
    return Match(Candidate(workflow, trigger_id, (definition_id,), 0, 0, b"", _RECEIVING), key)
