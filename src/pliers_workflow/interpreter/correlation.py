"""Correlation keys: how events from outside find an instance.

A definition says under which keys its instances are found (`eventHooks.correlation`). The keys an instance has are part
of it, like its data: worked out anew whenever what they rest on has changed, and gone when it ends. An event carries a
key too; the two meet as texts, so that an order known as 4711 here is found by "4711".
"""

from __future__ import annotations

from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.definition.canonical import canonical
from pliers_workflow.definition.expressions import ExpressionError

from .draft import plain
from .effects import SetCorrelationKeys
from .events import CorrelationKeysChanged

if TYPE_CHECKING:
    from pliers_workflow.definition.expressions import Expression

    from .draft import Draft
    from .instance import Instance

#: Characters of a key; a longer one, and one with a NUL, which no database holds, is known by its hash.
LENGTH_MAX: Final = 200


def key_text(value: Any) -> str | None:
    """
    Give a value's key; None for null and for an empty text, which identify nothing.

    >>> from decimal import Decimal
    >>> key_text("4711"), key_text(4711), key_text(Decimal("4711.0")), key_text(None), key_text("")
    ('4711', '4711', '4711', None, None)

    A number is written out, however small, as a text has it:

    >>> key_text(Decimal("1e-7")), key_text("0.0000001")
    ('0.0000001', '0.0000001')

    Several values together are a key as well:

    >>> key_text(["ACME", 5])
    '["ACME",5]'
    """
    value = plain(value)
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else canonical(value).decode()
    if isinstance(value, Decimal) and "E" in text:
        text = f"{Decimal(text):f}"
    if len(text) <= LENGTH_MAX and "\0" not in text:
        return text
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def keep_keys(draft: Draft, before: Instance) -> None:
    """Bring an instance's keys up to date at the end of a command."""
    chart, instance = draft.chart, draft.instance
    if not chart.correlation:
        return
    if instance.ended:
        keys = {}
    elif (
        not chart.keys_move
        and before.revision > 0
        and instance.data is before.data
        and instance.context is before.context
    ):
        return
    else:
        keys = {name: key for name, expression in chart.correlation if (key := _key(draft, expression)) is not None}
    if keys != instance.machine.correlation:
        draft.emit(CorrelationKeysChanged(keys))
        draft.owe(SetCorrelationKeys(keys))


def _key(draft: Draft, expression: Expression) -> str | None:
    """What the expression gives now; while it cannot be evaluated there is no key, which is no mistake."""
    try:
        return key_text(draft.evaluate(expression, None))
    except ExpressionError:
        return None
