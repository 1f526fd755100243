"""Messages that are no CloudEvents, made into events by a mapping: CEL over `message`.

`message` is what the broker gave: `body` (its JSON), `headers`, `address` (subject, routing key, stream or topic), `key` and
`id` (the broker's own name for it, null where it has none). A fixed value is a literal: `'order.paid'`. The event's data
are the body.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from pliers_workflow.definition.expressions import (
    Budget,
    BudgetExceeded,
    Environment,
    Expression,
    ExpressionError,
    ExpressionSyntaxError,
    check_expression,
    compile_expression,
)
from pliers_workflow.definition.findings import Finding, pointer
from pliers_workflow.interpreter.correlation import key_text
from pliers_workflow.interpreter.draft import describe, plain

from .readers.port import BrokerMessage

#: interpreter steps that the expressions of one mapping may take together
_BUDGET_STEPS: Final = 5_000

Source = Annotated[str, Meta(min_length=1, max_length=4000)]


class Mapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How a message becomes an event. Each is CEL over `message`; null leaves an optional attribute out."""

    type: Source
    #: names the event together with `source`: the same again is a duplicate
    id: Source = "message.id"
    #: by default the event source's own address
    source: Source | None = None
    subject: Source | None = None
    #: a text in RFC 3339, or a timestamp
    time: Source | None = None


class BadMessage(Exception):
    """A message that is no event, and why."""


class CompiledMapping:
    """Made once for a source, asked for every message."""

    def __init__(self, mapping: Mapping, source_ref: str) -> None:
        self._ref = source_ref
        self._expressions: dict[str, Expression] = {
            name: compile_expression(text)
            for name in Mapping.__struct_fields__
            if (text := getattr(mapping, name)) is not None
        }

    def event(self, message: BrokerMessage, body: Any) -> dict[str, Any]:
        """The message as a CloudEvent in its structured form, still to be checked; raises BadMessage."""
        seen = {
            "message": {
                "body": body,
                "headers": message.headers,
                "address": message.address,
                "key": message.key,
                "id": message.id,
            }
        }
        budget = Budget(_BUDGET_STEPS)
        event: dict[str, Any] = {"specversion": "1.0", "source": self._ref, "data": body}
        for name, expression in self._expressions.items():
            try:
                value = plain(expression(seen, budget))
            except (ExpressionError, BudgetExceeded) as error:
                raise BadMessage(f"The mapping of `{name}`: {error}.") from None
            if isinstance(value, dict | list | bool):
                raise BadMessage(f"The mapping of `{name}` gives {describe(value)} where a text is wanted.")
            text = value if isinstance(value, str) else key_text(value)
            if text is None and name in ("type", "id", "source"):
                raise BadMessage(f"The mapping of `{name}` gives nothing, and an event needs it.")
            event[name] = text
        return event


def mapping_of(configuration: Any, source_id: str) -> CompiledMapping | None:
    """The mapping of a source as its configuration keeps it."""
    mapping = configuration["mapping"]
    if mapping is None:
        return None
    return CompiledMapping(msgspec.convert(mapping, Mapping), f"/api/v1/event-sources/{source_id}")


def check(mapping: Mapping) -> list[Finding]:
    """Everything that is wrong with a mapping."""
    findings: list[Finding] = []
    for name in Mapping.__struct_fields__:
        text = getattr(mapping, name)
        if text is None:
            continue
        at = pointer("mapping", name)
        try:
            expression = compile_expression(text)
        except ExpressionSyntaxError as error:
            hint = f"For a fixed value, write it in quotes: '{text}'." if text.replace(".", "").isalnum() else None
            findings.append(Finding(at, "bad_expression", f"{error}.", hint))
            continue
        strangers = sorted(expression.roots - {"message"})
        if strangers:
            hint = (
                "It sees `message`: its `body`, `headers`, `address`, `key` and `id`; a fixed value stands in quotes."
            )
            message = f"A mapping does not know `{strangers[0]}`."
            findings.append(Finding(at, "expression_mismatch", message, hint))
            continue
        findings += [
            Finding(at, "expression_mismatch", f"{found.message}.", found.hint, found.severity)
            for found in check_expression(expression, Environment(roots={"message": None}), "any")
        ]
    return findings
